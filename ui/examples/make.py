"""Performs the example prompts and writes them: `python -m ui.examples.make`. The same notes come out every time.

The models learn from performances, so a score played by the clock would be a strange prompt. Each piece is played the
way a pianist might: the tempo and the loudness breathe with the phrase, the melody sounds louder and a few
milliseconds ahead (Goebl 2001 measured up to 30 ms), chords spread a little, and the pedal is changed behind the beat.
"""

import json
import math
import random
import re
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pretty_midi

from ui.examples.scores import PIECES, Piece, Voice

FOLDER = Path(__file__).parent
STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
GRACE_SECONDS = 0.075
PEDAL_LATE_SECONDS = 0.07
PEDAL_EARLY_SECONDS = 0.01


@dataclass(frozen=True)
class Written:
    """A note as the score has it; beats are quarter notes from the first full bar."""

    pitch: int
    beat: float
    beats: float
    staccato: bool
    grace: int
    """How many notes ahead of its main note a grace note comes; 0 for a note that is none."""


def pitch_number(name: str) -> int:
    """`c4` is 60."""
    match = re.fullmatch(r"([a-g])([#b]?)(\d)", name)
    if match is None:
        raise ValueError(f"{name!r} is no pitch; one such as f#4 is needed")
    step, sign, octave = match.groups()
    return 12 * (int(octave) + 1) + STEPS[step] + {"#": 1, "b": -1, "": 0}[sign]


def read_voice(voice: Voice, piece: Piece) -> list[Written]:
    """The notes of a voice, with every bar line checked: a bar too long or too short is a slip of the pen."""
    notes: list[Written] = []
    graces: list[str] = []
    beat, length = Fraction(-piece.upbeat), Fraction(1)
    for bar, text in enumerate(voice.notes.split("|")):
        for token in text.split():
            if token.startswith("~"):
                graces.append(token[1:])
                continue
            names, _, given = token.rstrip("'").partition(":")
            length = Fraction(given) if given else length
            if names != "r":
                for place, grace in enumerate(graces):
                    notes.append(Written(pitch_number(grace), float(beat), 0, False, len(graces) - place))
                graces.clear()
                for name in names.split("+"):
                    notes.append(Written(pitch_number(name), float(beat), float(length), token.endswith("'"), 0))
            beat += length
        # A note tied over a bar line is written once, and that bar line left out, so every line must come out even.
        if beat % Fraction(piece.bar):
            raise ValueError(f"{piece.slug}: bar line {bar + 1} comes {beat} beats in; bars last {piece.bar}")
    return notes


class Clock:
    """Seconds at each beat: the tempo eases at the ends of phrases and wanders a little."""

    STEP = 0.25

    def __init__(self, piece: Piece, last: float, rng: random.Random) -> None:
        self.beats, self.times = [-piece.upbeat], [0.0]
        drift = 0.0
        while self.beats[-1] < last + piece.bar:
            place = self.beats[-1] / (piece.bar * piece.phrase) % 1.0
            drift = 0.9 * drift + rng.gauss(0, 0.004)
            pace = piece.tempo * (1 + piece.rubato * (math.sin(math.pi * place) - 0.6) + drift)
            self.times.append(self.times[-1] + self.STEP * 60 / pace)
            self.beats.append(self.beats[-1] + self.STEP)

    def seconds(self, beat: float) -> float:
        """When a beat comes, between the steps in proportion."""
        at = min(max(bisect_right(self.beats, beat) - 1, 0), len(self.beats) - 2)
        share = (beat - self.beats[at]) / self.STEP
        return self.times[at] + share * (self.times[at + 1] - self.times[at])


def loudness(note: Written, voice: Voice, piece: Piece, rng: random.Random) -> int:
    """Velocity by voice, phrase, place in the bar and height."""
    place = note.beat / (piece.bar * piece.phrase) % 1.0
    arch = piece.swell * (math.sin(math.pi * place) - 0.5)
    metre = 4 if note.beat % piece.bar == 0 else 2 if note.beat % 1 == 0 else 0
    height = (note.pitch - 66) * 0.25 if voice.melody else 0
    return round(min(max(voice.velocity + arch + metre + height + rng.gauss(0, 2.5), 18), 112))


