"""Piano performances as 388 symbols: Magenta's performance encoding, the "Google tokenizer" of the paper.

Constants: performance_lib.py and performance_encoder_decoder.py of github.com/magenta/note-seq; arXiv 1809.04281.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.errors import PromptError
from shortcut_gen.media import MAX_SECONDS, Note, Score
from shortcut_gen.modalities import piano_endings
from shortcut_gen.modalities.base import Media, Usual
from shortcut_gen.modalities.piano_ids import (
    MAX_SHIFT_TICKS,
    NOTE_OFF,
    NOTE_ON,
    TICKS_PER_SECOND,
    TIME_SHIFT,
    VELOCITY,
    VOCAB_SIZE,
)

__all__ = [
    "DEFAULT_VELOCITY",
    "MAX_NOTE_SECONDS",
    "MAX_SHIFT_TICKS",
    "MAX_SOUNDING",
    "NOTE_OFF",
    "NOTE_ON",
    "TICKS_PER_SECOND",
    "TIME_SHIFT",
    "VELOCITY",
    "VOCAB_SIZE",
    "PianoGrammar",
    "PianoTokenizer",
    "bin_velocity",
    "velocity_bin",
]

DEFAULT_VELOCITY = 64  # a note without a velocity before it: General MIDI's default
MAX_NOTE_SECONDS = 6.0
"""Longest note that is generated: 99.8% of pianists' notes, pedal folded in, are shorter, and what the model holds for
longer it hardly ever ends (docs/experiments.md)."""
MAX_SOUNDING = 31
"""Most notes generated to sound at once, as at 99.9% of MAESTRO's note-ons, pedal folded in (docs/experiments.md)."""

_BIN_WIDTH = 4  # velocities 1-4 are bin 0, 125-127 are bin 31, as in note-seq
_START_BINS = (8, 22)  # velocities 33 to 88 begin most performances


def velocity_bin(velocity: int) -> int:
    """Bin of a MIDI velocity from 1 to 127."""
    return (min(max(velocity, 1), 127) - 1) // _BIN_WIDTH


def bin_velocity(index: int) -> int:
    """The velocity a bin stands for: its middle."""
    return index * _BIN_WIDTH + 2


