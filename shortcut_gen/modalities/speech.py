"""Speech as ids: the codes of a codec, its codebooks interleaved in time.

A frame is Q ids, one of each codebook, coarsest first: id = level · cardinality + code, so that the position mod Q
says the level. Q = 1 is the paper's setting (arXiv 2409.10870, section 3): the coarsest codebook alone, V = 1024.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.codec.base import Codec
from shortcut_gen.errors import ConfigError, PromptError
from shortcut_gen.media import Audio
from shortcut_gen.media.sound import mended
from shortcut_gen.modalities.base import Media, Usual

MIN_SECONDS = 0.5
"""A shorter prompt is refused: there is no voice to go on in."""
SILENCE = 1e-3
"""A prompt whose samples stay this close to their mean, -60 dB, holds no speech."""


class SpeechTokenizer:
    """Audio <-> ids, at 1/frame_rate s a frame. What cuts ids cuts between frames."""

    name = "speech"
    augments = False
    ends = False
    suffixes: tuple[str, ...] = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
    media: type[Any] = Audio
    usual = Usual(
        prompt_seconds=5.0,
        seconds=10.0,
        top_p=1.0,  # below 1 it falls silent (docs/experiments.md)
        guidance=1.5,  # or it loses the voice, likewise
        blind=8,
    )

    def __init__(
        self,
        codec: Codec | Callable[[], Codec],
        codebooks: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """codec: the codec, or what makes it when sound is first asked for; settings, what its `identity` gives, must
        then be given too. Raises ConfigError.
        """
        self._make = codec if not isinstance(codec, Codec) else None
        self._codec = codec if isinstance(codec, Codec) else None
        self._lock = threading.Lock()
        settings = dict(settings) if settings is not None else self.codec.identity()
        self.settings = check_settings(settings | {"codebooks": codebooks})
        """What config.json says of the codec: its identity, and how many codebooks the ids have."""
        self.frame = codebooks
        self.cardinality: int = settings["cardinality"]
        self.frame_rate: float = settings["frame_rate"]
        self.sample_rate: int = settings["sample_rate"]
        self.vocab_size = codebooks * self.cardinality

    @property
    def codec(self) -> Codec:
        """The codec, made when first asked for. Raises CodecError, CheckpointError."""
        with self._lock:
            if self._codec is None:
                assert self._make is not None
                self._codec = self._make()
            return self._codec

    def encode(self, media: Media) -> list[int]:
        """The ids of sound, the last frame filled up with silence. Raises PromptError where there is no speech in it.

        Channels are mixed and the rate is changed as the codec needs; what `sound.mended` mends is mended.
        """
        if not isinstance(media, Audio):
            raise PromptError("holds notes, not sound; a recording of speech is needed")
        if not np.isfinite(media.samples).all():
            raise PromptError("the sound holds samples that are no numbers; finite ones are needed")
        if media.duration < MIN_SECONDS:
            raise PromptError(f"the sound lasts {media.duration:.2f} s; at least {MIN_SECONDS:g} s are needed")
        one = mended(media.samples)  # as what is read from a file already is
        if float(np.abs(one - one.mean()).max()) < SILENCE:
            raise PromptError("the sound is silent; speech is needed")
        return self.from_codes(self.codec.encode(Audio(one[None], media.sample_rate)))

    def from_codes(self, codes: Tensor) -> list[int]:
        """The ids of codes, (Q or more, F)."""
        levels = torch.arange(self.frame).unsqueeze(1) * self.cardinality
        ids: list[int] = (codes[: self.frame] + levels).t().flatten().tolist()  # (F, Q)
        return ids

    def to_codes(self, ids: Sequence[int]) -> Tensor:
        """Codes of the whole frames of ids, (Q, F) int64. An id of another level counts as the code it stands for."""
        whole = len(ids) // self.frame * self.frame
        return torch.tensor(list(ids[:whole]), dtype=torch.long).view(-1, self.frame).t() % self.cardinality

    def decode(self, ids: Sequence[int]) -> Audio:
        """The sound of ids, one channel at the codec's rate; a last frame that is not whole is left out."""
        codes = self.to_codes(ids)
        if not codes.shape[1]:
            return Audio(np.zeros((1, 0), np.float32), self.sample_rate)
        return self.codec.decode(codes)

    def sound(self) -> "SpeechSound":
        """A decoder for ids that arrive incrementally, to be heard while the rest is made."""
        return SpeechSound(self)

    def clip(self, ids: Sequence[int], n: int) -> list[int]:
        """The last n or fewer ids, from the start of a frame on. ids must begin at one; a frame under way stays."""
        if n <= 0:
            return []
        first = -(-max(len(ids) - n, 0) // self.frame) * self.frame
        return [int(token) for token in ids[first:]]

    def head(self, ids: Sequence[int], seconds: float) -> list[int]:
        """The whole frames of the first `seconds`."""
        # A hair more, or 0.58 s would not hold 29 frames.
        frames = min(int(max(seconds, 0.0) * self.frame_rate + 1e-6), len(ids) // self.frame)
        return [int(token) for token in ids[: frames * self.frame]]

    def seconds(self, ids: Sequence[int]) -> float:
        """How long the whole frames of ids last."""
        return len(ids) // self.frame / self.frame_rate

    def to_ending(self, prompt: Sequence[int], ids: Sequence[int], seconds: float) -> list[int]:
        """All of the new ids: no ends are known."""
        return list(ids)

    def start(self, uniform: float) -> list[int]:
        """One entry of the coarsest codebook: the model chooses the rest."""
        return [min(int(uniform * self.cardinality), self.cardinality - 1)]

    def grammar(self) -> "SpeechGrammar":
        """A fresh grammar, at the start of a frame."""
        return SpeechGrammar(self.frame, self.cardinality, self.frame_rate)

    def augment(
        self, ids: NDArray[np.uint16], rng: np.random.Generator, transpose: int, stretch: float
    ) -> NDArray[np.uint16]:
        """ids as they are: codes can be neither moved nor stretched. `training.prepare --speeds` varies the sound."""
        return ids


class SpeechGrammar:
    """Which ids may come next: those of the codebook whose turn it is."""

    def __init__(self, codebooks: int, cardinality: int, frame_rate: float) -> None:
        self._frame_rate = frame_rate
        self._codebooks = codebooks
        self._count = 0
        levels = torch.arange(codebooks * cardinality) // cardinality
        self._masks = [levels == level for level in range(codebooks)] if codebooks > 1 else [None]

    @property
    def seconds(self) -> float:
        """Time of the whole frames since the first id."""
        return self._count // self._codebooks / self._frame_rate

    def advance(self, token: int) -> None:
        """Take the next id, allowed or not: the turn passes on."""
        self._count += 1

    def allowed(self) -> Tensor | None:
        """(V,) bool, True where an id may come next; None with one codebook, where all may."""
        return self._masks[self._count % self._codebooks]


class SpeechSound:
    """Ids that arrive one by one, to sound that is played meanwhile. Joined, it is what `decode` gives."""

    def __init__(self, tokenizer: SpeechTokenizer) -> None:
        self.sample_rate = tokenizer.sample_rate
        """Samples a second, in Hz."""
        self._tokenizer = tokenizer
        self._stream = tokenizer.codec.decoder()
        self._rest: list[int] = []

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, trace)

    def push(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The sound, (S,), of the frames that these ids make whole. The stream's first 0.14 s or so is held back
        until all of it is there: see `CodecStream`."""
        self._rest += map(int, ids)
        whole = len(self._rest) // self._tokenizer.frame * self._tokenizer.frame
        codes = self._tokenizer.to_codes(self._rest[:whole])
        del self._rest[:whole]
        return self._stream.push(codes) if whole else np.zeros(0, np.float32)

    def finish(self) -> NDArray[np.float32]:
        """What was held back of a stream that ends before its first sound; else nothing."""
        return self._stream.finish()


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A codec's settings, as config.json has them. Raises ConfigError on what cannot be."""
    wanted: dict[str, tuple[type, ...]] = {
        "name": (str,),
        "sample_rate": (int,),
        "frame_rate": (int, float),
        "cardinality": (int,),
        "num_codebooks": (int,),
        "sha256": (str,),
        "codebooks": (int,),
    }
    for key, kinds in wanted.items():
        value: Any = settings.get(key)
        wrong = not isinstance(value, kinds) or isinstance(value, bool)
        if wrong or (isinstance(value, int | float) and value <= 0):
            kind = "text" if kinds == (str,) else "number above 0"
            raise ConfigError(f"codec: {key} is {value!r}; a {kind} is needed")
    if settings["codebooks"] > settings["num_codebooks"]:
        raise ConfigError(
            f"codec: {settings['codebooks']} codebooks are asked for, but {settings['name']} is used with "
            f"{settings['num_codebooks']}"
        )
    if unknown := sorted(set(settings) - set(wanted)):
        raise ConfigError(f"codec: unknown key {unknown[0]!r}; known are {', '.join(wanted)}")
    return dict(settings)
