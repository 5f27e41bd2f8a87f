"""Standard MIDI files, bytes to notes in seconds: every type, division and tempo map of the specification.

Read here rather than with pretty_midi or mido for three reasons: they refuse files that players accept (a key
signature out of range, SMPTE time), pretty_midi drops a note whose end falls on the tick of its start and takes eight
times as long, which counts over a corpus. What the notes are follows pretty_midi, and tests compare the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError

SUSTAIN = 64
PEDAL_DOWN = 64  # a value of at least 64 is down: MIDI 1.0, table of control changes
DRUMS = 9  # General MIDI keeps its tenth channel for percussion
DEFAULT_TEMPO = 500_000  # microseconds a quarter note, 120 a minute, until the file says otherwise

_OFF, _ON, _CONTROL, _PROGRAM = 0x8, 0x9, 0xB, 0xC
_ALL_SOUND_OFF, _RESET, _ALL_NOTES_OFF = 120, 121, 123
_KEPT = frozenset((_OFF, _ON, _CONTROL, _PROGRAM))
_DATA_LENGTH = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}  # data bytes of a channel message, by kind
_SYSTEM_LENGTH = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes after a system message; none after the others


@dataclass(frozen=True, slots=True)
class MidiNote:
    """One note as the file has it, the sustain pedal folded into its end; times in seconds."""

    pitch: int
    velocity: int
    start: float
    end: float
    channel: int
    program: int
    track: int


@dataclass(slots=True)
class _Track:
    """One track's events that bear on notes: (tick, kind, channel, first data byte, second), and its tempo changes."""

    events: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    tempos: list[tuple[int, int]] = field(default_factory=list)
    last_tick: int = 0


def parse(data: bytes) -> list[MidiNote]:
    """The notes of a MIDI file in order of start and pitch. Raises MediaError with the reason where it is damaged."""
    data = _unwrap(data)
    if len(data) < 14 or data[:4] != b"MThd":
        raise MediaError("is no MIDI file: it does not start with a MIDI header")
    kind = int.from_bytes(data[8:10], "big")
    division = data[12:14]
    tracks = list(_tracks(data))
    notes: list[MidiNote] = []
    if kind == 2:  # independent patterns: one after another
        offset = 0.0
        for number, track in enumerate(tracks):
            part, length = _sequence([track], division, number, offset)
            notes += part
            offset += length
    else:
        notes, _ = _sequence(tracks, division, 0, 0.0)
    return sorted(notes, key=lambda note: (note.start, note.pitch, note.end))


def _unwrap(data: bytes) -> bytes:
    """The MIDI file inside a RIFF wrapper (RMID), or data itself."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise MediaError("is a RIFF MIDI file without MIDI data")


def _tracks(data: bytes) -> Iterator[_Track]:
    """The tracks in order; other chunks are passed over."""
    expected = int.from_bytes(data[10:12], "big")
    at, found = 8 + int.from_bytes(data[4:8], "big"), 0
    while found < expected:
        if at + 8 > len(data):
            raise MediaError(f"is a truncated MIDI file: it ends after {found} of {expected} tracks")
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + length > len(data):
            raise MediaError(
                f"is a truncated MIDI file: {at + 8 + length:,} bytes are needed at least, {len(data):,} are there"
            )
        if data[at : at + 4] == b"MTrk":
            found += 1
            try:
                yield _read_track(data[at + 8 : at + 8 + length])
            except IndexError:
                raise MediaError(f"is a damaged MIDI file: track {found} ends inside an event") from None
            except KeyError:
                raise MediaError(
                    f"is a damaged MIDI file: track {found} has data where an event should start"
                ) from None
            except ValueError as error:
                raise MediaError(f"is a damaged MIDI file: track {found} has {error}") from None
        at += 8 + length


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number at `at`, and where it ends."""
    value = 0
    for _ in range(4):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    raise ValueError("a number longer than four bytes")


def _read_track(data: bytes) -> _Track:
    track = _Track()
    events = track.events
    at, tick, status, port, size = 0, 0, 0, 0, len(data)
    while at < size:
        delta = data[at]
        at += 1
        if delta >= 0x80:
            delta, at = _length(data, at - 1)
        tick += delta
        if at == size:  # a last delta time without its event: no end-of-track, nothing lost
            break
        byte = data[at]
        if byte >= 0xF0:
            at, port, ended = _system(data, byte, at + 1, tick, port, track)
            if ended:
                break
            continue
        if byte >= 0x80:
            status = byte
            at += 1
        kind = status >> 4
        length = _DATA_LENGTH[kind]
        first, second = data[at], data[at + length - 1]
        at += length
        if (first | second) >= 0x80:
            raise ValueError("an event cut short by another")
        if kind in _KEPT and (kind != _CONTROL or first == SUSTAIN or first >= _ALL_SOUND_OFF):
            events.append((tick, kind, (status & 0xF) + 16 * port, first, second))
    track.last_tick = tick
    return track


def _system(data: bytes, status: int, at: int, tick: int, port: int, track: _Track) -> tuple[int, int, bool]:
    """Pass over a meta, exclusive or system event: (where it ends, the MIDI port, whether the track ends here)."""
    if status == 0xFF:
        kind = data[at]
        length, at = _length(data, at + 1)
        if at + length > len(data):
            raise IndexError
        if kind == 0x51 and length >= 3:
            track.tempos.append((tick, int.from_bytes(data[at : at + 3], "big")))
        elif kind == 0x21 and length:
            port = data[at]
        return at + length, port, kind == 0x2F
    if status in (0xF0, 0xF7):
        length, at = _length(data, at)
        if at + length > len(data):
            raise IndexError
        return at + length, port, False
    return at + _SYSTEM_LENGTH.get(status, 0), port, False


