"""What piano music is like, in numbers: an excerpt's notes as distributions, two excerpts held against each other, and
how much of one is found in others.

Distances between sets of excerpts follow Yang & Lerch, "On the evaluation of generative models in music" (Neural
Computing and Applications 32, 2020): of each feature, the distances within the real set and those between the two sets
are estimated as densities, whose overlapping area and Kullback-Leibler divergence tell the sets apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import Score

Floats = NDArray[np.float64]
IOI_EDGES = np.geomspace(0.02, 4.0, 25)
"""Bounds of the bins of inter-onset intervals, in seconds; notes nearer than the first are one chord."""
BEAT = 0.05
"""Width of the bins of onsets whose autocorrelation is the rhythm, in seconds."""
LONGEST_LAG = 2.0
GRID = 0.05
"""Distance of the moments at which sounding notes are counted, in seconds."""


@dataclass(frozen=True)
class Excerpt:
    """Some seconds of a score, from their own start."""

    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    start: Floats
    end: Floats
    seconds: float

    @classmethod
    def of(cls, score: Score, start: float, end: float) -> "Excerpt":
        """What is struck from start to end, in seconds."""
        notes = [note for note in score.notes if start <= note.start < end]
        table = np.array([(n.pitch, n.velocity, n.start - start, min(n.end, end) - start) for n in notes]).reshape(
            -1, 4
        )
        whole = table[:, :2].astype(np.int64)
        return cls(whole[:, 0], whole[:, 1], table[:, 2], table[:, 3], end - start)

    def part(self, start: float, end: float) -> "Excerpt":
        """A part of it."""
        here = (self.start >= start) & (self.start < end)
        pitch, velocity = self.pitch[here], self.velocity[here]
        return Excerpt(pitch, velocity, self.start[here] - start, self.end[here] - start, end - start)

    @property
    def intervals(self) -> Floats:
        """Seconds between one onset and the next, chords counted once."""
        gaps = np.diff(self.start)
        return gaps[gaps >= IOI_EDGES[0]]


def _shares(counts: NDArray[Any]) -> Floats:
    total = float(counts.sum())
    return counts / total if total else np.full(len(counts), 1 / len(counts))


def pitch_classes(excerpt: Excerpt) -> Floats:
    """Share of each pitch class, by how long it sounds (two seconds at most), (12,)."""
    lengths = np.clip(excerpt.end - excerpt.start, 0.02, 2.0)
    return _shares(np.bincount(excerpt.pitch % 12, lengths, 12))


def register(excerpt: Excerpt) -> Floats:
    """Share of each half octave, (22,)."""
    return _shares(np.bincount(excerpt.pitch // 6, minlength=22).astype(float))


def interval_bins(excerpt: Excerpt) -> Floats:
    """Share of each bin of inter-onset intervals, (24,)."""
    counts, _ = np.histogram(np.clip(excerpt.intervals, IOI_EDGES[0], IOI_EDGES[-1] - 1e-9), IOI_EDGES)
    return _shares(counts.astype(float))


def velocities(excerpt: Excerpt) -> Floats:
    """Share of each of 16 steps of velocity, (16,)."""
    return _shares(np.bincount(excerpt.velocity // 8, minlength=16).astype(float))


def rhythm(excerpt: Excerpt) -> Floats:
    """Autocorrelation of the onsets up to two seconds, each lag a share of the loudness there is, (40,)."""
    bins = max(int(excerpt.seconds / BEAT), int(2 * LONGEST_LAG / BEAT))
    train = np.bincount(np.minimum((excerpt.start / BEAT).astype(int), bins - 1), minlength=bins).astype(float)
    train = np.minimum(train, 3.0)
    train -= train.mean()
    spectrum = np.abs(np.fft.rfft(train, 2 * bins)) ** 2
    whole = np.fft.irfft(spectrum)[: int(LONGEST_LAG / BEAT) + 1]
    return whole[1:] / whole[0] if whole[0] > 0 else np.zeros(len(whole) - 1)


def notes_at_once(excerpt: Excerpt) -> float:
    """How many notes sound in the mean, by keys (the pedal is in their ends), while any does."""
    at = np.arange(0, excerpt.seconds, GRID)
    order_start, order_end = np.sort(excerpt.start), np.sort(excerpt.end)
    count = np.searchsorted(order_start, at, "right") - np.searchsorted(order_end, at, "right")
    return float(count[count > 0].mean()) if (count > 0).any() else 0.0


FEATURES: dict[str, Callable[[Excerpt], Floats]] = {
    "pitch classes": pitch_classes,
    "register": register,
    "inter-onset intervals": interval_bins,
    "velocity": velocities,
    "rhythm": rhythm,
    "notes a second": lambda e: np.array([len(e.pitch) / e.seconds]),
    "notes at once": lambda e: np.array([notes_at_once(e)]),
    "mean pitch": lambda e: np.array([e.pitch.mean() if len(e.pitch) else 60.0]),
    "mean velocity": lambda e: np.array([e.velocity.mean() if len(e.velocity) else 64.0]),
}
"""What sets of excerpts are told apart by."""


def cosine(one: Floats, other: Floats) -> float:
    """1 where two have the same direction."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def overlap(one: Floats, other: Floats) -> float:
    """Shared area of two distributions over the same bins."""
    return float(np.minimum(one, other).sum())


