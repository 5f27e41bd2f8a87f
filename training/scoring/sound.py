"""What a listener would notice, in numbers: how near decoded sound is to its original, and what speech is like.

Signals are (S,) float arrays in [-1, 1]; rates in Hz. PESQ, STOI and voices need the `eval` extra, imported when first
used.
"""

import importlib.metadata
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shortcut_gen.codec.torchaudio_loader import torchaudio
from shortcut_gen.errors import SettingsError

RATE = 16_000
"""All metrics are taken at this rate: that of wide-band PESQ."""
MEL = {"n_fft": 1024, "hop_length": 256, "n_mels": 80}
MEL_FLOOR = 1e-5
"""Window, hop, bands and floor of HiFi-GAN's log-mel spectrogram (arXiv:2010.05646, section 3.2 and its code)."""
FRAME_SECONDS = 0.02
"""Length of the frames whose level is measured."""
SILENCE_DB = 30.0
"""A frame this far below the speaker's loud level counts as silence."""
PITCH_HZ = (75.0, 400.0)
"""Lowest and highest pitch looked for."""
VOICED = 0.7
"""Least autocorrelation of a voiced frame."""
CLIPPED = 0.999
"""Share of full scale from which a sample counts as clipped."""

Signal = NDArray[np.float32]


def to_rate(samples: Signal, rate: int, wanted: int = RATE) -> Signal:
    """A signal at another rate, by torchaudio's windowed sinc."""
    if rate == wanted:
        return samples
    out: Signal = torchaudio.functional.resample(torch.from_numpy(np.ascontiguousarray(samples)), rate, wanted).numpy()
    return out


def si_sdr(reference: Signal, estimate: Signal) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (arXiv:1811.02508, equation 3); the means are taken off."""
    a = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    b = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    target = a * ((a @ b) / max(a @ a, 1e-20))
    noise = b - target
    return float(10 * np.log10(max(target @ target, 1e-20) / max(noise @ noise, 1e-20)))


@cache
def _mel() -> Callable[[torch.Tensor], torch.Tensor]:
    transform: Callable[[torch.Tensor], torch.Tensor] = torchaudio.transforms.MelSpectrogram(RATE, power=1, **MEL)
    return transform


def mel_distance(reference: Signal, estimate: Signal) -> float:
    """Mean absolute difference of the natural logarithms of the mel magnitudes, at 16 kHz; 0.1 is about 0.9 dB."""
    a, b = (_mel()(torch.from_numpy(x)).clamp_min(MEL_FLOOR).log() for x in (reference, estimate))
    return float((a - b).abs().mean())


def stoi(reference: Signal, estimate: Signal) -> float:
    """Short-time objective intelligibility (Taal et al. 2011), 0 to 1, of signals at 16 kHz; NaN if all is silent."""
    compute = needed("pystoi").stoi
    if not reference.any():
        return float("nan")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = float(compute(reference, estimate, RATE, extended=False))
    # Where fewer than 30 frames sound, pystoi warns and answers 1e-5.
    return float("nan") if any("Not enough STFT frames" in str(w.message) for w in said) else value


def pesq(reference: Signal, estimate: Signal) -> float:
    """Wide-band PESQ (ITU-T P.862.2), 1.04 to 4.64, of signals at 16 kHz; NaN where it finds no utterance."""
    module = needed("pesq")
    with np.errstate(all="ignore"):
        value = float(module.pesq(RATE, reference, estimate, "wb", on_error=module.PesqError.RETURN_VALUES))
    return value if value > 0 else float("nan")


def lag(reference: Signal, estimate: Signal) -> int:
    """Samples by which the estimate comes later, where the two correlate best."""
    size = 1 << (len(reference) + len(estimate) - 1).bit_length()
    a, b = (np.fft.rfft(x.astype(np.float64), size) for x in (reference, estimate))
    place = int(np.fft.irfft(b * a.conj(), size).argmax())
    return place - size if place > size // 2 else place


def shifted(samples: Signal, later: int, length: int) -> Signal:
    """A signal moved back by `later` samples, cut or filled with zeros to a length."""
    out = samples[later:] if later >= 0 else np.pad(samples, (-later, 0))
    return np.pad(out[:length], (0, max(0, length - len(out))))


def similarity(reference: Signal, estimate: Signal) -> dict[str, float]:
    """All four for signals at 16 kHz of one length: stoi, pesq, mel, si_sdr."""
    return {
        "stoi": stoi(reference, estimate),
        "pesq": pesq(reference, estimate),
        "mel": mel_distance(reference, estimate),
        "si_sdr": si_sdr(reference, estimate),
    }


def codebook_use(counts: NDArray[np.int64]) -> dict[str, float]:
    """Share of one level's entries that occur at all, and perplexity (e to the entropy), of counts (cardinality,)."""
    share = counts[counts > 0] / max(counts.sum(), 1)
    return {"used": float((counts > 0).mean()), "perplexity": float(np.exp(-(share * np.log(share)).sum()))}


