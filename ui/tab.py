"""What every tab does between the page's values and the library's: choosing a prompt, running, stopping.

A modality's tab (`ui/piano.py`, `ui/speech.py`) says how its prompts are read and drawn, and gives a `Performance`:
what becomes of new ids while a run goes on. No layout, and no state but what is in `Sessions`.
"""

import re
import secrets
import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError, ShortcutGenError
from shortcut_gen.media.files import is_midi
from shortcut_gen.modalities.base import Usual
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui.examples.listing import EXAMPLES, load_examples
from ui.guard import COOKIE
from ui.html import Live, Variation, status, variations_html
from ui.models import Models
from ui.sessions import Admission, Run, Sessions
from ui.values import chosen, number, shown, switch, whole

NO_PROMPT = "none"
"""The choice to begin without a prompt."""
MAX_VARIATIONS = 4
MAX_SEED = 2**31 - 1
LEAST_SECONDS = 2.0
"""A run goes on for so long at least."""
LEAST_USED = 1.0
"""Where the slider of the part that is used begins; a prompt that is no longer is used whole."""
LEAST_TOP_P = 0.05
MAX_TEMPERATURE = 2.0
KEPT_PROMPTS = 6
"""Prompts of a tab that stay read, so that moving a slider reads no file again."""


def buttons(*, running: bool) -> tuple[Any, Any]:
    """The Continue and Stop buttons, while a run goes on or not."""
    return gr.update(interactive=not running), gr.update(interactive=running)


def slug(name: str) -> str:
    """A file name without spaces or accents, from a name that may have a suffix."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\.[a-z0-9]{2,4}$", "", name, flags=re.IGNORECASE))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    return "-".join(words)[:48].strip("-") or "prompt"


def said_stopped(lengths: Sequence[float]) -> str:
    """What is said after Stop, by how long each variation has become, in seconds."""
    if len(lengths) < 2:
        return f"Stopped. {max(lengths, default=0.0):.1f} s are kept."
    parts = [f"{seconds:.1f} s of variation {place}" for place, seconds in enumerate(lengths, start=1)]
    return f"Stopped. Kept: {', '.join(parts)}."


def continues(made: Continuation) -> str:
    """What a variation continues, in words."""
    return f"of {made.prompt.name}" if made.prompt.media is not None else "from scratch"


class Performance(ABC):
    """The variations of one run while they are made."""

    every_tokens: int
    """Ids between two looks."""
    redraw_seconds: float
    """Between two drawings: smooth enough for the eye, and little work beside the model's."""
    live: Live | None = None
    """The first variation while it is made, if it can be heard."""

    def hear(self, first: Continuation) -> None:  # noqa: B027, what need not be heard
        """New ids of the first variation are there."""

    def finish(self, made: Sequence[Continuation]) -> None:  # noqa: B027
        """No more ids will come."""

    def close(self) -> None:  # noqa: B027
        """Free what it holds, whether or not it was finished."""

    @abstractmethod
    def draw(self, made: Sequence[Continuation], done: Sequence[bool]) -> list[Variation]:
        """The variations as they stand."""

    @abstractmethod
    def files(self, place: int, continuation: Continuation) -> tuple[tuple[str, str, Callable[[Path], None]], ...]:
        """The files of a finished variation: a label, a suffix and what writes it when it is asked for.

        The last is what its player plays; there are none where there is nothing to hear.
        """

    @abstractmethod
    def outcome(self, made: Sequence[Continuation], stopped: bool, took: float) -> str:
        """What is said when all is done after so many seconds."""


