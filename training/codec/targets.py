"""What the decoder's pitch is taught by: pitch, voicing and the phase of the fundamental of real speech.

Three steps: the likeliest path through the autocorrelation (Viterbi), each point of it moved to where the harmonics up
to 3 kHz agree best, and the phase that the fundamental then really has, smoothed: at the twentieth harmonic every error
of phase counts twenty times, and a source that trembles would teach the decoder to use noise instead.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.codec.harmonic.config import HOP, PITCHES, SAMPLE_RATE
from shortcut_gen.codec.harmonic.constants import constant
from shortcut_gen.codec.harmonic.features import MARGIN, frames, pitches

_REACH = 8  # classes that the path may move by in 10 ms: 2.7 semitones
_MOVE_COST = 0.03  # of each of them
_TURN_COST = 0.14  # of a change between voiced and unvoiced
_UNVOICED = 0.5  # correlation that a voice must pass
_LOW_COST = 0.05  # an octave: half of a pitch correlates as well
_BASE_COST = 0.08
_EDGE_COST = 0.5  # of the outermost classes, where what lies beyond the range piles up
_QUIET = 10**-3.5  # of the loud frames' energy, below which a frame says little

_FINE = 0.03  # share that the pitch is moved by at most
_FINE_STEPS = 25
_FINE_FFT = 4096
_FINE_TOP = 3000.0  # Hz
_PHASE_SMOOTH = 480  # samples, twice: the fundamental alone passes
_TREMBLE_SMOOTH = 9  # phases, 45 ms


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Pitch and voicing of T half frames, and the phase of the fundamental at 2·T + 1 places."""

    pitch: Tensor
    """(B, T) in Hz; a straight line where there is no voice."""
    voiced: Tensor
    """(B, T), 0 or 1."""
    phase: Tensor
    """(B, 2·T + 1) float64, in cycles."""


def targets(sound: Tensor, correlation: Tensor) -> Targets:
    """Targets of sounds with margins, (B, S), and their autocorrelation, (B, T, 96)."""
    windows = frames(sound, 2 * MARGIN)
    energy = (windows - windows.mean(-1, keepdim=True)).square().mean(-1)  # (B, T)
    path = _likeliest(correlation.numpy().astype(np.float64), energy.numpy().astype(np.float64))
    voiced = path < PITCHES
    pitch = _interpolated(correlation.numpy(), path)
    pitch = np.where(voiced, _refined(sound, pitch, voiced), pitch)
    pitch = np.stack([_filled(row, row_voiced) for row, row_voiced in zip(pitch, voiced, strict=True)])
    own = sound[:, MARGIN : sound.shape[1] - MARGIN].numpy().astype(np.float64)
    phase = np.stack([_phase(*row) for row in zip(own, pitch, voiced, strict=True)])
    return Targets(
        pitch=torch.from_numpy(pitch.astype(np.float32)),
        voiced=torch.from_numpy(voiced.astype(np.float32)),
        phase=torch.from_numpy(phase),
    )


def _likeliest(correlation: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.int64]:
    """The best path through the classes, (B, T, 96), and the unvoiced state, number 96: (B, T)."""
    batch, length, classes = correlation.shape
    octaves = np.log2((pitches()[-1] / pitches()).numpy())  # above the shortest lag
    score = correlation - _LOW_COST * octaves - _BASE_COST
    score[..., :2] -= _EDGE_COST
    score[..., -1:] -= _EDGE_COST
    loud = np.percentile(energy, 95, axis=1, keepdims=True)
    score *= np.minimum(1.0, energy / np.maximum(loud * _QUIET, 1e-8))[..., None]
    moves = np.arange(-_REACH, _REACH + 1)
    source = np.arange(classes)[None] + moves[:, None]  # (17, 96)
    outside = (source < 0) | (source >= classes)
    source = np.where(outside, 0, source)
    cost = np.where(outside, np.inf, _MOVE_COST * np.abs(moves)[:, None])
    back = np.zeros((batch, length, classes + 1), np.int16)
    best = np.zeros((batch, classes + 1))
    rows, columns = np.arange(batch), np.arange(classes)
    for t in range(length):
        stays = best[:, source] - cost  # (B, 17, 96)
        chosen = stays.argmax(1)  # (B, 96)
        value = stays[rows[:, None], chosen, columns]
        starts = best[:, classes, None] - _TURN_COST
        back[:, t, :classes] = np.where(starts > value, classes, source[chosen, columns])
        top = best[:, :classes].argmax(1)
        ends = best[rows, top] - _TURN_COST
        back[:, t, classes] = np.where(ends > best[:, classes], top, classes)
        silent = np.maximum(ends, best[:, classes]) + _UNVOICED
        best = np.concatenate((np.maximum(value, starts) + score[:, t], silent[:, None]), axis=1)
        best -= best.max(1, keepdims=True)
    path = np.zeros((batch, length), np.int64)
    state = best.argmax(1)
    for t in range(length - 1, -1, -1):
        path[:, t] = state
        state = back[rows, t, state]
    return path


