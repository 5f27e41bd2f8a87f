"""The piano tab: prompts that are MIDI files, and continuations that are drawn and heard as they grow."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr

from shortcut_gen.copying import LEAST, Copying, told
from shortcut_gen.copying import Run as CommonRun
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.media import Score, read_score
from shortcut_gen.media.render import GrowingRender, render
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui import notes
from ui.asking import QUICK
from ui.html import Live, Variation, prompt_card
from ui.keyboard import panel
from ui.layout import Look, lay_out
from ui.live import address
from ui.loudness import leveled
from ui.models import Models
from ui.performance import Performance, continues
from ui.piano_figures import Roll, piano_roll
from ui.prompts import says_midi
from ui.results import slug
from ui.sessions import Run, Sessions
from ui.tab import Tab
from ui.text import form, pictures, refusals, runs

MAX_BYTES = 4_000_000
MAX_EVENTS = 200_000
"""Of an uploaded file: ten hours of playing; more takes a server's processor for seconds."""
WHOLE_SECONDS = 90.0
"""Up to this length a prompt is drawn and heard whole, else the part to use with AROUND_SECONDS before and behind."""
AROUND_SECONDS = 10.0
RATE = 44100
"""Samples a second of what is heard, in Hz."""
PIECE_SECONDS = 0.1
"""Between two pieces of sound while it is made: notes come in far smaller ones."""


class PianoPerformance(Performance):
    """Rolls that grow; the first variation is heard while it is made."""

    every_tokens = 4
    redraw_seconds = 0.3

    def __init__(
        self, run: Run, params: SamplingParams, copying: Callable[[], Copying | None], heard: bool = True
    ) -> None:
        self._run = run
        self._copying = copying
        self._copied: list[tuple[str, str]] = []
        self._heard = run.sound
        self._seconds = params.seconds or 0.0
        self._to_ending = params.ending is not None
        self._stopped = run.stop.is_set
        self._rendered: float | None = None
        self._render: GrowingRender | None = None
        with contextlib.suppress(MediaError):  # without a renderer there is nothing to hear, and much to see
            self._render = GrowingRender(RATE) if heard else None
        self.live = Live(address(run.folder.name), RATE, channels=2) if self._render else None

    def hear(self, first: Continuation) -> None:
        """As in `Performance`."""
        now = time.monotonic()
        if self._render is None or (self._rendered is not None and now - self._rendered < PIECE_SECONDS):
            return
        self._begin(self._render, first)
        self._heard.push(self._render.until(first.score, first.seconds))
        self._rendered = time.monotonic()

    def _begin(self, render: GrowingRender, first: Continuation) -> None:
        """What the prompt leaves ringing is heard under the first new notes; the prompt itself is not."""
        if self._rendered is None:
            render.begin(first.score, first.seam_seconds)

    def finish(self, made: Sequence[Continuation]) -> None:
        """As in `Performance`."""
        if self._render is not None and made:
            self._begin(self._render, made[0])
            self._heard.push(self._render.rest(made[0].score))
        self._heard.close()
        if self._stopped() or self._to_ending:
            self._seconds = max((notes.new_seconds(each) for each in made), default=0.0)
        index = self._copying()
        self._copied = [copied(index.longest(each.score, each.seam_seconds)) for each in made] if index else []

    def close(self) -> None:
        """As in `Performance`."""
        if self._render is not None:
            self._render.close()

    def draw(self, made: Sequence[Continuation], done: Sequence[bool]) -> list[Variation]:
        """As in `Performance`. Until all is done the drawing stays what it was: the page asks for the notes itself."""
        self._run.making = tuple(made)
        drawn = [self._drawn(place, each, all(done)) for place, each in enumerate(made)]
        if len(self._copied) == len(drawn):
            return [replace(each, copied=copied) for each, copied in zip(drawn, self._copied, strict=True)]
        return drawn

    def _drawn(self, place: int, made: Continuation, done: bool) -> Variation:
        score = made.score if done else Score(notes=())
        roll = Roll(score=score, seam=made.seam_seconds, seconds=made.seam_seconds + self._seconds)
        figure = piano_roll(roll, notes.address(self._run.folder.name, place), "" if done else pictures.GROWING_ROLL)
        facts = notes.facts(made, done) if done else runs.to_be(self._seconds, made.seed, self._to_ending)
        return Variation(figure=figure, number=made.variation + 1, prompt=continues(made), facts=facts)

    def files(self, place: int, continuation: Continuation) -> tuple[tuple[str, str, Callable[[Path], None]], ...]:
        """As in `Performance`."""
        score = continuation.score
        if not score.notes:
            return ()
        new = score.after(continuation.seam_seconds)
        whole = (
            (runs.MIDI, ".mid", lambda path: continuation.write_midi(path, runs.SEAM)),
            (runs.WAV, ".wav", lambda path: leveled(render(score)).write(path)),
        )
        if not continuation.prompt_ids or not new.notes:
            return whole
        return (
            *whole,
            (runs.NEW_MIDI, "-new.mid", new.write),
            (runs.NEW_WAV, "-new.wav", lambda path: leveled(render(new)).write(path)),
        )

    def outcome(self, made: Sequence[Continuation], stopped: bool, took: float) -> str:
        """As in `Performance`."""
        lengths = [notes.new_seconds(each) for each in made]
        if stopped:
            return runs.stopped(lengths)
        tokens, longest = sum(len(part.ids) for part in made), max(lengths)
        return runs.music(len(made), pictures.clock(longest), longest - min(lengths) < 1, tokens, took, self._to_ending)


