"""What a run of notes is: the steps of pitch from note to note, in an order that two performances have in common."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media import MAX_SECONDS, Score

TICKS_PER_SECOND = 100
"""Onsets are rounded to 10 ms first, as piano tokens have them."""
CHORD_TICKS = 3
"""A note that comes at most so long behind the one before it, in ticks, belongs to its chord."""
FIGURE = 8
"""Longest figure, in notes, whose repetitions do not count."""
UP = 128
"""Added to a step, which is from -127 to 127, so that it is a byte from 1 to 255; 0 ends a performance."""


@dataclass(frozen=True)
class Line:
    """Notes one behind the other, those of a chord by pitch."""

    pitch: NDArray[np.int64]
    """(N,)"""
    tick: NDArray[np.int64]
    """Onsets, (N,), rising from chord to chord."""
    note: NDArray[np.int64]
    """Which of the given notes each is, (N,)."""

    @property
    def steps(self) -> NDArray[np.uint8]:
        """The interval from each note to the next, (N - 1,), as bytes: the same in every key and tempo."""
        return (np.diff(self.pitch) + UP).astype(np.uint8)


def line(pitch: NDArray[np.integer], seconds: NDArray[np.floating]) -> Line:
    """The line of some notes, (N,) each, in whatever order they are given.

    A pianist strikes the notes of a chord within some tens of milliseconds and in an order that is chance, so a note at
    most 30 ms behind the one before it belongs to its chord, and the notes of a chord are ordered by pitch. 30 ms is
    where two performances of one work have the longest runs in common beside those of different works
    (docs/experiments.md). Velocity, length and pedal play no part.
    """
    tick = np.floor(np.clip(seconds, 0.0, MAX_SECONDS) * TICKS_PER_SECOND + 0.5).astype(np.int64)
    key = np.clip(pitch, 0, 127).astype(np.int64)
    first = np.lexsort((key, tick))
    chord = np.cumsum(np.diff(tick[first], prepend=0) > CHORD_TICKS)
    order = first[np.lexsort((key[first], chord))]
    return Line(key[order], tick[order], order)


def line_of(score: Score, start_seconds: float = 0.0) -> Line:
    """The line of what a score strikes from start_seconds on."""
    chosen = np.array([k for k, note in enumerate(score.notes) if note.start >= start_seconds], np.int64)
    pitch = np.array([score.notes[k].pitch for k in chosen], np.int64)
    found = line(pitch, np.array([score.notes[k].start for k in chosen], np.float64))
    return Line(found.pitch, found.tick, chosen[found.note])


def new_steps(steps: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which steps count, (N,): not those of a figure of up to FIGURE notes that only goes on as it was just played.

    Trills, tremolos and accompaniments are the longest runs that works have in common, and nobody's own.
    """
    new = np.ones(len(steps), np.bool_)
    for size in range(1, min(FIGURE, len(steps) - 1) + 1):
        again = np.zeros(len(steps) + 1, np.int64)
        again[size + 1 :] = np.cumsum(steps[size:] == steps[:-size])
        same = again[size + 1 :] - again[1 : len(steps) - size + 1]  # of the last `size` steps up to each
        new[size:] &= same < size
    return new
