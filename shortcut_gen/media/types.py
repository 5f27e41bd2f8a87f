"""Notes and sound as values: Note and Score, Audio; what an instrument is told, and a score as a MIDI file."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import mido
import numpy as np
import soundfile
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.files import write_whole

with contextlib.redirect_stdout(io.StringIO()):  # it imports pyfluidsynth, which prints what it found where CI is set
    import pretty_midi

_WRITE_RESOLUTION = 500  # ticks a quarter note, at pretty_midi's 120 a minute: 1 ms a tick


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One note; times in seconds from the start of the score."""

    pitch: int
    """MIDI number, 0 to 127; 60 is middle C."""
    velocity: int
    """How hard it is struck, 1 to 127."""
    start: float
    end: float
    """When it falls silent, the sustain pedal counted in; not before start."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """How the notes of a score were played, as its file has it; times in seconds."""

    ups: NDArray[np.float64]
    """When the key of each note is let go, (N,), which the pedal may outlast."""
    pedal: NDArray[np.float64]
    """Changes of the sustain pedal, (P, 2): when, and its value from 0 to 127."""
    tempos: tuple[tuple[float, int], ...]
    """(when, microseconds a quarter note); empty where the file does not say."""
    meters: tuple[tuple[float, int, int], ...]
    """Time signatures: (when, beats in a bar, which part of a whole note is one)."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Notes in order of start and pitch."""

    notes: tuple[Note, ...]
    kept: str = ""
    """What was kept of a file, left out and mended, in one line; "" where it was all piano and nothing was wrong."""
    played: Played | None = field(default=None, compare=False, repr=False)
    """How the notes were played, of a score that was read from a file and is whole."""

    @property
    def duration(self) -> float:
        """When the last note ends, in seconds."""
        return max((note.end for note in self.notes), default=0.0)

    def slice(self, start: float, end: float) -> "Score":
        """What sounds from start to end, moved to begin at 0; notes that cross either edge are cut there."""
        notes = (
            replace(note, start=max(note.start - start, 0.0), end=min(note.end, end) - start)
            for note in self.notes
            if note.start < end and (note.end > start or note.start >= start)
        )
        return Score(notes=tuple(sorted(notes, key=_order)), kept=self.kept)

    def after(self, start: float) -> "Score":
        """The notes struck from start on, moved to begin at 0; what is held from before is left out."""
        notes = (
            replace(note, start=note.start - start, end=note.end - start) for note in self.notes if note.start >= start
        )
        return Score(notes=tuple(notes), kept=self.kept)

    def write(self, path: str | os.PathLike[str], marker: tuple[float, str] | None = None) -> None:
        """Write a MIDI file of one piano, whole or not at all; `marker` as `midi_bytes` has it. Raises MediaError."""
        write_whole(path, midi_bytes(self, marker))


@dataclass(frozen=True)
class Audio:
    """Sound: samples (C, S) float32 in [-1, 1]."""

    samples: NDArray[np.float32]
    sample_rate: int
    """Samples a second, in Hz."""
    kept: str = ""
    """What was mended of a file, or is missing of it, in one line; "" where nothing was."""
    file_rate: int = 0
    """Samples a second of the file it was read from, in Hz; 0 where there is none."""
    file_channels: int = 0
    """Channels of that file."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples.shape[-1] / self.sample_rate

    def slice(self, start: float, end: float) -> "Audio":
        """What sounds from start to end, in seconds; shares memory with the whole."""
        first, last = (round(max(at, 0.0) * self.sample_rate) for at in (start, end))
        return replace(self, samples=self.samples[:, first:last])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a 16-bit WAV file, whole or not at all. Raises MediaError."""
        buffer = io.BytesIO()
        soundfile.write(buffer, self.samples.T, self.sample_rate, format="WAV", subtype="PCM_16")
        write_whole(path, buffer.getvalue())


def _order(note: Note) -> tuple[float, int, float]:
    return note.start, note.pitch, note.end


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedNote:
    """A note as an instrument is told of it; times in whole milliseconds."""

    pitch: int
    velocity: int
    start: int
    end: int


def playable(notes: Sequence[Note]) -> list[PlayedNote]:
    """Notes such that each lasts 1 ms at least and ends before its pitch is struck again, 1 ms later at least.

    A score may hold notes of no length, or several of a pitch that start together; told so, a player would see an end
    before its start, and a note would hang or vanish.
    """
    out: list[PlayedNote] = []
    last: dict[int, int] = {}
    for note in sorted(notes, key=_order):
        start, index = round(note.start * 1000), last.get(note.pitch)
        if index is not None:
            earlier = out[index]
            start = max(start, earlier.start + 1)
            if earlier.end > start:
                out[index] = replace(earlier, end=start)
        last[note.pitch] = len(out)
        end = max(round(note.end * 1000), start + 1)
        out.append(PlayedNote(pitch=note.pitch, velocity=note.velocity, start=start, end=end))
    return out


def midi_bytes(score: Score, marker: tuple[float, str] | None = None) -> bytes:
    """A MIDI file of one piano. marker: seconds and text of a mark that sequencers show."""
    piano = pretty_midi.Instrument(program=0, name="Piano")
    piano.notes = [
        pretty_midi.Note(velocity=note.velocity, pitch=note.pitch, start=note.start / 1000, end=note.end / 1000)
        for note in playable(score.notes)
    ]
    midi = pretty_midi.PrettyMIDI(resolution=_WRITE_RESOLUTION)
    midi.instruments.append(piano)
    buffer = io.BytesIO()
    try:
        midi.write(buffer)
    except ValueError as error:
        raise MediaError(f"the score cannot be written as MIDI: {error}") from error
    return buffer.getvalue() if marker is None else _marked(buffer.getvalue(), *marker)


def _marked(data: bytes, seconds: float, text: str) -> bytes:
    """A MIDI file of ours, of 1 ms a tick, with a track more that holds a marker: pretty_midi writes none."""
    midi = mido.MidiFile(file=io.BytesIO(data))
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("marker", text=text, time=round(1000 * seconds))]))
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def one_hand(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Notes as one keyboard plays them, in order: a note struck again while it sounds ends there."""
    out: list[Note] = []
    last: dict[int, int] = {}
    for note in sorted(notes, key=_order):
        index = last.get(note.pitch)
        if index is not None and out[index].end > note.start:
            out[index] = replace(out[index], end=note.start)
        last[note.pitch] = len(out)
        out.append(note)
    return tuple(out)