class Tab(ABC):
    """What a tab does. One object serves all pages; what belongs to a page is in its `Run`."""

    name: str
    folder: Path = EXAMPLES
    """Where the examples are."""
    usual: Usual
    """The modality's lengths and top-p, unless the sliders are moved."""
    most_used: float
    """How much of a prompt can be used, in seconds."""
    most_seconds: float
    """How long a run can go on, in seconds."""
    recorded: float | None = None
    """How much of what was recorded in the browser is used at first, in seconds; None for the usual part."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        self.models = models
        self.sessions = sessions
        self.examples = {example.file: example for example in load_examples(self.folder)}
        # An upload's path holds a hash of what is in it, so the same path is the same file.
        self._read_once = lru_cache(KEPT_PROMPTS)(self._read_in_turn)

    def _read_in_turn(self, path: str) -> Prompt:
        with self.sessions.reading():
            return self.read_file(path)

    @abstractmethod
    def read_file(self, path: str) -> Prompt:
        """A file as a prompt, whole. Raises MediaError, PromptError, with the path or the file's name in the line."""

    @abstractmethod
    def card(self, prompt: Prompt, used: float, sound: str) -> str:
        """A prompt as the page shows it, of which so many seconds are used. sound: what its player plays."""

    @abstractmethod
    def duration(self, prompt: Prompt) -> float:
        """How long a prompt lasts, in seconds."""

    @abstractmethod
    def perform(self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int) -> Performance:
        """What makes a run's pictures and sounds. Raises PromptError where the model is none for this tab."""

    def check(self, prompt: Prompt, used: float) -> None:  # noqa: B027, whatever can be read can be continued
        """Raises ShortcutGenError where a prompt that can be read cannot be continued."""

    @abstractmethod
    def heard(self, page: str, prompt: Prompt, upload: str | None, choice: str | None) -> str:
        """Where the page hears the prompt; "" where it cannot."""

    def read_prompt(self, choice: str | None, upload: str | None) -> Prompt:
        """The chosen prompt, whole. An uploaded file goes before the list. Raises ShortcutGenError."""
        if upload:
            try:
                return self._read_once(str(upload))
            except (MediaError, PromptError) as error:
                # Where the server keeps uploads is of no use to the reader.
                raise type(error)(str(error).replace(str(upload), Path(str(upload)).name)) from error
        if choice == NO_PROMPT:
            return Prompt.empty()
        if isinstance(choice, str) and choice in self.examples:
            example = self.examples[choice]
            return replace(self._read_once(str(self.folder / example.file)), name=example.name)
        raise PromptError("no prompt is chosen; pick an example or upload a file")

    def longest(self, duration: float) -> float:
        """How much of a prompt of that length can be used, in seconds: where the slider ends."""
        return max(min(round(duration + 0.049, 1), self.most_used), 0.1)

    def show(self, page: str, choice: str | None, upload: str | None, used: float | None = None) -> tuple[Any, Any]:
        """The prompt's card, and the slider fitted to it. used: None for the usual part."""
        try:
            prompt = self.read_prompt(choice, upload)
            if used is not None:
                used = number(used, "how much to use", 0, 1e9)  # more than there is: the field sets itself right
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip()
        if prompt.media is None:
            return status("The model begins by itself."), gr.update(interactive=False)
        longest = self.longest(self.duration(prompt))
        used = min(self.usual.prompt_seconds if used is None else used, longest)
        card = self.card(prompt, used, self.heard(page, prompt, upload, choice))
        long = longest > LEAST_USED
        least = LEAST_USED if long else 0
        return card, gr.update(minimum=least, maximum=longest, value=used if long else longest, interactive=long)

    def choose_example(self, choice: str | None, request: gr.Request) -> tuple[Any, Any, Any]:
        """An example was picked: an uploaded file is put away, the prompt drawn, the slider fitted."""
        card, slider = self.show(page_of(request), choice, None)
        return card, slider, None

    def choose_upload(
        self, upload: str | None, choice: str | None, used: float, request: gr.Request
    ) -> tuple[Any, Any, Any, Any]:
        """A file was uploaded: it goes before the list. One that cannot be read is put away and says why.

        Returns (prompt card, slider, list of examples, upload).
        """
        page = page_of(request)
        try:
            self.check(self.read_prompt(None, upload), self.usual.prompt_seconds)
        except ShortcutGenError as error:
            before = self.show(page, choice, None, used)[0] if choice else ""
            return status(str(error), "error") + before, gr.skip(), gr.skip(), None
        card, slider = self.show(page, None, upload)
        return card, slider, None, gr.skip()

    def choose_recording(
        self, recording: str | None, choice: str | None, upload: str | None, used: float, request: gr.Request
    ) -> tuple[Any, Any, Any, Any, Any]:
        """What was recorded in the browser has arrived: it takes the place of an uploaded one, or says why not.

        Returns (prompt card, slider, list of examples, upload, recording), the last emptied for the next one.
        """
        page = page_of(request)
        try:
            self.check(self.read_prompt(None, recording), self.usual.prompt_seconds)
        except ShortcutGenError as error:
            before = self.show(page, choice, upload, used)[0] if choice or upload else ""
            return status(str(error), "error") + before, gr.skip(), gr.skip(), gr.skip(), None
        card, slider = self.show(page, None, recording, self.recorded)
        return card, slider, None, recording, None

    def clear_upload(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """The uploaded file was taken away: back to the first example."""
        first = next(iter(self.examples))
        card, slider = self.show(page_of(request), first, None)
        return card, slider, first

    def change_used(self, choice: str | None, upload: str | None, used: float, request: gr.Request) -> Any:
        """How much of the prompt to use has changed: draw it anew."""
        return self.show(page_of(request), choice, upload, used)[0]

    def begin(self, request: gr.Request) -> tuple[Any, Any, Any, str]:
        """Continue was clicked: a place for the run is asked for.

        Returns (status, Continue button, Stop button, the place's token for `run`).
        """
        admission, token = self.sessions.ask(page_of(request), self.name, browser_of(request))
        if admission is Admission.REFUSED:
            line = status("Too many wait for their turn; try again in a minute.", "error")
            return line, *buttons(running=False), token
        waits = admission is Admission.WAITS
        text = "Others are being served; yours begins when one of them is done." if waits else "Reading the prompt."
        return status(text, "busy"), *buttons(running=True), token

    def run(
        self,
        token: str | None,
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
        """Continue the prompt. Yields (variations, status, seed, Continue button, Stop button) as it goes."""
        run = self.sessions.start_run(page_of(request), self.name, token)
        if run is None:  # `begin` or `stop` has said why
            yield (gr.skip(),) * 5
            return
        try:
            params = SamplingParams(
                temperature=number(temperature, "temperature", 0, MAX_TEMPERATURE),
                top_p=number(top_p, "top-p", LEAST_TOP_P, 1),
                seed=secrets.randbelow(MAX_SEED)
                if switch(fresh_seed, "a new seed")
                else whole(seed, "seed", 0, MAX_SEED),
                seconds=number(seconds, "how long to go on", LEAST_SECONDS, self.most_seconds),
            )
            count = whole(variations, "variations", 1, MAX_VARIATIONS)
            model = chosen(checkpoint, "checkpoint", self.models.names)
            prompt = self.read_prompt(choice, upload)
            if prompt.media is not None:
                prompt = replace(prompt, seconds=self._part(prompt, used))
            yield gr.skip(), status("Reading the prompt.", "busy"), params.seed, *buttons(running=True)
            yield from self._perform(run, self.models.pipeline(model), prompt, params, count)
        except ShortcutGenError as error:
            # The variations on the page stay as they are.
            yield gr.skip(), status(str(error), "error"), gr.skip(), *buttons(running=False)
        finally:
            self.sessions.end_run(run)

    def _part(self, prompt: Prompt, used: object) -> float:
        """How much of a prompt to use, in seconds: one that is very short is used whole, whatever was asked for."""
        part = number(used, "how much to use", 0, self.most_used)
        duration = self.duration(prompt)
        if duration <= LEAST_USED:
            return max(duration, 0.01)
        if part < LEAST_USED:
            raise PromptError(f"how much to use is {shown(used)} s; at least {LEAST_USED:g} s are needed")
        return part

    def _perform(
        self, run: Run, pipeline: Pipeline, prompt: Prompt, params: SamplingParams, count: int
    ) -> Iterator[tuple[Any, ...]]:
        """A run with settings that are in order. Yields as `run` does. Raises ShortcutGenError."""
        performance = self.perform(run, pipeline, params, count)
        try:
            if performance.live:  # the page opens its ear before there is anything to hear
                line = status("Reading the prompt.", "busy", performance.live)
                yield gr.skip(), line, gr.skip(), gr.skip(), gr.skip()
            began, drawn, problem = time.monotonic(), 0.0, ""
            busy = status("Generating. Stop keeps what is done.", "busy", performance.live)
            made: tuple[Continuation, ...] = ()
            stream = pipeline.stream([prompt], params, variations=count, every_tokens=performance.every_tokens)
            try:
                for progress in stream:
                    made = progress.continuations
                    performance.hear(made[0])
                    if run.stop.is_set() or all(progress.done):
                        break
                    self.sessions.forget_older(run)
                    if time.monotonic() - drawn >= performance.redraw_seconds:
                        drawn = time.monotonic()
                        drawing = variations_html(performance.draw(made, progress.done))
                        yield drawing, busy, gr.skip(), gr.skip(), gr.skip()
            except ShortcutGenError as error:
                if not made:
                    raise
                problem = str(error)
            finally:
                stream.close()  # type: ignore[attr-defined]
            performance.finish(made)
            outcome = problem or performance.outcome(made, run.stop.is_set(), time.monotonic() - began)
            drawing = self._finished(run, performance, made)
            self.sessions.forget_older(run)
            yield drawing, status(outcome, "error" if problem else "quiet"), gr.skip(), *buttons(running=False)
        finally:
            performance.close()
            run.sound.close()  # the page is not to wait for more

    @staticmethod
    def _finished(run: Run, performance: Performance, made: Sequence[Continuation]) -> str:
        """The variations as they stay, with players and files."""
        variations = performance.draw(made, (True,) * len(made))
        for place, each in enumerate(made):
            stem = f"{slug(each.prompt.name)}-seed{each.seed}-variation-{each.variation + 1}"
            files = tuple(
                (label, f"{stem}{suffix}", run.offer(f"{stem}{suffix}", write))
                for label, suffix, write in performance.files(place, each)
            )
            if files:
                variations[place] = replace(variations[place], sound=files[-1][2], files=files)
        return variations_html(variations)

    def stop(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """The Stop button: the run ends at its next few ids and keeps what there is.

        Returns (status, Continue button, Stop button).
        """
        if self.sessions.stop(page_of(request), self.name):
            return status("Stopping.", "busy"), gr.skip(), gr.update(interactive=False)
        return status("Stopped before it began."), *buttons(running=False)


def says_midi(path: str) -> bool:
    """Whether an uploaded file begins as a MIDI file does. Raises MediaError."""
    try:
        with Path(path).open("rb") as stream:
            return is_midi(stream.read(12))
    except OSError as error:
        raise MediaError(f"{path} cannot be read; upload it again") from error


def page_of(request: gr.Request) -> str:
    """Which page asks: `ui.guard` has made sure that it is the page's own browser."""
    return str(request.session_hash)


def browser_of(request: gr.Request) -> str:
    """The browser's cookie; "" where there is none."""
    return str(getattr(request, "cookies", {}).get(COOKIE, ""))
