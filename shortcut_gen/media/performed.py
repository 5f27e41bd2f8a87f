"""A continuation as a MIDI file that has of its prompt what the prompt's own file had: keys and pedal as they were
played, tempo and time signatures.

What a model reads and writes are notes that last as long as they sound. Written so, a prompt would come back without
its pedal, and on no beat.
"""

import io
import math
from collections import defaultdict
from collections.abc import Sequence

import mido
import numpy as np
from numpy.typing import NDArray

from shortcut_gen.media.midi import DEFAULT_TEMPO, SUSTAIN
from shortcut_gen.media.types import Note, Played, PlayedNote, Score, playable

RESOLUTION = 1920
"""Ticks a quarter note: half a millisecond at 60 a minute."""
GRID = 100
"""Ticks a second of what a model reads: times that fall on one of them are the same to it."""
_OFF, _CONTROL, _ON = range(3)
"""The order of events within a tick: a key is let go, and the pedal, before one is struck."""


def performed(
    joined: Score, prompt: Score, start: float, until: float, marker: tuple[float, str] | None = None
) -> bytes:
    """A MIDI file of a prompt and its continuation.

    joined: both, as the ids say. prompt: as it was read, with `played`. start: where in it the part begins that is
    used, in seconds. until: how much of it is used. marker: seconds and text of a mark that sequencers show.
    """
    played = prompt.played
    assert played is not None
    own, new = _parted(joined, prompt, start, until)
    until = min([until, *(note.start for note in new)])
    notes = [
        Note(
            pitch=note.pitch,
            velocity=note.velocity,
            start=note.start - start,
            # What rings on into the continuation ends where the continuation ends it.
            end=end if end > until + 0.5 / GRID else max(up - start, note.start - start),
        )
        for note, up, end in own
    ]
    return _file(playable([*notes, *new]), _pedal(played.pedal, start, until), played, start, until, marker)


def _parted(
    joined: Score, prompt: Score, start: float, until: float
) -> tuple[list[tuple[Note, float, float]], list[Note]]:
    """(the prompt's notes, when each key was let go, when the note ends in `joined`), and the notes that are new."""
    assert prompt.played is not None
    at: dict[tuple[int, int], list[Note]] = defaultdict(list)
    for note in reversed(joined.notes):
        at[note.pitch, _grid(note.start)].append(note)
    own = []
    for note, up in zip(prompt.notes, prompt.played.ups.tolist(), strict=True):
        if _grid(note.start - start) > _grid(until):
            break
        same = at.get((note.pitch, _grid(note.start - start))) if note.start >= start else None
        if same:
            own.append((note, up, same.pop().end))
    new = [note for notes in at.values() for note in notes]
    return own, sorted(new, key=lambda note: (note.start, note.pitch, note.end))


def _grid(seconds: float) -> int:
    return math.floor(seconds * GRID + 0.5)


def _pedal(pedal: NDArray[np.float64], start: float, until: float) -> list[tuple[float, int]]:
    """Changes from start on, moved to begin at 0; it is up at the end."""
    before = pedal[pedal[:, 0] < start]
    inside = pedal[(pedal[:, 0] >= start) & (pedal[:, 0] < start + until)]
    changes = [(0.0, int(before[-1, 1]))] if len(before) and before[-1, 1] else []
    changes += [(when - start, int(value)) for when, value in inside.tolist()]
    return [*changes, (until, 0)] if changes and changes[-1][1] else changes


def _file(
    notes: Sequence[PlayedNote],
    pedal: Sequence[tuple[float, int]],
    played: Played,
    start: float,
    until: float,
    marker: tuple[float, str] | None,
) -> bytes:
    tempos = _from(played.tempos, start, until) or [(0.0, DEFAULT_TEMPO)]
    if tempos[0][0] > 0:
        tempos.insert(0, (0.0, DEFAULT_TEMPO))
    whens = np.array([when for when, _ in tempos])
    speeds = RESOLUTION * 1e6 / np.array([tempo for _, tempo in tempos], np.float64)  # ticks a second
    passed = np.concatenate([[0.0], np.cumsum(np.diff(whens) * speeds[:-1])])

    def tick(seconds: float) -> int:
        place = int(np.searchsorted(whens, seconds, side="right")) - 1
        return round(float(passed[place] + (seconds - whens[place]) * speeds[place]))

    heads: list[tuple[int, mido.MetaMessage]] = [
        (tick(when), mido.MetaMessage("set_tempo", tempo=tempo)) for when, tempo in tempos
    ]
    heads += [
        (tick(when), mido.MetaMessage("time_signature", numerator=beats, denominator=part))
        for when, beats, part in _from(played.meters, start, until)
    ]
    heads += [(tick(marker[0]), mido.MetaMessage("marker", text=marker[1]))] if marker else []
    events: list[tuple[int, int, mido.Message]] = [
        (tick(when), _CONTROL, mido.Message("control_change", control=SUSTAIN, value=value)) for when, value in pedal
    ]
    for note in notes:
        first = tick(note.start / 1000)
        last = max(tick(note.end / 1000), first + 1)
        events.append((first, _ON, mido.Message("note_on", note=note.pitch, velocity=note.velocity)))
        events.append((last, _OFF, mido.Message("note_off", note=note.pitch, velocity=0)))
    ordered = [(when, message) for when, _, message in sorted(events, key=lambda event: event[:2])]
    name = mido.MetaMessage("track_name", name="Piano")
    piano = _track([(0, name), (0, mido.Message("program_change", program=0)), *ordered])
    midi = mido.MidiFile(type=1, ticks_per_beat=RESOLUTION)
    midi.tracks += [_track(sorted(heads, key=lambda event: event[0])), piano]
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def _from(changes: Sequence[tuple], start: float, until: float) -> list[tuple]:
    """Changes that hold from start on for so long, moved to begin at 0."""
    before = [change for change in changes if change[0] <= start][-1:]
    inside = [change for change in changes if start < change[0] < start + until]
    return [(max(when - start, 0.0), *rest) for when, *rest in (*before, *inside)]


def _track(events: Sequence[tuple[int, mido.Message | mido.MetaMessage]]) -> mido.MidiTrack:
    """A track of messages at ticks, which lie in order."""
    track, now = mido.MidiTrack(), 0
    for when, message in events:
        track.append(message.copy(time=when - now))
        now = when
    return track
