"""Taps of the last block, turned down or up by hand: the sliders, what they send, and what it costs."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from shortcut_gen.decoding.sampling import MOST_GAIN
from shortcut_gen.errors import SettingsError, ShortcutGenError
from shortcut_gen.explain import gain_cost
from shortcut_gen.pipeline import Pipeline
from ui.models import Models
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

    All 1, or a model without taps, is (): as trained. Raises SettingsError.
    """
    parts = text.split(",") if isinstance(text, str) and text else []
    try:
        gains = [float(part) for part in parts]
        if not all(0 <= gain <= MOST_GAIN for gain in gains) or len(gains) > MOST_TAPS:
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"the shortcuts are {shown(text)}; a number from 0 to {MOST_GAIN} for each tap is needed"
        ) from None
    if all(gain == 1 for gain in gains) or not taps:
        return ()
    if len(gains) != taps:
        raise SettingsError(
            f"{len(gains)} shortcuts are set, and this model has {taps}; set all of them to 1, or choose another model"
        )
    if not any(gains):
        raise SettingsError("all shortcuts are turned off; one of them at least is needed")
    return tuple(gains)


def cost(pipeline: Pipeline, ids: Sequence[int], gains: Sequence[float]) -> str:
    """What it costs to turn the taps so, on the ids of a prompt, in words; "" where nothing was turned."""
    if not gains or len(ids) < LEAST_IDS:
        return ""
    try:
        found = gain_cost(pipeline, ids, gains)
    except ShortcutGenError:
        return ""
    said = f"{abs(found.difference):.3f} nats a token {'worse' if found.difference >= 0 else 'better'}"
    return (
        f" With the shortcuts turned so, the prompt is predicted {said} than as trained ({found.nats_as_trained:.3f})."
    )


def sliders(models: Models, named: Callable[[str], dict[str, Any]]) -> Any:
    """The sliders, one for each tap of the usual model; the field that says them all together, which is returned."""
    model = models.entries[0].info.model
    taps = (*model.taps, model.layers) if model.attend_current else model.taps
    together = gr.Textbox("", label="Shortcuts", container=False, **_hidden(named))
    if not taps:
        return together
    with gr.Accordion("Shortcuts", open=False, elem_classes="more shortcuts"):
        gr.HTML(
            '<p class="facts">How much each tapped block counts in the attention of the last one: 1 as trained, 0 not '
            "at all. What it costs is said when the run is done.</p>"
        )
        made = [gr.Slider(0, MOST_GAIN, 1, step=0.05, label=f"Block {tap}", **named(f"tap-{tap}")) for tap in taps]
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    for slider in made:  # within the browser
        slider.change(None, made, together, js=_JOIN, **quick)
    together.change(None, together, made, js=_PART % len(made), **quick)
    return together


def _hidden(named: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    about = named("gains")
    return about | {"elem_classes": f"out-of-sight {about['elem_classes']}"}
