"""What every tab does between the page's values and the library's: running, stopping, going on.

A modality's tab (`ui/piano.py`, `ui/speech.py`) says how its prompts are read and drawn (`ui.prompts`), and gives a
`Performance`: what becomes of new ids while a run goes on. No layout, and no state but what is in `Sessions`.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import PromptError, ShortcutGenError
from shortcut_gen.pipeline import Continuation, EncodedPrompt, Pipeline, Progress, Prompt
from ui.asking import address_of, browser_of, page_of
from ui.html import status, variations_html
from ui.links import from_link, from_page
from ui.opening import Opening
from ui.performance import Performance, finished
from ui.prompts import NO_PROMPT, Prompts
from ui.runs import Missing
from ui.saving import origin_of
from ui.sessions import Admission, Run
from ui.settings import FIELDS, ON_PAGE, Asked, pair_of, part, planned, word_of
from ui.shortcuts import cost, gains_of
from ui.takes import step_of, where
from ui.text import refusals, runs

_TURNS = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))
"""Runs that are rendered and drawn at a time. More would be no faster, and the one thread that answers all requests
would get its share of the processors among them."""


def buttons(*, running: bool) -> tuple[Any, Any]:
    """The Continue and Stop buttons, while a run goes on or not."""
    return gr.update(interactive=not running), gr.update(interactive=running)


def _meanwhile(line: str) -> tuple[Any, ...]:
    """What a run yields where only its line is new."""
    return gr.skip(), line, *(gr.skip(),) * 4


def check_kind(made: Continuation, pipeline: Pipeline) -> None:
    """Raises PromptError where a model cannot go on from what another one has made."""
    mine, theirs = pipeline.tokenizer, made.tokenizer
    if (mine.vocab_size, mine.frame) != (theirs.vocab_size, theirs.frame):
        raise PromptError(refusals.OTHER_KIND)


class Tab(Prompts, Opening):
    """What a tab does. One object serves all pages; what belongs to a page is in its `Run`."""

    def arrive(self, query: str | None, kept: str | None, request: gr.Request) -> tuple[Any, ...]:
        """The page is there, by a link or after a reload, maybe; `ui.links.reader` says with what.

        Returns (variations, tree, status, prompt card, the two sliders, list of examples, upload, the settings in the
        order of `run`).
        """
        before = self.restore(request)
        choices, models = [*self.examples, NO_PROMPT], self.models.names
        most = (self.most_used, self.most_seconds)
        line: Any = gr.skip()
        try:
            fields = from_link(query or "", self.name, choices, self.usual, most, models)
        except ShortcutGenError as error:
            fields, line = None, status(str(error), "error")
        fields = fields or from_page(kept or "", choices, most, models, self.sessions.files.is_upload)
        if fields is None or not (fields.choice or fields.upload):
            return *before, line, *(gr.skip(),) * (5 + len(FIELDS))
        shown = self.show(page_of(request), fields.choice, fields.upload, fields.start, fields.used)
        return *before, line, *shown, None if fields.upload else fields.choice, fields.upload, *fields.settings

    def begin(self, request: gr.Request) -> tuple[Any, Any, Any, str]:
        """Continue was clicked: a place for the run is asked for.

        Returns (status, Continue button, Stop button, the place's token for `run`).
        """
        admission, token, before = self.sessions.ask(
            page_of(request), self.name, browser_of(request), address_of(request)
        )
        if admission is Admission.REFUSED:
            line = status(runs.FULL, "error")
            return line, *buttons(running=False), token
        text = runs.waits(before) if admission is Admission.WAITS else runs.READING
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
        top_k: int,
        min_p: float,
        guidance: float,
        fresh_seed: bool,
        seed: float | None,
        checkpoint: str | None,
        gains: str | None,
        ending: bool,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Continue the prompt. Yields (variations, status, seed, Continue button, Stop button, tree) as it goes."""

        def prompt(run: Run, pipeline: Pipeline) -> Prompt:
            given = self.read_prompt(choice, upload)
            if given.media is not None:
                begins, length = part(self.duration(given), start, used, self.most_used, ON_PAGE)
                given = replace(given, start=begins, seconds=length)
            run.origin = origin_of(given, None if upload else choice)
            return given

        drawing = (temperature, top_p, top_k, min_p, guidance, fresh_seed, seed)
        settings = Asked.in_order(seconds, variations, *drawing, checkpoint, gains, ending)
        yield from self._run(token, prompt, settings, request)

    def go_on(
        self,
        token: str | None,
        origin: str | None,
        seconds: float,
        variations: int,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        guidance: float,
        fresh_seed: bool,
        seed: float | None,
        checkpoint: str | None,
        gains: str | None,
        ending: bool,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Go on from a variation that there is, or from a point before its end. Yields as `run` does."""

        def prompt(run: Run, pipeline: Pipeline) -> EncodedPrompt:
            number, variation, at = where(origin)
            step = step_of(self.sessions.steps(page_of(request), self.name), number)
            run.origin = step.origin
            if variation == 0:  # once more from the prompt that it had
                run.parent, first = step.parent, step.made[0]
                check_kind(first, pipeline)
                return EncodedPrompt(prompt=first.prompt, ids=first.prompt_ids)
            if variation is None or variation > len(step.made):
                raise PromptError(refusals.variations(number, len(step.made)))
            run.parent = number, variation
            return self._onward(step.made[variation - 1], at, pipeline)

        drawing = (temperature, top_p, top_k, min_p, guidance, fresh_seed, seed)
        settings = Asked.in_order(seconds, variations, *drawing, checkpoint, gains, ending)
        yield from self._run(token, prompt, settings, request)

    @staticmethod
    def _onward(base: Continuation, at: float | None, pipeline: Pipeline) -> EncodedPrompt:
        """What there is up to so many seconds, as a prompt of the same ids. Raises PromptError."""
        check_kind(base, pipeline)
        ids: Sequence[int] = base.prompt_ids + base.ids
        if at is not None and at < base.seconds - 0.05:
            ids = pipeline.tokenizer.head(ids, at)
        if not ids:
            raise PromptError(refusals.nothing_sounds(at))
        return EncodedPrompt(prompt=base.prompt, ids=tuple(ids))

    def _run(
        self,
        token: str | None,
        prompt: Callable[[Run, Pipeline], Prompt | EncodedPrompt],
        settings: Asked,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """A run, from its place in the queue to its end."""
        page = page_of(request)
        run = self.sessions.start_run(page, self.name, token, address_of(request))
        if run is None:
            yield self._not_begun(page, token)
            return
        try:
            plan = planned(settings, self.most_seconds, self.models.names, ON_PAGE, self.usual.guidance)
            pipeline = self.models.pipeline(plan.checkpoint)
            run.made_by = self.models.made_by(plan.checkpoint)
            given = prompt(run, pipeline)
            line = status(runs.READING, "busy")
            yield gr.skip(), line, plan.params.seed, *buttons(running=True), gr.skip()
            gains = gains_of(settings.gains, pipeline.model.config.sources)
            params = replace(plan.params, tap_gains=gains)
            yield from self._perform(page, run, pipeline, given, params, plan.count)
        except ShortcutGenError as error:
            # The variations on the page stay as they are.
            run.outcome = status(str(error), "error")
            yield gr.skip(), run.outcome, gr.skip(), *buttons(running=False), gr.skip()
        finally:
            self.sessions.end_run(run)

    def _not_begun(self, page: str, token: str | None) -> tuple[Any, ...]:
        """What a run yields that has no place: a line why, where the page has no newer one."""
        lines = {
            Missing.TOLD: "",
            Missing.GIVEN_BACK: status(runs.STOPPED_BEFORE),
            Missing.GONE: status(runs.GONE, "error"),
        }
        line = lines[self.sessions.missing(page, self.name, token)]
        if self.sessions.parting:
            line = status(self.sessions.parting, "error")
        return (gr.skip(), line, gr.skip(), *buttons(running=False), gr.skip()) if line else (gr.skip(),) * 6

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
                yield _meanwhile(status(runs.READING, "busy", performance.live))
            began = time.monotonic()
            if isinstance(prompt, Prompt):
                prompt = EncodedPrompt(prompt=prompt, ids=self.encoded(pipeline, prompt))
            rows = [(prompt, k) for k in range(count)]
            stream = pipeline.stream_rows(rows, params, every_tokens=performance.every_tokens, depth=True)
            made, problem = yield from self._watch(stream, run, performance)
            if not made:  # stopped in line for the model
                run.outcome = status(runs.STOPPED_BEFORE)
                yield gr.skip(), run.outcome, gr.skip(), *buttons(running=False), gr.skip()
                return
            with _TURNS:
                performance.finish(made)
            outcome = problem or performance.outcome(made, run.stop.is_set(), time.monotonic() - began)
            outcome += "" if run.stop.is_set() else cost(pipeline, prompt.ids, params.tap_gains)
            outcome += f" {self.sessions.parting}" if self.sessions.parting else ""
            drawing = finished(run, performance, made, self.sessions, self.name)
            self.sessions.finish_step(run, made, drawing)
            kind = "error" if problem else "quiet"
            run.outcome = status(outcome, kind)
            # Still with its sound: a run may be over before the page has looked at it once.
            line = status(outcome, kind, performance.live)
            yield drawing, line, gr.skip(), *buttons(running=False), self._tree(page)
        finally:
            performance.close()
            run.sound.close()  # the page is not to wait for more

    @staticmethod
    def _watch(
        stream: Iterator[Progress], run: Run, performance: Performance
    ) -> Generator[tuple[Any, ...], None, tuple[tuple[Continuation, ...], str]]:
        """Yields as `run` does while variations grow. Returns them as they are in the end, none where the run was
        stopped in line for its model, and what has kept them from going on. Raises ShortcutGenError where nothing was
        made.
        """
        busy = status(runs.GENERATING, "busy", performance.live)
        made: tuple[Continuation, ...] = ()
        drawn, before = 0.0, ""
        try:
            for progress in stream:
                waits = progress.queue and not any(each.ids for each in progress.continuations)
                if not waits:
                    made = progress.continuations
                    with _TURNS:
                        performance.hear(made[0])
                if run.stop.is_set() or all(progress.done):
                    break
                if waits:
                    yield _meanwhile(status(runs.in_line(progress.queue), "busy", performance.live))
                elif time.monotonic() - drawn >= performance.redraw_seconds:
                    with _TURNS:
                        drawn, drawing = time.monotonic(), variations_html(performance.draw(made, progress.done))
                    if drawing != before:  # a roll grows by itself
                        yield drawing, busy, *(gr.skip(),) * 4
                    before = drawing
        except ShortcutGenError as error:
            if not made:
                raise
            return made, str(error)
        finally:
            stream.close()  # type: ignore[attr-defined]
        return made, ""

    def dare(self, word: str | None) -> tuple[Any, Any]:
        """Between safest and boldest another word was chosen. Returns (temperature, top-p)."""
        try:
            return pair_of(word, self.usual.top_p)
        except ShortcutGenError:  # not of this page
            return gr.skip(), gr.skip()

    def dared(self, temperature: float, top_p: float) -> str | None:
        """Temperature or top-p was set by hand. Returns the word for them, None where there is none."""
        return word_of(temperature, top_p, self.usual.top_p)

    def stop(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """The Stop button: the run ends at its next few ids and keeps what there is.

        Returns (status, Continue button, Stop button).
        """
        if self.sessions.stop(page_of(request), self.name):
            return status(runs.STOPPING, "busy"), gr.skip(), gr.update(interactive=False)
        return status(runs.STOPPED_BEFORE), *buttons(running=False)

    def stopped(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """The page has shown what `stop` returned. The run may have ended before that, as its last news come another
        way: then what it came to is said again. Returns what `stop` does.
        """
        outcome = self.sessions.outcome(page_of(request), self.name)
        return (outcome, *buttons(running=False)) if outcome else (gr.skip(),) * 3