def play_voice(voice: Voice, piece: Piece, clock: Clock, rng: random.Random) -> list[pretty_midi.Note]:
    """A voice's notes with their times and velocities, ready to be written."""
    played = []
    for note in read_voice(voice, piece):
        # A melody is heard first because its hammer falls faster; the others spread around the beat.
        lead = -0.012 if voice.melody else 0.004
        start = clock.seconds(note.beat) + lead + rng.gauss(0, 0.006) - GRACE_SECONDS * note.grace
        if note.grace:
            held = GRACE_SECONDS * 1.1
        else:
            touch = 0.45 if note.staccato else voice.touch
            held = (clock.seconds(note.beat + note.beats) - clock.seconds(note.beat)) * touch
        held = max(held * (1 + rng.gauss(0, 0.03)), 0.05)
        velocity = loudness(note, voice, piece, rng) - (8 if note.grace else 0)
        # Everything comes a moment after zero, so that no early note is cut off.
        played.append(pretty_midi.Note(velocity=velocity, pitch=note.pitch, start=start + 0.1, end=start + 0.1 + held))
    return played


def release_before_restrike(notes: list[pretty_midi.Note]) -> list[pretty_midi.Note]:
    """A key must come up before it goes down again, also where two voices share it."""
    kept: list[pretty_midi.Note] = []
    last: dict[int, pretty_midi.Note] = {}
    for note in sorted(notes, key=lambda n: (n.start, n.pitch)):
        before = last.get(note.pitch)
        if before is not None and note.start - before.start < 0.05:
            before.end, before.velocity = max(before.end, note.end), max(before.velocity, note.velocity)
            continue
        if before is not None:
            before.end = min(before.end, note.start - 0.015)
        last[note.pitch] = note
        kept.append(note)
    return kept


def pedalling(piece: Piece, clock: Clock, last: float) -> list[pretty_midi.ControlChange]:
    """Up with the new harmony, down again just behind it; up at the end."""
    changes = []
    bars = math.ceil(last / piece.bar)
    for beat in (bar * piece.bar + place for bar in range(bars) for place in piece.pedal):
        if beat >= last:
            break
        at = clock.seconds(beat) + 0.1
        changes.append(pretty_midi.ControlChange(64, 0, max(at - PEDAL_EARLY_SECONDS, 0)))
        changes.append(pretty_midi.ControlChange(64, 100, at + PEDAL_LATE_SECONDS))
    if changes:
        changes.append(pretty_midi.ControlChange(64, 0, clock.seconds(last) + 0.1))
    return changes


def perform(piece: Piece) -> pretty_midi.PrettyMIDI:
    """One performance of a piece, always the same: the randomness is seeded by its name."""
    rng = random.Random(zlib.crc32(piece.slug.encode()))
    last = max(note.beat + note.beats for voice in piece.voices for note in read_voice(voice, piece))
    clock = Clock(piece, last, rng)
    piano = pretty_midi.Instrument(
        program=0, name=f"{piece.composer}: {piece.title}".encode("ascii", "ignore").decode()
    )
    notes = [note for voice in piece.voices for note in play_voice(voice, piece, clock, rng)]
    piano.notes = release_before_restrike(notes)
    piano.control_changes = pedalling(piece, clock, last)
    # 960 ticks at 120 to the minute: half a millisecond, finer than the tokens' 10 ms.
    midi = pretty_midi.PrettyMIDI(resolution=960, initial_tempo=120)
    midi.instruments.append(piano)
    return midi


def main() -> None:
    """Writes the MIDI files and the table that the page reads."""
    table = []
    for piece in PIECES:
        midi = perform(piece)
        midi.write(str(FOLDER / f"{piece.slug}.mid"))
        entry = {"file": f"{piece.slug}.mid", "title": piece.title, "composer": piece.composer}
        table.append(entry | {"character": piece.character, "seconds": round(midi.get_end_time(), 1)})
        print(f"{piece.slug}.mid  {midi.get_end_time():.1f} s  {len(midi.instruments[0].notes)} notes")
    text = json.dumps({"modality": "piano", "examples": table}, indent=2, ensure_ascii=False)
    (FOLDER / "index.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
