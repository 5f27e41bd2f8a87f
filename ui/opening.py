"""Opening a saved take: its steps are there as if they had been made on the page."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError, PromptError, ShortcutGenError
from shortcut_gen.pipeline import Continuation, Pipeline, Prompt
from ui.asking import browser_of, page_of
from ui.html import status
from ui.models import Models
from ui.performance import Performance, finished
from ui.prompts import says_take
from ui.saved import MAX_BYTES, MadeBy, Saved, Step, read
from ui.sessions import Run
from ui.settings import (
    FIELDS,
    LEAST_SECONDS,
    LEAST_TOP_P,
    MAX_GUIDANCE,
    MAX_MIN_P,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOP_K,
)
from ui.steps import Steps
from ui.text import refusals, runs


class Opening(Steps):
    """What a tab does about saved takes."""

    models: Models
    most_seconds: float
    """How long a run can go on, in seconds."""
    most_opened: float
    """How long a variation of a saved take may be with its prompt, in seconds: it is drawn and heard whole."""

    @abstractmethod
    def perform(
        self, run: Run, pipeline: Pipeline, params: SamplingParams, count: int, heard: bool = True
    ) -> Performance:
        """What makes a run's pictures and sounds. heard: while it is made. Raises PromptError where the model is none
        for this tab.
        """

    def open_take(self, upload: str | None, request: gr.Request) -> tuple[Any, ...]:
        """A file was uploaded: where it is a saved take, its steps join those of the page, and its settings are set.

        Returns (variations, tree, status, upload, the settings in the order of `run`).
        """
        if not upload or not says_take(upload):
            return (gr.skip(),) * (4 + len(FIELDS))
        page, browser = page_of(request), browser_of(request)
        try:
            if self.sessions.busy(page, self.name):
                raise PromptError(refusals.RUN_GOES_ON)
            with self.sessions.files.reading():
                saved, pipelines, others = open_file(upload, self.name, self.models, self.most_opened)
            made = into_runs(saved, pipelines, lambda: self.sessions.add(page, self.name, browser), self._drawn_again)
            shown = next(run for run, step in zip(made, saved.steps, strict=True) if step.number == saved.shown)
            self.sessions.show(page, self.name, shown)
            drawing = self.drawn(shown)
        except ShortcutGenError as error:
            return gr.skip(), gr.skip(), status(str(error), "error"), None, *(gr.skip(),) * len(FIELDS)
        line = status(runs.opened(Path(upload).name, len(saved.steps), others))
        return drawing, self._tree(page), line, None, *self._settings_of(shown)

    def _drawn_again(self, run: Run, pipeline: Pipeline) -> str:
        """The variations of a step that was opened."""
        longest = max(each.seconds - each.seam_seconds for each in run.made)
        params = replace(run.made[0].params, seconds=max(longest, 0.01))
        performance = self.perform(run, pipeline, params, len(run.made), heard=False)
        try:
            performance.finish(run.made)
            return finished(run, performance, run.made, self.sessions, self.name)
        finally:
            performance.close()

    def _settings_of(self, run: Run) -> tuple[Any, ...]:
        """The fields of a run's settings as that run had them, in the order of `run`; `""` for what is not here."""
        params, name = run.made[0].params, run.made_by.name if run.made_by else ""
        seconds = min(max(params.seconds or LEAST_SECONDS, LEAST_SECONDS), self.most_seconds)
        model = name if name in self.models.names else gr.skip()
        return (
            seconds,
            len(run.made),
            min(params.temperature, MAX_TEMPERATURE),
            max(params.top_p, LEAST_TOP_P),
            min(params.top_k, MAX_TOP_K),
            min(params.min_p, MAX_MIN_P),
            min(params.guidance, MAX_GUIDANCE),
            False,
            min(params.seed, MAX_SEED),
            model,
            ",".join(f"{gain:g}" for gain in params.tap_gains),
            params.ending is not None,
        )


def open_file(path: str, tab: str, models: Models, most_seconds: float) -> tuple[Saved, dict[int, Pipeline], list[str]]:
    """(the steps of a file, the pipeline of each by its number, what is to be said of them). most_seconds: of a
    variation with its prompt. Raises MediaError, CheckpointError.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise MediaError(refusals.unread(file.name)) from error
    usual = models.pipeline()
    saved = read(data, file.name, tab, usual.tokenizer.vocab_size, usual.tokenizer.frame)
    pipelines, others = {}, []
    for step in saved.steps:
        pipelines[step.number], said = _pipeline(step.made_by, models)
        others += [said] if said and said not in others else []
        for ids in step.variations:
            if (seconds := usual.tokenizer.seconds(step.ids + ids)) > most_seconds:
                raise MediaError(refusals.too_long(file.name, seconds, step.number, most_seconds))
    return saved, pipelines, others


def _pipeline(made_by: MadeBy, models: Models) -> tuple[Pipeline, str]:
    """The pipeline that made a step, or the one nearest to it, and then what is to be said."""
    usual = models.pipeline()
    for name in sorted(models.names, key=lambda name: name != made_by.name):
        here = models.made_by(name)
        if here.sha256 != made_by.sha256:
            continue
        pipeline = models.pipeline(name)
        fits = pipeline.tokenizer.vocab_size == usual.tokenizer.vocab_size
        if fits and here.codec == made_by.codec:
            return pipeline, ""
    if models.made_by().codec != made_by.codec:
        return usual, runs.other_codec(made_by.name)
    return usual, runs.other_model(made_by.name, made_by.name in models.names)


def into_runs(
    saved: Saved,
    pipelines: dict[int, Pipeline],
    new: Callable[[], Run | None],
    draw: Callable[[Run, Pipeline], str],
) -> list[Run]:
    """The steps as runs, numbered on from those of the page. new: makes the page's next run. draw: shows one.

    Raises MediaError where the server ends meanwhile.
    """
    numbers: dict[int, int] = {}
    made = []
    for step in saved.steps:
        run = new()
        if run is None:
            raise MediaError(refusals.ENDS)
        numbers[step.number] = run.number
        pipeline = pipelines[step.number]
        run.origin, run.made_by = step.origin, step.made_by
        run.parent = (numbers[step.parent[0]], step.parent[1]) if step.parent else None
        run.made = continuations(step, pipeline)
        run.draw = partial(draw, run, pipeline)
        run.ended = True
        made.append(run)
    return made


def continuations(step: Step, pipeline: Pipeline) -> tuple[Continuation, ...]:
    """The variations of a step, of a prompt that has its name and its ids."""
    prompt = Prompt(media=None, name=step.origin.name, start=step.origin.start)
    return tuple(
        Continuation(
            prompt=prompt,
            prompt_ids=step.ids,
            ids=ids,
            seed=step.params.seed,
            variation=variation,
            params=step.params,
            tokenizer=pipeline.tokenizer,
        )
        for variation, ids in enumerate(step.variations)
    )
