"""Between the page's values and the library's: choosing a prompt, running, stopping. No layout and no global state."""

import json
import re
import secrets
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from shortcut_gen.errors import MediaError, PromptError, SettingsError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.pipeline import Continuation, Progress, Prompt
from shortcut_gen.sampling import SamplingParams
from ui.cards import Take, prompt_card, status, takes_html
from ui.figures import Roll, clock
from ui.models import Models
from ui.sessions import Run, Sessions

EXAMPLES = Path(__file__).parent / "examples"
NO_PROMPT = "none"
"""The choice to begin without a prompt."""
DEFAULT_USED = 20.0
MAX_USED = 120.0
MAX_SECONDS = 120.0
MAX_VARIATIONS = 4
MAX_SEED = 2**31 - 1
REDRAW_SECONDS = 0.3
"""Between two drawings: smooth enough for the eye, and little work beside the model's."""


@dataclass(frozen=True)
class Example:
    """A line of the table beside the example files."""

    file: str
    title: str
    composer: str
    character: str
    seconds: float

    @property
    def label(self) -> str:
        """Two lines for the list of examples."""
        return f"{self.title}\n{self.composer} — {self.character}"


def load_examples(modality: str = "piano") -> list[Example]:
    """The example prompts of a modality, as `ui.examples.make` listed them."""
    table = json.loads((EXAMPLES / "index.json").read_text(encoding="utf-8"))
    return [Example(**line) for line in table["examples"]] if table["modality"] == modality else []


