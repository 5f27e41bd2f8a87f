"""A page's steps as a tree: which variation each went on from, drawn small; and what a click on it means."""

import re
from collections.abc import Sequence
from html import escape

from shortcut_gen.errors import SettingsError
from ui.sessions import Run
from ui.text import refusals, runs

_WHERE = re.compile(r"(\d{1,6})(?:\.(\d{1,2}))?(?:@(\d{1,7}(?:\.\d{1,3})?))?")


def where(text: object) -> tuple[int, int | None, float | None]:
    """(number of a step, variation from 1 on, seconds) of "3", "3.2" or "3.2@41.5". Raises SettingsError."""
    found = _WHERE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise SettingsError(refusals.where(str(text)[:40]))
    step, variation, seconds = found.groups()
    return int(step), int(variation) if variation else None, float(seconds) if seconds else None


def step_of(steps: Sequence[Run], number: int) -> Run:
    """The step of that number. Raises SettingsError where it is gone."""
    found = next((step for step in steps if step.number == number), None)
    if found is None:
        raise SettingsError(refusals.step_gone(number))
    return found


def neighbour(steps: Sequence[Run], shown: Run | None, change: int) -> Run:
    """The step made before (-1) or after (1) the one that is shown. Raises SettingsError where there is none."""
    numbers = [step.number for step in steps]
    place = numbers.index(shown.number) + change if shown is not None and shown.number in numbers else -1
    if not 0 <= place < len(steps):
        raise SettingsError(refusals.NO_STEP)
    return steps[place]


def _said(step: Run) -> str:
    """A step in words."""
    first = step.made[0]
    return runs.step(step.number, len(step.made), first.prompt.name, step.parent, first.seed)


def tree(steps: Sequence[Run], shown: Run | None) -> str:
    """The steps as nested lists of buttons, with one back and one forward; "" before there are two."""
    if len(steps) < 2:
        return ""
    known = {step.number for step in steps}

    def branch(parent: int | None) -> str:
        children = [
            step for step in steps if (step.parent[0] if step.parent and step.parent[0] in known else None) == parent
        ]
        items = "".join(
            f'<li><button type="button" class="node" data-show="{step.number}" title="{escape(_said(step))}"'
            f' aria-label="{escape(_said(step))}"{" aria-current=true" if step is shown else ""}>{step.number}</button>'
            f"{branch(step.number)}</li>"
            for step in children
        )
        return f"<ul>{items}</ul>" if items else ""

    place = [step.number for step in steps].index(shown.number) if shown is not None else len(steps) - 1
    sides = "".join(
        f'<button type="button" class="side" data-show="{target}" aria-label="{label}"'
        f"{'' if there else ' disabled'}>{sign}</button>"
        for target, label, sign, there in (
            ("back", runs.BEFORE, runs.BEFORE_SIGN, place > 0),
            ("forward", runs.AFTER, runs.AFTER_SIGN, place < len(steps) - 1),
        )
    )
    return f'<nav class="tree" aria-label="{runs.STEPS}">{sides}{branch(None)}</nav>'


def together(run: Run, links: Sequence[tuple[str, str, str]], query: str = "") -> str:
    """Under a step's variations: what can be had of all of them, and the button that makes others of its prompt.

    links: labels, names of files and their addresses. query: of a link that sets its prompt and settings.
    """
    files = "".join(
        f'<a class="button" href="{escape(where)}" download="{escape(name)}">{escape(label)}</a>'
        for label, name, where in links
    )
    copy = (
        f'<button type="button" class="button" data-link="{escape(query)}">{runs.COPY_LINK}</button>' if query else ""
    )
    return (
        f'<div class="together" role="group" aria-label="{runs.all_of_step(run.number)}">{files}{copy}'
        f'<button type="button" class="button" data-where="{run.number}.0">{runs.AGAIN}</button></div>'
    )
