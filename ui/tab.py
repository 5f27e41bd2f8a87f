"""What every tab does between the page's values and the library's: choosing a prompt, running, stopping.

A modality's tab (`ui/piano.py`, `ui/speech.py`) says how its prompts are read and drawn, and gives a `Performance`:
what becomes of new ids while a run goes on. No layout, and no state but what is in `Sessions`.
"""

import math
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
from shortcut_gen.pipeline import Continuation, EncodedPrompt, Pipeline, Prompt
from ui.examples.listing import EXAMPLES, load_examples
from ui.guard import COOKIE
from ui.html import Live, Onward, Variation, status, variations_html
from ui.models import Models
from ui.sessions import Admission, Run, Sessions
from ui.takes import neighbour, step_of, tree, where
from ui.values import chosen, number, shown, switch, whole

NO_PROMPT = "none"
"""The choice to begin without a prompt."""
MAX_VARIATIONS = 4
MAX_SEED = 2**31 - 1
LEAST_SECONDS = 2.0
"""A run goes on for so long at least."""
LEAST_USED = 1.0
"""Where the slider of the part that is used begins; a prompt that is no longer is used whole."""
LEAST_SILENCE = 0.5
"""Seconds of silence before a prompt that are left out; less is a player's breath."""
LEAST_TOP_P = 0.05
MAX_TEMPERATURE = 2.0
CLOSES_WITHIN = 1.5
"""Seconds in which a page that was reloaded is noticed to be closed."""
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

        The WAV file is what its player plays; there are none where there is nothing to hear.
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
    def card(self, page: str, source: str, prompt: Prompt) -> str:
        """A prompt as the page shows it, with what its player plays; its `start` and `seconds` are what is used.

        source: what tells prompts apart.
        """

    @abstractmethod
    def duration(self, prompt: Prompt) -> float:
        """How long a prompt lasts, in seconds."""

    @abstractmethod
    def perform(self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int) -> Performance:
        """What makes a run's pictures and sounds. Raises PromptError where the model is none for this tab."""

    def check(self, prompt: Prompt, used: float) -> None:  # noqa: B027, whatever can be read can be continued
        """Raises ShortcutGenError where a prompt that can be read cannot be continued."""

    @abstractmethod
    def first_sound(self, prompt: Prompt) -> float:
        """When something is heard first, in seconds: silence before it is left out unless it is asked for."""

    def sees(self, prompt: Prompt) -> str:
        """Which part of a prompt is used, and how much of that the model sees, in words."""
        begins = f"From {prompt.start:.1f} s" if prompt.start else "From the beginning"
        try:
            pipeline = self.models.pipeline()
            ids = pipeline.encode(prompt)
        except ShortcutGenError as error:
            return f"{begins}: {error}"
        window = pipeline.tokenizer.clip(ids, pipeline.model.config.context - 1)
        text = f"{begins}, {pipeline.tokenizer.seconds(ids):.1f} s are used: {len(ids):,} tokens"
        if len(window) == len(ids):
            return f"{text} of the {pipeline.model.config.context:,} that the model sees."
        return f"{text}, of which the model sees the last {pipeline.tokenizer.seconds(window):.1f} s."

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

    def begins(self, prompt: Prompt) -> float:
        """Where the part to use begins unless the slider is moved, in seconds."""
        first = math.floor(10 * self.first_sound(prompt)) / 10
        return min(first, self.latest(self.duration(prompt))) if first >= LEAST_SILENCE else 0.0

    def latest(self, duration: float) -> float:
        """Where the part to use can begin at the latest, in seconds."""
        return max(math.floor(10 * (duration - LEAST_USED)) / 10, 0.0)

    def show(
        self,
        page: str,
        choice: str | None,
        upload: str | None,
        start: float | None = None,
        used: float | None = None,
    ) -> tuple[Any, Any, Any]:
        """The prompt's card, and the two sliders fitted to it. start, used: None for the usual part."""
        try:
            prompt = self.read_prompt(choice, upload)
            if used is not None:
                used = number(used, "how much to use", 0, 1e9)  # more than there is: the field sets itself right
            if start is not None:
                start = number(start, "where to begin", 0, 1e9)
        except ShortcutGenError as error:
            return status(str(error), "error"), gr.skip(), gr.skip()
        if prompt.media is None:
            return status("The model begins by itself."), *(gr.update(interactive=False),) * 2
        duration = self.duration(prompt)
        longest, latest = self.longest(duration), self.latest(duration)
        used = min(self.usual.prompt_seconds if used is None else used, longest)
        start = min(self.begins(prompt) if start is None else start, latest)
        long = longest > LEAST_USED
        used = used if long else longest
        card = self.card(page, upload or str(choice), replace(prompt, start=start, seconds=used))
        least = LEAST_USED if long else 0
        return (
            card,
            gr.update(maximum=max(latest, 0.1), value=start, interactive=latest > 0),
            gr.update(minimum=least, maximum=longest, value=used, interactive=long),
        )

    def choose_example(self, choice: str | None, request: gr.Request) -> tuple[Any, Any, Any, Any]:
        """An example was picked: an uploaded file is put away, the prompt drawn, the sliders fitted."""
        return *self.show(page_of(request), choice, None), None

    def choose_upload(
        self, upload: str | None, choice: str | None, start: float, used: float, request: gr.Request
    ) -> tuple[Any, Any, Any, Any, Any]:
        """A file was uploaded: it goes before the list. One that cannot be read is put away and says why.

        Returns (prompt card, the two sliders, list of examples, upload).
        """
        page = page_of(request)
        if refusal := self._refusal(page, upload, (choice, None, start, used)):
            return refusal, *(gr.skip(),) * 3, None
        return *self.show(page, None, upload), None, gr.skip()

    def _refusal(self, page: str, file: str | None, before: tuple[str | None, str | None, float, float]) -> str:
        """Why a file that has arrived cannot be continued, above the card of the prompt before; "" where it can.

        before: what `show` takes of that prompt.
        """
        try:
            self.check(self.read_prompt(None, file), self.usual.prompt_seconds)
        except ShortcutGenError as error:
            return status(str(error), "error") + (self.show(page, *before)[0] if any(before[:2]) else "")
        return ""

    def choose_recording(
        self,
        recording: str | None,
        choice: str | None,
        upload: str | None,
        start: float,
        used: float,
        request: gr.Request,
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        """What was recorded in the browser has arrived: it takes the place of an uploaded one, or says why not.

        Returns (prompt card, the two sliders, list of examples, upload, recording), the last emptied for the next one.
        """
        page = page_of(request)
        if refusal := self._refusal(page, recording, (choice, upload, start, used)):
            return refusal, *(gr.skip(),) * 4, None
        # What was played goes on where it ended, however long it is.
        begins = max(self.duration(self.read_prompt(None, recording)) - self.recorded, 0.0) if self.recorded else 0.0
        return *self.show(page, None, recording, begins or None, self.recorded), None, recording, None

    def clear_upload(self, request: gr.Request) -> tuple[Any, Any, Any, Any]:
        """The uploaded file was taken away: back to the first example."""
        first = next(iter(self.examples))
        return *self.show(page_of(request), first, None), first

    def change_part(
        self, choice: str | None, upload: str | None, start: float, used: float, request: gr.Request
    ) -> Any:
        """Another part of the prompt is to be used: draw it anew."""
        return self.show(page_of(request), choice, upload, start, used)[0]

    def begin(self, request: gr.Request) -> tuple[Any, Any, Any, str]:
        """Continue was clicked: a place for the run is asked for.

        Returns (status, Continue button, Stop button, the place's token for `run`).
        """
        admission, token, before = self.sessions.ask(page_of(request), self.name, browser_of(request))
        if admission is Admission.REFUSED:
            line = status("Too many wait for their turn; try again in a minute.", "error")
            return line, *buttons(running=False), token
        text = "Reading the prompt."
        if admission is Admission.WAITS:
            place = f"{before} wait before you" if before else "You are the next"
            text = f"{place}: yours begins when others are done. Stop gives the place back."
        return status(text, "busy"), *buttons(running=True), token

    def run(
        self,
        token: str | None,
        choice: str | None,
        upload: str | None,
        start: float,
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
        """Continue the prompt. Yields (variations, status, seed, Continue button, Stop button, tree) as it goes."""

        def prompt(run: Run, pipeline: Pipeline) -> Prompt:
            whole_prompt = self.read_prompt(choice, upload)
            if whole_prompt.media is None:
                return whole_prompt
            begins, part = self._part(whole_prompt, start, used)
            return replace(whole_prompt, start=begins, seconds=part)

        settings = (seconds, variations, temperature, top_p, fresh_seed, seed, checkpoint)
        yield from self._run(token, prompt, settings, request)

    def go_on(
        self,
        token: str | None,
        origin: str | None,
        seconds: float,
        variations: int,
        temperature: float,
        top_p: float,
        fresh_seed: bool,
        seed: float | None,
        checkpoint: str | None,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Go on from a variation that there is, or from a point before its end. Yields as `run` does."""

        def prompt(run: Run, pipeline: Pipeline) -> EncodedPrompt:
            number_, variation, at = where(origin)
            step = step_of(self.sessions.steps(page_of(request), self.name), number_)
            if variation is None or not 1 <= variation <= len(step.made):
                raise PromptError(f"step {number_} has {len(step.made)} variations; one of them is needed")
            run.parent = number_, variation
            return self._onward(step.made[variation - 1], at, pipeline)

        settings = (seconds, variations, temperature, top_p, fresh_seed, seed, checkpoint)
        yield from self._run(token, prompt, settings, request)

    @staticmethod
    def _onward(base: Continuation, at: float | None, pipeline: Pipeline) -> EncodedPrompt:
        """What there is up to so many seconds, as a prompt of the same ids. Raises PromptError."""
        mine, theirs = pipeline.tokenizer, base.tokenizer
        if (mine.vocab_size, mine.frame) != (theirs.vocab_size, theirs.frame):
            raise PromptError("this variation was made by a model of another kind; choose that one to go on from it")
        ids: Sequence[int] = base.prompt_ids + base.ids
        if at is not None and at < base.seconds - 0.05:
            ids = mine.head(ids, at)
        if not ids:
            raise PromptError(f"nothing sounds in the first {at} s; a later point is needed")
        return EncodedPrompt(prompt=base.prompt, ids=tuple(ids))

    def _run(
        self,
        token: str | None,
        prompt: Callable[[Run, Pipeline], Prompt | EncodedPrompt],
        settings: tuple[Any, ...],
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """A run, from its place in the queue to its end. settings: the arguments of `run` from `seconds` on."""
        page = page_of(request)
        run = self.sessions.start_run(page, self.name, token)
        if run is None:  # `begin` or `stop` has said why
            yield (gr.skip(),) * 6
            return
        seconds, variations, temperature, top_p, fresh_seed, seed, checkpoint = settings
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
            pipeline = self.models.pipeline(chosen(checkpoint, "checkpoint", self.models.names))
            given = prompt(run, pipeline)
            line = status("Reading the prompt.", "busy")
            yield gr.skip(), line, params.seed, *buttons(running=True), gr.skip()
            yield from self._perform(page, run, pipeline, given, params, count)
        except ShortcutGenError as error:
            # The variations on the page stay as they are.
            yield gr.skip(), status(str(error), "error"), gr.skip(), *buttons(running=False), gr.skip()
        finally:
            self.sessions.end_run(run)

    def _part(self, prompt: Prompt, start: object, used: object) -> tuple[float, float]:
        """Where in a prompt to begin and how much of it to use, in seconds: one that is very short is used whole."""
        part = number(used, "how much to use", 0, self.most_used)
        duration = self.duration(prompt)
        begins = number(start, "where to begin", 0, max(self.latest(duration), 0.1))
        if duration <= LEAST_USED:
            return 0.0, max(duration, 0.01)
        if part < LEAST_USED:
            raise PromptError(f"how much to use is {shown(used)} s; at least {LEAST_USED:g} s are needed")
        return begins, part

    def _perform(
        self,
        page: str,
        run: Run,
        pipeline: Pipeline,
        prompt: Prompt | EncodedPrompt,
        params: SamplingParams,
        count: int,
    ) -> Iterator[tuple[Any, ...]]:
        """A run with settings that are in order. Yields as `run` does. Raises ShortcutGenError."""
        performance = self.perform(run, pipeline, params, count)
        try:
            if performance.live:  # the page opens its ear before there is anything to hear
                line = status("Reading the prompt.", "busy", performance.live)
                yield gr.skip(), line, *(gr.skip(),) * 4
            began, drawn, problem = time.monotonic(), 0.0, ""
            busy = status("Generating. Stop keeps what is done.", "busy", performance.live)
            made: tuple[Continuation, ...] = ()
            every = performance.every_tokens
            if isinstance(prompt, Prompt):
                stream = pipeline.stream([prompt], params, variations=count, every_tokens=every)
            else:
                stream = pipeline.stream_rows([(prompt, k) for k in range(count)], params, every_tokens=every)
            try:
                for progress in stream:
                    if progress.queue and not any(each.ids for each in progress.continuations):
                        waits = status(f"Number {progress.queue} in line for the model.", "busy", performance.live)
                        if run.stop.is_set():
                            break
                        yield gr.skip(), waits, *(gr.skip(),) * 4
                        continue
                    made = progress.continuations
                    performance.hear(made[0])
                    if run.stop.is_set() or all(progress.done):
                        break
                    if time.monotonic() - drawn >= performance.redraw_seconds:
                        drawn = time.monotonic()
                        drawing = variations_html(performance.draw(made, progress.done))
                        yield drawing, busy, *(gr.skip(),) * 4
            except ShortcutGenError as error:
                if not made:
                    raise
                problem = str(error)
            finally:
                stream.close()  # type: ignore[attr-defined]
            performance.finish(made)
            outcome = problem or performance.outcome(made, run.stop.is_set(), time.monotonic() - began)
            drawing = self._finished(run, performance, made)
            self.sessions.finish_step(run, made, drawing)
            # Still with its sound: a run may be over before the page has looked at it once.
            line = status(outcome, "error" if problem else "quiet", performance.live)
            yield drawing, line, gr.skip(), *buttons(running=False), self._tree(page)
        finally:
            performance.close()
            run.sound.close()  # the page is not to wait for more

    @staticmethod
    def _finished(run: Run, performance: Performance, made: Sequence[Continuation]) -> str:
        """The variations as they stay, with players and files."""
        variations = performance.draw(made, (True,) * len(made))
        for place, each in enumerate(made):
            step = f"-step-{run.number}" if run.number > 1 else ""
            stem = f"{slug(each.prompt.name)}{step}-seed{each.seed}-variation-{each.variation + 1}"
            files = tuple(
                (label, f"{stem}{suffix}", run.offer(f"{stem}{suffix}", write))
                for label, suffix, write in performance.files(place, each)
            )
            if files:
                onward = Onward(f"{run.number}.{place + 1}", each.seconds)
                sound = next(where for label, _, where in files if label == "WAV")
                origin = variations[place].prompt
                if run.parent:
                    origin += (
                        f", on from variation {run.parent[1]} of step {run.parent[0]}, {each.seam_seconds:.1f} s in"
                    )
                variations[place] = replace(variations[place], prompt=origin, sound=sound, files=files, onward=onward)
        return variations_html(variations)

    def show_step(self, which: str | None, request: gr.Request) -> tuple[Any, Any, Any]:
        """A step of the tree was chosen: its number, or "back" or "forward". Returns (variations, tree, status)."""
        page = page_of(request)
        steps, shown = self.sessions.steps(page, self.name), self.sessions.shown(page, self.name)
        try:
            if which in ("back", "forward"):
                step = neighbour(steps, shown, 1 if which == "forward" else -1)
            else:
                step = step_of(steps, where(which)[0])
        except ShortcutGenError as error:
            return gr.skip(), gr.skip(), status(str(error), "error")
        self.sessions.show(page, self.name, step)
        return step.drawing, self._tree(page), ""

    def restore(self, request: gr.Request) -> tuple[Any, Any]:
        """The page is there: it was reloaded, maybe. Returns (variations, tree) of the page before."""
        page = page_of(request)
        until = time.monotonic() + CLOSES_WITHIN
        while self.sessions.adopt(page, browser_of(request), self.name) and time.monotonic() < until:
            time.sleep(0.1)
        shown = self.sessions.shown(page, self.name)
        return (shown.drawing, self._tree(page)) if shown else (gr.skip(), gr.skip())

    def _tree(self, page: str) -> str:
        return tree(self.sessions.steps(page, self.name), self.sessions.shown(page, self.name))

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
