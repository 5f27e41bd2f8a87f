"""A page's steps as one JSON file, and back: what a stranger has written into such a file is met here.

docs/studio.md has the format. Nothing of it is believed: sizes, kinds, ranges and names of values are looked at one by
one, and the first that is wrong is refused in a line.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from shortcut_gen.decoding.sampling import MOST_GAIN, SamplingParams
from shortcut_gen.errors import MediaError, SettingsError
from ui.text import refusals

FORMAT, VERSION = "shortcut-gen take", 1
MAX_BYTES = 8_000_000
"""Of a file that is read."""
MAX_STEPS = 200
MAX_VARIATIONS = 4
MAX_IDS = 60_000
"""Of a prompt and what follows it: twenty minutes of piano have some 40,000."""
MAX_NAME = 200
_HASH = 64
_STEP = ("number", "parent", "prompt", "settings", "checkpoint", "codec", "variations")
_PROMPT = ("name", "example", "start", "seconds", "ids")
_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "seed", "seconds")
_GAINS, _ENDING, _GUIDANCE = "tap_gains", "ending", "guidance"
_OPTIONS = (_GAINS, _ENDING, _GUIDANCE)
"""Settings that are there where a tap was turned, an end was looked for, and the prompt held to more than by itself."""
MAX_TAPS = 16


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """What made a step."""

    name: str
    """The checkpoint's."""
    sha256: str
    """Of its weights."""
    codec: str | None = None
    """sha256 of what decides what an id of its codec means; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a step goes on from."""

    name: str
    """The prompt's."""
    example: str | None = None
    """The file of an example."""
    start: float = 0.0
    """Where in it the part begins that is used, in seconds."""
    seconds: float | None = None
    """How much of it is used; None for all."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A run that is done."""

    number: int
    parent: tuple[int, int] | None
    """The step and the variation, from 1 on, that it goes on from."""
    origin: Origin
    ids: tuple[int, ...]
    """The prompt's, whatever it goes on from."""
    params: SamplingParams
    made_by: MadeBy
    variations: tuple[tuple[int, ...], ...]
    """The new ids of each; the first is variation 0 of its seed."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A page's steps."""

    tab: str
    shown: int
    """The number of one of them."""
    steps: tuple[Step, ...]
    """In the order of their numbers."""


def write(saved: Saved) -> bytes:
    """The file. A prompt that is the beginning of a step before it is written as its length."""
    known: dict[int, Step] = {}
    steps = []
    for step in saved.steps:
        ids: list[int] | int = list(step.ids)
        if step.parent and step.parent[0] in known:
            before = known[step.parent[0]]
            whole = before.ids + before.variations[step.parent[1] - 1]
            ids = len(step.ids) if whole[: len(step.ids)] == step.ids else ids
        known[step.number] = step
        settings = asdict(step.params)
        made_by = step.made_by
        steps.append(
            {
                "number": step.number,
                "parent": step.parent if step.parent and step.parent[0] in known else None,
                "prompt": asdict(step.origin) | {"ids": ids},
                "settings": {name: settings[name] for name in (*_SETTINGS, *(o for o in _OPTIONS if settings[o]))},
                "checkpoint": {"name": made_by.name, "sha256": made_by.sha256},
                "codec": {"sha256": made_by.codec} if made_by.codec else None,
                "variations": [{"ids": list(each)} for each in step.variations],
            }
        )
    file = {"format": FORMAT, "version": VERSION, "tab": saved.tab, "shown": saved.shown, "steps": steps}
    return json.dumps(file, ensure_ascii=False, separators=(",", ":")).encode()


def read(data: bytes, name: str, tab: str, vocab: int, frame: int) -> Saved:
    """The steps of a file of that name for a tab whose models have so many ids, in frames of so many.

    Raises MediaError.
    """
    try:
        if len(data) > MAX_BYTES:
            raise _WrongError(refusals.take_bytes(MAX_BYTES))
        return _saved(_parsed(data), tab, vocab, frame)
    except (_WrongError, SettingsError) as error:
        raise MediaError(refusals.take(name, str(error), isinstance(error, SettingsError))) from None


class _WrongError(Exception):
    """What is wrong with a file, as the rest of a line that begins with its name."""


def _parsed(data: bytes) -> Any:
    def constant(text: str) -> NoReturn:
        raise ValueError(text)

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=constant)
    except (ValueError, RecursionError):
        raise _WrongError(refusals.NO_JSON) from None