def frame_levels(samples: Signal, rate: int) -> NDArray[np.float64]:
    """RMS of each whole 20 ms frame in dB of full scale, (N,), -120 at least."""
    size = round(rate * FRAME_SECONDS)
    frames = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    return 10 * np.log10(np.maximum((frames**2).mean(axis=1), 1e-12))


def loud_level(levels: NDArray[np.float64]) -> float:
    """The level a speaker reaches in the loudest twentieth of the frames, in dB."""
    return float(np.percentile(levels, 95)) if len(levels) else -120.0


def silence_share(levels: NDArray[np.float64], loud: float) -> float:
    """Share of the frames more than 30 dB below a loud level: the prompt's, so that nothing but silence is silence."""
    return float((levels < loud - SILENCE_DB).mean()) if len(levels) else 1.0


def speech_level(levels: NDArray[np.float64], loud: float) -> float:
    """Mean power of the frames that are not silence, in dB; NaN where all are."""
    sounding = levels[levels >= loud - SILENCE_DB]
    return float(10 * np.log10((10 ** (sounding / 10)).mean())) if len(sounding) else float("nan")


def longest_silence(levels: NDArray[np.float64], loud: float) -> float:
    """Seconds of the longest run of frames that are silence."""
    sounds = np.flatnonzero(np.concatenate([[True], levels >= loud - SILENCE_DB, [True]]))
    return float((np.diff(sounds) - 1).max() * FRAME_SECONDS)


def clipped_share(samples: Signal) -> float:
    """Share of the samples at full scale."""
    return float((np.abs(samples) >= CLIPPED).mean()) if len(samples) else 0.0


