"""A checkpoint folder: `model.safetensors` and `config.json`. Nothing in it is pickled."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from shortcut_gen.config import ModelConfig
from shortcut_gen.errors import CheckpointError, ConfigError
from shortcut_gen.files import reason, write_whole
from shortcut_gen.modalities import TOKENIZERS, get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.model import ShortcutLM

FORMAT = 1
"""Version of the folder's layout."""
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What config.json holds: all that is known of the weights beside them."""

    model: ModelConfig
    """Shape of the network."""
    tokenizer: str
    """Name of the tokenizer, a key of `modalities.TOKENIZERS`."""
    codec: dict[str, Any] | None = None
    """Settings of the audio codec, for speech."""
    corpus: dict[str, Any] = field(default_factory=dict)
    """Name, hash and licence of what it was trained on."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """How it was trained: optimiser, budget, seed."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured figures by split, such as figures["test"]["nll"] in nats per token."""
    licence: str = ""
    """Licence of the weights."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"format": FORMAT} | values | {"model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The info written by `to_dict`. Raises ConfigError on unknown or missing keys and on wrong types."""
        values = dict(values)
        if values.pop("format", FORMAT) != FORMAT:
            raise ConfigError(f"format is not {FORMAT}; this version reads format {FORMAT} only")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(fields))}")
        if missing := [name for name in ("model", "tokenizer") if name not in values]:
            raise ConfigError(f"the key {missing[0]!r} is missing")
        for name, kinds in (("model", dict), ("tokenizer", str), ("licence", str), ("codec", dict | None)):
            if name in values and not isinstance(values[name], kinds):
                raise ConfigError(f"{name} is a {type(values[name]).__name__}; another type is needed")
        for name in ("corpus", "recipe", "figures"):
            if not isinstance(values.get(name, {}), dict):
                raise ConfigError(f"{name} is a {type(values[name]).__name__}; an object is needed")
        return cls(**values | {"model": ModelConfig.from_dict(values["model"])})


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model ready to run, the tokenizer it speaks and what is known of it."""

    model: ShortcutLM
    tokenizer: Tokenizer
    info: CheckpointInfo


def save_checkpoint(
    folder: str | Path, model: ShortcutLM, info: CheckpointInfo, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write the folder, its weights as `dtype`; each file appears whole or not at all. Raises CheckpointError."""
    folder = Path(folder)
    state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made: {reason(error)}") from error
    write_whole(folder / WEIGHTS, save(state), CheckpointError)
    write_info(folder, info)


def write_info(folder: str | Path, info: CheckpointInfo) -> None:
    """Write config.json beside the weights, whole or not at all. Raises CheckpointError."""
    text = json.dumps(info.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(Path(folder) / CONFIG, text.encode(), CheckpointError)


def read_info(folder: str | Path) -> CheckpointInfo:
    """What config.json of a checkpoint says. Raises CheckpointError."""
    path = Path(folder) / CONFIG
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
    try:
        info = CheckpointInfo.from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if info.tokenizer not in TOKENIZERS:
        raise CheckpointError(f"{path}: unknown tokenizer {info.tokenizer!r}; known are {', '.join(TOKENIZERS)}")
    return info


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a folder, in float32 and in evaluation mode. Raises CheckpointError with one line on any damage."""
    folder = Path(folder)
    info = read_info(folder)
    tokenizer = get_tokenizer(info.tokenizer)
    if info.model.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{folder}: the model has {info.model.vocab_size} ids but the {info.tokenizer} tokenizer "
            f"{tokenizer.vocab_size}; they must agree"
        )
    try:
        state = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {WEIGHTS} there; the folder is not complete") from error
    except OSError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read: {reason(error)}") from error
    except SafetensorError as error:
        detail = str(error).splitlines()[0]
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read, perhaps cut short: {detail}") from error
    model = ShortcutLM(info.model)
    _check_state(folder, model.state_dict(), state)
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return Checkpoint(model=model.to(device).eval(), tokenizer=tokenizer, info=info)


def _check_state(folder: Path, wanted: dict[str, Any], given: dict[str, Any]) -> None:
    if missing := sorted(set(wanted) - set(given)):
        raise CheckpointError(f"{folder / WEIGHTS}: lacks {_some(missing)} that its {CONFIG} asks for")
    if extra := sorted(set(given) - set(wanted)):
        raise CheckpointError(f"{folder / WEIGHTS}: holds {_some(extra)} that its {CONFIG} has no place for")
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)}; {tuple(wanted[name].shape)}"
            raise CheckpointError(f"{folder / WEIGHTS}: the tensor {name} has shape {shapes} is needed")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{folder / WEIGHTS}: the tensor {name} holds values that are not finite")


def _some(names: list[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the tensor {names[0]}{others}"
