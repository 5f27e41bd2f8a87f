"""Pictures of continuations: what a speaker really said next, and what the model made of the same start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.scoring.sound import RATE, Signal

WINDOW, HOP = 512, 160
RANGE_DB = 70.0


def spectrogram(samples: Signal) -> NDArray[np.float32]:
    """(257, N) magnitudes in dB of full scale of sound at 16 kHz: 32 ms Hann windows, 10 ms apart."""
    padded = np.pad(samples.astype(np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) / (WINDOW / 4)
    out: NDArray[np.float32] = (20 * np.log10(np.maximum(magnitudes.T, 1e-6))).astype(np.float32)
    return out


def draw(pairs: Sequence[tuple[Signal, Signal, float, str]], path: Path) -> None:
    """A PNG with a row for each (real, made, seam in seconds, caption): the recording left, the continuation right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(pairs), 2, figsize=(11, 1.75 * len(pairs) + 0.6), layout="constrained", squeeze=False
    )
    longest = max(len(sound) for real, made, *_ in pairs for sound in (real, made)) / RATE
    for row, (real, made, seam, caption) in zip(axes, pairs, strict=True):
        for axis, sound in zip(row, (real, made), strict=True):
            _panel(axis, sound, seam, longest)
        row[0].set_ylabel("kHz", fontsize=8)
        row[1].set_title(caption, fontsize=8, loc="left")
    axes[0][0].set_title("the recording: the first part is the prompt", fontsize=8, loc="left")
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _panel(axis: Any, sound: Signal, seam: float, longest: float) -> None:
    levels = spectrogram(sound)
    top = float(levels.max())
    extent = (0, len(sound) / RATE, 0, RATE / 2000)
    axis.imshow(levels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - RANGE_DB, vmax=top)
    axis.axvline(seam, color="#5ee6ff", linewidth=1.5)
    axis.set_xlim(0, longest)
    axis.tick_params(labelsize=7)