def _saved(file: Any, tab: str, vocab: int, frame: int) -> Saved:
    if not isinstance(file, dict) or file.get("format") != FORMAT:
        raise _WrongError(refusals.take_format(FORMAT))
    if file.get("version") != VERSION:
        raise _WrongError(refusals.take_version(_short(file.get("version")), VERSION))
    _object(file, refusals.THE_FILE, ("format", "version", "tab", "shown", "steps"))
    if file["tab"] != tab:
        raise _WrongError(refusals.take_tab(_short(file["tab"])))
    steps: dict[int, Step] = {}
    for place, one in enumerate(_list(file["steps"], "steps", 1, MAX_STEPS)):
        step = _step(one, f"steps[{place}]", steps, vocab, frame)
        if steps and step.number <= max(steps):
            raise _WrongError(refusals.take_order(f"steps[{place}]", step.number, max(steps)))
        steps[step.number] = step
    shown = _whole(file["shown"], "shown", 1, 10**6)
    if shown not in steps:
        raise _WrongError(refusals.take_shown(shown))
    return Saved(tab=tab, shown=shown, steps=tuple(steps.values()))


def _step(value: Any, at: str, before: Mapping[int, Step], vocab: int, frame: int) -> Step:
    _object(value, at, _STEP)
    parent = None
    if value["parent"] is not None:
        number, variation = (
            _whole(each, f"{at}.parent", 1, 10**6) for each in _list(value["parent"], f"{at}.parent", 2, 2)
        )
        if number not in before or variation > len(before[number].variations):
            raise _WrongError(refusals.take_parent(at, number, variation))
        parent = number, variation
    prompt = _object(value["prompt"], f"{at}.prompt", _PROMPT)
    origin = Origin(
        name=_text(prompt["name"], f"{at}.prompt.name"),
        example=None if prompt["example"] is None else _text(prompt["example"], f"{at}.prompt.example"),
        start=_number(prompt["start"], f"{at}.prompt.start", 0, 86_400),
        seconds=None if prompt["seconds"] is None else _number(prompt["seconds"], f"{at}.prompt.seconds", 0, 86_400),
    )
    if parent and isinstance(prompt["ids"], int):
        base = before[parent[0]]
        whole = base.ids + base.variations[parent[1] - 1]
        ids = whole[: _whole(prompt["ids"], f"{at}.prompt.ids", 1, len(whole))]
    else:
        ids = _ids(prompt["ids"], f"{at}.prompt.ids", vocab, MAX_IDS)
    options = [each for each in _OPTIONS if isinstance(value["settings"], dict) and each in value["settings"]]
    settings = _object(value["settings"], f"{at}.settings", (*_SETTINGS, *options))
    for name in (*_SETTINGS, *({_ENDING, _GUIDANCE} & {*options})):
        _number(settings[name], f"{at}.settings.{name}", -(2**63), 2**63)  # `SamplingParams` knows better
    if _GAINS in options:
        gains = _list(settings[_GAINS], f"{at}.settings.{_GAINS}", 1, MAX_TAPS)
        settings[_GAINS] = tuple(_number(each, f"{at}.settings.{_GAINS}", 0, MOST_GAIN) for each in gains)
    codec = value["codec"] and _object(value["codec"], f"{at}.codec", ("sha256",))["sha256"]
    checkpoint = _object(value["checkpoint"], f"{at}.checkpoint", ("name", "sha256"))
    variations = tuple(
        _ids(_object(each, f"{at}.variations[{k}]", ("ids",))["ids"], f"{at}.variations[{k}].ids", vocab, MAX_IDS)
        for k, each in enumerate(_list(value["variations"], f"{at}.variations", 1, MAX_VARIATIONS))
    )
    if any(len(ids) + len(each) > MAX_IDS for each in variations):
        raise _WrongError(refusals.take_ids(at, MAX_IDS))
    if len(ids) % frame:
        raise _WrongError(refusals.take_frames(at, len(ids), frame))
    return Step(
        number=_whole(value["number"], f"{at}.number", 1, 10**6),
        parent=parent,
        origin=origin,
        ids=ids,
        params=SamplingParams(**settings),
        made_by=MadeBy(
            name=_text(checkpoint["name"], f"{at}.checkpoint.name"),
            sha256=_hash(checkpoint["sha256"], f"{at}.checkpoint.sha256"),
            codec=None if codec is None else _hash(codec, f"{at}.codec.sha256"),
        ),
        variations=variations,
    )


def _object(value: Any, at: str, names: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise _WrongError(refusals.take_object(at, names))
    return value


def _list(value: Any, at: str, least: int, most: int) -> Sequence[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise _WrongError(refusals.take_list(at, least, most))
    return value


def _ids(value: Any, at: str, vocab: int, most: int) -> tuple[int, ...]:
    ids = _list(value, at, 0, most)
    if not all(type(each) is int and 0 <= each < vocab for each in ids):
        raise _WrongError(refusals.take_other_ids(at, vocab - 1))
    return tuple(ids)


def _whole(value: Any, at: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _WrongError(refusals.take_whole(at, _short(value), low, high))
    return value


def _number(value: Any, at: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _WrongError(refusals.take_number(at, _short(value), low, high))
    return float(value)


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        raise _WrongError(refusals.take_text(at, MAX_NAME))
    return value


def _hash(value: Any, at: str) -> str:
    if not isinstance(value, str) or len(value) != _HASH or not set(value) <= set("0123456789abcdef"):
        raise _WrongError(refusals.take_hash(at, _HASH))
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