def _interpolated(correlation: NDArray[np.float32], path: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pitch in Hz at the top of a parabola through a class and its neighbours: (B, T)."""
    middle = np.clip(path, 1, PITCHES - 2)[..., None]
    left, top, right = (np.take_along_axis(correlation, middle + k, -1)[..., 0].astype(np.float64) for k in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = np.where(np.abs(bend) > 1e-9, 0.5 * (left - right) / np.where(np.abs(bend) > 1e-9, bend, 1), 0)
    place = middle[..., 0] + np.clip(shift, -0.6, 0.6)
    return np.exp(np.interp(place, np.arange(PITCHES), np.log(pitches().numpy())))


def _refined(sound: Tensor, pitch: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each voiced pitch moved by up to 3% to where the spectrum is highest at its harmonics: (B, T)."""
    rows, columns = np.nonzero(voiced)
    if not len(rows):
        return pitch
    window, moves = _fine_search()
    windows = frames(sound, 2 * MARGIN)[torch.from_numpy(rows), torch.from_numpy(columns)]
    spectrum = torch.fft.rfft(windows * window, _FINE_FFT).abs().sqrt()  # the strongest harmonic must not decide alone
    base = torch.from_numpy(pitch[rows, columns]).float()
    count = int(_FINE_TOP / float(base.min()))
    harmonics = torch.arange(1, count + 1)
    inside = (harmonics * base[:, None] <= _FINE_TOP).float()  # (N, K)
    values = torch.zeros(len(rows), _FINE_STEPS)
    for number, move in enumerate(moves):
        bins = (harmonics * (base * move)[:, None] * (_FINE_FFT / SAMPLE_RATE)).round().long()
        values[:, number] = (spectrum.gather(1, bins.clamp_max(spectrum.shape[1] - 1)) * inside).sum(1)
    best = values.argmax(1).clamp(1, _FINE_STEPS - 2)[:, None]
    left, top, right = (values.gather(1, best + k)[:, 0] for k in (-1, 0, 1))
    bend = (left - 2 * top + right).clamp_max(-1e-6)
    place = best[:, 0] + (0.5 * (left - right) / bend).clamp(-0.6, 0.6)
    out = pitch.copy()
    out[rows, columns] = (base * (1 - _FINE + place * (2 * _FINE / (_FINE_STEPS - 1)))).numpy()
    return _smooth(out, voiced)


def _smooth(pitch: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means of three voiced neighbours: the search's steps do not remain."""
    weight = voiced.astype(np.float64)
    shape = np.array([0.25, 0.5, 0.25])
    top = np.stack([np.convolve(row, shape, "same") for row in np.log(np.maximum(pitch, 1.0)) * weight])
    below = np.stack([np.convolve(row, shape, "same") for row in weight])
    return np.where(voiced, np.exp(top / np.maximum(below, 1e-9)), pitch)


@constant
def _fine_search() -> tuple[Tensor, Tensor]:
    return torch.hann_window(2 * MARGIN), torch.linspace(1 - _FINE, 1 + _FINE, _FINE_STEPS)


def _filled(pitch: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not voiced.any():
        return np.full_like(pitch, 120.0)
    places = np.arange(len(pitch))
    return np.interp(places, places[voiced], pitch[voiced])


def _phase(sound: NDArray[np.float64], pitch: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Phase of the fundamental of (S,) every 80 samples: what the pitch adds up to, moved to what the sound has."""
    times = np.arange(len(sound)) / HOP
    carrier = np.cumsum(np.interp(times, np.arange(len(pitch)), pitch)) / SAMPLE_RATE
    low = sound * np.exp(-2j * math.pi * carrier)
    low = _boxed(_boxed(low, _PHASE_SMOOTH), _PHASE_SMOOTH)
    places = np.minimum(np.arange(2 * len(pitch) + 1) * (HOP // 2), len(sound) - 1)
    sounding = np.repeat(voiced, 2)
    sounding = np.append(sounding, sounding[-1])
    moved = np.zeros(len(places))
    if sounding.any():
        index = np.arange(len(places))
        angle = np.unwrap(np.angle(low[places][sounding])) / (2 * math.pi)
        moved = np.interp(index, index[sounding], angle)
        pad = _TREMBLE_SMOOTH // 2
        moved = np.convolve(np.pad(moved, pad, "edge"), np.ones(_TREMBLE_SMOOTH) / _TREMBLE_SMOOTH, "valid")
    return carrier[places] + moved


def _boxed(values: NDArray[np.complex128], length: int) -> NDArray[np.complex128]:
    """Running means of so many."""
    sums = np.cumsum(np.pad(values, (length // 2 + 1, length // 2)))
    return (sums[length:] - sums[:-length]) / length


def pitch_loss(logits: Tensor, given: Targets) -> tuple[Tensor, Tensor]:
    """Cross entropy of the pitch class where there is a voice, with a soft target one class wide, and of voicing.

    logits: (B, T, 97).
    """
    logs = pitches().log()
    place = ((given.pitch.log() - float(logs[0])) / float(logs[1] - logs[0]))[..., None]  # (B, T, 1)
    wanted = torch.exp(-0.5 * (torch.arange(PITCHES) - place).square()).to(logits)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6)
    entropy = -(wanted * logits[..., :PITCHES].log_softmax(-1)).sum(-1)
    pitch = (entropy * given.voiced).sum() / given.voiced.sum().clamp_min(1)
    return pitch, F.binary_cross_entropy_with_logits(logits[..., PITCHES], given.voiced)