def _quantise(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each time on its own to the nearest tick: never off by more than half of one, however long the piece."""
    return np.floor(seconds * TICKS_PER_SECOND + 0.5).astype(np.int64)


def _shifts(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many time-shifts span each gap."""
    return -(-ticks // MAX_SHIFT_TICKS)


def _spell(gaps: NDArray[np.int64], events: list[NDArray[np.int64]], present: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Ids of a run of steps: each waits its gap, then gives its id of every column of events that is present.

    gaps: (N,) ticks; events: columns of (N,) ids; present: (N, columns).
    """
    counts = np.concatenate([_shifts(gaps)[:, None], present.astype(np.int64)], axis=1)  # (N, 1 + columns)
    ends = np.cumsum(counts.ravel()).reshape(counts.shape)
    ids = np.full(int(ends[-1, -1]) if len(gaps) else 0, TIME_SHIFT + MAX_SHIFT_TICKS - 1, np.uint16)
    waits = gaps > 0
    ids[ends[waits, 0] - 1] = TIME_SHIFT + (gaps[waits] - 1) % MAX_SHIFT_TICKS  # the last shift takes the remainder
    for column, event in enumerate(events):
        there = present[:, column]
        ids[ends[there, column + 1] - 1] = event[there]
    return ids


class PianoTokenizer:
    """Score <-> ids. Onsets and ends fall on 10 ms ticks, velocities in 32 bins; no note is lost.

    Within a tick: note-offs, then note-ons, both by pitch; a velocity only where the bin changes. A note shorter than
    a tick is its note-on with its note-off right behind; so is each but the last of notes of one pitch that start in
    the same tick. A note struck again while it sounds ends there.
    """

    name = "piano"
    vocab_size = VOCAB_SIZE
    frame = 1
    augments = True
    ends = True
    suffixes: tuple[str, ...] = (".mid", ".midi", ".rmi", ".kar")
    media: type[Any] = Score
    usual = Usual(prompt_seconds=20.0, seconds=30.0, top_p=0.98, guidance=0.6)  # docs/experiments.md has why

    def __init__(self, max_note_seconds: float = MAX_NOTE_SECONDS, max_sounding: int = MAX_SOUNDING) -> None:
        self.max_note_seconds = max_note_seconds
        self.max_sounding = max_sounding

    def encode(self, media: Media) -> list[int]:
        """The ids of a score, time 0 being the score's own. Raises PromptError where it has no note."""
        ids: list[int] = self.encode_array(media).tolist()
        return ids

    def encode_array(self, media: Media) -> NDArray[np.uint16]:
        """encode as an array, for whole corpora."""
        if not isinstance(media, Score):
            raise PromptError("holds sound, not notes; a MIDI file is needed")
        if not media.notes:
            raise PromptError("the score has no notes; at least one is needed")
        pitch, start, end, velocity_bins = self._quantised(media)
        struck_again = (pitch[1:] == pitch[:-1]) & (end[:-1] > start[1:])
        end[:-1][struck_again] = start[1:][struck_again]
        # In one tick the ends of notes from before come first; then note-ons by pitch, each with its end behind it
        # where that falls in the same tick.
        rank = np.arange(len(pitch)) * 2
        short = end == start
        ticks = np.concatenate([start, end])
        late = np.concatenate([np.ones_like(short), short])
        order = np.lexsort((np.concatenate([rank, rank + 1]), late, ticks))
        ticks = ticks[order]
        ids = np.concatenate([NOTE_ON + pitch, NOTE_OFF + pitch])[order]
        is_on = ids < NOTE_OFF
        bins = np.concatenate([velocity_bins, velocity_bins])[order]
        changed = np.zeros_like(is_on)
        changed[is_on] = np.diff(bins[is_on], prepend=-1) != 0
        present = np.stack([changed, np.ones_like(is_on)], axis=1)
        return _spell(np.diff(ticks, prepend=0), [VELOCITY + bins, ids], present)

    @staticmethod
    def _quantised(
        score: Score,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pitch, start tick, end tick and velocity bin of each note, (N,) each, by pitch, then start, then end."""
        notes = score.notes
        pitch = np.array([note.pitch for note in notes], np.int64)
        velocity = np.array([note.velocity for note in notes], np.int64)
        times = np.array([(note.start, note.end) for note in notes], np.float64)  # (N, 2)
        if not np.isfinite(times).all() or times.min() < 0 or (pitch < 0).any() or (pitch > 127).any():
            raise PromptError("a note has a pitch outside 0 to 127, a time below 0 or one that is no number")
        if times.max() > MAX_SECONDS:
            raise PromptError(
                f"the score lasts {times.max() / 3600:,.1f} hours; at most {MAX_SECONDS / 3600:.0f} are read"
            )
        order = np.lexsort((times[:, 1], times[:, 0], pitch))
        start, end = _quantise(times[order]).T
        bins = (velocity[order].clip(1, 127) - 1) // _BIN_WIDTH
        return pitch[order], start, np.maximum(end, start), bins

    def decode(self, ids: Sequence[int]) -> Score:
        """The score that ids describe. Any ids will do: an end without a note is passed over, a note struck again
        ends there, and what still sounds at the end ends with it, a tick long at least."""
        notes: list[Note] = []
        sounding: dict[int, tuple[int, int]] = {}
        tick, velocity = 0, DEFAULT_VELOCITY

        def finish(pitch: int, end: int) -> None:
            start, strength = sounding.pop(pitch)
            notes.append(
                Note(pitch=pitch, velocity=strength, start=start / TICKS_PER_SECOND, end=end / TICKS_PER_SECOND)
            )

        for token in map(int, ids):
            if token >= VELOCITY:
                velocity = bin_velocity(token - VELOCITY)
            elif token >= TIME_SHIFT:
                tick += token - TIME_SHIFT + 1
            elif token >= NOTE_OFF:
                if token - NOTE_OFF in sounding:
                    finish(token - NOTE_OFF, tick)
            else:
                if token in sounding:
                    finish(token, tick)
                sounding[token] = (tick, velocity)
        for pitch in list(sounding):
            finish(pitch, max(tick, sounding[pitch][0] + 1))
        return Score(notes=tuple(sorted(notes, key=lambda note: (note.start, note.pitch, note.end))))

    def clip(self, ids: Sequence[int], n: int) -> list[int]:
        """The last n or fewer ids, from a time-shift on, so that no chord or velocity is cut in two.

        A chord longer than n is cut between its notes. The ends of notes struck before the cut stay in: they are
        what a model sees in training, where crops begin anywhere.
        """
        if n <= 0:
            return []
        if len(ids) <= n:
            return [int(token) for token in ids]
        tail = [int(token) for token in ids[len(ids) - n - 1 :]]  # one more, to see what the cut would part
        for at in range(1, len(tail)):
            if TIME_SHIFT <= tail[at] < VELOCITY:
                return tail[at:]
        first = 1
        while first < len(tail) and tail[first - 1] >= VELOCITY:
            first += 1
        return tail[first:]

    def head(self, ids: Sequence[int], seconds: float) -> list[int]:
        """The ids up to `seconds`; a time-shift that would pass it is left out whole, with all that follows.

        So the head ends with an event, where a player might still be waiting, and what sounds there is left open.
        Empty where no note has started by then.
        """
        if seconds <= 0:
            return []
        array = np.asarray(ids, np.int64)
        # A hair more, or 0.29 s would not hold 29 ticks.
        count = int(np.searchsorted(self.ticks(array), seconds * TICKS_PER_SECOND + 1e-6, side="right"))
        while count and array[count - 1] >= VELOCITY:
            count -= 1
        head: list[int] = array[:count].tolist()
        return head if (array[:count] < NOTE_OFF).any() else []

    def seconds(self, ids: Sequence[int]) -> float:
        """How long ids last."""
        times = self.ticks(np.asarray(ids, np.int64))
        return float(times[-1]) / TICKS_PER_SECOND if len(times) else 0.0

    def to_ending(self, prompt: Sequence[int], ids: Sequence[int], seconds: float) -> list[int]:
        """New ids cut at the best place for an end from `seconds` on (`piano_endings`), where what sounds rings out."""
        return piano_endings.cut(prompt, ids, seconds, self.max_note_seconds)

    @staticmethod
    def ticks(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tick after each id, (T,)."""
        is_shift = (ids >= TIME_SHIFT) & (ids < VELOCITY)
        return np.cumsum(np.where(is_shift, ids - TIME_SHIFT + 1, 0))

    def start(self, uniform: float) -> list[int]:
        """A velocity, from soft to fairly loud: the model chooses the first note."""
        low, high = _START_BINS
        return [VELOCITY + low + min(int(uniform * (high - low)), high - low - 1)]

    def grammar(self) -> "PianoGrammar":
        """A fresh grammar: nothing sounds yet."""
        return PianoGrammar(max_note_seconds=self.max_note_seconds, max_sounding=self.max_sounding)

    def augment(
        self, ids: NDArray[np.uint16], rng: np.random.Generator, transpose: int, stretch: float
    ) -> NDArray[np.uint16]:
        """A copy moved by up to ±transpose semitones and stretched in time by up to ±stretch.

        The move is limited so that notes stay on an 88-key piano (or, where some were off it, in the range they had).
        The copy may be longer or shorter than ids, as long gaps take more time-shifts or fewer.
        """
        shift = int(rng.integers(-transpose, transpose + 1)) if transpose else 0
        factor = 1.0 + stretch * float(rng.uniform(-1.0, 1.0)) if stretch else 1.0
        return self._stretch(self._transpose(ids.astype(np.int64), shift), factor).astype(np.uint16)

    @staticmethod
    def _transpose(ids: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
        is_note = ids < TIME_SHIFT
        pitches = ids[is_note] % 128
        if not len(pitches):
            return ids
        lowest, highest = int(pitches.min()), int(pitches.max())
        shift = min(max(shift, min(21, lowest) - lowest), max(108, highest) - highest)  # A0 to C8
        return np.where(is_note, ids + shift, ids)

    @classmethod
    def _stretch(cls, ids: NDArray[np.int64], factor: float) -> NDArray[np.int64]:
        """Time multiplied by factor: each tick on its own, so rounding does not add up; none merges with the last."""
        if factor == 1.0:
            return ids
        is_event = (ids < TIME_SHIFT) | (ids >= VELOCITY)
        times = cls.ticks(ids)
        moments, which = np.unique(np.append(times[is_event], times[-1:]), return_inverse=True)
        places = np.floor(moments * factor + 0.5).astype(np.int64)
        step = np.arange(len(places))
        places = np.maximum.accumulate(places - step) + step
        gaps = np.diff(places[which], prepend=0)
        present = np.append(np.ones(int(is_event.sum()), bool), np.zeros(len(times[-1:]), bool))
        events = np.append(ids[is_event], np.zeros(len(times[-1:]), np.int64))
        return _spell(gaps, [events], present[:, None]).astype(np.int64)

    def describe(self, ids: Sequence[int]) -> list[str]:
        """Each id in words, for people: "on 60", "off 60", "wait 0.25 s", "velocity 66"."""

        def word(token: int) -> str:
            if token >= VELOCITY:
                return f"velocity {bin_velocity(token - VELOCITY)}"
            if token >= TIME_SHIFT:
                return f"wait {(token - TIME_SHIFT + 1) / TICKS_PER_SECOND:.2f} s"
            return f"off {token - NOTE_OFF}" if token >= NOTE_OFF else f"on {token}"

        return [word(int(token)) for token in ids]


class PianoGrammar:
    """Which ids may come next. Every id advance() takes costs the same, however long the stream.

    No note-off for a silent pitch, no note-on for a sounding one; after a velocity a note-on. So that endless music
    neither leaves a key hanging nor piles notes up: a note that has sounded for max_note_seconds is closed before
    anything else, and none is struck while max_sounding others sound.
    """

    def __init__(self, *, max_note_seconds: float = MAX_NOTE_SECONDS, max_sounding: int = MAX_SOUNDING) -> None:
        self._max_ticks = round(max_note_seconds * TICKS_PER_SECOND)
        self._max_sounding = max_sounding
        self._tick = 0
        self._sounding: OrderedDict[int, int] = OrderedDict()
        """Start tick of each sounding pitch, earliest first."""
        self._after_velocity = False
        # Bytes that tensors look into: what the keys alone permit, and of that what may follow a velocity; both follow
        # each id. And room for what is rarely needed.
        self._free = bytearray([1] * VOCAB_SIZE)
        self._free[NOTE_OFF:TIME_SHIFT] = bytes(TIME_SHIFT - NOTE_OFF)
        self._notes = bytearray([1] * NOTE_OFF + [0] * (VOCAB_SIZE - NOTE_OFF))
        self._rare = bytearray(VOCAB_SIZE)
        self._masks = [torch.frombuffer(part, dtype=torch.bool) for part in (self._free, self._notes, self._rare)]

    @property
    def seconds(self) -> float:
        """Time passed since the first id."""
        return self._tick / TICKS_PER_SECOND

    @property
    def sounding(self) -> tuple[int, ...]:
        """Pitches that sound now, longest first."""
        return tuple(self._sounding)

    def advance(self, token: int) -> None:
        """Take the next id, allowed or not: a second note-on starts its note anew, an idle note-off does nothing."""
        self._after_velocity = token >= VELOCITY
        if token < NOTE_OFF:
            self._sounding.pop(token, None)
            self._sounding[token] = self._tick
            self._free[token] = self._notes[token] = False
            self._free[token + NOTE_OFF] = True
        elif token < TIME_SHIFT:
            pitch = token - NOTE_OFF
            self._sounding.pop(pitch, None)
            self._free[token] = False
            self._free[pitch] = self._notes[pitch] = True
        elif token < VELOCITY:
            self._tick += token - TIME_SHIFT + 1

    def allowed(self) -> Tensor:
        """(388,) bool, True where an id may come next; it looks into memory that advance changes."""
        free, notes, rare = self._masks
        if self._sounding and self._tick - next(iter(self._sounding.values())) >= self._max_ticks:
            self._rare[:] = bytes(VOCAB_SIZE)
            for pitch, start in self._sounding.items():
                if self._tick - start < self._max_ticks:
                    break
                self._rare[pitch + NOTE_OFF] = True
            return rare
        if self._after_velocity:
            return notes
        if len(self._sounding) >= self._max_sounding:  # nor is there a note for a velocity to speak of
            self._rare[:] = self._free
            self._rare[:NOTE_OFF] = bytes(NOTE_OFF)
            self._rare[VELOCITY:] = bytes(VOCAB_SIZE - VELOCITY)
            return rare
        return free
