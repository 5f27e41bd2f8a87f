"""What every folder of weights has: config.json and model.safetensors, read with one line for each damage."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import open_regular, parse_json, read_json, reason, write_whole

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MAX_CONFIG_BYTES = 4 * 2**20
"""A longer config.json is refused."""
HEADER_BYTES, HEADER_BYTES_A_TENSOR = 2**16, 2**10
"""A safetensors header may have so many bytes, and so many more for each tensor that is wanted; one takes about 120."""
DTYPES = ("F32", "F16", "BF16")
"""Types of stored weights, as safetensors calls them."""


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write model.safetensors into a folder that is made if need be. Raises CheckpointError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made: {reason(error)}") from error
    write_whole(folder / WEIGHTS, save(dict(state)), CheckpointError)


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write config.json, whole or not at all. Raises CheckpointError, and ValueError on a number JSON has not."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(folder / CONFIG, text.encode(), CheckpointError)


def read_config(folder: Path) -> dict[str, Any]:
    """The object in config.json. Raises CheckpointError."""
    path = folder / CONFIG
    try:
        values = read_json(path, CheckpointError, most=MAX_CONFIG_BYTES)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {CONFIG} there; a checkpoint folder is needed") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}; an object is needed")
    return values


def read_weights(folder: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of model.safetensors, float32, which must have the names and shapes of `wanted`.

    The names, shapes and types are looked at in the file's header before memory is taken for any of them: `wanted` may
    be on torch's meta device. Raises CheckpointError.
    """
    path = folder / WEIGHTS
    check_header(folder, wanted)
    try:
        given = load_file(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cannot be read, perhaps cut short: {str(error).splitlines()[0]}") from error
    check_weights(path, wanted, given)
    return {name: value.float() for name, value in given.items()}


def check_header(folder: Path, wanted: Mapping[str, Tensor]) -> None:
    """That model.safetensors says it has tensors of the names and shapes of `wanted`. Raises CheckpointError."""
    path = folder / WEIGHTS
    try:
        with open_regular(path, CheckpointError) as file:
            _check_shapes(path, wanted, _read_header(path, file, len(wanted)))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {WEIGHTS} there; the folder is not complete") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error


def _read_header(path: Path, file: BinaryIO, wanted: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors, as its header has them: 8 bytes of length, then JSON."""
    cut = f"{path}: cannot be read, perhaps cut short"
    start = file.read(8)
    length = int.from_bytes(start, "little")
    most = HEADER_BYTES + HEADER_BYTES_A_TENSOR * wanted
    if len(start) < 8 or length < 2:
        raise CheckpointError(f"{cut}: it has no header")
    if length > most:
        raise CheckpointError(f"{cut}: its header has {length:,} bytes; its {CONFIG} asks for no more than {most:,}")
    text = file.read(length)
    try:
        if len(text) < length:
            raise ValueError("it ends inside its header")
        values = parse_json(text, depth=8)
        tensors = {name: about for name, about in values.items() if name != "__metadata__"}
        shapes = {name: tuple(about["shape"]) for name, about in tensors.items()}
        types = {str(about["dtype"]) for about in tensors.values()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{cut}: {error if isinstance(error, ValueError) else 'its header is damaged'}"
        ) from error
    if others := sorted(types - set(DTYPES)):
        raise CheckpointError(f"{path}: holds values of type {others[0]}; one of {', '.join(DTYPES)} is needed")
    return shapes


def _check_shapes(path: Path, wanted: Mapping[str, Tensor], given: Mapping[str, tuple[int, ...]]) -> None:
    """That the names and shapes of a file's tensors are those wanted. Raises CheckpointError."""
    if missing := sorted(set(wanted) - set(given)):
        raise CheckpointError(f"{path}: lacks {_some(missing)} that its {CONFIG} asks for")
    if extra := sorted(set(given) - set(wanted)):
        raise CheckpointError(f"{path}: holds {_some(extra)} that its {CONFIG} has no place for")
    for name, shape in given.items():
        if shape != tuple(wanted[name].shape):
            shapes = f"{shape}; {tuple(wanted[name].shape)}"
            raise CheckpointError(f"{path}: the tensor {name} has shape {shapes} is needed")


def check_weights(path: Path, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """That the tensors of a file are those wanted, and finite. Raises CheckpointError."""
    _check_shapes(path, wanted, {name: tuple(value.shape) for name, value in given.items()})
    for name, value in given.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: the tensor {name} holds values that are not finite")


def _some(names: list[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the tensor {names[0]}{others}"