def _seconds(ticks: NDArray[np.int64], division: bytes, tempos: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Ticks as seconds from the start of the sequence."""
    if division[0] >= 0x80:  # SMPTE: frames a second, negative, and ticks a frame
        rate = 256 - division[0]
        frames = 30_000 / 1_001 if rate == 29 else float(rate)
        return ticks / (frames * max(division[1], 1))
    per_quarter = max(int.from_bytes(division, "big"), 1)
    changes = dict(sorted(tempos, key=itemgetter(0)))  # the last of several at one tick counts
    changes = {0: DEFAULT_TEMPO} | changes
    at = np.fromiter(changes, np.int64)
    tick_seconds = np.fromiter(changes.values(), np.float64) / 1e6 / per_quarter
    starts = np.concatenate([[0.0], np.cumsum(np.diff(at) * tick_seconds[:-1])])
    segment = np.searchsorted(at, ticks, side="right") - 1
    return starts[segment] + (ticks - at[segment]) * tick_seconds[segment]


def _sequence(tracks: list[_Track], division: bytes, number: int, offset: float) -> tuple[list[MidiNote], float]:
    """The notes of tracks that play together, and how long they last."""
    events = [(*event, number + index) for index, track in enumerate(tracks) for event in track.events]
    if len(tracks) > 1:
        events.sort(key=itemgetter(0))  # stable: within a tick, the order of the file
    last_tick = max((track.last_tick for track in tracks), default=0)
    raw = _pair(events, last_tick)
    ticks = np.array([(note[0], note[1]) for note in raw] + [(0, last_tick)], np.int64)  # (N + 1, 2)
    tempos = [tempo for track in tracks for tempo in track.tempos]
    times = (_seconds(ticks.ravel(), division, tempos).reshape(-1, 2) + offset).tolist()
    notes = [
        MidiNote(pitch, velocity, start, end, channel, program, track)
        for (_, _, pitch, velocity, channel, program, track), (start, end) in zip(raw, times, strict=False)
    ]
    return notes, times[-1][1] - offset


class _Keyboard:
    """What sounds while the events go by. A note: (start, end, pitch, velocity, channel, program, track)."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, int, int, int, int, int, int]] = []
        self.down: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        """(channel, pitch, track) of a key held down: (start, velocity, program)."""
        self.held: dict[int, dict[tuple[int, int, int], tuple[int, int, int]]] = {}
        """By channel: keys already up that the pedal keeps sounding. A channel is there while its pedal is down."""
        self.owed: dict[tuple[int, int, int], int] = {}
        """Tick at which a key was struck again while down: an end at that very tick belongs to the earlier note."""

    def finish(self, key: tuple[int, int, int], note: tuple[int, int, int], tick: int) -> None:
        self.notes.append((note[0], tick, key[1], note[1], key[0], note[2], key[2]))

    def strike(self, key: tuple[int, int, int], velocity: int, program: int, tick: int) -> None:
        if key in self.down:
            self.finish(key, self.down[key], tick)
            self.owed[key] = tick
        held = self.held.get(key[0])
        if held and key in held:
            self.finish(key, held.pop(key), tick)
        self.down[key] = (tick, velocity, program)

    def lift(self, key: tuple[int, int, int], tick: int) -> None:
        note = self.down.get(key)
        if note is None:
            return
        if note[0] == tick and self.owed.pop(key, None) == tick:
            return
        del self.down[key]
        held = self.held.get(key[0])
        if held is None:
            self.finish(key, note, tick)
        else:
            held[key] = note

    def lift_all(self, channel: int, tick: int) -> None:
        for key in [key for key in self.down if key[0] == channel]:
            self.lift(key, tick)

    def control(self, channel: int, controller: int, value: int, tick: int) -> None:
        if controller == SUSTAIN and value >= PEDAL_DOWN:
            self.held.setdefault(channel, {})
        elif controller in (SUSTAIN, _RESET):
            self.pedal_up(channel, tick)
        elif controller == _ALL_SOUND_OFF:
            pedal = channel in self.held
            self.lift_all(channel, tick)
            self.pedal_up(channel, tick)
            if pedal:
                self.held[channel] = {}
        elif controller >= _ALL_NOTES_OFF:
            self.lift_all(channel, tick)

    def pedal_up(self, channel: int, tick: int) -> None:
        for key, note in self.held.pop(channel, {}).items():
            self.finish(key, note, tick)


def _pair(
    events: list[tuple[int, int, int, int, int, int]], last_tick: int
) -> list[tuple[int, int, int, int, int, int, int]]:
    """Notes from events in order; what still sounds at the end ends with the last event."""
    keyboard = _Keyboard()
    programs: dict[int, int] = {}
    for tick, kind, channel, first, second, track in events:
        if kind == _ON and second:
            keyboard.strike((channel, first, track), second, programs.get(channel, 0), tick)
        elif kind <= _ON:
            keyboard.lift((channel, first, track), tick)
        elif kind == _PROGRAM:
            programs[channel] = first
        else:
            keyboard.control(channel, first, second, tick)
    for key, note in keyboard.down.items():
        keyboard.finish(key, note, last_tick)
    for channel in list(keyboard.held):
        keyboard.pedal_up(channel, last_tick)
    return keyboard.notes
