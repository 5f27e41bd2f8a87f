"""Notes in seconds from the events of a MIDI file, the sustain pedal folded into their ends."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media.midi import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    DEFAULT_TEMPO,
    MAX_EVENTS,
    OFF,
    ON,
    PROGRAM,
    RESET,
    SUSTAIN,
    Events,
    read_events,
)

PEDAL_DOWN = 64  # a value of at least 64 is down: MIDI 1.0, table of control changes
MAX_RINGING = 10.0
"""Seconds that a note which nothing ends goes on after the last event: an end-of-track may be hours away."""

_Key = tuple[int, int]  # pitch and track
_Struck = tuple[int, int, int]  # start, velocity and program
_Note = tuple[int, int, int, int, int, int, int, bool]


@dataclass(frozen=True, kw_only=True)
class MidiNotes:
    """Notes as a file has them, in order of start, pitch and end. N each."""

    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    start: NDArray[np.float64]
    """Seconds from the beginning."""
    end: NDArray[np.float64]
    channel: NDArray[np.int64]
    """Port · 16 + channel."""
    program: NDArray[np.int64]
    track: NDArray[np.int64]
    up: NDArray[np.float64]
    """When its key is let go, where that was asked for; the pedal may hold it until its end."""

    def __len__(self) -> int:
        return len(self.pitch)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "MidiNotes":
        """Some of them."""
        return MidiNotes(**{part.name: getattr(self, part.name)[chosen] for part in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a file has beside its notes; times in seconds."""

    pedal: NDArray[np.float64]
    """Changes of the sustain pedal, (P, 2): when, and its value."""
    pedal_channels: NDArray[np.int64]
    """Of each, port · 16 + channel."""
    tempos: tuple[tuple[float, int], ...]
    """(when, microseconds a quarter note); empty where the file does not say, or counts no quarters."""
    meters: tuple[tuple[float, int, int], ...]
    """Time signatures: (when, beats in a bar, which part of a whole note is one)."""


def read_notes(
    data: bytes, most_events: int = MAX_EVENTS, course: bool = False
) -> tuple[MidiNotes, list[str], Course | None]:
    """The notes of a MIDI file, what was mended to read it, and, where `course` asks for it, what it has beside them;
    None for a file of patterns that follow one another. Raises MediaError with the reason where it cannot be read.

    A track's own program is that of its notes; where it has none, the channel's is.
    """
    file = read_events(data, most_events)
    parts, offset = [], 0.0
    for events in file.sequences:
        part, length = _sequence(events, file.division, offset, course)
        parts.append(part)
        offset += length
    joined = {part.name: np.concatenate([getattr(one, part.name) for one in parts]) for part in fields(MidiNotes)}
    notes = MidiNotes(**joined)
    beside = _course(file.sequences[0], file.division) if course and len(file.sequences) == 1 else None
    return notes.where(np.lexsort((notes.end, notes.pitch, notes.start))), file.mended, beside


def _course(events: Events, division: bytes) -> Course:
    pedal = (events.kinds == CONTROL) & ((events.first == SUSTAIN) | (events.first == RESET))
    values = np.where(events.first[pedal] == SUSTAIN, events.second[pedal], 0)
    quarters = division[0] < 0x80
    tempos = sorted(dict(sorted(events.tempos, key=itemgetter(0))).items()) if quarters else []

    def seconds(ticks: list[int]) -> list[float]:
        found: list[float] = _seconds(np.array(ticks, np.int64), division, events.tempos).tolist()
        return found

    times = seconds([tick for tick, _ in tempos])
    whens = seconds([tick for tick, *_ in events.meters])
    return Course(
        pedal=np.stack([_seconds(events.ticks[pedal], division, events.tempos), values.astype(np.float64)], axis=1),
        pedal_channels=events.channels[pedal],
        tempos=tuple((when, tempo) for when, (_, tempo) in zip(times, tempos, strict=True)),
        meters=tuple((when, beats, part) for when, (_, beats, part) in zip(whens, events.meters, strict=True)),
    )


def _sequence(events: Events, division: bytes, offset: float, keys: bool) -> tuple[MidiNotes, float]:
    """The notes of tracks that play together, and how long they last."""
    rows, held = _paired(events)
    table = np.array(rows, np.int64).reshape(-1, 8)
    up = table[:, 1].copy()
    table[held.places, 1] = held.ends
    table[held.ringing, 7] = True
    last = int(events.ticks[-1]) if len(events.ticks) else 0
    ticks = np.concatenate((table[:, 0], table[:, 1], [last, events.last_tick]))
    times = _seconds(ticks, division, events.tempos)
    start, end = times[: len(table)], times[len(table) : -2]
    end = np.where(table[:, 7] > 0, np.minimum(end, times[-2] + MAX_RINGING), end)
    length = min(float(times[-1]), max(float(times[-2]) + MAX_RINGING, float(end.max(initial=0.0))))
    _, _, pitch, velocity, channel, program, track, _ = table.T
    notes = MidiNotes(
        pitch=pitch,
        velocity=velocity,
        start=start + offset,
        end=end + offset,
        channel=channel,
        program=program,
        track=track,
        up=np.minimum(_seconds(up, division, events.tempos), end) + offset if keys else start + offset,
    )
    return notes, length