def against(prompt: Excerpt, following: Excerpt) -> dict[str, float]:
    """How an excerpt goes on with another: shares and cosines are 1 where nothing changes, ratios are in octaves."""

    def ratio(one: float, other: float) -> float:
        return abs(float(np.log2(max(other, 0.05) / max(one, 0.05))))

    def mean(values: NDArray[np.int64], empty: float) -> float:
        return float(values.mean()) if len(values) else empty

    return {
        "key": cosine(pitch_classes(prompt), pitch_classes(following)),
        "register": overlap(register(prompt), register(following)),
        "intervals": overlap(interval_bins(prompt), interval_bins(following)),
        "rhythm": cosine(rhythm(prompt), rhythm(following)),
        "density": ratio(len(prompt.pitch) / prompt.seconds, len(following.pitch) / following.seconds),
        "loudness": abs(mean(prompt.velocity, 64.0) - mean(following.velocity, 64.0)),
        "at once": ratio(notes_at_once(prompt), notes_at_once(following)),
    }


LAGS = (10.0, 20.0, 30.0)
"""Distances in seconds at which music is held against itself."""
WINDOW, HOP = 10.0, 5.0
"""Length and distance of the moments that are held against each other, in seconds."""


def goes_on(excerpt: Excerpt, seam: float, lag: float) -> dict[str, float]:
    """How alike moments are that lie `lag` seconds apart, the later one behind the seam: 1 where nothing changes.

    Nothing where the excerpt is too short for any.
    """
    later = [at for at in np.arange(seam, excerpt.seconds - WINDOW + 1e-6, HOP).tolist() if at >= lag]
    if not later:
        return {}
    pairs = [(excerpt.part(at - lag, at - lag + WINDOW), excerpt.part(at, at + WINDOW)) for at in later]
    return {
        "rhythm": float(np.mean([cosine(rhythm(one), rhythm(other)) for one, other in pairs])),
        "pitch": float(np.mean([cosine(pitch_classes(one), pitch_classes(other)) for one, other in pairs])),
    }


OUTLINE = (
    *("notes a second", "notes at once", "mean interval", "its spread", "mean pitch", "its spread", "mean velocity"),
    *("its spread", "pitch classes in use", "strength of the pulse"),
)


