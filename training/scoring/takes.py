"""Excerpts with what followed them, held against each other: the figures of training.evaluate_piano, and its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from shortcut_gen.media import Score
from shortcut_gen.modalities.piano import MAX_NOTE_SECONDS
from training.scoring.continuations import spread as summary
from training.scoring.music import FEATURES, LAGS, OUTLINE, Copies, Excerpt, against, apart, frechet, goes_on, outline

MADE, REAL, OTHER, COUNTED = "continuation", "really played", "of another piece", "n-grams"
ROWS = (
    ("key", "key kept: cosine of pitch classes", "{:.3f}"),
    ("register", "register: overlap", "{:.3f}"),
    ("intervals", "inter-onset intervals: overlap", "{:.3f}"),
    ("rhythm", "rhythm: cosine of autocorrelations", "{:.3f}"),
    ("density", "notes a second: octaves off", "{:.2f}"),
    ("loudness", "mean velocity: steps off", "{:.1f}"),
    ("at once", "notes at once: octaves off", "{:.2f}"),
    ("copied", "longest run that training has, notes", "{:.0f}"),
)


@dataclass(frozen=True)
class Take:
    """A prompt and what followed it."""

    name: str
    score: Score
    """Both, the prompt from 0 on."""
    seam: float
    seconds: float

    @cached_property
    def whole(self) -> Excerpt:
        """All of it."""
        return Excerpt.of(self.score, 0.0, self.seam + self.seconds)

    @cached_property
    def prompt(self) -> Excerpt:
        """Up to the seam."""
        return Excerpt.of(self.score, 0.0, self.seam)

    @cached_property
    def following(self) -> Excerpt:
        """From the seam on."""
        return Excerpt.of(self.score, self.seam, self.seam + self.seconds)


def exchanged(takes: Sequence[Take]) -> list[Take]:
    """Each prompt with what followed another: what being unrelated comes to."""
    out = []
    for take, other in zip(takes, [*takes[1:], takes[0]], strict=True):
        notes = (*take.score.slice(0.0, take.seam).notes, *(n for n in other.score.notes if n.start >= other.seam))
        out.append(replace(take, score=Score(notes=notes)))
    return out


def measured(takes: Sequence[Take], copies: Copies | None) -> list[dict[str, float]]:
    """The rows of each take."""
    rows = []
    for take in takes:
        following = take.following
        row = against(take.prompt, following)
        if copies is not None:
            row["copied"] = float(copies.longest(following.pitch))
        rows.append(row)
    return rows


def drift(takes: Sequence[Take], steps: int = 3) -> dict[str, list[float]]:
    """Means of the measures by part of the continuation, first to last: does it wander off?"""
    out: dict[str, list[float]] = {}
    for step in range(steps):
        parts = []
        for take in takes:
            width = take.seconds / steps
            parts.append(against(take.prompt, take.following.part(step * width, (step + 1) * width)))
        for key in parts[0]:
            out.setdefault(key, []).append(float(np.mean([part[key] for part in parts])))
    return out


def recurrence(takes: Sequence[Take]) -> dict[str, list[float]]:
    """Means of how alike moments at each of LAGS are, as far as a take is long enough: does a pattern go on?"""
    out: dict[str, list[float]] = {}
    for lag in LAGS:
        alike = [goes_on(take.whole, take.seam, lag) for take in takes]
        for key in set.intersection(*(set(one) for one in alike)):
            out.setdefault(key, []).append(float(np.mean([one[key] for one in alike])))
    return dict(sorted(out.items()))


def forgotten(takes: Sequence[Take], longest: float) -> float:
    """Notes of a thousand that sound for as long as the grammar lets them: most are notes that were never ended.

    Of those that are struck early enough to get there.
    """
    lengths = [take.following.end - take.following.start for take in takes]
    early = [take.following.start < take.seconds - longest for take in takes]
    counted = np.concatenate([of[here] for of, here in zip(lengths, early, strict=True)])
    return 1000 * float((counted >= longest - 0.005).mean()) if len(counted) else float("nan")


def halves(takes: Sequence[Take], real: Sequence[Take]) -> float:
    """Fréchet distance of one half of a set from the other half of the real one; of the real set, what chance makes.

    Both ways round, so that no continuation meets what was played behind its own prompt, and sets compare at one size.
    """
    ours, theirs = (np.array([outline(take.following) for take in of]) for of in (takes, real))
    middle, scale = theirs.mean(axis=0), theirs.std(axis=0) + 1e-9
    ours, theirs = (ours - middle) / scale, (theirs - middle) / scale
    return (frechet(ours[::2], theirs[1::2]) + frechet(ours[1::2], theirs[::2])) / 2


def distances(made: Sequence[Take], real: Sequence[Take]) -> dict[str, dict[str, float]]:
    """How a set of excerpts differs from the real one, feature by feature."""
    out = {}
    for name, feature in FEATURES.items():
        area, divergence = apart([feature(t.following) for t in real], [feature(t.following) for t in made])
        out[name] = {"overlap": area, "kl": divergence}
    return out


def score_of(figures: Mapping[str, Any]) -> float:
    """One number for comparing settings: over the measures, how many standard deviations of the real ones the
    continuation's mean lies from theirs, in the mean."""
    off = []
    for key, *_ in ROWS:
        real, made = figures["rows"][REAL].get(key), figures["rows"][MADE].get(key)
        if real is not None and key != "copied":
            off.append(abs(np.mean(made) - np.mean(real)) / max(float(np.std(real)), 1e-6))
    return float(np.mean(off))


