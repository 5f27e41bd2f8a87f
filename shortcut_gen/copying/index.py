"""How long a run of notes is that training performances have too, which it is, and what real music comes to."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.copying.runs import TICKS_PER_SECOND, Line, line_of, new_steps
from shortcut_gen.copying.strings import LEAST, Strings
from shortcut_gen.errors import MediaError
from shortcut_gen.media import Score

CLOCK_NOTES = 64
"""An index knows the onset of every so many notes of a performance, and takes those between as even."""
MAX_NOTES = 100_000
"""Notes to look through at most: several hours of music."""
HIGH = 0.95
"""What one real excerpt in twenty is above."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """One that a model was trained on."""

    name: str
    """Name in its corpus."""
    composer: str = ""
    title: str = ""
    notes: int
    """Notes it has."""

    @property
    def work(self) -> str:
        """What is played: composer and title where the corpus tells, else its name there."""
        return f"{self.composer}: {self.title}" if self.title else self.name


@dataclass(frozen=True, kw_only=True)
class Real:
    """What excerpts of real performances of other works come to, of about the same number of notes."""

    notes: int
    """Length of the excerpts, in notes."""
    excerpts: int
    """How many were looked at."""
    median: int
    """Half of them have a longest run of so many notes or fewer."""
    high: int
    """19 of 20 have so many or fewer."""
    as_long: float
    """Share of them whose longest run is at least as long as the one found."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The longest run of notes that a training performance has too."""

    notes: int
    """How many, those not counted that only repeat a figure; 0 where there is no run of LEAST + 1 notes."""
    of: int
    """Notes that were looked at."""
    places: tuple[int, ...] = ()
    """All its notes, repeated ones too, as places in `score.notes`."""
    start_seconds: float = 0.0
    """When the first of them is struck, in seconds of the score."""
    end_seconds: float = 0.0
    """When the last one is struck."""
    performance: Performance | None = None
    """Where it is found; the first of several."""
    performance_seconds: float = 0.0
    """About when, in seconds of that performance."""
    works: int = 0
    """How many different works have it: a run that many have is common property."""
    real: Real | None = None
    """What real performances of other works come to, where that was measured."""


