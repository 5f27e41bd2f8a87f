"""Lengths in bars of a prompt that has a tempo and a time signature of its own."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from shortcut_gen.media import Score
from shortcut_gen.media.midi import DEFAULT_TEMPO
from shortcut_gen.pipeline import Prompt
from ui.text import form


@dataclass(frozen=True, kw_only=True)
class Meter:
    """How a piece is counted from some place on."""

    tempo: int
    """Microseconds a quarter note."""
    beats: int
    """In a bar."""
    part: int
    """Which part of a whole note a beat is."""

    @property
    def seconds(self) -> float:
        """Of a bar."""
        return self.beats * 4 / self.part * self.tempo / 1e6

    def __str__(self) -> str:
        return form.meter(60e6 / self.tempo, self.beats, self.part)


def meter(prompt: Prompt, at: float) -> Meter | None:
    """How a prompt is counted at so many seconds, as the MIDI file of its continuation is from there on; None where its
    file does not say, or says no other tempo than the one that MIDI files have by themselves.
    """
    played = prompt.media.played if isinstance(prompt.media, Score) else None
    if played is None or not played.meters or all(tempo == DEFAULT_TEMPO for _, tempo in played.tempos):
        return None
    tempo = [DEFAULT_TEMPO, *(tempo for when, tempo in played.tempos if when < at)][-1]
    beats, part = [(4, 4), *((beats, part) for when, beats, part in played.meters if when < at)][-1]
    return Meter(tempo=tempo, beats=beats, part=part) if tempo > 0 and beats > 0 and part > 0 else None


def shown(found: Meter | None, seconds: object) -> Any:
    """The field that says a length in bars, out of sight where there are none."""
    if found is None or not isinstance(seconds, int | float):
        return gr.update(visible=False)
    return gr.update(visible=True, value=round(seconds / found.seconds, 2), label=form.bars(str(found)))
