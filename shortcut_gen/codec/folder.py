"""A codec's folder: `config.json` and `model.safetensors`, and the package that its network needs."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from shortcut_gen.errors import CheckpointError, CodecError, ConfigError
from shortcut_gen.folder import CONFIG, read_config, read_weights, write_config, write_weights

FORMAT = 1
"""Version of a codec folder's layout."""
KIND = "codec"
"""What config.json of a codec folder says it is."""

_KEPT = "_codebook.embed"  # what a quantiser needs to encode and decode; the rest is for training


@dataclass(frozen=True, kw_only=True)
class CodecInfo:
    """What config.json of a codec folder holds."""

    config: Any
    """Shape of the network: a frozen dataclass of its architecture, with `to_dict`."""
    architecture: str = "encodec"
    """Which kind of network it is, a key of ARCHITECTURES."""
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
    write_config(Path(folder), _head(info) | rest)


def _head(info: CodecInfo) -> dict[str, Any]:
    head = {"format": FORMAT, "kind": KIND, "architecture": info.architecture}
    return head | {"codec": info.config.to_dict()}


def read_codec_info(folder: str | Path) -> CodecInfo:
    """What config.json of a codec folder says. Raises CheckpointError."""
    path = Path(folder) / CONFIG
    values = read_config(Path(folder))
    if values.get("kind") != KIND:
        raise CheckpointError(f"{path}: is no codec's; a folder such as checkpoints/codec-harmonic is needed")
    if values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is not {FORMAT}; this version reads format {FORMAT} only")
    rest: dict[str, Any] = {"corpus": {}, "recipe": {}, "figures": {}, "licence": ""}
    if unknown := sorted(set(values) - set(rest) - {"format", "kind", "architecture", "codec"}):
        raise CheckpointError(f"{path}: unknown key {unknown[0]!r}; known are codec, {', '.join(rest)}")
    for name, default in (rest | {"codec": {}}).items():
        if not isinstance(values.get(name, default), type(default)):
            raise CheckpointError(f"{path}: {name} is a {type(values[name]).__name__}; another type is needed")
    name = values.get("architecture", "encodec")  # the first folders did not say
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(f"{path}: architecture is {name!r}; one of {', '.join(ARCHITECTURES)} is needed")
    try:
        config = ARCHITECTURES[name]().config(values.get("codec", {}))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}: codec: {error}") from error
    found = {key: values.get(key, default) for key, default in rest.items()}
    return CodecInfo(config=config, architecture=name, **found)


def is_codec(folder: str | Path) -> bool:
    """Whether a folder says that it holds a codec, not a language model."""
    try:
        return read_config(Path(folder)).get("kind") == KIND
    except CheckpointError:
        return False


def save_codec(folder: str | Path, model: nn.Module, info: CodecInfo, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder: encoder and decoder as `dtype`, codebooks as float32. Raises CheckpointError.

    model: what the architecture's `build(info.config)` makes, trained.
    """
    architecture = ARCHITECTURES[info.architecture]()
    state = {
        name: value.detach().to("cpu", torch.float32 if architecture.is_codebook(name) else dtype).contiguous()
        for name, value in architecture.kept(model.state_dict()).items()
    }
    write_weights(Path(folder), state)
    write_codec_info(folder, info)


def needed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what the quantiser's training alone needs."""
    return {name: value for name, value in state.items() if not name.startswith("quantizer.") or name.endswith(_KEPT)}


def network() -> ModuleType:
    """`encodec_model`, imported when first asked for. Raises CodecError where the packages are missing."""
    try:
        from shortcut_gen.codec import network as encodec_model
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
    """The model of a codec folder, float32. Raises CheckpointError, CodecError."""
    info = read_codec_info(folder)
    architecture = ARCHITECTURES[info.architecture]()
    with torch.random.fork_rng(devices=[]):
        model = architecture.build(info.config)
    model.load_state_dict(read_weights(folder, architecture.kept(model.state_dict())), strict=False)
    return model


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A kind of network: how it is described, built and kept."""

    config: Callable[[dict[str, Any]], Any]
    """From config.json's values to its config. Raises ConfigError."""
    build: Callable[[Any], nn.Module]
    """From its config to the network, with random weights."""
    kept: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    """Of a network's state what a folder holds."""
    is_codebook: Callable[[str], bool]
    """Whether a tensor of that name is a codebook, which is kept in float32."""


def _encodec() -> Architecture:
    made = network()
    return Architecture(
        config=made.CodecConfig.from_dict,
        build=made.build,
        kept=needed,
        is_codebook=lambda name: name.endswith(_KEPT),
    )


def _harmonic() -> Architecture:
    from shortcut_gen.codec.harmonic.config import HarmonicConfig
    from shortcut_gen.codec.harmonic.network import HarmonicNetwork

    return Architecture(
        config=HarmonicConfig.from_dict, build=HarmonicNetwork, is_codebook=lambda name: name == "quantizer.entries"
    )


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {"encodec": _encodec, "harmonic": _harmonic}
"""What a codec folder's config.json may call its architecture; each is imported when first asked for."""
