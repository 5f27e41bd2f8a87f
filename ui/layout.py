"""Layout that the tabs share: the fields of a run, its buttons, and the wiring of the events."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from ui.asking import QUICK
from ui.html import empty
from ui.links import reader, writer
from ui.models import Models
from ui.prompts import NO_PROMPT
from ui.settings import (
    DARING,
    ENDING_SECONDS,
    LEAST_SECONDS,
    LEAST_TOP_P,
    LEAST_USED,
    MAX_GUIDANCE,
    MAX_MIN_P,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MAX_VARIATIONS,
    latest,
)
from ui.shortcuts import sliders
from ui.tab import Tab
from ui.text import form


@dataclass(frozen=True, kw_only=True)
class Look:
    """What differs from tab to tab."""

    prefix: str = ""
    """Before the ids of its elements, which are one page's."""
    without: str
    """What having no prompt means."""
    upload: str
    """What can be uploaded."""
    waiting: tuple[str, str]
    """What stands where the takes will be, in two lines."""
    under_upload: tuple[Any, ...] = ()
    """More components, made with render=False."""
    over_columns: tuple[Any, ...] = ()
    """The same, above the two columns."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """A tab's components that events read or write."""

    choice: Any
    upload: Any
    start: Any
    used: Any
    bars: Any
    """A length in bars, which sets the one in seconds."""
    others: tuple[Any, ...]
    """What `Tab.run` takes after `used`, in its order."""
    seed: Any
    go: Any
    halt: Any
    line: Any
    prompt: Any
    takes: Any
    steps: Any


def lay_out(do: Tab, models: Models, look: Look) -> Fields:
    """A whole tab: examples above, settings on the left, prompt and takes on the right; its events are wired."""
    first, prefix = next(iter(do.examples)), look.prefix
    labels = [(example.label, file) for file, example in do.examples.items()]
    labels.append((f"{form.NO_PROMPT}\n{look.without}", NO_PROMPT))
    choice = gr.Radio(labels, value=first, label=form.EXAMPLES, elem_id=f"{prefix}examples", elem_classes="examples")
    for component in look.over_columns:
        component.render()
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=4, min_width=300, elem_classes="controls"):
            upload = gr.File(
                label=look.upload,
                file_types=["file"],  # a file of another kind gets our own line, which says more than Gradio's
                type="filepath",
                height=88,
                elem_id=f"{prefix}upload",
                elem_classes="upload",
            )
            for component in look.under_upload:
                component.render()
            start, used, others, seed, bars = _settings(do, models, look, do.examples[first].seconds)
            gr.Checkbox(
                True,
                label=form.ALOUD,
                container=False,
                interactive=True,  # only static/live.js reads it, which gradio does not know
                elem_id=f"{prefix}aloud",
                elem_classes="aloud",
            )
            go, halt, line = _buttons(prefix)
        with gr.Column(scale=8, min_width=320, elem_classes="stage"):
            prompt = gr.HTML(do.show("", first, None)[0], elem_id=f"{prefix}prompt")
            steps = gr.HTML("", elem_id=f"{prefix}steps")
            takes = gr.HTML(empty(*look.waiting), elem_id=f"{prefix}takes", elem_classes="outcome")
    fields = Fields(
        choice=choice,
        upload=upload,
        start=start,
        used=used,
        bars=bars,
        others=others,
        seed=seed,
        go=go,
        halt=halt,
        line=line,
        prompt=prompt,
        takes=takes,
        steps=steps,
    )
    _wire(do, look, fields)
    return fields


def _settings(do: Tab, models: Models, look: Look, duration: float) -> tuple[Any, Any, tuple[Any, ...], Any, Any]:
    """The fields of a run: (where in the prompt to begin, how much of it to use, the others in the order of `Tab.run`,
    the seed, the length in bars). duration: of the first prompt, in seconds.
    """
    longest, last = do.longest(duration), latest(duration)

    def named(name: str) -> dict[str, Any]:
        return {"elem_id": f"{look.prefix}{name}", "elem_classes": name}

    start = gr.Slider(0, max(last, 0.1), 0, step=0.1, label=form.START, **named("start"))
    used = gr.Slider(
        LEAST_USED,
        longest,
        min(do.usual.prompt_seconds, longest),
        step=0.1,
        label=form.USED,
        **named("used"),
    )
    seconds = gr.Slider(
        LEAST_SECONDS,
        do.most_seconds,
        do.usual.seconds,
        step=1,
        label=form.SECONDS,
        **named("seconds"),
    )
    bars = gr.Number(None, label=form.BARS, minimum=0, visible=False, **named("bars"))
    ending = gr.Checkbox(
        False,
        label=form.ENDING,
        info=form.ending_info(ENDING_SECONDS),
        container=False,
        visible=do.ends,
        **named("ending"),
    )
    variations = gr.Radio(
        list(range(1, MAX_VARIATIONS + 1)), value=1, label=form.VARIATIONS, type="value", **named("variations")
    )
    daring = gr.Radio(
        [(form.DARING_WORDS[word], word) for word in DARING], value="usual", label=form.DARING, **named("daring")
    )
    names = [(entry.label, entry.name) for entry in models.entries]
    checkpoint = gr.Dropdown(
        names, value=models.default, label=form.MODEL, visible=len(names) > 1, filterable=False, **named("checkpoint")
    )
    with gr.Accordion(form.MORE, open=False, elem_id=f"{look.prefix}more", elem_classes="more"):
        with gr.Row(elem_classes="pair"):
            seed = gr.Number(0, label=form.SEED, minimum=0, maximum=MAX_SEED, **named("seed"))
            fresh = gr.Checkbox(True, label=form.FRESH, container=False, **named("fresh"))
        temperature, top_p, *others = _sampling(do, named)
    gains = sliders(models, named, checkpoint)
    drawn = (temperature, top_p)
    daring.input(do.dare, [daring], [*drawn], **QUICK)
    for slider in drawn:
        slider.change(do.dared, [*drawn], [daring], **QUICK)
    return start, used, (seconds, variations, *drawn, *others, fresh, seed, checkpoint, gains, ending), seed, bars


