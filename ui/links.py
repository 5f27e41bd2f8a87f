"""Links that set the fields of a tab for an example prompt, and fields as a page remembers them over a reload."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.base import Usual
from shortcut_gen.pipeline import Continuation
from ui.registry import TABS
from ui.sessions import Run
from ui.settings import ON_PAGE, Asked, planned
from ui.text import refusals
from ui.values import chosen, number, shown

LENGTH = 600
"""Characters of a link's query that are read."""
KEPT = 900
"""Characters of what a page remembers of a tab."""
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?")
_NAMES = ("prompt", "start", "used", "seconds", "variations", "temperature", "top_p", "top_k", "min_p", "seed", "model")
_OPTIONS = ("guidance", "gains", "ending")

_READ = """(name, most, length) => {
  window.came ??= { link: location.search, tabs: [] };
  if (location.search) history.replaceState(null, "", location.pathname);  // a reload brings back what is set then
  const kept = sessionStorage.getItem(`shortcut-gen ${name}`) || "";
  window.came.tabs.push(name);
  return [window.came.link.slice(0, length), kept.length > most ? "" : kept];
}"""
"""What the page came with: its link's query, and what it remembers of a tab."""
_WRITE = """(name, values) => {
  if (!window.came || !window.came.tabs.includes(name)) return;  // not before it is read
  const plain = values.map((value) => (value && typeof value === "object" ? value.path : value));
  sessionStorage.setItem(`shortcut-gen ${name}`, JSON.stringify(plain));
}"""
"""Remembers the fields of a tab."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What a tab is to be set to."""

    choice: str | None
    upload: str | None
    start: float | None
    used: float | None
    settings: tuple[Any, ...]
    """In the order of `Tab.run`, from `seconds` on."""


def reader(name: str) -> str:
    """The script with which the page's first event reads what it came with."""
    return f"() => ({_READ})({json.dumps(name)}, {KEPT}, {LENGTH})"


def writer(name: str) -> str:
    """The script that remembers the values that an event is given."""
    return f"(...values) => {{ ({_WRITE})({json.dumps(name)}, values); return []; }}"


def link(run: Run, made: Sequence[Continuation], tab: str) -> str:
    """The query of a link that sets prompt, settings and seed of a step; "" where its prompt is no example's."""
    origin = run.origin
    if origin is None or origin.example is None or run.parent:
        return ""
    params, model = made[0].params, run.made_by.name if run.made_by else ""
    values = {
        "tab": tab,
        "prompt": origin.example,
        "start": origin.start or None,
        "used": origin.seconds,
        "seconds": params.seconds,
        "variations": len(made),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or None,
        "min_p": params.min_p or None,
        "guidance": params.guidance,
        "seed": params.seed,
        "model": model,
        "gains": ",".join(f"{gain:g}" for gain in params.tap_gains) or None,
        "ending": None if params.ending is None else 1,
    }
    said = {name: f"{each:g}" if isinstance(each, float) else each for name, each in values.items()}
    return "?" + urlencode({name: each for name, each in said.items() if each is not None})


def _values(query: str) -> dict[str, str]:
    """What a link's query says. Raises SettingsError."""
    try:
        return dict(parse_qsl(query[:LENGTH].removeprefix("?"), keep_blank_values=True, max_num_fields=30))
    except ValueError as error:
        raise SettingsError(refusals.link_unread(str(error))) from None


def tab_of(query: str, tabs: Collection[str]) -> str | None:
    """The tab that a link opens; None where it names none that is there."""
    try:
        tab = _values(query).get("tab")
    except SettingsError:  # `from_link` says so
        return None
    return tab if tab in tabs else None


def from_link(
    query: str,
    tab: str,
    examples: Collection[str],
    usual: Usual,
    most: tuple[float, float],
    checkpoints: Collection[str],
) -> Fields | None:
    """What a link sets; None where it sets nothing of this tab. most: how much of a prompt can be used, and how long a
    run can be. Raises SettingsError.
    """
    values, first = _values(query), next(iter(TABS))
    named = values.get("tab", first)
    if named not in TABS and tab == first:
        raise SettingsError(refusals.link(refusals.link_tab(shown(named), TABS)))
    if named != tab or not set(values) & {*_NAMES, *_OPTIONS}:
        return None

    def value(name: str, usual: object) -> object:
        text = values.get(name)
        if text is None:
            return usual
        return float(text) if _NUMBER.fullmatch(text) else text

    def read() -> Fields:
        choice = chosen(values.get("prompt", next(iter(examples))), refusals.PROMPT, examples)
        asked = Asked(
            seconds=value("seconds", usual.seconds),
            variations=value("variations", 1),
            temperature=value("temperature", 1.0),
            top_p=value("top_p", usual.top_p),
            top_k=value("top_k", 0),
            min_p=value("min_p", 0.0),
            guidance=value("guidance", usual.guidance),
            fresh="seed" not in values,
            seed=value("seed", 0),
            checkpoint=values.get("model"),
            gains=values.get("gains", ""),
            ending={"1": True, "0": False}.get(given := values.get("ending", "0"), given),
        )
        plan = planned(asked, most[1], checkpoints, ON_PAGE, usual.guidance)
        used = value("used", None)
        return Fields(
            choice=choice,
            upload=None,
            start=number(value("start", 0.0), ON_PAGE["start"], 0, 86_400),
            used=None if used is None else number(used, ON_PAGE["used"], 0, most[0]),
            settings=(
                plan.params.seconds,
                plan.count,
                plan.params.temperature,
                plan.params.top_p,
                plan.params.top_k,
                plan.params.min_p,
                plan.params.guidance,
                asked.fresh,
                plan.params.seed,
                plan.checkpoint or next(iter(checkpoints)),
                asked.gains,
                asked.ending,
            ),
        )

    try:
        return read()
    except SettingsError as error:
        raise SettingsError(refusals.link(str(error))) from None


def from_page(
    kept: str,
    examples: Collection[str],
    most: tuple[float, float],
    checkpoints: Collection[str],
    is_upload: Callable[[str], bool],
) -> Fields | None:
    """What a page remembers, as `writer` wrote it; None where there is nothing, or what is no more."""
    try:
        choice, upload, start, used, *settings = json.loads(kept)
        asked = Asked.in_order(*settings)
        if not isinstance(asked.gains, str):
            return None
        planned(asked, most[1], checkpoints, ON_PAGE, 0.0)
        return Fields(
            choice=chosen(choice, refusals.PROMPT, examples),
            upload=upload if isinstance(upload, str) and is_upload(upload) else None,
            start=number(start, ON_PAGE["start"], 0, 86_400),
            used=number(used, ON_PAGE["used"], 0, most[0]),
            settings=tuple(settings),
        )
    except (ValueError, TypeError, RecursionError, SettingsError):
        return None
