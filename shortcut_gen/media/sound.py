"""Sound files to sound of one channel: decoded, mended and resampled in blocks, for prompts and for corpora alike.

A file is read twice. The first reading tells what is wrong with it as a whole, the second gives its samples; so the
memory does not grow with the length, whatever a header promises.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.media.sound_files import View, look, other_kind

MIN_RATE, MAX_RATE = 1_000, 768_000
"""Samples a second that are read, in Hz: below there is no voice, above only a damaged header."""
BLOCK_VALUES = 1 << 18
"""Samples of all channels that are decoded at a time: 1 MiB of them."""
STEP = 1024
"""Samples of a channel that libsndfile is asked for at a time. Where it meets damage it does not say how many of them
it had read, and they are lost."""
MAX_OFFSET = 0.01
"""A mean further from 0 is a constant offset, which no sound has; in quiet sound, one above a quarter of its RMS, down
to a tenth of this. Of 3,077 half seconds of LibriSpeech one has a mean of 0.01; what a codec makes of
speech is 5% further off in log spectrum with it, and four times as far with one of 0.3."""
CANCELLED = 0.1
"""Channels cancel one another where their mean has a tenth of the power that it has of independent ones, or less."""
FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)
"""Of whole numbers of 16, 24 and 32 bits, which some programs write as they are into floating-point files."""
LOUD = 256.0
"""Floating-point sound with a higher peak holds such whole numbers; with a lower one it is loud."""

_UNKNOWN = 1 << 62  # libsndfile's number of samples where a file does not say
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT


class _Forward(soundfile.SoundFile):
    """A sound file that is read from its start to its end. Otherwise soundfile seeks after every block, which fails
    where a file is cut short, and takes the block with it."""

    def seekable(self) -> bool:
        return False


class _File:
    """A sound file that can be opened again and again. Raises MediaError where it cannot be read."""

    def __init__(self, stream: BinaryIO, complaint: str) -> None:
        self._stream, self._complaint = stream, complaint
        self.header = look(stream)

    @contextmanager
    def opened(self) -> Iterator[_Forward]:
        """At its start. Raises the OSError that reading it may have met, at the end."""
        file, view = self._open()
        with file:
            if not MIN_RATE <= file.samplerate <= MAX_RATE:
                raise MediaError(f"has {file.samplerate:,} samples a second; {MIN_RATE:,} to {MAX_RATE:,} are read")
            yield file
        if view.error:
            raise view.error

    def _open(self) -> tuple[_Forward, View]:
        view = View(self._stream, self.header)
        try:
            return _Forward(view), view
        except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
            if view.error:
                raise view.error from error
            if not self.header.start and (header := look(self._stream, lost=True)).start:
                self.header = header
                return self._open()
            raise MediaError(self._refusal(error)) from error

    def _refusal(self, error: Exception) -> str:
        """Why libsndfile does not read it."""
        if isinstance(error, soundfile.LibsndfileError) and error.code != _UNRECOGNISED:
            said = error.error_string.strip(" .").lower().removeprefix("error : ")
            # Of headers that contradict themselves, and of MP3 files without a frame, it says what does not help.
            why = "its header is damaged" if said.startswith(("internal", "file does not exist")) else said
            return f"is {self._complaint} that can be read: {why}"
        self._stream.seek(0)
        if kind := other_kind(self._stream.read(4096)):
            return f"is {kind}, {self._complaint} that can be read (WAV, FLAC, Ogg and MP3 can)"
        return f"is {self._complaint} that can be read"

    def promised(self, file: _Forward) -> float | None:
        """Seconds that it says it lasts; None where it does not say."""
        header = self.header
        if file.frames >= _UNKNOWN or header.counts == "guess" or header.broken_off:
            return None
        seconds = float(file.frames / file.samplerate)
        if header.counts == "whole" or header.said <= header.there:
            return seconds
        even = not file.subtype.startswith("ALAC")  # as long for every byte
        return seconds * header.said / header.there if even and header.there else None


class Sound:
    """A sound file after its first reading.

    Raises MediaError, without the file's name, where it cannot be read or holds samples that are no numbers; OSError.
    """

    sample_rate: int
    """Of the file, in Hz."""
    channels: int
    """Of the file."""
    seconds: float
    """How long what is read of it lasts."""
    promised: float | None
    """How long it says that it lasts; None where it does not say."""
    cut: str
    """In words, how much is there of a file that is cut short or damaged; else ""."""
    kept: str
    """What is mended or missing, in one line; "" where nothing is."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        seconds: float | None = None,
        most_values: int | None = None,
        complaint: str = "no sound file",
    ) -> None:
        """stream: of bytes, which can seek; it must stay open. seconds: how much of the start to read.
        most_values: samples of all channels that are read at most. complaint: what a file of another kind is called.
        """
        self._file = _File(stream, complaint)
        with self._file.opened() as file:
            self.sample_rate, self.channels = file.samplerate, file.channels
            self.promised = self._file.promised(file)
            wanted = _UNKNOWN if seconds is None else math.ceil(seconds * self.sample_rate)
            room = _UNKNOWN if most_values is None else most_values // self.channels
            if file.frames < _UNKNOWN and min(wanted, file.frames) > room:
                raise self._too_much()
            reading = _Reading(file, min(wanted, room + 1))
            statistics = self._read(reading)
        self._frames = statistics.count
        if self._frames > room:
            raise self._too_much()
        if not self._frames:
            raise MediaError("is a sound file without samples; some are needed")
        self.seconds = self._frames / self.sample_rate
        self.cut = self._missing(reading.damaged) if self._frames < wanted else ""
        self._mend = statistics.mending()
        self.kept = "; ".join(said for said in (self.cut, self._mend.said) if said)

    def _read(self, reading: "_Reading") -> "Statistics":
        statistics = Statistics(self.channels)
        for block in reading:
            if not np.isfinite(block).all():
                at = statistics.count / self.sample_rate
                raise MediaError(f"holds samples that are no numbers, from {at:.0f} s on; finite ones are needed")
            statistics.add(block)
        return statistics

    def blocks(self, sample_rate: float | None = None, speed: float = 1.0) -> Iterator[NDArray[np.float32]]:
        """The samples, (S,) in [-1, 1], at a rate in Hz (the file's own if none is given), played so much faster."""
        given = self.sample_rate * speed
        resample = Resampler(given, sample_rate or given)
        left = self._frames
        with self._file.opened() as file:
            for block in _Reading(file, left):
                left -= len(block)
                yield resample(self._mend(block))
        if left:
            raise MediaError("changed while it was read")
        yield resample.finish()

    def _too_much(self) -> MediaError:
        return MediaError(
            f"has {self.channels} channels of {self.sample_rate:,} samples a second; less, or a shorter part, is needed"
        )

    def _missing(self, damaged: bool) -> str:
        """How much there is of a file that has been read to its end, where that is not all."""
        if self.promised is not None and self.promised - self.seconds > 0.1:  # less is a last frame of MP3
            return f"cut short or damaged: {self.seconds:.1f} of {self.promised:.1f} s can be read"
        if damaged or self._file.header.cut:
            return f"cut short or damaged: it breaks off at {self.seconds:.1f} s"
        return ""


