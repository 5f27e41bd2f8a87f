"""The modalities: piano, speech and text. The one place that tells them apart by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shortcut_gen.codec.finding import find_codec
from shortcut_gen.errors import ConfigError
from shortcut_gen.modalities.base import Grammar, Media, Tokenizer, Usual
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


__all__ = ["TOKENIZERS", "Grammar", "Media", "Tokenizer", "Usual", "get_tokenizer"]
