"""Encodes recordings with a codec, many together, in memory that does not grow with their length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from shortcut_gen.files import reason
from shortcut_gen.media import Audio
from shortcut_gen.modalities.codec import EncodecCodec
from shortcut_gen.modalities.speech import SpeechTokenizer
from training.corpus.encoding import Encoded, Failed
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


class _Made:
    """What has been made of a take so far."""

    def __init__(self) -> None:
        self.ids: list[NDArray[np.uint16]] = []
        self.left_out: list[Failed] = []


@dataclass(frozen=True)
class _Segment:
    """A stretch of sound and where its ids go."""

    audio: Audio
    made: _Made
    place: int


class _UnusableError(ValueError):
    """Sound that can be read but not encoded."""


class AudioCoder:
    """Encodes takes; the codec is loaded with the first of them."""

    ahead = 2

    def __init__(self, settings: CodecSettings, batch_seconds: float) -> None:
        self._settings = settings
        self._batch_seconds = batch_seconds

    @cached_property
    def _tokenizer(self) -> SpeechTokenizer:
        return SpeechTokenizer(self._settings.load(), self._settings.codebooks)

    def __call__(self, job: Sequence[Take]) -> list[Encoded | Failed]:
        """The takes, in order. What cannot be read of a take is named; it fails where nothing is left."""
        made = [_Made() for _ in job]
        waiting: list[_Segment] = []
        held = 0.0
        for take, one in zip(job, made, strict=True):
            for segment in _segments(take, one):
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
                segment.made.ids[segment.place] = np.asarray(self._tokenizer.from_codes(codes), DTYPE)

    def _result(self, take: Take, made: _Made) -> Encoded | Failed:
        ids = np.concatenate([*made.ids, np.empty(0, DTYPE)])
        if not len(ids):
            return Failed(take.name, made.left_out[0].reason)
        seconds = len(ids) / self._tokenizer.frame / self._tokenizer.frame_rate
        return Encoded(take.name, ids, 0, seconds, tuple(made.left_out))


def _segments(take: Take, made: _Made) -> Iterator[_Segment]:
    """The sound of a take's files, each with an empty place for its ids."""
    for blob in take.files:
        try:
            for audio in _read(blob, take.speed):
                made.ids.append(np.empty(0, DTYPE))
                yield _Segment(audio, made, len(made.ids) - 1)
        except OSError as error:
            made.left_out.append(Failed(blob.name, f"{blob.name} cannot be read: {reason(error)}"))
        except _UnusableError as error:
            made.left_out.append(Failed(blob.name, f"{blob.name} {error}"))
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError):
            made.left_out.append(Failed(blob.name, f"{blob.name} is no sound file that can be read"))


def _read(blob: Blob, speed: float) -> Iterator[Audio]:
    """A recording in parts of up to SEGMENT_SECONDS, its channels mixed, as fast as told."""
    with blob.open() as stream, soundfile.SoundFile(stream) as file:
        rate = max(round(file.samplerate * speed), 1)
        size = round(SEGMENT_SECONDS * rate)
        at = 0
        while len(samples := file.read(size, dtype="float32", always_2d=True)):  # (S, C)
            mixed = samples.mean(axis=1)
            if not np.isfinite(mixed).all():
                raise _UnusableError(f"holds samples that are no numbers, from {at / rate:.0f} s on")
            at += len(samples)
            yield Audio(mixed[None], rate)
        if not at:
            raise _UnusableError("has no samples")
