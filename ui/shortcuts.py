"""Taps of the last block, turned down or up by hand: the sliders, what they send, and what it costs."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from shortcut_gen.decoding.sampling import MOST_GAIN
from shortcut_gen.errors import SettingsError, ShortcutGenError
from shortcut_gen.explain import gain_cost
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.pipeline import Pipeline
from ui.asking import QUICK
from ui.models import Models
from ui.text import form, refusals, runs
from ui.values import shown

LEAST_IDS = 32
"""Of a prompt on which a cost is said; on fewer it is chance."""
MOST_TAPS = 16
_JOIN = "(...gains) => gains.join(',')"
_ONE = "Number.isFinite(parseFloat(gains[k])) ? parseFloat(gains[k]) : 1"
_GIVEN = "const gains = String(text || '').split(',')"
_PART = f"(text) => {{ {_GIVEN}; return Array.from({{ length: %d }}, (_, k) => {_ONE}); }}"


def gains_of(text: object, taps: int) -> tuple[float, ...]:
    """The gains that the page sends as "1,0.5,1,1", as `SamplingParams.tap_gains` of a model with so many taps.

    All 1, or a model without taps, is (): as trained. Those of 1 beyond the model's taps are left out: the page has as
    many as its largest model. Raises SettingsError.
    """
    parts = text.split(",") if isinstance(text, str) and text else []
    try:
        gains = [float(part) for part in parts]
        if not all(0 <= gain <= MOST_GAIN for gain in gains) or len(gains) > MOST_TAPS:
            raise ValueError
    except ValueError:
        raise SettingsError(refusals.gains(shown(text), MOST_GAIN)) from None
    if all(gain == 1 for gain in gains) or not taps:
        return ()
    while len(gains) > taps and gains[-1] == 1:
        gains.pop()
    if len(gains) != taps:
        raise SettingsError(refusals.gains_of_another(len(gains), taps))
    if not any(gains):
        raise SettingsError(refusals.ALL_OFF)
    return tuple(gains)


def cost(pipeline: Pipeline, ids: Sequence[int], gains: Sequence[float]) -> str:
    """What it costs to turn the taps so, on the ids of a prompt, in words; "" where nothing was turned."""
    if not gains or len(ids) < LEAST_IDS:
        return ""
    try:
        found = gain_cost(pipeline, ids, gains)
    except ShortcutGenError:
        return ""
    return runs.gains_cost(found.difference, found.nats_as_trained)


def taps_of(model: ModelConfig) -> tuple[int, ...]:
    """The blocks that its last one attends to, from the first on."""
    return (*model.taps, model.layers) if model.attend_current else model.taps


def line(taps: Sequence[int]) -> str:
    """What the sliders do, or why there are none, as HTML."""
    return f'<p class="facts">{form.SHORTCUTS_DO if taps else form.NO_SHORTCUTS}</p>'


def fitted(taps: Sequence[int], text: object, count: int) -> list[Any]:
    """What becomes of the line and of `count` sliders with a model of those taps. text: as for `gains_of`; what does
    not fit it is set to 1, all of it."""
    given = text.split(",") if isinstance(text, str) and text else []
    reset = any(part != "1" for part in given[len(taps) :]) or 0 < len(given) < len(taps)
    value: dict[str, Any] = {"value": 1} if reset else {}
    named = [*taps, *(0 for _ in range(count))][:count]
    shown = [gr.update(visible=k < len(taps), label=form.layer(tap), **value) for k, tap in enumerate(named)]
    return [line(taps), *shown]


def sliders(models: Models, named: Callable[[str], dict[str, Any]], checkpoint: Any) -> Any:
    """The sliders, one for each tap of the model that is chosen in the field `checkpoint`; the field that says them all
    together, which is returned."""
    of = {entry.name: taps_of(entry.info.model) for entry in models.entries}
    usual, count = of[models.default], max(len(taps) for taps in of.values())
    together = gr.Textbox("", label=form.SHORTCUTS, container=False, **_hidden(named))
    if not count:
        return together
    with gr.Accordion(form.SHORTCUTS, open=False, elem_classes="more shortcuts"):
        about = gr.HTML(line(usual))
        made = [
            gr.Slider(
                0,
                MOST_GAIN,
                1,
                step=0.05,
                label=form.layer(usual[k]) if k < len(usual) else form.LAYER,
                visible=k < len(usual),
                **named(f"tap-{k + 1}"),
            )
            for k in range(count)
        ]
    for slider in made:  # within the browser
        slider.change(None, made, together, js=_JOIN, **QUICK)
    together.change(None, together, made, js=_PART % len(made), **QUICK)

    def fit(name: str | None, text: str | None) -> list[Any]:
        return fitted(of.get(name or "", usual), text, count)

    checkpoint.change(fit, [checkpoint, together], [about, *made], **QUICK)
    return together


def _hidden(named: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    about = named("gains")
    return about | {"elem_classes": f"out-of-sight {about['elem_classes']}"}