class Copying:
    """An index of the performances that a model was trained on. `open_copying` reads one.

    A run is a row of notes with the same intervals from note to note, as `runs.line` orders them: whatever the key, the
    tempo, the rhythm, the dynamics and the pedal. One wrong, missing or added note ends it. Its length leaves out what
    only repeats a figure (`runs.new_steps`). What is found is exact. The first search takes a second or so to sort the
    index; one in 1,000 notes then takes some 30 ms. It may be shared between threads.
    """

    def __init__(
        self,
        performances: Sequence[Performance],
        steps: NDArray[np.uint8],
        clock: NDArray[np.int64],
        *,
        real: Mapping[int, Mapping[int, int]] | None = None,
        corpus: str = "",
        source_sha256: str = "",
        licence: str = "",
    ) -> None:
        """steps: (notes in all,), those of each performance and a 0 behind. clock: ticks of every CLOCK_NOTES-th note
        of each performance. real: by length of excerpt in notes, how many excerpts have which longest run.
        """
        self.performances = tuple(performances)
        self.steps, self.clock = steps, clock
        self.real = {length: dict(counts) for length, counts in sorted((real or {}).items())}
        self.corpus, self.source_sha256, self.licence = corpus, source_sha256, licence
        notes = np.array([p.notes for p in self.performances], np.int64)
        self._ends = np.cumsum(notes)
        self._clock_starts = np.cumsum(clock_lengths(notes)) - clock_lengths(notes)
        works = {work: number for number, work in enumerate(dict.fromkeys(p.work for p in self.performances))}
        self._works = np.array([works[p.work] for p in self.performances], np.int64)
        self._lock = threading.Lock()

    @classmethod
    def of(cls, lines: Sequence[Line], performances: Sequence[Performance] | None = None, **about: str) -> "Copying":
        """An index of some lines, each of one note at least."""
        given = performances or [Performance(name=str(k), notes=len(found.pitch)) for k, found in enumerate(lines)]
        steps = [np.append(found.steps, np.uint8(0)) for found in lines]
        clock = [found.tick[::CLOCK_NOTES] for found in lines]
        return cls(
            given,
            np.concatenate([np.zeros(0, np.uint8), *steps]),
            np.concatenate([np.zeros(0, np.int64), *clock]),
            real=None,
            **about,
        )

    @cached_property
    def _strings(self) -> Strings:
        return Strings(self.steps)

    def _searched(self) -> Strings:
        with self._lock:  # once, whoever comes first: sorting takes many times the index's own memory
            return self._strings

    def longest(self, score: Score, start_seconds: float = 0.0) -> Run:
        """The longest run of what a score strikes from start_seconds on. Raises MediaError as longest_of does."""
        return self.longest_of(line_of(score, start_seconds))

    def longest_of(self, notes: Line, without: Collection[int] = ()) -> Run:
        """The longest run of a line, in other performances than those of the numbers `without`.

        Raises MediaError on more than MAX_NOTES notes.
        """
        steps, count = notes.steps, len(notes.pitch)
        if count > MAX_NOTES:
            raise MediaError(f"{count:,} notes are to be looked through; at most {MAX_NOTES:,} are")
        counted = np.concatenate([[0], np.cumsum(new_steps(steps))])
        left_out = np.zeros(len(self.performances), np.bool_)
        left_out[list(without)] = True
        best, first, length = 0, 0, 0
        found: list[NDArray[np.int64]] = []
        for there, here, size in self._searched().matches(steps):
            if left_out.any():
                kept = ~left_out[self._which(here)]
                there, here, size = there[kept], here[kept], size[kept]
            score = counted[there + size] - counted[there]
            if len(score) and score.max() > best:
                top = int(score.argmax())
                best, first, length, found = int(score[top]), int(there[top]), int(size[top]), []
            if best:  # wherever it is part of what is found: what comes before it may be the same and not count
                whole = (there <= first) & (there + size >= first + length)
                found.append((here + first - there)[whole])
        if not best:
            return Run(notes=0, of=count, real=self.usual(count, 0))
        places = np.sort(np.concatenate(found))
        which = int(self._which(places)[0])
        ticks = notes.tick[first : first + length + 1]
        return Run(
            notes=best + 1,
            of=count,
            places=tuple(notes.note[first : first + length + 1].tolist()),
            start_seconds=float(ticks.min()) / TICKS_PER_SECOND,
            end_seconds=float(ticks.max()) / TICKS_PER_SECOND,
            performance=self.performances[which],
            performance_seconds=self._seconds(which, int(places[0])),
            works=len(np.unique(self._works[self._which(places)])),
            real=self.usual(count, best + 1),
        )

    def usual(self, of: int, found: int) -> Real | None:
        """What real excerpts come to whose length is nearest to `of` notes; None where none were measured."""
        if not self.real or not of:
            return None
        length = min(self.real, key=lambda notes: abs(np.log(notes / of)))
        runs = np.array(sorted(self.real[length]))
        counts = np.array([self.real[length][run] for run in runs.tolist()])
        below = np.cumsum(counts)
        at = [int(runs[np.searchsorted(below, share * below[-1])]) for share in (0.5, HIGH)]
        as_long = float(counts[runs >= found].sum() / below[-1])
        return Real(notes=length, excerpts=int(below[-1]), median=at[0], high=at[1], as_long=as_long)

    def _which(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the performance at some places of the steps."""
        return np.searchsorted(self._ends, places, "right")

    def _seconds(self, which: int, place: int) -> float:
        """About when a note is struck."""
        notes = self.performances[which].notes
        into = place - (int(self._ends[which]) - notes)
        known = self.clock[self._clock_starts[which] :][: clock_lengths(np.array([notes]))[0]]
        return float(np.interp(into, np.arange(len(known)) * CLOCK_NOTES, known)) / TICKS_PER_SECOND


def clock_lengths(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many onsets an index keeps of performances of so many notes."""
    return -(-notes // CLOCK_NOTES)


def told(run: Run) -> str:
    """A run in a line of text, beside what real performances come to."""
    if run.performance is None:
        text = f"no run of {LEAST + 1} of its {run.of:,} notes is in training"
    else:
        since = clock_time(run.start_seconds)
        where = f"{run.performance.work}, at {clock_time(run.performance_seconds)}"
        others = "" if run.works == 1 else f" and {run.works - 1:,} other work{'s' if run.works > 2 else ''}"
        text = f"{run.notes} of {run.of:,} notes, from {since} on, are in training: {where}{others}"
    if run.real is None:
        return text
    real = run.real
    return f"{text}; real performances of other works: {real.median} in the median, {real.high} in one of twenty"


def clock_time(seconds: float) -> str:
    """Minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
