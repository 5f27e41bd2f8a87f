"""What goes in and comes out: Score (notes) and Audio (samples), read from files, written to files, rendered."""

import contextlib
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.files import reason, write_whole
from shortcut_gen.midi import DRUMS, MidiNote, parse
from shortcut_gen.sound import Sound

with contextlib.redirect_stdout(sys.stderr):  # it imports pyfluidsynth, which prints what it found where CI is set
    import pretty_midi

MAX_MIDI_BYTES = 64 * 1024 * 1024
"""A larger file is refused before it is read: a MIDI file of 200,000 notes takes under 2 MB."""
MAX_AUDIO_BYTES = 1024 * 1024 * 1024
"""A larger sound file is refused before it is read."""
MAX_PROMPT_AUDIO_SECONDS = 600.0
"""A longer recording is refused where not told how much of its start to read."""
MAX_AUDIO_VALUES = 256 * 1024 * 1024
"""Samples of all channels that are decoded of a prompt at most."""
AUDIO_RATES = (8_000, 48_000)
"""A recording of fewer or more samples a second is kept at the nearer of these rates, in Hz."""
MAX_SECONDS = 24 * 3600.0
"""A score that lasts longer is refused: it comes from damaged delta times."""

_PIANOS = 8  # General MIDI programs 0 to 7
_WRITE_RESOLUTION = 500  # ticks a quarter note, at pretty_midi's 120 a minute: 1 ms a tick
_KINDS = {
    b"OggS": "an Ogg sound file",
    b"fLaC": "a FLAC sound file",
    b"ID3": "an MP3 sound file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
}


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


@dataclass(frozen=True, kw_only=True)
class Score:
    """Notes in order of start and pitch."""

    notes: tuple[Note, ...]
    kept: str = ""
    """What was kept of a file and what left out, in one line; "" where it was all piano."""

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

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a MIDI file of one piano, whole or not at all. Raises MediaError."""
        write_whole(path, midi_bytes(self))


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


def midi_bytes(score: Score) -> bytes:
    """A MIDI file of one piano."""
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
    return buffer.getvalue()


@contextlib.contextmanager
def _opened(path: Path, limit: int) -> Iterator[BinaryIO]:
    """A regular file of a sensible size, open to read."""
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; a file is needed")
        if path.exists() and not path.is_file():
            raise MediaError(f"{path} is not a regular file")
        size = path.stat().st_size
        if size > limit:
            raise MediaError(f"{path} has {size:,} bytes; at most {limit:,} are read")
        if not size:
            raise MediaError(f"{path} is empty")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise MediaError(f"{path} cannot be read: {why}") from error


def _read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of a sensible size."""
    with _opened(path, limit) as file:
        return file.read()


def read_score(path: str | os.PathLike[str]) -> Score:
    """The notes of a MIDI file, the sustain pedal folded into their ends. Raises MediaError on anything else.

    Piano programs are kept if there are any, else every other pitched program; drums are left out.
    A note struck again while it sounds ends first.
    """
    path = Path(path)
    return parse_score(_read_bytes(path, MAX_MIDI_BYTES), str(path))


def parse_score(data: bytes, name: str = "the file") -> Score:
    """read_score for bytes already in memory; name is what errors call them."""
    if len(data) > MAX_MIDI_BYTES:
        raise MediaError(f"{name} has {len(data):,} bytes; at most {MAX_MIDI_BYTES:,} are read as MIDI")
    for magic, kind in _KINDS.items():
        if data.startswith(magic):
            raise MediaError(f"{name} is {kind}; a MIDI file is needed")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        raise MediaError(f"{name} is a WAV sound file; a MIDI file is needed")
    try:
        notes, kept = _choose(parse(data))
    except MediaError as error:
        raise MediaError(f"{name} {error}") from None
    if not notes:
        raise MediaError(f"{name} has no notes{f' to keep ({kept})' if kept else ''}; at least one is needed")
    last = max(note.end for note in notes)
    if last > MAX_SECONDS:
        raise MediaError(f"{name} lasts {last / 3600:,.1f} hours; at most {MAX_SECONDS / 3600:.0f} are read")
    return Score(notes=one_hand(notes), kept=kept)


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


