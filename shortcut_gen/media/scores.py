"""Scores from MIDI files: which of a file's notes a piano plays."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from shortcut_gen.errors import MediaError
from shortcut_gen.media.midi import MAX_EVENTS
from shortcut_gen.media.midi_notes import Course, MidiNotes, read_notes
from shortcut_gen.media.types import Note, Played, Score, pretty_midi

MAX_MIDI_BYTES = 64 * 1024 * 1024
"""A larger file is refused before it is read: a MIDI file of 200,000 notes takes under 2 MB."""
MAX_SECONDS = 24 * 3600.0
"""A score that lasts longer is refused: it comes from damaged delta times."""

DRUMS = 9  # General MIDI keeps its tenth channel for percussion
_PIANOS = 8  # General MIDI programs 0 to 7
_KINDS = {
    b"OggS": "an Ogg sound file",
    b"fLaC": "a FLAC sound file",
    b"ID3": "an MP3 sound file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
}


def parse_score(data: bytes, name: str = "the file", most_events: int = MAX_EVENTS, played: bool = False) -> Score:
    """The notes of a MIDI file's bytes, the sustain pedal folded into their ends. Raises MediaError on anything else.

    Piano programs are kept if there are any, else every other pitched program; drums are left out. A note struck again
    while it sounds ends first. name: what errors call the bytes. played: keep how the notes were played.
    """
    if len(data) > MAX_MIDI_BYTES:
        raise MediaError(f"{name} has {len(data):,} bytes; at most {MAX_MIDI_BYTES:,} are read as MIDI")
    for magic, kind in _KINDS.items():
        if data.startswith(magic):
            raise MediaError(f"{name} is {kind}; a MIDI file is needed")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        raise MediaError(f"{name} is a WAV sound file; a MIDI file is needed")
    try:
        notes, mended, course = read_notes(data, most_events, played)
    except MediaError as error:
        raise MediaError(f"{name} {error}") from None
    chosen, said = _chosen(notes)
    kept = "; ".join(said + mended)
    if not len(chosen):
        raise MediaError(f"{name} has no notes{f' to keep ({kept})' if kept else ''}; at least one is needed")
    last = float(chosen.end.max())
    if last > MAX_SECONDS:
        raise MediaError(f"{name} lasts {last / 3600:,.1f} hours; at most {MAX_SECONDS / 3600:.0f} are read")
    ends = _ends(chosen)
    columns = (chosen.pitch, chosen.velocity, chosen.start, ends)
    notes_kept = zip(*(column.tolist() for column in columns), strict=True)
    return Score(
        notes=tuple(Note(pitch=pitch, velocity=loud, start=start, end=end) for pitch, loud, start, end in notes_kept),
        kept=kept,
        played=_played(chosen, ends, course),
    )


def _played(notes: MidiNotes, ends: NDArray[np.float64], course: Course | None) -> Played | None:
    """How the notes were played; None where several keyboards would have to share a pedal."""
    if course is None or (notes.channel != notes.channel[0]).any():
        return None
    return Played(
        ups=np.minimum(notes.up, ends),
        pedal=course.pedal[course.pedal_channels == notes.channel[0]],
        tempos=course.tempos,
        meters=course.meters,
    )


def _ends(notes: MidiNotes) -> NDArray[np.float64]:
    """Ends of notes in order as one keyboard plays them: a note struck again while it sounds ends there."""
    order = np.argsort(notes.pitch, kind="stable")  # of one pitch, in order of start
    again = notes.pitch[order][:-1] == notes.pitch[order][1:]
    ends = notes.end.copy()
    earlier, later = order[:-1][again], order[1:][again]
    ends[earlier] = np.minimum(ends[earlier], notes.start[later])
    return ends


def _chosen(notes: MidiNotes) -> tuple[MidiNotes, list[str]]:
    """The notes that a piano should play, and what was kept and left out; nothing is said where that is everything."""
    drums = notes.channel % 16 == DRUMS
    pianos = ~drums & (notes.program < _PIANOS)
    is_piano = bool(pianos.any())
    kept = pianos if is_piano else ~drums
    others = ~drums & ~pianos if is_piano else np.zeros(len(notes), bool)
    said = []
    if len(notes) and (others.any() or drums.any() or not is_piano):
        rest = notes.program[~drums]
        what = "piano notes" if is_piano else f"notes of {_programs(rest)}, played as piano" if len(rest) else "notes"
        said.append(f"kept {int(kept.sum()):,} {what}")
    if others.any():
        said.append(f"left out {int(others.sum()):,} notes of {_programs(notes.program[others])}")
    if drums.any():
        said.append(f"left out {int(drums.sum()):,} drum notes")
    parts = len(set(zip(notes.track[kept].tolist(), notes.channel[kept].tolist(), strict=True)))
    if parts > 1:
        said.append(f"joined {parts} parts into one")
    return notes.where(kept), said


def _programs(programs: NDArray[np.int64]) -> str:
    """Names of the programs most heard: "Violin, Flute and 3 more"."""
    names = [pretty_midi.program_to_instrument_name(p) for p, _ in Counter(programs.tolist()).most_common()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
