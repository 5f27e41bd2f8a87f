"""What the encoder hears: log-mel energies, and the autocorrelation at the lags of a voice's pitch.

A half frame is centred at a multiple of `HOP`; it sees `MARGIN` samples to either side.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.codec.harmonic.config import HIGHEST_PITCH, HOP, LOWEST_PITCH, MELS, PITCHES, SAMPLE_RATE
from shortcut_gen.codec.harmonic.constants import constant

MARGIN = 400
"""Samples to either side of a half frame's centre: half the window of the autocorrelation, 50 ms in all."""
FEATURES = MELS + PITCHES
"""Numbers of a half frame."""

_MEL_WINDOW = 512
_PITCH_WINDOW = 2 * MARGIN
_PITCH_FFT = 2048
_PITCH_BAND = (50.0, 3000.0)  # Hz: above it a voice's harmonics are lost in noise
_MEL_FLOOR = 1e-5
_MEL_MEAN, _MEL_SPREAD = -6.0, 2.5  # of log-mel energies of speech, roughly: the network's inputs are near unit size


@constant
def pitches() -> Tensor:
    """The middle of every pitch class, in Hz, rising: (96,) float64."""
    return torch.from_numpy(np.geomspace(LOWEST_PITCH, HIGHEST_PITCH, PITCHES))


def frames(sound: Tensor, length: int) -> Tensor:
    """Windows of a sound that has `MARGIN` samples on either side, (..., S), one a half frame: (..., T, length)."""
    start = MARGIN - length // 2
    count = (sound.shape[-1] - 2 * MARGIN) // HOP
    return sound[..., start:].unfold(-1, length, HOP)[..., :count, :]


def log_mel(sound: Tensor) -> Tensor:
    """Log of the mel energies of a sound with margins, (..., S): (..., T, 80)."""
    window, bands = _mel_bands()
    spectrum = torch.fft.rfft(frames(sound, _MEL_WINDOW) * window).abs() / (_MEL_WINDOW / 4)
    return (spectrum @ bands).clamp_min(_MEL_FLOOR).log()


def autocorrelation(sound: Tensor) -> Tensor:
    """Normalised autocorrelation at the lag of every pitch class, of the band of a voice's harmonics: (..., T, 96).

    Divided by the window's own, so that a steady voice comes near 1 at its pitch whatever the lag (Boersma 1993,
    "Accurate short-term analysis of the fundamental frequency", section 2).
    """
    window, band, lower, share, own = _pitch_lags()
    windows = frames(sound, _PITCH_WINDOW)
    windows = windows - windows.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(windows * window, _PITCH_FFT)
    power = (spectrum.real.square() + spectrum.imag.square()) * band
    values = torch.fft.irfft(power, 2 * _PITCH_FFT)  # twice as many lags: steps of half a sample
    at_lags = values[..., lower] * (1 - share) + values[..., lower + 1] * share
    return (at_lags / (values[..., :1] + 1e-6) / own).clamp(-1.0, 1.2)


def features(sound: Tensor) -> Tensor:
    """The encoder's inputs for a sound with margins, (..., S): (..., T, 176), near unit size."""
    return joined(log_mel(sound), autocorrelation(sound))


def joined(mel: Tensor, correlation: Tensor) -> Tensor:
    """The encoder's inputs from both parts, (..., T, 80) and (..., T, 96): (..., T, 176)."""
    return torch.cat(((mel - _MEL_MEAN) / _MEL_SPREAD, correlation), dim=-1)


def with_margins(sound: Tensor) -> Tensor:
    """A whole sound, (..., S), with silence before and after it."""
    return F.pad(sound, (MARGIN, MARGIN))


@constant
def _mel_bands() -> tuple[Tensor, Tensor]:
    from shortcut_gen.codec.torchaudio_loader import torchaudio

    bands = torchaudio.functional.melscale_fbanks(_MEL_WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE)
    return torch.hann_window(_MEL_WINDOW), bands


@constant
def _pitch_lags() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Window; band; lags in half samples, rounded down; what was lost to rounding; the window's autocorrelation."""
    window = torch.hann_window(_PITCH_WINDOW)
    frequencies = torch.fft.rfftfreq(_PITCH_FFT, 1 / SAMPLE_RATE)
    band = ((frequencies > _PITCH_BAND[0]) & (frequencies < _PITCH_BAND[1])).float()
    lags = (2 * SAMPLE_RATE / pitches()).float()
    lower = lags.floor().long()
    share = lags - lower
    own = torch.fft.irfft(torch.fft.rfft(window, _PITCH_FFT).abs().square(), 2 * _PITCH_FFT)
    own = own / own[0]
    return window, band, lower, share, own[lower] * (1 - share) + own[lower + 1] * share
