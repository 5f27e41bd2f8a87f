"""Pictures of sound for the page: a drawing's frame, its loudness and spectrogram as few characters, its words.

The page draws them itself (`static/sound.js`), as it does piano rolls: those of a prompt are in the frame, those of a
run are asked for at an address (`ui/notes.py`), so that what grows is sent once.
"""

import base64
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import Audio
from ui.piano_figures import choosing, seam_mark, time_axis
from ui.text import pictures

COLUMNS_PER_SECOND = 40
WINDOW_SECONDS = 0.064
BANDS = 64
LOWEST, HIGHEST = 60.0, 8000.0
"""Frequencies that are drawn, in Hz: those of speech, and no more than 16 kHz sound has."""
STEP_DB = 3
"""Between two levels of a band."""
QUIETEST_DB = -100
"""Level 0: 60 dB below what the page takes for the loudest at least (`TOP` of static/sound.js)."""
LEVELS = 38
FIRST = ord("#")
"""Level 0 as a character; the levels above are those that follow it, none of which JSON escapes."""


def _mel(frequency: float) -> float:
    """Hz to mel, as in HTK."""
    return float(2595.0 * np.log10(1.0 + frequency / 700.0))


def hop_of(sample_rate: int) -> int:
    """Samples of a column."""
    return max(sample_rate // COLUMNS_PER_SECOND, 1)


@lru_cache(8)
def _tapered(sample_rate: int, window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A window of so many samples, and what makes levels of mel bands of its spectrum, (window // 2 + 1, BANDS): the
    same for all sounds of a rate."""
    # torchaudio is slow to import, and a page without speech does without it.
    from shortcut_gen.codec.torchaudio_loader import torchaudio

    taper = np.hanning(window + 1)[:-1].astype(np.float32)
    highest = min(HIGHEST, sample_rate / 2)
    filters = torchaudio.functional.melscale_fbanks(window // 2 + 1, LOWEST, highest, BANDS, sample_rate)
    return taper, filters.numpy() / taper.sum()


class Analysis:
    """Loudness and spectrum of sound that grows: what was once worked out is not worked out again."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.hop = hop_of(sample_rate)
        self.window = max(round(WINDOW_SECONDS * sample_rate), self.hop)
        self._taper, self._filters = _tapered(sample_rate, self.window)
        # Each column is in the middle of its window, so the first window begins before the sound.
        self._rest = np.zeros((self.window - self.hop) // 2, np.float32)
        self._before = len(self._rest)
        self.samples = 0
        self.peaks = np.zeros(0, np.float32)
        """Loudest sample of each column, (N,)."""
        self.levels = np.zeros((0, BANDS), np.uint8)
        """Of each column's mel bands, in steps of STEP_DB from QUIETEST_DB on, below LEVELS, (N, BANDS): as they are
        drawn, for hundreds of sounds are kept."""

    def extend(self, samples: NDArray[np.float32]) -> None:
        """Add (S,) samples. The last window is waited for; `finish` does not."""
        self.samples += len(samples)
        self._rest = np.concatenate([self._rest, samples])
        count = (len(self._rest) - self.window) // self.hop + 1
        if count <= 0:
            return
        frames = np.lib.stride_tricks.sliding_window_view(self._rest, self.window)[: count * self.hop : self.hop]
        middle = frames[:, self._before : self._before + self.hop]
        spectrum = np.abs(np.fft.rfft(frames * self._taper)).astype(np.float32)  # (N, window // 2 + 1)
        decibels = 20 * np.log10(spectrum @ self._filters + 1e-7)  # (N, BANDS)
        levels = np.clip(np.rint((decibels - QUIETEST_DB) / STEP_DB), 0, LEVELS - 1).astype(np.uint8)
        self.peaks = np.concatenate([self.peaks, np.abs(middle).max(axis=1)])
        self.levels = np.concatenate([self.levels, levels])
        self._rest = self._rest[count * self.hop :]

    def finish(self) -> None:
        """No more will come: work out the last columns, which reach over the end."""
        wanted = -(-self.samples // self.hop)
        missing = wanted - len(self.peaks)
        if missing > 0:
            samples, needed = self.samples, (missing - 1) * self.hop + self.window - len(self._rest)
            self.extend(np.zeros(max(needed, 0), np.float32))
            self.samples = samples

    @property
    def seconds(self) -> float:
        """How much there is."""
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Columns:
    """Sound as it is drawn, N columns of it."""

    peaks: NDArray[np.int64]
    """Loudest sample of each, in thousandths, (N,)."""
    levels: NDArray[np.uint8]
    """Of each one's mel bands, below LEVELS, (N, BANDS)."""

    def shared(self, other: "Columns") -> int:
        """How many columns both begin with."""
        count = min(len(self.peaks), len(other.peaks))
        same = (self.peaks[:count] == other.peaks[:count]) & (self.levels[:count] == other.levels[:count]).all(axis=1)
        return int(same.argmin()) if not same.all() else count

    def told(self, after: int) -> dict[str, Any]:
        """The columns from the `after`-th on, as the page reads them: BANDS characters for each, low bands first."""
        after = min(after, len(self.peaks))
        spectrum = (self.levels[after:] + FIRST).tobytes().decode("ascii")
        return {"after": after, "peaks": self.peaks[after:].tolist(), "spectrum": spectrum}


def columns(analysis: Analysis) -> Columns:
    """What there is of a sound; as it grows, columns are added at the end and the others stay."""
    count = min(len(analysis.peaks), len(analysis.levels))  # another thread may be between the two
    return Columns(np.rint(1000 * analysis.peaks[:count]).astype(np.int64), analysis.levels[:count])


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What the frame of a drawing of sound says."""

    sample_rate: int
    seam: float
    """Where the prompt ends, in seconds."""
    seconds: float
    """How much time the drawing spans; it never shrinks while sound arrives."""
    unused: bool = False
    """What comes after the seam is the rest of the prompt's file, left out, and not a continuation."""
    begin: float = 0.0
    """Where the used part begins, in seconds; only with `unused`."""


def sketch_of(audio: Audio, start: float, used: float) -> Sketch:
    """The sketch of a prompt of which `used` seconds from `start` on are used."""
    seam, seconds = min(start + used, audio.duration), max(audio.duration, 0.1)
    return Sketch(sample_rate=audio.sample_rate, seam=seam, seconds=seconds, unused=True, begin=start)


def prompt_drawing(audio: Audio, start: float, used: float) -> str:
    """A prompt's drawing, with its columns within."""
    analysis = Analysis(audio.sample_rate)
    analysis.extend(audio.samples.mean(axis=0))
    analysis.finish()
    sketch = sketch_of(audio, start, used)
    text = json.dumps(columns(analysis).told(0), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode(), 6)).decode()
    return drawing(sketch, describe(sketch, audio.duration), packed=packed)


def describe(sketch: Sketch, there: float) -> str:
    """The picture of `there` seconds in words, for those who cannot see it."""
    used = max(min(sketch.seam, there) - sketch.begin, 0.0)
    return pictures.sound(used, there - used if sketch.unused else there - sketch.seam, sketch.unused)


def _scale(highest: float) -> str:
    """The frequency axis of the spectrogram."""
    low, high = _mel(LOWEST), _mel(highest)
    names = "".join(
        f'<span style="--at:{(high - _mel(f)) / (high - low):.4f}">{name}</span>'
        for f, name in pictures.FREQUENCIES.items()
        if f < 0.9 * highest
    )
    return f'<div class="keys">{names}</div>'


def drawing(sketch: Sketch, said: str, address: str = "", packed: str = "") -> str:
    """The frame as HTML: what `static/sound.js` draws loudness and spectrogram in, with frequencies, seam and seconds.

    said: the picture in words. address: where the page asks for the columns, if they are not in `packed`: zlib of
    their JSON, in base64.
    """
    seconds = sketch.seconds
    axis, _ = time_axis(seconds)
    rate = sketch.sample_rate / hop_of(sketch.sample_rate)
    where = f' data-from="{escape(address)}"' if address else f' data-packed="{packed}"'
    unused = f' data-unused data-begin="{sketch.begin:.3f}"' if sketch.unused else ""
    return (
        f'<div class="roll sound" data-seconds="{seconds:.3f}" data-seam="{sketch.seam:.3f}" data-rate="{rate:.3f}"'
        f"{unused}{choosing(seconds if sketch.unused else 0)}{where}>"
        f"{_scale(min(HIGHEST, sketch.sample_rate / 2))}"
        f'<div class="field" role="img" aria-label="{escape(said)}">'
        f'{seam_mark(sketch.begin, seconds)}{seam_mark(sketch.seam, seconds)}<i class="playhead"></i></div>{axis}</div>'
    )