class _Reading:
    """The blocks of an open file, (S, C) float32, in one piece of memory: what is to be kept is to be copied."""

    def __init__(self, file: _Forward, most: int) -> None:
        self._file, self._most = file, most
        self.damaged = False
        """Whether it ended with an error."""

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        channels = self._file.channels
        buffer = np.empty((max(BLOCK_VALUES // channels, 1), channels), np.float32)
        left, ended = self._most, False
        while left > 0 and not ended:
            wanted, done = min(len(buffer), left), 0
            while done < wanted and not ended:
                piece = buffer[done : min(done + STEP, wanted)]
                try:
                    count = len(self._file.read(out=piece))
                except soundfile.LibsndfileError:
                    self.damaged, count = True, 0
                done += count
                ended = count < len(piece)
            left -= done
            if done:
                yield buffer[:done]


class Statistics:
    """What decides how sound is mended, gathered block by block: of the mean of its channels, then of each of them."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._channels = channels
        rows = channels + 1 if channels > 1 else 1
        self._sums, self._squares = np.zeros(rows), np.zeros(rows)
        self._low, self._high = np.full(rows, np.inf), np.full(rows, -np.inf)

    def add(self, block: NDArray[np.float32]) -> None:
        """Add (S, C) finite samples."""
        rows = np.array(block.T, np.float64, order="C")  # (C, S): several times as fast to go through
        if self._channels > 1:
            rows = np.concatenate([rows.mean(axis=0)[None], rows])
        self.count += len(block)
        self._sums += rows.sum(axis=1)
        self._squares += np.einsum("cs,cs->c", rows, rows)
        self._low = np.minimum(self._low, rows.min(axis=1))
        self._high = np.maximum(self._high, rows.max(axis=1))

    def mending(self) -> "Mending":
        """What is to be done with it."""
        if not self.count:
            return Mending()
        means = self._sums / self.count
        powers = np.maximum(self._squares / self.count - means**2, 0.0)
        row, said = 0, []
        if self._channels > 1 and powers[0] <= CANCELLED * powers[1:].sum() / self._channels**2 < np.inf:
            row = 1 + int(powers[1:].argmax())
            if powers[row] > 0:
                said.append(f"the channels cancel each other: the louder, {row} of {self._channels}, is used")
            else:
                row = 0
        low, high, mean = self._low[row], self._high[row], means[row]
        peak = max(-low, high)
        scale = next((full for full in FULL_SCALES if peak <= 8 * full), 1.0) if peak > LOUD else 1.0
        whole = max(scale, peak)
        most = max(min(MAX_OFFSET, math.sqrt(powers[row]) / whole / 4), MAX_OFFSET / 10)
        offset = mean if abs(mean) > most * whole else 0.0
        if offset:
            said.append(f"a constant offset of {offset / whole:.2g} is removed")
        peak = max(high - offset, offset - low)
        if peak > scale:
            said.append(f"samples of up to {peak:,.4g} are scaled down to 1")
            scale = peak
        elif scale > 1:
            said.append(f"samples of up to {peak:,.0f} are taken for whole numbers of {int(math.log2(scale)) + 1} bits")
        return Mending(row - 1, float(offset), float(scale), "; ".join(said))


@dataclass(frozen=True)
class Mending:
    """How sound of several channels becomes sound of one, in [-1, 1]."""

    channel: int = -1
    """The one that is used; -1 mixes all of them."""
    offset: float = 0.0
    """What is subtracted, in the unit of the samples."""
    scale: float = 1.0
    """What they are divided by then."""
    said: str = ""
    """What of this is not as usual, in one line."""

    def __call__(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """(S, C) to (S,), in new memory."""
        if self.offset == 0.0 and self.scale == 1.0:
            out = block[:, self.channel].copy() if self.channel >= 0 else block.mean(axis=1)
        else:
            wide = block.astype(np.float64)
            out = (wide[:, self.channel] if self.channel >= 0 else wide.mean(axis=1)) - self.offset
            out = out / self.scale
        return out.astype(np.float32, copy=False)


def mended(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sound in memory, (C, S) finite, to one channel, (S,), as a file's is: mixed, without offset, in [-1, 1]."""
    statistics = Statistics(len(samples))
    step = max(BLOCK_VALUES // max(len(samples), 1), 1)
    for at in range(0, samples.shape[1], step):
        statistics.add(samples[:, at : at + step].T)
    return statistics.mending()(samples.T)


class Resampler:
    """Changes the rate of sound that comes in blocks: whatever the blocks, the result is that of all at once."""

    def __init__(self, given: float, wanted: float) -> None:
        """Rates in Hz."""
        self._stream = None if given == wanted else soxr.ResampleStream(given, wanted, 1, dtype="float32")

    def __call__(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        """The next samples, (S,), at the wanted rate: as many as can be told so far."""
        if self._stream is None:
            return samples
        out: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return out

    def finish(self) -> NDArray[np.float32]:
        """Those that were held back."""
        return self(np.zeros(0, np.float32), last=True)


def resampled(samples: NDArray[np.float32], given: float, wanted: float) -> NDArray[np.float32]:
    """Sound of one channel, (S,), at another rate; rates in Hz."""
    return Resampler(given, wanted)(samples, last=True)


def length(stream: BinaryIO) -> tuple[float, str]:
    """Seconds of a sound file and, in words, how it is cut short, else "". Raises MediaError, without the file's name,
    where it cannot be read; OSError.

    By its header where that says and is seen to be right, else by reading it. A file of floating-point numbers is read,
    too: some of them may be none.
    """
    whole = _File(stream, "no sound file")
    with whole.opened() as file:
        floating = file.subtype in ("FLOAT", "DOUBLE")
        if file.frames < _UNKNOWN and not whole.header.cut and not floating and _ends(file):
            return file.frames / file.samplerate, ""
    sound = Sound(stream)
    return sound.seconds, sound.cut


def _ends(file: _Forward) -> bool:
    """Whether a file's last sample is there, which a FLAC file's header does not tell."""
    if not file.frames:
        return False
    if file.format != "FLAC":
        return True
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False