def whole(value: object, name: str) -> int:
    """A whole number from a number field, which gives None when empty and may give a float. Raises SettingsError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise SettingsError(f"{name} is {'empty' if value is None else value}; a whole number is needed")


class PianoHandlers:
    """What the piano tab does. One object serves all pages; what belongs to a page is in its `Session`."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        self.models = models
        self.sessions = sessions
        self.examples = {example.file: example for example in load_examples()}

    def read_prompt(self, choice: str | None, upload: str | None) -> Prompt:
        """The chosen prompt, whole. An uploaded file goes before the list. Raises MediaError, PromptError."""
        if upload:
            try:
                prompt = Prompt.from_file(upload)
            except MediaError as error:
                # Where the server keeps uploads is of no use to the reader.
                raise MediaError(str(error).replace(upload, Path(upload).name)) from error
            if not isinstance(prompt.media, Score):
                raise MediaError(f"{prompt.name} is a sound file; a MIDI file is needed")
            if not prompt.media.notes:
                raise PromptError(f"{prompt.name} holds no notes; a MIDI file with at least one is needed")
            return prompt
        if choice == NO_PROMPT:
            return Prompt.empty()
        if choice in self.examples:
            example = self.examples[choice]
            return replace(Prompt.from_file(EXAMPLES / example.file), name=f"{example.composer}, {example.title}")
        raise PromptError("no prompt is chosen; pick an example or upload a MIDI file")

    def choose_example(self, choice: str | None, used: float) -> tuple[Any, Any, Any]:
        """An example was picked: an uploaded file is put away, the prompt drawn, the slider fitted."""
        card, slider = self._show(choice, None, used)
        return card, slider, None

    def choose_upload(self, upload: str | None, choice: str | None, used: float) -> tuple[Any, Any, Any, Any]:
        """A file was uploaded: it goes before the list. One that cannot be read is put away and says why.

        Returns (prompt card, slider, list of examples, upload).
        """
        try:
            self.read_prompt(None, upload)
        except ShortcutGenError as error:
            card = status(str(error), "error") + (self._show(choice, None, used)[0] if choice else "")
            return card, gr.skip(), gr.skip(), None
        card, slider = self._show(None, upload, used)
        return card, slider, None, gr.skip()

    def clear_upload(self, used: float) -> tuple[Any, Any, Any]:
        """The uploaded file was taken away: back to the first example."""
        first = next(iter(self.examples))
        card, slider = self._show(first, None, used)
        return card, slider, first

    def change_used(self, choice: str | None, upload: str | None, used: float) -> Any:
        """How much of the prompt to use has changed: draw it anew."""
        return self._show(choice, upload, used)[0]

    def _show(self, choice: str | None, upload: str | None, used: float) -> tuple[Any, Any]:
        try:
            prompt = self.read_prompt(choice, upload)
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip()
        if not isinstance(prompt.media, Score):
            return status("The model begins by itself."), gr.update(interactive=False)
        longest = max(min(round(prompt.media.duration + 0.049, 1), MAX_USED), 1.0)
        used = min(used, longest)
        return prompt_card(prompt.media, used, prompt.name), gr.update(maximum=longest, value=used, interactive=True)

    def run(
        self,
        choice: str | None,
        upload: str | None,
        used: float,
        seconds: float,
        variations: int,
        temperature: float,
        top_p: float,
        fresh_seed: bool,
        seed: float | None,
        checkpoint: str | None,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Continue the prompt. Yields (takes, status, seed, Continue button, Stop button) as it goes."""
        run = self.sessions.start_run(str(request.session_hash))
        try:
            params = SamplingParams(
                temperature=temperature,
                top_p=top_p,
                seed=secrets.randbelow(MAX_SEED) if fresh_seed else whole(seed, "seed"),
                seconds=seconds,
            )
            prompt = self.read_prompt(choice, upload)
            if isinstance(prompt.media, Score):
                prompt = replace(prompt, seconds=used)
            count = whole(variations, "variations")
            if not 1 <= count <= MAX_VARIATIONS:
                raise SettingsError(f"variations is {count}; 1 to {MAX_VARIATIONS} are offered here")
            yield gr.skip(), status("Reading the prompt.", "busy"), params.seed, *_buttons(running=True)
            yield from self._play_on(run, checkpoint, prompt, params, count)
        except ShortcutGenError as error:
            # The takes on the page stay as they are.
            yield gr.skip(), status(str(error), "error"), gr.skip(), *_buttons(running=False)

    def _play_on(
        self, run: Run, checkpoint: str | None, prompt: Prompt, params: SamplingParams, count: int
    ) -> Iterator[tuple[Any, ...]]:
        pipeline = self.models.pipeline(checkpoint)
        began = time.monotonic()
        stream = pipeline.stream([prompt], params, variations=count, every_tokens=4)
        made: tuple[Continuation, ...] = ()
        drawn = 0.0
        problem = ""
        try:
            for progress in stream:
                made = progress.continuations
                if run.stop.is_set() or all(progress.done):
                    break
                self.sessions.forget_older(run)
                if time.monotonic() - drawn >= REDRAW_SECONDS:
                    drawn = time.monotonic()
                    busy = status("Playing on. Stop keeps what is there.", "busy")
                    yield takes_html(_takes(progress, params)), busy, gr.skip(), gr.skip(), gr.skip()
        except ShortcutGenError as error:
            if not made:
                raise
            problem = str(error)
        finally:
            stream.close()  # type: ignore[attr-defined]
        took = time.monotonic() - began
        yield from self._finish(run, made, params, problem or _outcome(run, made, took), bool(problem))

    def _finish(
        self, run: Run, made: Sequence[Continuation], params: SamplingParams, outcome: str, failed: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Write the files of what there is, a take at a time, then give the buttons back."""
        takes = _takes(Progress(continuations=tuple(made), done=(True,) * len(made)), params)
        busy = status("Rendering the sound.", "busy")
        self.sessions.forget_older(run)
        yield takes_html(takes), busy, gr.skip(), gr.skip(), gr.update(interactive=False)
        for place, continuation in enumerate(made):
            if not run.folder.is_dir():  # a newer run of this page has begun, or the server ends
                return
            if not continuation.score.notes:
                continue
            name = f"{_slug(continuation.prompt.name)}-seed{continuation.seed}-v{continuation.variation + 1}"
            midi, wav = run.folder / f"{name}.mid", run.folder / f"{name}.wav"
            try:
                continuation.score.write(midi)
                continuation.audio().write(wav)
            except ShortcutGenError as error:  # a full disk, say: the takes before it keep their files
                outcome, failed = str(error), True
                break
            takes[place] = replace(takes[place], midi=midi, wav=wav)
        yield takes_html(takes), status(outcome, "error" if failed else "quiet"), gr.skip(), *_buttons(running=False)

    def stop(self, request: gr.Request) -> tuple[Any, Any]:
        """The Stop button: the run ends at its next few notes and keeps what there is."""
        self.sessions.stop(str(request.session_hash))
        return status("Stopping.", "busy"), gr.update(interactive=False)


def _buttons(*, running: bool) -> tuple[Any, Any]:
    return gr.update(interactive=not running), gr.update(interactive=running)


def _slug(name: str) -> str:
    """A file name without spaces or accents."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\.midi?$", "", name, flags=re.IGNORECASE))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    return "-".join(words)[:48].strip("-") or "piano"


def _takes(progress: Progress, params: SamplingParams) -> list[Take]:
    takes = []
    for made, done in zip(progress.continuations, progress.done, strict=True):
        seconds = params.seconds or 0.0
        new = max(made.seconds - made.seam_seconds, 0.0)
        roll = Roll(score=made.score, seam=made.seam_seconds, seconds=made.seam_seconds + seconds)
        title = f"{new:.1f} s new" if done else f"{new:.1f} of {seconds:.0f} s"
        takes.append(Take(roll=roll, number=made.variation + 1, title=f"{title}, seed {made.seed}"))
    return takes


def _outcome(run: Run, made: Sequence[Continuation], took: float) -> str:
    new = max((part.seconds - part.seam_seconds for part in made), default=0.0)
    if run.stop.is_set():
        return f"Stopped. {new:.1f} s are kept."
    tokens = sum(len(part.ids) for part in made)
    return f"{clock(new)} of music in {took:.1f} s: {tokens} tokens."
