"""The piano tab: prompts that are MIDI files, and continuations that are drawn as they grow, then rendered."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError
from shortcut_gen.media import Score, read_score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui.html import Variation, prompt_card
from ui.keyboard import panel
from ui.layout import QUICK, Look, lay_out
from ui.models import Models
from ui.piano_figures import Roll, clock, count, piano_roll
from ui.sessions import Run, Sessions
from ui.tab import Performance, Tab, continues, says_midi

MAX_BYTES = 4_000_000
MAX_EVENTS = 200_000
"""Of an uploaded file: ten hours of playing; more takes a server's processor for seconds."""


class PianoPerformance(Performance):
    """Rolls that grow; the sound is rendered at the end."""

    every_tokens = 4
    redraw_seconds = 0.3
    closing = "Rendering the sound."

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def draw(self, made: Sequence[Continuation], done: Sequence[bool]) -> list[Variation]:
        """As in `Performance`."""
        return [self._drawn(each, over) for each, over in zip(made, done, strict=True)]

    def _drawn(self, made: Continuation, done: bool) -> Variation:
        new = max(made.seconds - made.seam_seconds, 0.0)
        roll = Roll(score=made.score, seam=made.seam_seconds, seconds=made.seam_seconds + self._seconds)
        length = f"{new:.1f} s new" if done else f"{new:.1f} of {self._seconds:.0f} s"
        facts = f"{length}, seed {made.seed}"
        return Variation(figure=piano_roll(roll), number=made.variation + 1, prompt=continues(made), facts=facts)

    def write(self, place: int, continuation: Continuation, stem: Path) -> tuple[tuple[str, Path], ...]:
        """As in `Performance`."""
        if not continuation.score.notes:
            return ()
        midi, wav = stem.with_name(f"{stem.name}.mid"), stem.with_name(f"{stem.name}.wav")
        continuation.score.write(midi)
        continuation.audio().write(wav)
        return ("MIDI", midi), ("WAV", wav)

    def outcome(self, made: Sequence[Continuation], stopped: bool, took: float) -> str:
        """As in `Performance`."""
        new = max((part.seconds - part.seam_seconds for part in made), default=0.0)
        if stopped:
            return f"Stopped. {new:.1f} s are kept."
        tokens = sum(len(part.ids) for part in made)
        return f"{clock(new)} of music in {took:.1f} s: {tokens} tokens."


class PianoTab(Tab):
    """What the piano tab does."""

    name = "piano"
    usual = PianoTokenizer.usual
    most_used = 120.0
    most_seconds = 120.0
    recorded = most_used  # what was played goes on where it ended

    def read_file(self, path: str) -> Prompt:
        """As in `Tab`."""
        file = Path(path)
        if says_midi(path) and (size := file.stat().st_size) > MAX_BYTES:
            raise MediaError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} of MIDI are taken here")
        try:
            score = read_score(path, MAX_EVENTS)
        except MediaError as error:
            if " sound file; " in str(error):
                raise MediaError(
                    f"{path} is a sound file; a MIDI file is needed (the tab Speech takes sound)"
                ) from error
            raise
        if not score.notes:
            raise PromptError(f"{file.name} holds no notes; a MIDI file with at least one is needed")
        return Prompt(media=score, name=file.name)

    def duration(self, prompt: Prompt) -> float:
        """As in `Tab`."""
        return prompt.media.duration if isinstance(prompt.media, Score) else 0.0

    def card(self, prompt: Prompt, used: float, sound: Path | None) -> str:
        """As in `Tab`."""
        score = prompt.media
        assert isinstance(score, Score)
        shown = Roll(score=score, seam=min(used, score.duration), seconds=score.duration, unused=True)
        facts = f"{prompt.name}: {count(len(score.notes), 'note')}, {clock(score.duration)}"
        return prompt_card(piano_roll(shown), facts, kept=score.kept, rest=used < score.duration, sound=sound)

    def perform(self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int) -> Performance:
        """As in `Tab`."""
        return PianoPerformance(params.seconds or 0.0)


def build(models: Models, sessions: Sessions) -> None:
    """Lay the tab out."""
    do = PianoTab(models, sessions)
    # static/keyboard-record.js makes a file of what was played and puts it here, out of sight.
    played = gr.File(type="filepath", elem_id="played", render=False)
    look = Look(
        without="the model begins by itself",
        upload="Or a MIDI file of your own (.mid, .midi, .kar)",
        waiting=(
            "Here the piece goes on.",
            "Choose a beginning, then press <b>Continue</b>: the notes appear as the model finds them.",
        ),
        over_columns=(gr.HTML(panel(), elem_id="keyboard", render=False), played),
    )
    on = lay_out(do, models, look)
    played.upload(
        do.choose_recording,
        [played, on.choice, on.upload, on.used],
        [on.prompt, on.used, on.choice, on.upload, played],
        **QUICK,
    )