def pitches(samples: Signal, rate: int, hop_seconds: float = 0.01) -> NDArray[np.float64]:
    """Pitch in Hz of the voiced frames, (N,), by the autocorrelation method of Boersma (1993).

    A 40 ms Hann window; its own autocorrelation is divided out. Voiced: a peak of at least 0.7 inside the range; of
    several as high as 0.9 of the highest, the shortest period counts.
    """
    size, hop = round(0.04 * rate), round(hop_seconds * rate)
    if len(samples) < size:
        return np.empty(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    window = np.hanning(size)
    own = _autocorrelation(window[None])[0]
    shortest, longest = int(rate / PITCH_HZ[1]), min(int(rate / PITCH_HZ[0]), size // 2)
    found = []
    for block in np.array_split(frames, max(1, len(frames) // 512)):  # some megabytes at a time
        curve = _autocorrelation(block * window)
        sounding = curve[:, 0] > 1e-4  # more than about -70 dB of full scale
        curve = curve[sounding] / curve[sounding, :1] / (own / own[0])
        found += [rate / period for row in curve if (period := _period(row, shortest, longest))]
    return np.array(found)


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, size) -> (N, size / 2 + 2): for lags from 0."""
    size = frames.shape[1]
    power = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    return np.fft.irfft(power)[:, : size // 2 + 2]


def _period(curve: NDArray[np.float64], shortest: int, longest: int) -> float:
    """Samples of a period, between whole ones by a parabola through the peak; 0 where there is none."""
    inside = curve[shortest : longest + 1]
    peaks = shortest + np.flatnonzero(
        (inside >= curve[shortest - 1 : longest]) & (inside > curve[shortest + 1 : longest + 2])
    )
    if not len(peaks) or curve[peaks].max() < VOICED:
        return 0.0
    place = int(peaks[curve[peaks] >= 0.9 * curve[peaks].max()][0])
    before, top, after = curve[place - 1 : place + 2]
    bend = before - 2 * top + after
    return place + (0.5 * (before - after) / bend if bend else 0.0)


def flux(samples: Signal, rate: int) -> tuple[NDArray[np.float64], int]:
    """Spectral flux of each frame, (N,), and the hop in samples: frame n compares windows centred on n - 1 and n hops.

    Sum of the rises of the log-compressed magnitudes ln(1 + 100 m) (Müller, Fundamentals of Music Processing, section
    6.1.2) over 16 ms Hann windows, 4 ms apart.
    """
    size, hop = round(0.016 * rate), round(0.004 * rate)
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(samples) + 1 : hop]
    magnitudes = np.log1p(100 * np.abs(np.fft.rfft(frames * np.hanning(size))) / size)
    return np.maximum(np.diff(magnitudes, axis=0, prepend=magnitudes[:1]), 0).sum(axis=1), hop


def flux_percentile(samples: Signal, rate: int, seconds: float, around: float = 0.02) -> float:
    """How the strongest flux within ±20 ms of a moment ranks among that of all other moments of the sound, 0 to 100.

    A seam that cannot be told from the rest has any rank with equal chance; a click has 100.
    """
    curve, hop = flux(samples, rate)
    reach = max(1, round(around * rate / hop))
    if len(curve) < 4 * reach + 2:
        raise SettingsError(
            f"the sound lasts {len(samples) / rate:.3f} s; more is needed to compare a moment with the rest"
        )
    strongest = np.lib.stride_tricks.sliding_window_view(curve, 2 * reach + 1).max(axis=1)  # centred on reach + n
    place = min(max(round(seconds * rate / hop) - reach, 0), len(strongest) - 1)
    others = np.delete(strongest, np.s_[max(0, place - 2 * reach) : place + 2 * reach + 1])
    if not len(others):
        others = strongest
    return float(100 * (others < strongest[place]).mean())


class Voices:
    """Resemblyzer's speaker embedding (GE2E, arXiv:1710.10467), with the weights its package ships."""

    def __init__(self) -> None:
        module = resemblyzer()
        self._encoder = module.VoiceEncoder("cpu", verbose=False)
        self._prepare = module.preprocess_wav

    def embed(self, samples: Signal, rate: int) -> NDArray[np.float32] | None:
        """(256,) of norm 1; None where its voice detector leaves less than half a second."""
        given = to_rate(samples, rate)
        if not given.any():
            return None
        voiced = self._prepare(given)
        if len(voiced) < RATE // 2:
            return None
        out: NDArray[np.float32] = self._encoder.embed_utterance(voiced)
        return out


def needed(name: str, extra: str = "eval") -> Any:
    """A package of an extra, imported. Raises SettingsError, with what to install."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, about their own imports
            return importlib.import_module(name)
    except ImportError as error:
        raise SettingsError(
            f'{name} cannot be imported ({error}); pip install "shortcut-gen[{extra}]" is needed'
        ) from error


def resemblyzer() -> Any:
    """The package of that name. Raises SettingsError.

    webrtcvad, which it needs, asks pkg_resources for its own version; new setuptools has none.
    """
    if importlib.util.find_spec("pkg_resources") is None and "webrtcvad" not in sys.modules:
        stand_in = types.ModuleType("pkg_resources")
        vars(stand_in)["get_distribution"] = importlib.metadata.distribution
        sys.modules["pkg_resources"] = stand_in
        try:
            return needed("resemblyzer")
        finally:
            del sys.modules["pkg_resources"]
    return needed("resemblyzer")
