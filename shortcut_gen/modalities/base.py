"""What a modality is to the rest: a tokenizer, and the grammar state that follows its ids one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.media import Audio, Score

Media = Score | Audio | str


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What a modality's continuations take where nothing else is asked for."""

    prompt_seconds: float
    """How much of a prompt an interactive use takes."""
    seconds: float
    """How long to go on."""
    top_p: float
    guidance: float = 0.0
    """How much further than by itself the model holds to the prompt (decoding/guidance.py)."""
    blind: int = 64
    """Ids of a prompt's end that a guided row's twin reads, at most."""


class Grammar(Protocol):
    """Follows one stream of ids, in O(1) per id: what may come next and how much time has passed."""

    @property
    def seconds(self) -> float:
        """Time passed since the first id, in seconds of music or speech."""
        ...

    def advance(self, token: int) -> None:
        """Take the next id of the stream, allowed or not."""
        ...

    def allowed(self) -> Tensor | None:
        """(V,) bool, True where an id may come next; None where all may. The caller does not keep or change it."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """A modality's whole contract."""

    name: str
    """What config.json calls it."""
    vocab_size: int
    frame: int
    """Ids that stand together, such as the codebooks of one moment: crops, windows and clips begin at multiples."""
    augments: bool
    """Whether `augment` can move and stretch ids."""
    ends: bool
    """Whether `to_ending` knows where a piece can end."""
    suffixes: tuple[str, ...]
    """Suffixes of the files it reads, with the dot, in lower case."""
    media: type[Any]
    """What it encodes and decodes to: Score, Audio or str."""
    usual: Usual

    def encode(self, media: Media) -> list[int]:
        """The ids of a piece. Raises PromptError where there is nothing to encode."""
        ...

    def decode(self, ids: Sequence[int]) -> Media:
        """The piece that ids describe; every sequence of ids in the vocabulary decodes to something."""
        ...

    def clip(self, ids: Sequence[int], n: int) -> list[int]:
        """The last n or fewer ids, cut at a legal boundary."""
        ...

    def head(self, ids: Sequence[int], seconds: float) -> list[int]:
        """The ids of the first `seconds` of a piece; what sounds across the cut is left open."""
        ...

    def seconds(self, ids: Sequence[int]) -> float:
        """How long ids last, in seconds of music or speech."""
        ...

    def to_ending(self, prompt: Sequence[int], ids: Sequence[int], seconds: float) -> list[int]:
        """What of new ids after a prompt is kept so that they end as a piece does, no sooner than after `seconds`; all
        of them where the modality knows of no ends."""
        ...

    def start(self, uniform: float) -> list[int]:
        """Ids to begin from when there is no prompt, chosen by a number in [0, 1)."""
        ...

    def grammar(self) -> Grammar:
        """A fresh grammar at the start of a stream."""
        ...

    def augment(
        self, ids: NDArray[np.uint16], rng: np.random.Generator, transpose: int, stretch: float
    ) -> NDArray[np.uint16]:
        """A varied copy for training, such as one moved by up to ±transpose semitones and ±stretch in tempo."""
        ...
