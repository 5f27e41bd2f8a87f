"""Standard MIDI files, bytes to events: every type and division of the specification, and what players accept.

Read here rather than with pretty_midi or mido for three reasons: they refuse files that players accept (a key
signature out of range, SMPTE time, a wrong length), pretty_midi drops a note whose end falls on the tick of its start
and takes many times as long, which counts over a corpus. What the notes are follows pretty_midi, and tests compare the
two.

A fault that leaves no doubt about the notes is mended and said, in `Events.mended`; any other is a MediaError.
"""

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError

MAX_EVENTS = 1_000_000
"""Events that are read at most: the longest performance of MAESTRO has 69,000."""
SUSTAIN = 64
DEFAULT_TEMPO = 500_000  # microseconds a quarter note, 120 a minute, until the file says otherwise
DEFAULT_DIVISION = 480  # ticks a quarter note, where a file says 0

OFF, ON, CONTROL, PROGRAM = range(4)
"""Kinds of events, as `Events.kinds` has them."""
ALL_SOUND_OFF, RESET, ALL_NOTES_OFF = 120, 121, 123

_KINDS = {0x8: OFF, 0x9: ON, 0xB: CONTROL, 0xC: PROGRAM}
_DATA_LENGTH = (0,) * 8 + (2, 2, 2, 2, 1, 1, 2, 0)  # data bytes of a channel message, by the status byte's upper half
_SYSTEM_LENGTH = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes after a system message; none after the others
_HEADER = 8  # bytes before a chunk's content: name and length

# An event as one number: tick, kind, port and channel, first and second data byte.
_SECOND, _FIRST, _CHANNEL, _KIND = 0, 7, 14, 26
_TICK = 28
_LAST_TICK = 1 << 35


class _TooManyError(Exception):
    pass


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of tracks that play together, in order, those within a tick as the file has them. N each."""

    ticks: NDArray[np.int64]
    kinds: NDArray[np.int64]
    channels: NDArray[np.int64]
    """Port · 16 + channel."""
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    tracks: NDArray[np.int64]
    tempos: list[tuple[int, int]]
    """(tick, microseconds a quarter note)."""
    meters: list[tuple[int, int, int]]
    """Time signatures: (tick, beats in a bar, which part of a whole note is one)."""
    last_tick: int
    """Where the last track ends."""


@dataclass(slots=True)
class _Track:
    """One track's events that bear on notes, packed, and its tempo changes."""

    events: "array[int]" = field(default_factory=lambda: array("q"))
    tempos: list[tuple[int, int]] = field(default_factory=list)
    meters: list[tuple[int, int, int]] = field(default_factory=list)
    last_tick: int = 0
    end: int = 0
    """Where in the file it ends."""
    ended: bool = False
    """It said so."""
    cut: bool = False
    """It ends inside an event."""
    clipped: int = 0
    """Data bytes above 127."""
    count: int = 0
    """Events in all."""


@dataclass(slots=True)
class File:
    """What a file holds: its time base, its sequences, and what had to be mended to read it."""

    division: bytes
    sequences: list[Events]
    mended: list[str]


def read_events(data: bytes, most: int = MAX_EVENTS) -> File:
    """The events of a MIDI file. Raises MediaError with the reason where it is damaged or has more than `most`."""
    data = _unwrap(data)
    if len(data) < 14 or data[:4] != b"MThd":
        raise MediaError("is no MIDI file: it does not start with a MIDI header")
    kind, division = int.from_bytes(data[8:10], "big"), data[12:14]
    mended: list[str] = []
    try:
        tracks = _tracks(data, most, mended)
    except _TooManyError:
        raise MediaError(f"is a MIDI file of more than {most:,} events; at most so many are read") from None
    if clipped := sum(track.clipped for track in tracks):
        mended.append(f"clipped {clipped:,} value{'s' * (clipped > 1)} above 127")
    if not any(division):
        division = DEFAULT_DIVISION.to_bytes(2, "big")
        mended.append(f"read a division of 0 as {DEFAULT_DIVISION}")
    if any(not tempo for track in tracks for _, tempo in track.tempos):
        mended.append("read a tempo of 0 as 120 beats a minute")
    # Type 2 holds independent patterns: one after another.
    groups = [[track] for track in tracks] if kind == 2 else [tracks]
    numbers = range(len(groups)) if kind == 2 else [0]
    sequences = [_joined(group, number) for number, group in zip(numbers, groups, strict=True)]
    return File(division, sequences, mended)


def _unwrap(data: bytes) -> bytes:
    """The MIDI file inside a RIFF wrapper (RMID), or data itself."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + _HEADER <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + length]
        at += _HEADER + length + length % 2
    raise MediaError("is a RIFF MIDI file without MIDI data")


def _tracks(data: bytes, most: int, mended: list[str]) -> list[_Track]:
    """The tracks in order; other chunks are passed over."""
    expected = int.from_bytes(data[10:12], "big")
    at = _HEADER + int.from_bytes(data[4:8], "big")
    found: list[_Track] = []
    left, skipped, wrong = most, 0, 0  # events that may still come
    while len(found) < expected:
        if not _is_chunk(data, at):
            start = data.find(b"MTrk", at)
            if start < 0:
                break
            skipped += start - at
            at = start
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] != b"MTrk":
            at += _HEADER + length
            continue
        end = at + _HEADER + length
        bounded = end == len(data) or _is_chunk(data, end)
        track = _read(data, at + _HEADER, end if bounded else _next_track(data, at + _HEADER), left, len(found) + 1)
        left -= track.count
        track.cut = track.cut or (not track.ended and end > len(data))
        wrong += not bounded and not track.cut and track.end != end
        found.append(track)
        at = end if bounded else track.end
    if not found:
        raise MediaError("is a truncated MIDI file: it ends before its first track" if expected else "has no tracks")
    if skipped:
        mended.append(f"skipped {skipped:,} bytes between tracks")
    if wrong:
        mended.append(
            f"{wrong} of {len(found)} track{'s' * (len(found) > 1)} {'has' if wrong == 1 else 'have'} a wrong length"
        )
    if any(track.cut for track in found):
        mended.append("cut short: it ends inside a track")
    if len(found) < expected:
        mended.append(f"cut short: {len(found)} of {expected} tracks are there")
    return found


def _is_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk begins there: a track, or another with a name of letters that fits into the file."""
    name = data[at : at + 4]
    if name == b"MTrk":
        return True
    fits = at + _HEADER + int.from_bytes(data[at + 4 : at + 8], "big") <= len(data)
    return len(name) == 4 and name.isalnum() and at + _HEADER <= len(data) and fits