def _seconds(ticks: NDArray[np.int64], division: bytes, tempos: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Ticks as seconds from the start of the sequence."""
    if division[0] >= 0x80:  # SMPTE: frames a second, negative, and ticks a frame
        rate = 256 - division[0]
        frames = 30_000 / 1_001 if rate == 29 else float(rate)
        return ticks / (frames * max(division[1], 1))
    per_quarter = int.from_bytes(division, "big")
    changes = dict(sorted(tempos, key=itemgetter(0)))  # the last of several at one tick counts
    changes = {0: DEFAULT_TEMPO} | changes
    at = np.fromiter(changes, np.int64)
    tick_seconds = np.fromiter(changes.values(), np.float64) / 1e6 / per_quarter
    starts = np.concatenate([[0.0], np.cumsum(np.diff(at) * tick_seconds[:-1])])
    segment = np.searchsorted(at, ticks, side="right") - 1
    return starts[segment] + (ticks - at[segment]) * tick_seconds[segment]


class _Ended:
    """When notes that the pedal held have ended, by their places among all notes."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.ends: list[int] = []
        self.ringing: list[int] = []
        """Of those that nothing ended."""

    def end(self, place: int, tick: int) -> None:
        self.places.append(place)
        self.ends.append(tick)

    def end_all(self, places: Collection[int], tick: int) -> None:
        self.places += places
        self.ends += [tick] * len(places)


class _Keyboard:
    """What sounds on one channel while the events go by."""

    def __init__(self, channel: int, notes: list[_Note], ended: _Ended) -> None:
        self.channel = channel
        self.notes, self.ended = notes, ended
        self.down: dict[_Key, _Struck] = {}
        """Keys held down."""
        self.held: dict[_Key, int] = {}
        """Keys already up that the pedal keeps sounding: where in `notes` they are, with the key's end as theirs."""
        self.pedal = False
        self.owed: dict[_Key, int] = {}
        """Tick at which a key was struck again while down: an end at that very tick belongs to the earlier note."""

    def finish(self, key: _Key, note: _Struck, tick: int, rings: bool = False) -> None:
        self.notes.append((note[0], tick, key[0], note[1], self.channel, note[2], key[1], rings))

    def strike(self, key: _Key, velocity: int, program: int, tick: int) -> None:
        if key in self.down:
            self.finish(key, self.down[key], tick)
            self.owed[key] = tick
        if key in self.held:
            self.ended.end(self.held.pop(key), tick)
        self.down[key] = (tick, velocity, program)

    def lift(self, key: _Key, tick: int) -> None:
        note = self.down.get(key)
        if note is None:
            return
        if note[0] == tick and self.owed.pop(key, None) == tick:
            return
        del self.down[key]
        self._let_go(key, note, tick)

    def _let_go(self, key: _Key, note: _Struck, tick: int) -> None:
        if not self.pedal:
            self.finish(key, note, tick)
            return
        if key in self.held:
            self.ended.end(self.held[key], tick)
        self.held[key] = len(self.notes)
        self.finish(key, note, tick)

    def lift_all(self, tick: int) -> None:
        down, self.down = self.down, {}
        self.owed.clear()
        for key, note in down.items():
            self._let_go(key, note, tick)

    def control(self, controller: int, value: int, tick: int) -> None:
        if controller == SUSTAIN and value >= PEDAL_DOWN:
            self.pedal = True
        elif controller in (SUSTAIN, RESET):
            self.pedal_up(tick)
            self.pedal = False
        elif controller == ALL_SOUND_OFF:
            self.lift_all(tick)
            self.pedal_up(tick)
        elif controller >= ALL_NOTES_OFF:
            self.lift_all(tick)

    def pedal_up(self, tick: int) -> None:
        if self.held:
            self.ended.end_all(self.held.values(), tick)
            self.held = {}

    def end(self, tick: int) -> None:
        """What still sounds ends with the last track."""
        for key, note in self.down.items():
            self.finish(key, note, tick, rings=True)
        self.ended.end_all(self.held.values(), tick)
        self.ended.ringing += self.held.values()


def _paired(events: Events) -> tuple[list[_Note], _Ended]:
    """Notes of events: (start, when its key is let go, pitch, velocity, channel, program, track, whether nothing ended
    it); and when those have ended that the pedal held on."""
    notes: list[_Note] = []
    ended = _Ended()
    keyboards: dict[int, _Keyboard] = {}
    programs: dict[int, int] = {}
    own_programs: dict[tuple[int, int], int] = {}
    columns = (events.ticks, events.kinds, events.channels, events.first, events.second, events.tracks)
    for tick, kind, channel, first, second, track in zip(*(column.tolist() for column in columns), strict=True):
        keyboard = keyboards.get(channel)
        if keyboard is None:
            keyboard = keyboards[channel] = _Keyboard(channel, notes, ended)
        if kind == ON and second:
            program = own_programs.get((channel, track))
            if program is None:
                program = programs.get(channel, 0)
            keyboard.strike((first, track), second, program, tick)
        elif kind in (ON, OFF):
            keyboard.lift((first, track), tick)
        elif kind == PROGRAM:
            programs[channel] = own_programs[channel, track] = first
        else:
            keyboard.control(first, second, tick)
    for keyboard in keyboards.values():
        keyboard.end(events.last_tick)
    return notes, ended