def copied(run: CommonRun) -> tuple[str, str]:
    """Whether a continuation copies: one sentence, and the figures behind it."""
    if run.real is None:
        return told(run), ""
    if run.notes <= run.real.high:
        return runs.not_copied(run.notes, LEAST), runs.usual_copies(run.real.median, run.real.high)
    return runs.maybe_copied(run.notes), runs.where_copied(told(run))


class PianoTab(Tab):
    """What the piano tab does."""

    name = "piano"
    usual = PianoTokenizer.usual
    most_used = 120.0
    most_seconds = 120.0
    most_opened = 1200.0
    ends = True
    recorded = most_used  # what was played goes on where it ended

    def read_file(self, path: str) -> Prompt:
        """As in `Tab`."""
        file = Path(path)
        if says_midi(path) and (size := file.stat().st_size) > MAX_BYTES:
            raise MediaError(refusals.midi_bytes(path, size, MAX_BYTES))
        try:
            score = read_score(path, MAX_EVENTS)
        except MediaError as error:
            if " sound file; " in str(error):
                raise MediaError(refusals.sound_not_midi(path)) from error
            raise
        if not score.notes:
            raise PromptError(refusals.no_notes(file.name))
        return Prompt(media=score, name=file.name)

    def duration(self, prompt: Prompt) -> float:
        """As in `Tab`."""
        return prompt.media.duration if isinstance(prompt.media, Score) else 0.0

    def first_sound(self, prompt: Prompt) -> float:
        """As in `Tab`."""
        return prompt.media.notes[0].start if isinstance(prompt.media, Score) and prompt.media.notes else 0.0

    def card(self, page: str, source: str, prompt: Prompt) -> str:
        """As in `Tab`. Of a long performance an overview, and the part to use with what is around it."""
        score = prompt.media
        assert isinstance(score, Score)
        end = min(prompt.start + (prompt.seconds or score.duration), score.duration)
        whole = Roll(
            score=score, seam=end, seconds=score.duration, unused=True, begin=prompt.start, choose=score.duration
        )
        first, last, drawn = 0.0, score.duration, piano_roll(whole)
        if score.duration > WHOLE_SECONDS:
            first, last = max(prompt.start - AROUND_SECONDS, 0.0), min(end + AROUND_SECONDS, score.duration)
            near = Roll(
                score=score.slice(first, last),
                seam=end - first,
                seconds=last - first,
                unused=True,
                begin=prompt.start - first,
                origin=first,
            )
            drawn = piano_roll(replace(whole, thin=True)) + piano_roll(near)
        facts = runs.notes_and_length(len(score.notes), pictures.clock(score.duration))
        part = score if last - first >= score.duration else score.slice(first, last)
        sound = self.sessions.prompts.keep(
            page,
            self.name,
            f"{source} {first} {last}",
            f"{slug(prompt.name)}.wav",
            lambda path: leveled(render(part)).write(path),
        )
        rest = prompt.start > 0 or end < score.duration
        return prompt_card(
            drawn, runs.file(prompt.name, facts, self.sees(prompt)), kept=score.kept, rest=rest, sound=sound
        )

    def perform(
        self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int, heard: bool = True
    ) -> Performance:
        """As in `Tab`."""
        return PianoPerformance(run, params, lambda: self.models.copying(pipeline), heard)


def build(models: Models, sessions: Sessions) -> None:
    """Lay the tab out."""
    do = PianoTab(models, sessions)
    # static/keyboard-record.js makes a file of what was played and puts it here, out of sight.
    played = gr.File(type="filepath", elem_id="played", render=False)
    look = Look(
        without=form.WITHOUT,
        upload=form.UPLOAD_MIDI,
        waiting=form.WAITING_PIANO,
        over_columns=(gr.HTML(panel(), elem_id="keyboard", render=False), played),
    )
    on = lay_out(do, models, look)
    played.upload(
        do.choose_recording,
        [played, on.choice, on.upload, on.start, on.used],
        [on.prompt, on.start, on.used, on.choice, on.upload, played],
        **QUICK,
    )
