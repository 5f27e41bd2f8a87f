"""A codec's folder: `config.json` and `model.safetensors`, and the package that its network needs."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shortcut_gen.errors import CheckpointError, CodecError, ConfigError
from shortcut_gen.folder import CONFIG, read_config, read_weights, write_config, write_weights

if TYPE_CHECKING:
    from shortcut_gen.modalities.encodec_model import CodecConfig

FORMAT = 1
"""Version of a codec folder's layout."""
KIND = "codec"
"""What config.json of a codec folder says it is."""

_KEPT = "_codebook.embed"  # what a quantiser needs to encode and decode; the rest is for training


@dataclass(frozen=True, kw_only=True)
class CodecInfo:
    """What config.json of a codec folder holds."""

    config: "CodecConfig"
    """Shape of the network."""
    corpus: dict[str, Any] = field(default_factory=dict)
    """Name, hash and licence of what it was trained on."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """How it was trained."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured figures."""
    licence: str = ""
    """Licence of the weights."""


def write_codec_info(folder: str | Path, info: CodecInfo) -> None:
    """Write config.json beside the weights, whole or not at all. Raises CheckpointError."""
    rest = {"corpus": info.corpus, "recipe": info.recipe, "figures": info.figures, "licence": info.licence}
    write_config(Path(folder), {"format": FORMAT, "kind": KIND, "codec": info.config.to_dict()} | rest)


def read_codec_info(folder: str | Path) -> CodecInfo:
    """What config.json of a codec folder says. Raises CheckpointError."""
    path = Path(folder) / CONFIG
    values = read_config(Path(folder))
    if values.get("kind") != KIND:
        raise CheckpointError(f"{path}: is no codec's; a folder such as checkpoints/codec-16khz is needed")
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is not {FORMAT}; this version reads format {FORMAT} only")
    rest: dict[str, Any] = {"corpus": {}, "recipe": {}, "figures": {}, "licence": ""}
    if unknown := sorted(set(values) - set(rest) - {"format", "kind", "codec"}):
        raise CheckpointError(f"{path}: unknown key {unknown[0]!r}; known are codec, {', '.join(rest)}")
    for name, default in (rest | {"codec": {}}).items():
        if not isinstance(values.get(name, default), type(default)):
            raise CheckpointError(f"{path}: {name} is a {type(values[name]).__name__}; another type is needed")
    try:
        config = network().CodecConfig.from_dict(values.get("codec", {}))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}: codec: {error}") from error
    return CodecInfo(config=config, **{name: values.get(name, default) for name, default in rest.items()})


def is_codec(folder: str | Path) -> bool:
    """Whether a folder says that it holds a codec, not a language model."""
    try:
        return read_config(Path(folder)).get("kind") == KIND
    except CheckpointError:
        return False


def save_codec(folder: str | Path, model: nn.Module, info: CodecInfo, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder: encoder and decoder as `dtype`, codebooks as float32. Raises CheckpointError.

    model: what `encodec_model.build(info.config)` makes, trained.
    """
    state = {
        name: value.detach().to("cpu", torch.float32 if name.endswith(_KEPT) else dtype).contiguous()
        for name, value in needed(model.state_dict()).items()
    }
    write_weights(Path(folder), state)
    write_codec_info(folder, info)


def needed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what the quantiser's training alone needs."""
    return {name: value for name, value in state.items() if not name.startswith("quantizer.") or name.endswith(_KEPT)}


def network() -> ModuleType:
    """`encodec_model`, imported when first asked for. Raises CodecError where the packages are missing."""
    try:
        from shortcut_gen.modalities import encodec_model
    except ImportError as error:
        raise CodecError(f"speech needs the packages encodec and torchaudio, which do not load: {error}") from error
    return encodec_model


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the warning that the package uses torch's older weight_norm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm.*")
        yield


def load_model(folder: Path) -> Any:
    """The model of a codec folder, float32. Raises CheckpointError."""
    model = network().build(read_codec_info(folder).config)
    model.load_state_dict(read_weights(folder, needed(model.state_dict())), strict=False)
    return model
