"""What every folder of weights has: config.json and model.safetensors, read with one line for each damage."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import reason, write_whole

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {CONFIG} there; a checkpoint folder is needed") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}; an object is needed")
    return values


def read_weights(folder: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of model.safetensors, float32, which must have the names and shapes of `wanted`.

    Raises CheckpointError.
    """
    path = folder / WEIGHTS
    try:
        given = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {WEIGHTS} there; the folder is not complete") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cannot be read, perhaps cut short: {str(error).splitlines()[0]}") from error
    check_weights(path, wanted, given)
    return {name: value.float() for name, value in given.items()}


def check_weights(path: Path, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """That the tensors of a file are those wanted, and finite. Raises CheckpointError."""
    if missing := sorted(set(wanted) - set(given)):
        raise CheckpointError(f"{path}: lacks {_some(missing)} that its {CONFIG} asks for")
    if extra := sorted(set(given) - set(wanted)):
        raise CheckpointError(f"{path}: holds {_some(extra)} that its {CONFIG} has no place for")
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)}; {tuple(wanted[name].shape)}"
            raise CheckpointError(f"{path}: the tensor {name} has shape {shapes} is needed")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: the tensor {name} holds values that are not finite")


def _some(names: list[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the tensor {names[0]}{others}"
