"""Encodes recordings with a codec, many together, in memory that does not grow with their length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason
from shortcut_gen.media import Audio
from shortcut_gen.media.sound import Sound
from shortcut_gen.modalities.codec import EncodecCodec
from shortcut_gen.modalities.speech import SpeechTokenizer
from training.corpus.encoding import Encoded, Failed, Kept
from training.corpus.recordings import Blob
from training.corpus.shards import DTYPE

SEGMENT_SECONDS = 30.0
"""Longer recordings are cut: an utterance of LibriSpeech lasts 35 s at most."""
SORTED_SECONDS = 240.0
"""Sound that is held at once, so that batches of similar lengths can be chosen from it."""


@dataclass(frozen=True, kw_only=True)
class CodecSettings:
    """Which codec, and where it runs."""

    name: str
    """encodec_24khz, or a folder."""
    codebooks: int
    weights: Path | None = None
    """File of the official weights."""
    device: str = "cpu"

    def load(self) -> EncodecCodec:
        """Raises CodecError, CheckpointError."""
        return EncodecCodec(self.name, codebooks=self.codebooks, weights=self.weights, device=self.device)


@dataclass(frozen=True)
class Take:
    """A piece to encode: recordings of one voice, one behind the other."""

    name: str
    files: tuple[Blob, ...]
    speed: float = 1.0
    """How much faster it is played, and higher with it."""


class _File:
    """What has been made of a file so far."""

    def __init__(self) -> None:
        self.ids: list[NDArray[np.uint16]] = []
        self.dropped = False


class _Made:
    """What has been made of a take so far."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.left_out: list[Failed] = []
        self.kept: list[Kept] = []

    @property
    def ids(self) -> list[NDArray[np.uint16]]:
        """Those of the files that are not left out, in order."""
        return [ids for file in self.files if not file.dropped for ids in file.ids]


@dataclass(frozen=True)
class _Segment:
    """A stretch of sound and where its ids go."""

    audio: Audio
    file: _File
    place: int


class AudioCoder:
    """Encodes takes; the codec is loaded with the first of them."""

    ahead = 2

    def __init__(self, settings: CodecSettings, batch_seconds: float, strict: bool = False) -> None:
        """strict: leave out a file that is cut short, too."""
        self._settings = settings
        self._batch_seconds = batch_seconds
        self._strict = strict

    @cached_property
    def _tokenizer(self) -> SpeechTokenizer:
        return SpeechTokenizer(self._settings.load(), self._settings.codebooks)

    def __call__(self, job: Sequence[Take]) -> list[Encoded | Failed]:
        """The takes, in order. What cannot be read of a take is named; it fails where nothing is left."""
        made = [_Made() for _ in job]
        waiting: list[_Segment] = []
        held = 0.0
        for take, one in zip(job, made, strict=True):
            for segment in self._segments(take, one):
                waiting.append(segment)
                held += segment.audio.duration
                if held >= SORTED_SECONDS:
                    self._encode(waiting)
                    waiting, held = [], 0.0
        self._encode(waiting)
        return [self._result(take, one) for take, one in zip(job, made, strict=True)]

    def _encode(self, segments: list[_Segment]) -> None:
        """Put the ids of segments in their places; those of similar lengths are encoded together."""
        rest = sorted(segments, key=lambda segment: segment.audio.duration, reverse=True)
        while rest:
            count = max(int(self._batch_seconds / rest[0].audio.duration), 1)
            batch, rest = rest[:count], rest[count:]
            for segment, codes in zip(
                batch, self._tokenizer.codec.encode_many([one.audio for one in batch]), strict=True
            ):
                segment.file.ids[segment.place] = np.asarray(self._tokenizer.from_codes(codes), DTYPE)

    def _result(self, take: Take, made: _Made) -> Encoded | Failed:
        ids = np.concatenate([*made.ids, np.empty(0, DTYPE)])
        if not len(ids):
            first, *more = made.left_out
            rest = f"; left out with it: {', '.join(file.name for file in more)}" if more else ""
            return Failed(first.name, first.reason + rest)
        seconds = len(ids) / self._tokenizer.frame / self._tokenizer.frame_rate
        return Encoded(take.name, ids, 0, seconds, tuple(made.left_out), tuple(made.kept))

    def _segments(self, take: Take, made: _Made) -> Iterator[_Segment]:
        """The sound of a take's files, each part with an empty place for its ids."""
        for blob in take.files:
            file = _File()
            made.files.append(file)
            try:
                with blob.open() as stream:
                    sound = Sound(stream)
                    if self._strict and sound.cut:
                        raise MediaError(f"is {sound.cut}")
                    for audio in self._parts(sound, take.speed):
                        file.ids.append(np.empty(0, DTYPE))
                        yield _Segment(audio, file, len(file.ids) - 1)
            except OSError as error:
                made.left_out.append(Failed(blob.name, f"{blob.name} cannot be read: {reason(error)}"))
            except MediaError as error:
                made.left_out.append(Failed(blob.name, f"{blob.name} {error}"))
            else:
                made.kept += [Kept(blob.name, sound.kept)] if sound.kept else []
                continue
            file.dropped = True

    def _parts(self, sound: Sound, speed: float) -> Iterator[Audio]:
        """A recording at the codec's rate in parts of up to SEGMENT_SECONDS, as fast as told."""
        rate = self._tokenizer.sample_rate
        size = round(SEGMENT_SECONDS * rate)
        held: list[NDArray[np.float32]] = []
        count = 0
        for block in sound.blocks(rate, speed):
            held.append(block)
            count += len(block)
            while count >= size:
                joined = np.concatenate(held)
                yield Audio(joined[None, :size], rate)
                held, count = [joined[size:]], count - size
        if count:
            yield Audio(np.concatenate(held)[None], rate)
