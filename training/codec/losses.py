"""How far decoded sound is from the real: an energy distance of spectra, so that noise need not be matched, only drawn.

For real x and two draws y, y' of the decoder: d(x, y) - d(y, y') / 2, whose minimum over distributions is the real one
(generalized energy distance, Szekely & Rizzo 2013; for spectra of speech arXiv:2008.01160).
"""

import torch
from torch import Tensor

from shortcut_gen.codec.harmonic.config import SAMPLE_RATE
from shortcut_gen.codec.harmonic.constants import constant

WINDOWS = (1024, 256, 512, 128)
"""Window lengths in samples, one a step in turn."""

_BANDS = {1024: 80, 512: 64, 256: 40, 128: 24}
_FLOOR = 1e-2  # of a sound of unit power: what lies 40 dB below counts little
_VIEWS = (0.25, 1.0, 0.1)  # weights of: log power of each bin, log of mel bands, mel bands
_PHASE_TOP = 2000.0  # Hz: above it phases cannot be learnt
_QUIETEST = 3e-3  # standard deviation below which a crop is not made louder


def spectrum(sound: Tensor, window: int) -> Tensor:
    """(B, S) to (B, K, T), complex, of unit power for white noise of unit power."""
    shape, _, scale = _tables(window)
    return torch.stft(sound, window, window // 4, window=shape, return_complex=True) * scale


def views(spectra: Tensor, window: int) -> list[Tensor]:
    """What is compared of spectra, (B, K, T): log power by bin, log mel and mel energies."""
    _, bands, _ = _tables(window)
    power = spectra.real.square() + spectra.imag.square() + 1e-9
    mel = (power.transpose(1, 2) @ bands + 1e-9).sqrt()
    return [(power + _FLOOR**2).log(), (mel + _FLOOR).log(), mel]


def distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """Weighted mean distance of two sounds' views."""
    terms = [weight * (a - b).abs().mean() for weight, a, b in zip(_VIEWS, one, other, strict=True)]
    return torch.stack(terms).sum()


def loudness(real: Tensor) -> Tensor:
    """What brings crops, (B, S), to unit power: (B, 1)."""
    return 1 / real.std(dim=1, keepdim=True).clamp_min(_QUIETEST)


def energy_distance(real: Tensor, draws: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Energy distance, its first part alone, and the distance of phases of the low frequencies.

    real: (B, S); draws: (2·B, S), two of each. The phases are 0 but for windows of 256 samples or fewer.
    """
    batch = len(real)
    scale = loudness(real)
    with torch.no_grad():
        wanted = spectrum(real * scale, window)
    made = spectrum(draws * scale.repeat(2, 1), window)
    target, given = views(wanted, window), views(made, window)
    first, second = [view[:batch] for view in given], [view[batch:] for view in given]
    near = (distance(target, first) + distance(target, second)) / 2
    phase = real.new_zeros(())
    if window <= 256:
        top = int(_PHASE_TOP * window / SAMPLE_RATE) + 1
        phase = _phase_distance(wanted[:, 1:top], made[:batch, 1:top])
    return near - 0.5 * distance(first, second), near.detach(), phase


def _phase_distance(wanted: Tensor, made: Tensor) -> Tensor:
    """1 less the cosine of the angle between two spectra, weighted by the real one's magnitude."""
    size = wanted.abs()
    along = (wanted.real * made.real + wanted.imag * made.imag) / (made.abs() + 1e-4)
    return (size - along).sum() / size.sum().clamp_min(1e-6)


@torch.no_grad()
def total_distance(real: Tensor, made: Tensor) -> float:
    """Mean distance over all windows, (B, S) each: what validation reports."""
    scale = loudness(real)
    parts = [
        distance(views(spectrum(real * scale, window), window), views(spectrum(made * scale, window), window))
        for window in WINDOWS
    ]
    return float(torch.stack(parts).mean())


@constant
def _tables(window: int) -> tuple[Tensor, Tensor, float]:
    """Window, mel bands that each add up to 1, and the scale."""
    from shortcut_gen.codec.torchaudio_loader import torchaudio

    shape = torch.hann_window(window)
    bands = torchaudio.functional.melscale_fbanks(window // 2 + 1, 0.0, SAMPLE_RATE / 2, _BANDS[window], SAMPLE_RATE)
    return shape, bands / bands.sum(0, keepdim=True).clamp_min(1e-3), float(shape.square().sum().rsqrt())
