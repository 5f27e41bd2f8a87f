"""Values that come from the page, or from anyone who writes to its address: checked here, each refused in a line."""

from collections.abc import Collection
from typing import Any

import gradio as gr

from shortcut_gen.errors import SettingsError
from ui.text import refusals


def take_as_sent() -> None:
    """Have Gradio's components hand on what they are sent: their own checks end in a traceback or an empty "Error".

    For the whole process, as Gradio makes a component anew from its class where an event has changed it for a page; and
    a class of our own would make Gradio write a stub beside this file.
    """
    for kind in (gr.Checkbox, gr.Dropdown, gr.Number, gr.Radio, gr.Slider):
        kind.preprocess = _same  # type: ignore[method-assign, assignment]
    gr.File.preprocess = _path  # type: ignore[method-assign, assignment]


def _same(_: Any, value: Any) -> Any:
    return value


def _path(_: Any, file: Any) -> Any:
    """Of an uploaded file, its path; `ui.guard` and Gradio have seen by then that it is one of the uploads."""
    return None if file is None else file.path


def number(value: object, name: str, low: float, high: float) -> float:
    """A finite number in a range. Raises SettingsError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    raise SettingsError(refusals.number(name, shown(value), low, high))


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number in a range; a number field gives None when empty and may give a float. Raises SettingsError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and value == int(value):
        return int(value)
    raise SettingsError(refusals.whole(name, shown(value), low, high))


def switch(value: object, name: str) -> bool:
    """On or off. Raises SettingsError."""
    if not isinstance(value, bool):
        raise SettingsError(refusals.switch(name, shown(value)))
    return value


def chosen(value: object, name: str, among: Collection[str]) -> str | None:
    """One of some names, or None. Raises SettingsError."""
    if value is None or (isinstance(value, str) and value in among):
        return value
    raise SettingsError(refusals.chosen(name, shown(value), among))


def shown(value: object) -> str:
    """A value as a message has it, short."""
    if value is None:
        return refusals.EMPTY
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
