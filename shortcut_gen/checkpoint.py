"""A checkpoint folder: `model.safetensors` and `config.json`. Nothing in it is pickled."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode

from shortcut_gen.errors import CheckpointError, ConfigError
from shortcut_gen.folder import CONFIG, check_header, read_config, read_weights, write_config, write_weights
from shortcut_gen.modalities import TOKENIZERS, get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

FORMAT = 1
"""Version of the folder's layout."""
MAX_CACHE_GIB = 16
"""Keys and values of one stream in float32, at most."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What config.json holds: all that is known of the weights beside them."""

    model: ModelConfig
    """Shape of the network."""
    tokenizer: str
    """Name of the tokenizer, a key of `modalities.TOKENIZERS`."""
    codec: dict[str, Any] | None = None
    """The audio codec's identity and how many of its codebooks the ids have, for speech: `SpeechTokenizer.settings`."""
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
    write_weights(folder, state)
    write_info(folder, info)


def write_info(folder: str | Path, info: CheckpointInfo) -> None:
    """Write config.json beside the weights, whole or not at all. Raises CheckpointError."""
    write_config(Path(folder), info.to_dict())


def read_info(folder: str | Path) -> CheckpointInfo:
    """What config.json of a checkpoint says. Raises CheckpointError."""
    path = Path(folder) / CONFIG
    values = read_config(Path(folder))
    if "kind" in values:
        raise CheckpointError(f"{folder}: holds a {values['kind']}; the checkpoint of a language model is needed")
    try:
        info = CheckpointInfo.from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if info.tokenizer not in TOKENIZERS:
        raise CheckpointError(f"{path}: unknown tokenizer {info.tokenizer!r}; known are {', '.join(TOKENIZERS)}")
    return info


def _check_cache(folder: Path, config: ModelConfig) -> None:
    """Raises CheckpointError where the keys and values of one stream would not fit any machine."""
    blocks = config.layers - bool(config.taps) + config.sources
    gib = 2 * 4 * blocks * config.context * config.width / 2**30
    if gib > MAX_CACHE_GIB:
        raise CheckpointError(
            f"{folder}: a context of {config.context:,} ids takes {gib:,.0f} GiB of keys and values for one stream; "
            f"at most {MAX_CACHE_GIB} GiB are taken"
        )


def load_checkpoint(folder: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a folder, in float32 and in evaluation mode. Raises CheckpointError with one line on any damage."""
    folder = Path(folder)
    info, tokenizer, model = _described(folder)
    model.load_state_dict(read_weights(folder, model.state_dict()), assign=True)
    return Checkpoint(model=model.to(device).eval(), tokenizer=tokenizer, info=info)


def check_checkpoint(folder: str | Path) -> CheckpointInfo:
    """What is known of a folder whose weights would fit its config.json, as far as their header tells: no weight is
    read. Raises CheckpointError.
    """
    info, _, model = _described(Path(folder))
    check_header(Path(folder), model.state_dict())
    return info


class _Undrawn(TorchFunctionMode):
    """Leaves random weights undrawn: on the meta device each draw would import PyTorch's compiler, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        draws = (torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_)
        if func in draws or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _described(folder: Path) -> tuple[CheckpointInfo, Tokenizer, ShortcutLM]:
    """What config.json says, its tokenizer, and the model without its weights, on torch's meta device."""
    info = read_info(folder)
    try:
        tokenizer = get_tokenizer(info.tokenizer, info.codec, folder)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    if info.model.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{folder}: the model has {info.model.vocab_size} ids but the {info.tokenizer} tokenizer "
            f"{tokenizer.vocab_size}; they must agree"
        )
    if info.model.context < 2 * tokenizer.frame:
        raise CheckpointError(
            f"{folder}: the model's context is {info.model.context} ids; at least two frames of {tokenizer.frame} "
            "are needed"
        )
    _check_cache(folder, info.model)
    with torch.device("meta"), _Undrawn():  # names and shapes, without the memory
        model = ShortcutLM(info.model)
    return info, tokenizer, model
