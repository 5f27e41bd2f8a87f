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

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError, SettingsError, ShortcutGenError
from shortcut_gen.media import Score
from shortcut_gen.pipeline import Continuation, Progress, Prompt
from ui.cards import Take, prompt_card, status, takes_html
from ui.figures import Roll, clock, count, piano_roll
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
    character: str
    seconds: float
    composer: str = ""
    source: str = ""
    """Where a recording was taken from."""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return f"{self.composer}, {self.title}" if self.composer else self.title

    @property
    def label(self) -> str:
        """Two lines for the list of examples."""
        by = f"{self.composer} — " if self.composer else ""
        return f"{self.title}\n{by}{self.character}"


def load_examples(folder: Path = EXAMPLES) -> list[Example]:
    """The example prompts of a folder, as its index.json lists them."""
    table = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [Example(**line) for line in table["examples"]]


def whole(value: object, name: str) -> int:
    """A whole number from a number field, which gives None when empty and may give a float. Raises SettingsError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise SettingsError(f"{name} is {'empty' if value is None else value}; a whole number is needed")


def buttons(*, running: bool) -> tuple[Any, Any]:
    """The Continue and Stop buttons, while a run goes on or not."""
    return gr.update(interactive=not running), gr.update(interactive=running)


def slug(name: str) -> str:
    """A file name without spaces or accents, from a name that may have a suffix."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\.[a-z0-9]{2,4}$", "", name, flags=re.IGNORECASE))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    return "-".join(words)[:48].strip("-") or "prompt"


class Handlers:
    """What the tabs share. One object serves all pages; what belongs to a page is in its `Run`."""

    tab: str
    folder: Path = EXAMPLES
    """Where the examples are."""
    most_used = MAX_USED
    """How much of a prompt can be used, in seconds."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        self.models = models
        self.sessions = sessions
        self.examples = {example.file: example for example in load_examples(self.folder)}

    def read_prompt(self, choice: str | None, upload: str | None) -> Prompt:
        """The chosen prompt, whole. An uploaded file goes before the list. Raises MediaError, PromptError."""
        if upload:
            try:
                return self._read_upload(upload)
            except (MediaError, PromptError) as error:
                # Where the server keeps uploads is of no use to the reader.
                raise type(error)(str(error).replace(upload, Path(upload).name)) from error
        if choice == NO_PROMPT:
            return Prompt.empty()
        if choice in self.examples:
            example = self.examples[choice]
            return replace(self._read_file(self.folder / example.file), name=example.name)
        raise PromptError("no prompt is chosen; pick an example or upload a file")

    def _read_file(self, path: str | Path) -> Prompt:
        """A file as a prompt. Raises MediaError."""
        return Prompt.from_file(path)

    def _read_upload(self, path: str) -> Prompt:
        """The same for a file of the user's, which may be of the wrong kind. Raises MediaError, PromptError."""
        raise NotImplementedError

    def _check(self, prompt: Prompt, used: float) -> None:
        """Raises ShortcutGenError where a prompt that can be read cannot be continued."""

    def _show(self, choice: str | None, upload: str | None, used: float) -> tuple[Any, Any]:
        """The prompt's card, and the slider fitted to it."""
        raise NotImplementedError

    def _play_on(
        self, run: Run, checkpoint: str | None, prompt: Prompt, params: SamplingParams, count: int
    ) -> Iterator[tuple[Any, ...]]:
        """A run with settings that are in order. Yields as `run` does. Raises ShortcutGenError."""
        raise NotImplementedError

    def longest(self, duration: float) -> float:
        """How much of a prompt of that length can be used, in seconds: where the slider ends."""
        return max(min(round(duration + 0.049, 1), self.most_used), 1.0)

    def choose_example(self, choice: str | None, used: float) -> tuple[Any, Any, Any]:
        """An example was picked: an uploaded file is put away, the prompt drawn, the slider fitted."""
        card, slider = self._show(choice, None, used)
        return card, slider, None

    def choose_upload(self, upload: str | None, choice: str | None, used: float) -> tuple[Any, Any, Any, Any]:
        """A file was uploaded: it goes before the list. One that cannot be read is put away and says why.

        Returns (prompt card, slider, list of examples, upload).
        """
        try:
            self._check(self.read_prompt(None, upload), used)
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
        run = self.sessions.start_run(str(request.session_hash), self.tab)
        try:
            params = SamplingParams(
                temperature=temperature,
                top_p=top_p,
                seed=secrets.randbelow(MAX_SEED) if fresh_seed else whole(seed, "seed"),
                seconds=seconds,
            )
            prompt = self.read_prompt(choice, upload)
            if prompt.media is not None:
                prompt = replace(prompt, seconds=used)
            count = whole(variations, "variations")
            if not 1 <= count <= MAX_VARIATIONS:
                raise SettingsError(f"variations is {count}; a number from 1 to {MAX_VARIATIONS} is needed")
            yield gr.skip(), status("Reading the prompt.", "busy"), params.seed, *buttons(running=True)
            yield from self._play_on(run, checkpoint, prompt, params, count)
        except ShortcutGenError as error:
            # The takes on the page stay as they are.
            yield gr.skip(), status(str(error), "error"), gr.skip(), *buttons(running=False)

    def stop(self, request: gr.Request) -> tuple[Any, Any]:
        """The Stop button: the run ends at its next few ids and keeps what there is."""
        self.sessions.stop(str(request.session_hash), self.tab)
        return status("Stopping.", "busy"), gr.update(interactive=False)


