"""Running the piano tab as the page does, without a browser."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shortcut_gen.media import Note, Score
from ui.piano import PianoTab

FIRST = "bach-prelude-c.mid"
SETTINGS: dict[str, Any] = {
    "start": 0.0,
    "used": 5.0,
    "seconds": 3.0,
    "variations": 1,
    "temperature": 1.0,
    "top_p": 0.95,
    "top_k": 0,
    "min_p": 0.0,
    "guidance": 0.0,
    "fresh_seed": False,
    "seed": 7,
    "checkpoint": None,
    "gains": "",
    "ending": False,
}


def page(key: str = "page") -> Any:
    return SimpleNamespace(session_hash=key)


def run(  # type: ignore[no-untyped-def]
    do: PianoTab,
    choice: str | None = FIRST,
    upload: str | None = None,
    key: str = "page",
    token: str | None = None,
    **changes: Any,
):
    return do.run(token, choice, upload, *(SETTINGS | changes).values(), request=page(key))


def go_on(do: PianoTab, origin: Any, key: str = "page", **changes: Any) -> list[tuple[Any, ...]]:
    settings = {name: value for name, value in (SETTINGS | changes).items() if name not in ("start", "used")}
    return list(do.go_on(None, origin, *settings.values(), request=page(key)))


def token(steps: list[tuple[Any, ...]]) -> str:
    """Of the run whose sound the page was told to ask for."""
    found = {t for step in steps for t in re.findall(r'data-live="live/(\w+)"', str(step[1]))}
    assert len(found) == 1
    return found.pop()


def late(folder: Path) -> str:
    """A file of one note after three seconds of silence."""
    Score(notes=(Note(pitch=60, velocity=80, start=3.0, end=4.0),)).write(folder / "late.mid")
    return str(folder / "late.mid")
