"""Pictures of sound for the page: loudness over a spectrogram on one time axis, cheap enough to redraw while it grows.

A spectrogram is a small PNG that is nothing but opacity. The page fills it with the colour of the prompt or of the
continuation (CSS mask), so that it looks like the piano roll, light or dark: paler is softer.
"""

import base64
import struct
import zlib
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import Audio
from ui.piano_figures import choosing, seam_mark, time_axis

COLUMNS_PER_SECOND = 40
WINDOW_SECONDS = 0.064
BANDS = 64
LOWEST, HIGHEST = 60.0, 8000.0
"""Frequencies that are drawn, in Hz: those of speech, and no more than 16 kHz sound has."""
RANGE_DB = 60.0
"""From the loudest there is down to white."""
QUIETEST_DB = -10.0
"""The loudest is taken for this at least (one band of a soft voice), so that near silence does not look like speech."""
LEVELS = 16
"""Steps of opacity: 4 bits a pixel."""
MARKS = {250: "250 Hz", 1000: "1 kHz", 2000: "2 kHz", 4000: "4 kHz"}
"""Frequencies named at the side."""


def _mel(frequency: float) -> float:
    """Hz to mel, as in HTK."""
    return float(2595.0 * np.log10(1.0 + frequency / 700.0))


class Analysis:
    """Loudness and spectrum of sound that grows: what was once worked out is not worked out again."""

    def __init__(self, sample_rate: int) -> None:
        # torchaudio is slow to import, and a page without speech does without it.
        from shortcut_gen.codec.torchaudio_loader import torchaudio

        self.sample_rate = sample_rate
        self.hop = max(sample_rate // COLUMNS_PER_SECOND, 1)
        self.window = max(round(WINDOW_SECONDS * sample_rate), self.hop)
        self._taper = np.hanning(self.window + 1)[:-1].astype(np.float32)
        filters = torchaudio.functional.melscale_fbanks(
            self.window // 2 + 1, LOWEST, min(HIGHEST, sample_rate / 2), BANDS, sample_rate
        )
        self._filters: NDArray[np.float32] = filters.numpy() / self._taper.sum()
        # Each column is in the middle of its window, so the first window begins before the sound.
        self._rest = np.zeros((self.window - self.hop) // 2, np.float32)
        self._before = len(self._rest)
        self.samples = 0
        self.peaks = np.zeros(0, np.float32)
        """Loudest sample of each column, (N,)."""
        self.bands = np.zeros((0, BANDS), np.float32)
        """Level of each column's mel bands in dB, (N, BANDS)."""

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
        levels = 20 * np.log10(spectrum @ self._filters + 1e-7)  # (N, BANDS)
        self.peaks = np.concatenate([self.peaks, np.abs(middle).max(axis=1)])
        self.bands = np.concatenate([self.bands, levels])
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


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What a drawing of sound shows."""

    analysis: Analysis
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
    analysis = Analysis(audio.sample_rate)
    analysis.extend(audio.samples.mean(axis=0))
    analysis.finish()
    seam, seconds = min(start + used, audio.duration), max(audio.duration, 0.1)
    return Sketch(analysis=analysis, seam=seam, seconds=seconds, unused=True, begin=start)


def describe(sketch: Sketch) -> str:
    """The picture in words, for those who cannot see it."""
    there = sketch.analysis.seconds
    used = max(min(sketch.seam, there) - sketch.begin, 0.0)
    text = f"Loudness and spectrogram: {used:.1f} s of the prompt"
    later = there - used if sketch.unused else there - sketch.seam
    if later < 0.05:
        return f"{text}."
    return f"{text}, {later:.1f} s of the file not used." if sketch.unused else f"{text}, then {later:.1f} s new."


def opacity_png(opacity: NDArray[np.uint8]) -> bytes:
    """A PNG of (height, width) values from 0, nothing, to LEVELS - 1, all; its colour is black throughout."""
    height, width = opacity.shape
    pairs = np.zeros((height, -(-width // 2) * 2), np.uint8)
    pairs[:, :width] = opacity
    packed = pairs[:, 0::2] << 4 | pairs[:, 1::2]  # two pixels a byte
    rows = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1)  # 0 in front: the row is not filtered

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    alphas = bytes(round(255 * level / (LEVELS - 1)) for level in range(LEVELS))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),  # 4 bits, a palette
            chunk(b"PLTE", bytes(3 * LEVELS)),
            chunk(b"tRNS", alphas),
            chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            chunk(b"IEND", b""),
        ]
    )


def _spectrum(name: str, bands: NDArray[np.float32], top: float, left: float, width: float) -> str:
    """A stretch of the spectrogram, filled with the colour of `name`; left and width in percent."""
    shades = np.clip((bands.T[::-1] - top) / RANGE_DB + 1.0, 0.0, 1.0) ** 1.5  # (BANDS, N), high above low
    png = opacity_png(np.rint(shades * (LEVELS - 1)).astype(np.uint8))
    data = base64.b64encode(png).decode()
    return (
        f'<i class="spectrum {name}" style="left:{left:.3f}%;width:{width:.3f}%;'
        f'--shades:url(data:image/png;base64,{data})"></i>'
    )


def _wave(name: str, peaks: NDArray[np.float32], first: int, loudest: float) -> str:
    """Loudness as an outline, both ways from the middle."""
    heights = np.maximum(np.rint(48 * peaks / loudest), 1).astype(int)
    upper = "".join(f"V{50 - height}h1" for height in heights)
    lower = "".join(f"V{50 + height}h-1" for height in heights[::-1])
    return f'<path class="{name}" d="M{first} 50{upper}{lower}z"/>' if len(heights) else ""


def _scale(highest: float) -> str:
    """The frequency axis of the spectrogram."""
    low, high = _mel(LOWEST), _mel(highest)
    names = "".join(
        f'<span style="--at:{(high - _mel(f)) / (high - low):.4f}">{name}</span>'
        for f, name in MARKS.items()
        if f < 0.9 * highest
    )
    return f'<div class="keys">{names}</div>'


def drawing(sketch: Sketch, address: str = "") -> str:
    """The sketch as HTML: frequencies, loudness, spectrogram, both in two colours, seam, seconds.

    address: where the page asks for the depth map of what is drawn, if there may be one.
    """
    analysis, seconds = sketch.analysis, max(sketch.seconds, sketch.analysis.seconds)
    per_second = analysis.sample_rate / analysis.hop
    wide = seconds * per_second
    cut = min(round(sketch.seam * per_second), len(analysis.peaks))
    axis, _ = time_axis(seconds)
    loudest = max(float(analysis.peaks.max(initial=0.0)), 0.05)
    top = max(float(analysis.bands.max(initial=-200.0)), QUIETEST_DB - 30)
    later = "unused" if sketch.unused else "new"
    first = min(round(sketch.begin * per_second), cut)
    parts = [("unused", 0, first), ("old", first, cut), (later, cut, len(analysis.peaks))]
    waves = "".join(_wave(name, analysis.peaks[a:b], a, loudest) for name, a, b in parts)
    spectra = "".join(
        _spectrum(name, analysis.bands[a:b], top, 100 * a / wide, 100 * (b - a) / wide) for name, a, b in parts if b > a
    )
    where = f' data-from="{escape(address)}"' if address else ""
    return (
        f'<div class="roll sound" data-seconds="{seconds:.3f}" data-seam="{sketch.seam:.3f}"{where}'
        f"{choosing(seconds if sketch.unused else 0)}>"
        f"{_scale(min(HIGHEST, analysis.sample_rate / 2))}"
        f'<div class="field" role="img" aria-label="{escape(describe(sketch))}">'
        f'<svg viewBox="0 0 {wide:.1f} 100" preserveAspectRatio="none" aria-hidden="true">{waves}</svg>{spectra}'
        f'{seam_mark(sketch.begin, seconds)}{seam_mark(sketch.seam, seconds)}<i class="playhead"></i></div>{axis}</div>'
    )