def judge(
    made: Sequence[Take],
    real: Sequence[Take],
    copies: Copies | None,
    counted: Sequence[Take] | None = None,
    longest_note: float = MAX_NOTE_SECONDS,
) -> dict[str, Any]:
    """Every figure of a set of continuations. `counted`: those of n-grams, as a control; `longest_note`: seconds after
    which the grammar ended a note."""
    sets = {MADE: made, REAL: real} | ({COUNTED: counted} if counted else {}) | {OTHER: exchanged(real)}
    rows = {name: measured(takes, copies) for name, takes in sets.items()}
    keys = list(rows[REAL][0])
    figures: dict[str, Any] = {
        "rows": {name: {key: [row[key] for row in of] for key in keys} for name, of in rows.items()},
        "drift": {name: drift(takes) for name, takes in sets.items()},
        "self-similarity": {name: recurrence(takes) for name, takes in sets.items()},
        "left to the grammar": {name: forgotten(takes, longest_note) for name, takes in sets.items()},
        "distances": {name: distances(takes, real) for name, takes in sets.items() if takes is not real},
        "frechet": {name: halves(takes, real) for name, takes in sets.items() if name != OTHER},
    }
    figures["off"] = score_of(figures)
    return figures


def table(figures: dict[str, Any], count: int) -> str:
    """The figures as text."""
    rows = figures["rows"]
    lines = [
        f"{count} test performances; mean (5th to 95th percentile)",
        f"{'':38}" + "".join(f"{n:>26}" for n in rows),
    ]
    for key, label, form in ROWS:
        cells = []
        for of in rows.values():
            if key in of:
                told = summary(of[key])
                span = f"{form.format(told['low'])} to {form.format(told['high'])}"
                cells.append(f"{form.format(told['mean'])} ({span})")
        if cells:
            lines.append(f"{label:38}" + "".join(f"{cell:>26}" for cell in cells))
    lines.append("by thirds of the continuation: " + ", ".join(key for key, *_ in ROWS if key != "copied"))
    for name, by_third in figures["drift"].items():
        thirds = [" ".join(f"{value:.2f}" for value in by_third[key]) for key, *_ in ROWS if key in by_third]
        lines.append(f"  {name:20}{' | '.join(thirds)}")
    lags = ", ".join(f"{lag:g}" for lag in LAGS)
    lines.append(f"self-similarity at {lags} s: {' | '.join(figures['self-similarity'][REAL])}")
    for name, similar in figures["self-similarity"].items():
        lines.append(f"  {name:20}{' | '.join(' '.join(f'{v:.3f}' for v in of) for of in similar.values())}")
    held = ", ".join(f"{name} {value:.2f}" for name, value in figures["left to the grammar"].items())
    lines.append(f"notes of a thousand as long as the grammar lets them be: {held}")
    lines.append("overlapping area (KL, nats) of distances within the real set and between the sets")
    for name, features in figures["distances"].items():
        told_apart = [f"{feature} {v['overlap']:.2f} ({v['kl']:.2f})" for feature, v in features.items()]
        lines.append(f"  {name:20}{', '.join(told_apart)}")
    afar = ", ".join(f"{name} {value:.2f}" for name, value in figures["frechet"].items())
    lines.append(f"Fréchet distance of our own {len(OUTLINE)} measures from the other half of the real ones: {afar}")
    lines.append(f"off by {figures['off']:.3f} standard deviations of the real ones, in the mean of the measures")
    return "\n".join(lines)


def chosen(rows: Mapping[str, list[float]], count: int = 6) -> list[int]:
    """Which continuations to show: a third each of the best, the middle and the worst by key, register and rhythm."""
    kept = [
        sum(values) for values in zip(rows["key"], rows["register"], rows["intervals"], rows["rhythm"], strict=True)
    ]
    order = np.argsort(kept)[::-1].tolist()
    if len(order) <= count:
        return order
    third, middle = count // 3, len(order) // 2
    return [*order[:third], *order[middle - third // 2 : middle - third // 2 + third], *order[-third:]]
