"""What keeps one from playing a continuation to a pianist: extremes that no real excerpt has, in notes and sound.

A fault is a measure of one excerpt that lies outside the range of all the real excerpts it is judged beside.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import Audio
from training.scoring.music import Excerpt, Floats, notes_at_once

AGAIN_SECONDS = 0.15
"""A key that is struck again within this is repeated at a rate that music seldom holds for long."""
HELD_SECONDS = 8.0
SILENT_DB = -60.0
"""Under the loudest moment: what is below is silence."""
CLICK = 0.35
"""Change from one sample to the next, full scale being 1, that a piano's sound does not make by itself."""
FRAME_SECONDS = 0.05

LABELS = {
    "silence": "longest silence, s",
    "held": f"notes held for more than {HELD_SECONDS:g} s",
    "again": f"longest run of one key struck again within {AGAIN_SECONDS:g} s",
    "thinning": "last third against the prompt, octaves of notes a second",
    "piling": "most notes at once in the mean of a third",
    "stops": "seconds from the last onset to the end",
    "stuck": "longest time on two pitch classes or fewer, s",
}
"""What the measures of notes are called."""


def of_notes(prompt: Excerpt, following: Excerpt) -> dict[str, float]:
    """The measures of LABELS."""
    third = following.seconds / 3
    parts = [following.part(k * third, (k + 1) * third) for k in range(3)]
    rates = [max(len(of.pitch) / of.seconds, 0.05) for of in (prompt, parts[-1])]
    return {
        "silence": _longest_gap(following),
        "held": float((following.end - following.start > HELD_SECONDS).sum()),
        "again": float(_repeated(following)),
        "thinning": float(np.log2(rates[1] / rates[0])),
        "piling": max(notes_at_once(part) for part in parts),
        "stops": following.seconds - float(following.start.max(initial=0.0)),
        "stuck": _on_few(following),
    }


def _longest_gap(excerpt: Excerpt) -> float:
    """Seconds of the longest time in which nothing sounds."""
    order = np.argsort(excerpt.start)
    reached = np.maximum.accumulate(np.append(0.0, excerpt.end[order]))
    return float((np.append(excerpt.start[order], excerpt.seconds) - reached).max())


def _repeated(excerpt: Excerpt) -> int:
    """Strikes in the longest run of one key, each within AGAIN_SECONDS of the one before."""
    most = 0
    for pitch in np.unique(excerpt.pitch):
        quick = np.diff(np.sort(excerpt.start[excerpt.pitch == pitch])) < AGAIN_SECONDS
        run = 0
        for one in quick:
            run = run + 1 if one else 0
            most = max(most, run + 1 if run else 0)
    return most


def _on_few(excerpt: Excerpt, few: int = 2) -> float:
    """Seconds of the longest time in which no more than so many pitch classes are struck."""
    order = np.argsort(excerpt.start)
    times, classes = excerpt.start[order], excerpt.pitch[order] % 12
    longest, first = 0.0, 0
    for last in range(len(times)):
        while len(set(classes[first : last + 1].tolist())) > few:
            first += 1
        longest = max(longest, float(times[last] - times[first]))
    return longest


def of_sound(audio: Audio) -> dict[str, float]:
    """Peak, length and longest silence in seconds, clicks, and the share of samples at full scale."""
    samples = audio.samples.astype(np.float64).mean(axis=0)  # (S,)
    size = max(1, round(FRAME_SECONDS * audio.sample_rate))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    level = np.sqrt((frames**2).mean(axis=1))
    quiet = level <= level.max(initial=0.0) * 10 ** (SILENT_DB / 20)
    peak = float(np.abs(audio.samples).max(initial=0.0))
    return {
        "peak": peak,
        "seconds": samples.size / audio.sample_rate,
        "quiet seconds": FRAME_SECONDS * _longest_run(quiet),
        "clicks": float((np.abs(np.diff(samples)) > CLICK).sum()),
        "at full scale": float((np.abs(audio.samples) >= 0.999).mean()),
    }


def _longest_run(values: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], values.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def outside(rows: Sequence[dict[str, float]], real: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Of each row, what no real one has: how far beyond the least or the most of them, by name."""
    bounds: dict[str, Floats] = {key: np.array([row[key] for row in real]) for key in real[0]}
    found = []
    for row in rows:
        off = {key: max(row[key] - of.max(), of.min() - row[key]) for key, of in bounds.items()}
        found.append({key: float(far) for key, far in off.items() if far > 1e-9})
    return found