def outline(excerpt: Excerpt) -> Floats:
    """The measures of OUTLINE, (10,): rates and intervals as octaves, pitch classes as entropy in bits."""

    def told(values: NDArray[Any], empty: float) -> tuple[float, float]:
        return (float(values.mean()), float(values.std())) if len(values) else (empty, 0.0)

    classes = pitch_classes(excerpt)
    rates = (len(excerpt.pitch) / excerpt.seconds, notes_at_once(excerpt))
    return np.array(
        [
            *(np.log2(max(rate, 0.05)) for rate in rates),
            *told(np.log2(excerpt.intervals), 0.0),
            *told(excerpt.pitch, 60.0),
            *told(excerpt.velocity, 64.0),
            -float((classes * np.log2(classes + 1e-12)).sum()),
            float(rhythm(excerpt).max()),
        ]
    )


def frechet(one: Floats, other: Floats) -> float:
    """Fréchet distance (squared) of two sets of vectors, (N, D) and (M, D), as if normal: Dowson & Landau (1982).

    No number where a set has fewer than two.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    off = one.mean(axis=0) - other.mean(axis=0)
    ours, theirs = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # The product's root has the roots of its eigenvalues, which are real and not negative but for rounding.
    roots = np.sqrt(np.clip(np.linalg.eigvals(ours @ theirs).real, 0, None))
    return float(off @ off + np.trace(ours) + np.trace(theirs) - 2 * roots.sum())


def apart(real: Sequence[Floats], made: Sequence[Floats]) -> tuple[float, float]:
    """(Overlapping area, Kullback-Leibler divergence in nats) of a feature's distances within the real set and between
    the sets."""
    ours, theirs = np.stack(made), np.stack(real)
    within = np.linalg.norm(theirs[:, None] - theirs[None], axis=-1)[np.triu_indices(len(theirs), 1)]
    between = np.linalg.norm(theirs[:, None] - ours[None], axis=-1).ravel()
    low, high = 0.0, float(max(within.max(), between.max())) * 1.1 + 1e-9
    at = np.linspace(low, high, 400)
    one, other = _density(within, at), _density(between, at)
    step = at[1] - at[0]
    area = float(np.minimum(one, other).sum() * step)
    divergence = float((one * np.log((one + 1e-12) / (other + 1e-12))).sum() * step)
    return area, divergence


def _density(values: Floats, at: Floats) -> Floats:
    """A Gaussian kernel density, its width by Scott's rule, as a density over the points."""
    width = max(float(values.std()) * len(values) ** -0.2, (at[-1] - at[0]) / len(at))
    thinned = np.quantile(values, np.linspace(0, 1, min(len(values), 1000)))
    heights = np.exp(-0.5 * ((at[:, None] - thinned) / width) ** 2).sum(axis=1)
    return np.asarray(heights / (heights.sum() * (at[1] - at[0])))


RUNS = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 50, 64)
"""Lengths of runs that are looked up, in intervals from note to note."""


class Copies:
    """Finds how long a run of notes is that occurs in a corpus, in whatever key."""

    def __init__(self, pieces: Sequence[NDArray[np.int64]]) -> None:
        """pieces: the pitches of each, in order of onset."""
        self._known = {length: np.sort(np.concatenate([_hashes(p, length) for p in pieces])) for length in RUNS}

    def longest(self, pitches: NDArray[np.int64]) -> int:
        """Notes of the longest run of RUNS that the corpus has too; 0 where not even the shortest is found."""
        found = 0
        for length in RUNS:
            wanted = _hashes(pitches, length)
            known = self._known[length]
            place = np.searchsorted(known, wanted)
            if not len(wanted) or not (known[np.minimum(place, len(known) - 1)] == wanted).any():
                break
            found = length + 1
        return found


def _hashes(pitches: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """A number for each run of so many intervals; runs of the same intervals have the same one."""
    steps = (np.diff(pitches) + 128).astype(np.uint64)
    if len(steps) < length:
        return np.zeros(0, np.uint64)
    out = np.zeros(len(steps) - length + 1, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(length):
            out = out * np.uint64(0x9E3779B97F4A7C15) + steps[place : place + len(out)] + np.uint64(1)
            out ^= out >> np.uint64(29)
    return out