def _choose(notes: list[MidiNote]) -> tuple[list[Note], str]:
    """The notes a piano should play, and one line on what was kept and left out ("" where that is everything)."""
    if not notes:
        return [], ""
    drums = [note for note in notes if note.channel % 16 == DRUMS]
    pitched = [note for note in notes if note.channel % 16 != DRUMS]
    pianos = [note for note in pitched if note.program < _PIANOS]
    chosen = pianos or pitched
    others = [note for note in pitched if note.program >= _PIANOS] if pianos else []
    said = []
    if others or drums or not pianos:
        what = "piano notes" if pianos else f"notes of {_programs(pitched)}, played as piano" if pitched else "notes"
        said.append(f"kept {len(chosen):,} {what}")
    if others:
        said.append(f"left out {len(others):,} notes of {_programs(others)}")
    if drums:
        said.append(f"left out {len(drums):,} drum notes")
    tracks = len({(note.track, note.channel) for note in chosen})
    if tracks > 1:
        said.append(f"joined {tracks} parts into one")
    kept = [Note(pitch=n.pitch, velocity=n.velocity, start=n.start, end=n.end) for n in chosen]
    return kept, "; ".join(said)


def _programs(notes: list[MidiNote]) -> str:
    """Names of the programs most heard: "Violin, Flute and 3 more"."""
    names = [pretty_midi.program_to_instrument_name(p) for p, _ in Counter(n.program for n in notes).most_common()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_audio(path: str | os.PathLike[str], seconds: float | None = None) -> Audio:
    """The sound of a sound file (WAV, FLAC, Ogg, MP3) as one channel, (1, S): its first `seconds`, or all of it.

    What is wrong with it is mended as `shortcut_gen.sound` does, and told in `kept`; a rate outside AUDIO_RATES is
    changed. Raises MediaError on anything else, and where there are more than MAX_PROMPT_AUDIO_SECONDS
    and no `seconds`.
    """
    path = Path(path)
    with _opened(path, MAX_AUDIO_BYTES) as file:
        return _audio(file, path, seconds, "no sound file")


def read(path: str | os.PathLike[str], seconds: float | None = None) -> Score | Audio:
    """A score or a sound file, told apart by content, whatever the name says. Raises MediaError.

    seconds: how much of the start of a sound file to read, as in read_audio; a score is read whole.
    """
    path = Path(path)
    with _opened(path, MAX_AUDIO_BYTES) as file:
        if not is_midi(file.read(12)):
            return _audio(file, path, seconds, "neither a MIDI file nor a sound file")
    return read_score(path)


def is_midi(start: bytes) -> bool:
    """Whether a file that begins with these 12 bytes says that it is a MIDI file."""
    return start[:4] == b"MThd" or (start[:4] == b"RIFF" and start[8:12] == b"RMID")


def _audio(file: BinaryIO, path: Path, seconds: float | None, complaint: str) -> Audio:
    """The sound of an open file, or one line on what else it is."""
    most = MAX_PROMPT_AUDIO_SECONDS
    try:
        wanted = most + 1 if seconds is None else seconds
        sound = Sound(file, seconds=wanted, most_values=MAX_AUDIO_VALUES, complaint=complaint)
        if seconds is None and sound.seconds > most:
            length = f"{sound.promised:,.0f} s" if sound.promised else f"more than {most:.0f} s"
            raise MediaError(f"lasts {length}; at most {most:.0f} s are read unless a part is asked for")
        rate = min(max(sound.sample_rate, AUDIO_RATES[0]), AUDIO_RATES[1])
        samples = np.concatenate(list(sound.blocks(rate)))[None]  # (1, S)
    except MediaError as error:
        raise MediaError(f"{path} {error}") from error
    return Audio(samples, rate, kept=sound.kept, file_rate=sound.sample_rate, file_channels=sound.channels)
