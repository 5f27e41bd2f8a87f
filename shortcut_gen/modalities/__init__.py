"""The modalities: piano today. The one place that tells them apart by name."""

from collections.abc import Callable

from shortcut_gen.errors import ConfigError
from shortcut_gen.modalities.base import Grammar, Media, Tokenizer
from shortcut_gen.modalities.piano import PianoTokenizer

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"piano": PianoTokenizer}
"""What config.json may call a tokenizer, and its maker."""


def get_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of that name. Raises ConfigError where there is none."""
    if name not in TOKENIZERS:
        raise ConfigError(f"unknown tokenizer {name!r}; known are {', '.join(TOKENIZERS)}")
    return TOKENIZERS[name]()


__all__ = ["TOKENIZERS", "Grammar", "Media", "Tokenizer", "get_tokenizer"]