def _next_track(data: bytes, at: int) -> int:
    """Where the next track begins, or the file ends."""
    found = data.find(b"MTrk", at)
    return found if found >= 0 else len(data)


def _read(data: bytes, start: int, end: int, most: int, number: int) -> _Track:
    """A track that lies between two places, up to its end-of-track."""
    track = _Track(end=end)
    try:
        _read_track(data, start, min(end, len(data)), most, track)
    except IndexError:
        track.cut, track.end = True, end
    except KeyError:
        raise MediaError(f"is a damaged MIDI file: track {number} has data where an event should start") from None
    except ValueError as error:
        raise MediaError(f"is a damaged MIDI file: track {number} has {error}") from None
    return track


def _read_track(data: bytes, at: int, size: int, most: int, track: _Track) -> None:  # noqa: C901 (a hot loop)
    """Fill a track. Raises IndexError where it ends inside an event; what was read before it stays."""
    append = track.events.append
    tick, status, port, count = 0, 0, 0, 0
    while at < size:
        delta = data[at]
        at += 1
        if delta >= 0x80:
            delta, at = _number(data, at - 1, size)
        tick += delta
        if at >= size:  # a last delta time without its event: no end-of-track, nothing lost
            break
        count += 1
        if count > most:
            raise _TooManyError
        byte = data[at]
        if byte >= 0xF0:
            at, port, track.ended = _system(data, byte, at + 1, size, tick, port, track)
            track.last_tick = tick
            if track.ended:
                track.end = at
                break
            continue
        if byte >= 0x80:
            status = byte
            at += 1
        elif not status:
            raise KeyError
        length = _DATA_LENGTH[status >> 4]
        if at + length > size:
            raise IndexError
        first, second = data[at], data[at + length - 1]
        at += length
        if (first | second) >= 0x80:
            track.clipped += (first >= 0x80) + (length == 2 and second >= 0x80)
            first, second = min(first, 127), min(second, 127)
        kind = _KINDS.get(status >> 4)
        if kind is not None and (kind != CONTROL or first == SUSTAIN or first >= ALL_SOUND_OFF):
            channel = (status & 0xF) + 16 * port
            append(tick << _TICK | kind << _KIND | channel << _CHANNEL | first << _FIRST | second << _SECOND)
        track.last_tick = tick
    track.count = count
    if tick >= _LAST_TICK:
        raise ValueError("a time that is too large")


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    """A variable-length number at `at`, and where it ends."""
    value = 0
    for _ in range(4):
        if at >= size:
            raise IndexError
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    raise ValueError("a number longer than four bytes")


def _system(data: bytes, status: int, at: int, size: int, tick: int, port: int, track: _Track) -> tuple[int, int, bool]:
    """Pass over a meta, exclusive or system event: (where it ends, the MIDI port, whether the track ends here)."""
    if status == 0xFF:
        if at >= size:
            raise IndexError
        kind = data[at]
        if kind == 0x2F:  # the track's end; the 0 behind it may be missing
            return min(at + 2, size), port, True
        length, at = _number(data, at + 1, size)
        if at + length > size:
            raise IndexError
        if kind == 0x51 and length >= 3:
            track.tempos.append((tick, int.from_bytes(data[at : at + 3], "big")))
        elif kind == 0x58 and length >= 2 and data[at] and data[at + 1] < 8:
            track.meters.append((tick, data[at], 1 << data[at + 1]))
        elif kind == 0x21 and length:
            port = data[at]
        return at + length, port, False
    if status in (0xF0, 0xF7):
        length, at = _number(data, at, size)
        if at + length > size:
            raise IndexError
        return at + length, port, False
    return at + _SYSTEM_LENGTH.get(status, 0), port, False


def _joined(tracks: list[_Track], number: int) -> Events:
    """The events of tracks that play together; the first of them has that number."""
    packed = np.concatenate([np.frombuffer(track.events, np.int64) for track in tracks] + [np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(number, number + len(tracks)), [len(track.events) for track in tracks])
    ticks = packed >> _TICK
    if len(tracks) > 1:
        order = np.argsort(ticks, kind="stable")
        packed, owner, ticks = packed[order], owner[order], ticks[order]
    return Events(
        ticks=ticks,
        kinds=packed >> _KIND & 0x3,
        channels=packed >> _CHANNEL & 0xFFF,
        first=packed >> _FIRST & 0x7F,
        second=packed >> _SECOND & 0x7F,
        tracks=owner,
        tempos=[(tick, tempo or DEFAULT_TEMPO) for track in tracks for tick, tempo in track.tempos],
        meters=sorted(meter for track in tracks for meter in track.meters),
        last_tick=max(track.last_tick for track in tracks),
    )