class PianoHandlers(Handlers):
    """What the piano tab does."""

    tab = "piano"

    def _read_upload(self, path: str) -> Prompt:
        prompt = self._read_file(path)
        if not isinstance(prompt.media, Score):
            raise MediaError(f"{prompt.name} is a sound file; a MIDI file is needed")
        if not prompt.media.notes:
            raise PromptError(f"{prompt.name} holds no notes; a MIDI file with at least one is needed")
        return prompt

    def _show(self, choice: str | None, upload: str | None, used: float) -> tuple[Any, Any]:
        try:
            prompt = self.read_prompt(choice, upload)
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip()
        score = prompt.media
        if not isinstance(score, Score):
            return status("The model begins by itself."), gr.update(interactive=False)
        longest = self.longest(score.duration)
        used = min(used, longest)
        shown = Roll(score=score, seam=min(used, score.duration), seconds=score.duration, unused=True)
        facts = f"{prompt.name}: {count(len(score.notes), 'note')}, {clock(score.duration)}"
        card = prompt_card(piano_roll(shown), facts, kept=score.kept, rest=used < score.duration)
        return card, gr.update(maximum=longest, value=used, interactive=True)

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
                    busy = status("Generating. Stop keeps what is done.", "busy")
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
            name = f"{slug(continuation.prompt.name)}-seed{continuation.seed}-v{continuation.variation + 1}"
            midi, wav = run.folder / f"{name}.mid", run.folder / f"{name}.wav"
            try:
                continuation.score.write(midi)
                continuation.audio().write(wav)
            except ShortcutGenError as error:  # a full disk, say: the takes before it keep their files
                outcome, failed = str(error), True
                break
            takes[place] = replace(takes[place], sound=wav, files=(("MIDI", midi), ("WAV", wav)))
        yield takes_html(takes), status(outcome, "error" if failed else "quiet"), gr.skip(), *buttons(running=False)


def _takes(progress: Progress, params: SamplingParams) -> list[Take]:
    takes = []
    for made, done in zip(progress.continuations, progress.done, strict=True):
        seconds = params.seconds or 0.0
        new = max(made.seconds - made.seam_seconds, 0.0)
        roll = Roll(score=made.score, seam=made.seam_seconds, seconds=made.seam_seconds + seconds)
        title = f"{new:.1f} s new" if done else f"{new:.1f} of {seconds:.0f} s"
        takes.append(Take(figure=piano_roll(roll), number=made.variation + 1, title=f"{title}, seed {made.seed}"))
    return takes


def _outcome(run: Run, made: Sequence[Continuation], took: float) -> str:
    new = max((part.seconds - part.seam_seconds for part in made), default=0.0)
    if run.stop.is_set():
        return f"Stopped. {new:.1f} s are kept."
    tokens = sum(len(part.ids) for part in made)
    return f"{clock(new)} of music in {took:.1f} s: {tokens} tokens."