def _sampling(do: Tab, named: Callable[[str], dict[str, Any]]) -> tuple[Any, ...]:
    """The fields of how ids are drawn, by the field's own terms: (temperature, top-p, top-k, min-p, guidance)."""
    with gr.Row(elem_classes="pair"):
        temperature = gr.Slider(
            0,
            MAX_TEMPERATURE,
            1.0,
            step=0.05,
            label=form.TEMPERATURE,
            info=form.TEMPERATURE_INFO,
            **named("temperature"),
        )
        top_p = gr.Slider(
            LEAST_TOP_P, 1, do.usual.top_p, step=0.01, label=form.TOP_P, info=form.TOP_P_INFO, **named("top-p")
        )
    with gr.Row(elem_classes="pair"):
        top_k = gr.Slider(0, MAX_TOP_K, 0, step=1, label=form.TOP_K, info=form.TOP_K_INFO, **named("top-k"))
        min_p = gr.Slider(0, MAX_MIN_P, 0, step=0.01, label=form.MIN_P, info=form.MIN_P_INFO, **named("min-p"))
    guidance = gr.Slider(
        0,
        MAX_GUIDANCE,
        do.usual.guidance,
        step=0.1,
        label=form.GUIDANCE,
        info=form.GUIDANCE_INFO,
        **named("guidance"),
    )
    return temperature, top_p, top_k, min_p, guidance


def _buttons(prefix: str) -> tuple[Any, Any, Any]:
    """(Continue, Stop, the line under them)."""
    with gr.Column(elem_classes="transport"):
        with gr.Row(elem_classes="buttons"):
            go = gr.Button(form.CONTINUE, variant="primary", min_width=120, elem_id=f"{prefix}go", elem_classes="go")
            halt = gr.Button(form.STOP, interactive=False, min_width=120, elem_id=f"{prefix}stop", elem_classes="halt")
        line = gr.HTML("", elem_id=f"{prefix}status", elem_classes="line")
    return go, halt, line


def _wire(do: Tab, look: Look, fields: Fields) -> None:
    """Connect what every tab has: choosing a prompt, Continue, going on from a variation, the tree, Stop."""
    choice, upload, prompt, part = fields.choice, fields.upload, fields.prompt, (fields.start, fields.used)
    choice.input(do.choose_example, [choice], [prompt, *part, upload], **QUICK)
    upload.upload(do.choose_upload, [upload, choice, *part], [prompt, *part, choice, upload], **QUICK)
    upload.clear(do.clear_upload, None, [prompt, *part, choice], **QUICK)
    for slider in part:
        slider.change(do.change_part, [choice, upload, *part], [prompt], trigger_mode="always_last", **QUICK)
    opened = upload.upload(
        do.open_take, [upload], [fields.takes, fields.steps, fields.line, upload, *fields.others], **QUICK
    )
    used, seconds = [choice, upload, *part], fields.others[0]
    fields.bars.input(do.take_bars, [*used, fields.bars], [seconds], trigger_mode="always_last", **QUICK)
    for changed in (prompt.change, opened.then, fields.bars.blur, seconds.input):  # not what a length in bars sets
        changed(do.say_bars, [*used, seconds], [fields.bars], **QUICK)
    # A place is asked for at once, so that the click has an answer also where others are served first.
    token = gr.Textbox(visible=False)
    # Buttons within the variations and the tree write here what they stand for, and press one of these.
    where = gr.Textbox(
        label=form.WHERE, elem_id=f"{look.prefix}where", elem_classes="out-of-sight where", container=False
    )
    onward = gr.Button(form.GO_ON, elem_id=f"{look.prefix}onward", elem_classes="out-of-sight onward-go")
    show = gr.Button(form.SHOW, elem_id=f"{look.prefix}show", elem_classes="out-of-sight show-step")
    for button, does, given in (
        (fields.go, do.run, [choice, upload, *part]),
        (onward, do.go_on, [where]),
    ):
        button.click(do.begin, None, [fields.line, fields.go, fields.halt, token], **QUICK).then(
            does,
            [token, *given, *fields.others],
            [fields.takes, fields.line, fields.seed, fields.go, fields.halt, fields.steps],
            show_progress="hidden",
            concurrency_limit=do.sessions.runs,
            concurrency_id="runs",
            api_visibility="private",
        )
    assert Context.root_block is not None
    came = [gr.Textbox(visible=False), gr.Textbox(visible=False)]
    Context.root_block.load(
        do.arrive,
        came,
        [fields.takes, fields.steps, fields.line, prompt, *part, choice, upload, *fields.others],
        js=reader(do.name),
        **QUICK,
    )
    values = [choice, upload, *part, *fields.others]
    for each in values:
        each.change(None, values, None, js=writer(do.name), **QUICK)
    show.click(do.show_step, [where], [fields.takes, fields.steps, fields.line], **QUICK)
    running = [fields.line, fields.go, fields.halt]
    fields.halt.click(do.stop, None, running, **QUICK).then(do.stopped, None, running, **QUICK)
