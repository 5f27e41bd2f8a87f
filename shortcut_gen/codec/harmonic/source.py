"""Sound from pitch and filters: a flat harmonic source and white noise, shaped in the short-time Fourier domain.

All of it is causal but for one half frame, so that it can be made chunk by chunk. T counts half frames of `HOP`
samples; node t is at sample t·HOP.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from shortcut_gen.codec.harmonic.config import FRAME, HOP
from shortcut_gen.codec.harmonic.constants import constant

BINS = FRAME // 2 + 1
"""Frequencies of a filter."""
PHASES = 2
"""Phases of the fundamental that are given for a half frame."""

_HIGHEST_HARMONIC = 7_700.0  # Hz: just below half the sample rate, so that no harmonic folds back
_STEP = HOP // PHASES


def phases(pitch: Tensor, voiced: Tensor, sample_rate: int, start: Tensor | None = None) -> Tensor:
    """Phases of the fundamental from its pitch at T + 1 nodes, straight lines between them.

    pitch: (B, T + 1) in Hz; voiced: (B, T + 1), 0 or 1. start: phase at the first node, (B,) in cycles; 0 if not given.
    Between two voices the phase begins anew, so that rounding does not add up from one to the next. Returns
    (B, 2·T + 1) float64, in cycles.
    """
    pitch = pitch.double()
    middle = (pitch[:, 1:] + pitch[:, :-1]) / 2
    means = torch.stack(((pitch[:, :-1] + middle) / 2, (middle + pitch[:, 1:]) / 2), dim=-1).flatten(1)  # (B, 2T)
    steps = torch.cumsum(means * (_STEP / sample_rate), dim=1)
    begin = pitch.new_zeros(len(pitch), 1) if start is None else start.double()[:, None]
    running = torch.cat((begin, begin + steps), dim=1)
    nodes = torch.arange(pitch.shape[1], device=pitch.device)
    # Nodes with silence before them, where nobody hears it; the first node's phase is given.
    still = F.pad((voiced[:, 1:] == 0) & (voiced[:, :-1] == 0), (1, 0))
    silent = torch.where(still, nodes, -1).cummax(dim=1).values  # the last of them, or -1
    base = running[:, ::PHASES].gather(1, silent.clamp_min(0)).masked_fill(silent < 0, 0.0)
    return running - base.repeat_interleave(PHASES, dim=1)[:, : running.shape[1]]


def pulses(phase: Tensor, pitch: Tensor, voiced: Tensor) -> Tensor:
    """The harmonic source: every harmonic of equal strength up to 7.7 kHz, unit power where voiced, silence elsewhere.

    phase: (B, 2·T + 1) in cycles; pitch in Hz and voiced, 0 to 1, at T + 1 nodes, (B, T + 1) each. Returns (B, T·HOP).
    The sum of K cosines in closed form (Dirichlet's kernel): sin((K + 1/2) p) / (2 sin(p / 2)) - 1/2.
    """
    ramp = torch.arange(_STEP, dtype=torch.float64, device=phase.device) / _STEP
    cycles = (phase[:, :-1, None] + (phase[:, 1:] - phase[:, :-1])[..., None] * ramp).flatten(1)  # (B, S)
    angle = (2 * math.pi * (cycles - cycles.round())).float()
    harmonics = (_HIGHEST_HARMONIC / _between(pitch)).floor()
    half = torch.sin(angle / 2)
    flat = half.abs() < 1e-4  # the kernel's limit there is K + 1/2
    kernel = torch.sin((harmonics + 0.5) * angle) / (2 * torch.where(flat, torch.ones_like(half), half)) - 0.5
    return torch.where(flat, harmonics, kernel) * (2 / harmonics).sqrt() * _between(voiced)


def shaped(source: Tensor, noise: Tensor, harmonic: Tensor, breath: Tensor) -> Tensor:
    """Source and noise through their filters, joined.

    source, noise: (B, (T + 1)·HOP), the first HOP samples before the sound that is returned and T·HOP behind them.
    harmonic: complex filters of the source at T nodes, (B, T, 161); breath: filters of the noise, (B, T, 161). The
    window is the square root of Hann's, before and after, which adds up to 1. Returns halves, (B, T, 2, HOP): what a
    node adds to the HOP samples before it and to those behind it; see `overlapped`.
    """
    window = _window(source.device)
    spectrum = torch.fft.rfft(source.unfold(-1, FRAME, HOP) * window) * harmonic
    spectrum = spectrum + torch.fft.rfft(noise.unfold(-1, FRAME, HOP) * window) * breath
    return (torch.fft.irfft(spectrum, FRAME) * window).unflatten(-1, (2, HOP))


def overlapped(halves: Tensor) -> Tensor:
    """The sound between the first and the last of T nodes, (B, T, 2, HOP): (B, (T - 1)·HOP)."""
    return (halves[:, :-1, 1] + halves[:, 1:, 0]).flatten(1)


def _between(nodes: Tensor) -> Tensor:
    """Straight lines between T + 1 nodes, (B, T + 1): (B, T·HOP)."""
    ramp = torch.arange(HOP, dtype=nodes.dtype, device=nodes.device) / HOP
    return (nodes[:, :-1, None] + (nodes[:, 1:] - nodes[:, :-1])[..., None] * ramp).flatten(1)


@constant
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(FRAME, device=device).sqrt()
