"""The modalities: piano, speech and text. The one place that tells them apart by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shortcut_gen.errors import CodecError, ConfigError
from shortcut_gen.modalities.base import Grammar, Media, Tokenizer
from shortcut_gen.modalities.codec import OFFICIAL, Codec, EncodecCodec
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.modalities.speech import SpeechTokenizer
from shortcut_gen.modalities.text import CharacterTokenizer, Gpt2Tokenizer


def _without_codec(make: Callable[[], Tokenizer], codec: dict[str, Any] | None, near: Path | None) -> Tokenizer:
    tokenizer = make()
    if codec is not None:
        raise ConfigError(f"codec is given; {tokenizer.name} needs none")
    return tokenizer


def _speech(codec: dict[str, Any] | None, near: Path | None) -> Tokenizer:
    if codec is None:
        raise ConfigError("codec is missing; speech needs the settings of the codec that its ids were made with")
    settings = {key: value for key, value in codec.items() if key != "codebooks"}
    return SpeechTokenizer(partial(find_codec, codec, near), codec.get("codebooks", 0), settings)


TOKENIZERS: dict[str, Callable[[dict[str, Any] | None, Path | None], Tokenizer]] = {
    "piano": partial(_without_codec, PianoTokenizer),
    "speech": _speech,
    "characters": partial(_without_codec, CharacterTokenizer),
    "gpt2": partial(_without_codec, Gpt2Tokenizer),
}
"""What config.json may call a tokenizer, and its maker."""


def get_tokenizer(name: str, codec: dict[str, Any] | None = None, near: Path | None = None) -> Tokenizer:
    """The tokenizer of that name. Raises ConfigError where there is none, or where the codec's settings cannot be.

    codec: the codec's settings, a `SpeechTokenizer.settings`; near: the checkpoint's folder, beside which the codec
    is looked for when sound is first asked for.
    """
    if name not in TOKENIZERS:
        raise ConfigError(f"unknown tokenizer {name!r}; known are {', '.join(TOKENIZERS)}")
    return TOKENIZERS[name](codec, near)


def find_codec(settings: dict[str, Any], near: Path | None = None) -> Codec:
    """The codec that a tokenizer's settings describe, with as many codebooks as its ids have.

    Its folder is looked for in `near`, beside it and in checkpoints/. Raises CodecError, CheckpointError.
    """
    name = settings["name"]
    if name == OFFICIAL:
        codec, place = EncodecCodec(codebooks=settings["codebooks"]), name
    else:
        found = codec_folder(name, near)
        codec, place = EncodecCodec(found, codebooks=settings["codebooks"]), str(found)
    given = codec.identity()
    for key in ("sample_rate", "frame_rate", "cardinality", "sha256"):
        if given[key] != settings[key]:
            raise CodecError(
                f"{place} is another codec than the model was trained with: its {key} is {_short(given[key])}; "
                f"{_short(settings[key])} is needed"
            )
    return codec


def codec_folder(name: str, near: Path | None = None) -> Path:
    """The folder of a codec trained here: in `near`, beside it or in checkpoints/. Raises CodecError."""
    folders = [] if near is None else [near / name, near.resolve().parent / name]
    folders.append(Path("checkpoints") / name)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        places = ", ".join(str(folder) for folder in folders)
        raise CodecError(f"the codec {name} is not there ({places}); its folder is needed for sound")
    return found


def _short(value: Any) -> str:
    """A value as an error says it: of a hash its first digits."""
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 16 else str(value)


__all__ = ["TOKENIZERS", "Grammar", "Media", "Tokenizer", "codec_folder", "find_codec", "get_tokenizer"]
