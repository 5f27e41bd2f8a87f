"""Where a codec lies, and which architecture opens it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shortcut_gen import shipped
from shortcut_gen.codec.base import Codec
from shortcut_gen.codec.encodec import OFFICIAL, OFFICIAL_FILE, EncodecCodec
from shortcut_gen.codec.folder import load_model, read_codec_info
from shortcut_gen.errors import CodecError


def open_codec(
    name: str | Path,
    *,
    codebooks: int | None = None,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Codec:
    """The official 24 kHz EnCodec by its name, or the codec of a folder such as checkpoints/codec-harmonic.

    codebooks: how many of its codebooks to use, which sets the bandwidth; all of them if not given. weights: file of
    the official weights, where they cannot be downloaded; one in checkpoints/ is found. Raises CodecError,
    CheckpointError.
    """
    folder = Path(name)
    if str(name) == OFFICIAL and weights is None:
        weights = official_weights()
    if str(name) == OFFICIAL or weights is not None or not folder.is_dir():
        return EncodecCodec(name, codebooks=codebooks, weights=weights, device=device)
    return OPENERS[read_codec_info(folder).architecture](folder, codebooks, device)


def _encodec(folder: Path, codebooks: int | None, device: torch.device | str) -> Codec:
    return EncodecCodec(folder, codebooks=codebooks, device=device)


def _harmonic(folder: Path, codebooks: int | None, device: torch.device | str) -> Codec:
    from shortcut_gen.codec.harmonic.codec import open_folder

    return open_folder(folder, load_model(folder), codebooks, device)


OPENERS: dict[str, Callable[[Path, int | None, torch.device | str], Codec]] = {
    "encodec": _encodec,
    "harmonic": _harmonic,
}
"""By architecture, as in `shortcut_gen.codec.folder.ARCHITECTURES`: a folder, how many codebooks of it, and where."""


def find_codec(settings: dict[str, Any], near: Path | None = None) -> Codec:
    """The codec that a tokenizer's settings describe, with as many codebooks as its ids have.

    Its folder, or the file of the official weights, is looked for in `near`, beside it and in checkpoints/. Raises
    CodecError, CheckpointError.
    """
    name = settings["name"]
    if name == OFFICIAL:
        place, weights = name, official_weights(near)
    else:
        place, weights = str(codec_folder(name, near)), None
    codec = open_codec(place, codebooks=settings["codebooks"], weights=weights)
    given = codec.identity()
    for key in ("sample_rate", "frame_rate", "cardinality", "sha256"):
        if given[key] != settings[key]:
            raise CodecError(
                f"{place} is another codec than the model was trained with: its {key} is {_short(given[key])}; "
                f"{_short(settings[key])} is needed"
            )
    return codec


def codec_folder(name: str, near: Path | None = None) -> Path:
    """The folder of a codec of ours: in `near`, beside it or in checkpoints/. Raises CodecError."""
    folders = _places(name, near)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        places = ", ".join(str(folder) for folder in folders)
        raise CodecError(f"the codec {name} is not there ({places}); its folder is needed for sound")
    return found


def own_codec(settings: dict[str, Any] | None, near: Path | None = None) -> Path | None:
    """The folder of the codec of ours that a tokenizer's settings name; None where they name none, or the official one.

    Raises CodecError where it is not there.
    """
    return codec_folder(settings["name"], near) if settings and settings["name"] != OFFICIAL else None


def official_weights(near: Path | None = None) -> Path | None:
    """The file of EnCodec's official weights in `near`, beside it or in checkpoints/; None where it is in none of them,
    so that it comes from torch's hub folder or is downloaded.
    """
    return next((path for path in _places(OFFICIAL_FILE, near) if path.is_file()), None)


def _places(name: str, near: Path | None) -> list[Path]:
    places = [] if near is None else [near / name, near.resolve().parent / name]
    return [*places, shipped.checkpoints() / name]


def _short(value: Any) -> str:
    """A value as an error says it: of a hash its first digits."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 16 else str(value)
