"""What the server writes of its doings: what happened, how long it took, for whom by a pseudonym; nobody's content.

No name of a prompt, a file or a page, no id, no address is written. Messages of other libraries may hold any of them,
and so may the text of an exception: of the former the library is named, of the latter its kind and the places in the
code. That holds for tracebacks which libraries print past `logging` too.
"""

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

OURS = ("ui", "shortcut_gen", "__main__", "root")
TEMPLATES = ("uvicorn",)
"""Libraries whose messages hold nothing before their arguments are filled in."""
FIELDS = ("status", "seconds", "client")
"""What a line may have beside time, level and event; `extra` of a call of `logging` gives them."""
PLACES = 8
"""Of an exception's way through the code, the innermost."""


def said(error: BaseException) -> str:
    """An exception in words that hold nothing of what was worked on."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places or 'an unknown place'}"


def _short(file: str) -> str:
    path = Path(file)
    return "/".join(path.parts[-2:])


def event_of(record: logging.LogRecord) -> str:
    """What a record says, in words that hold nobody's content."""
    root = record.name.split(".")[0]
    if root in OURS:
        text = record.getMessage()
    else:
        text = str(record.msg) if root in TEMPLATES else f"{record.name} had something to say"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {said(record.exc_info[1])}"
    return " ".join(text.split())


class Plain(logging.Formatter):
    """One line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """LEVEL: event (field value, ...)"""
        more = ", ".join(
            f"{name} {getattr(record, name)}" for name in FIELDS if getattr(record, name, None) is not None
        )
        return f"{record.levelname}: {event_of(record)}" + (f" ({more})" if more else "")


class Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event, and what there is of status, seconds and client."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "event": event_of(record)}
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        return json.dumps(line)


@contextmanager
def written(form: str = "text") -> Iterator[None]:
    """Write by these rules, to stderr, in the whole process. form: text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines() if form == "json" else Plain())
    root, ours = logging.getLogger(), logging.getLogger("ui")
    before = root.handlers[:], root.level, ours.level
    hooks = traceback.print_exc, sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.INFO if form == "json" else logging.WARNING)

    def failed(kind: type[BaseException], error: BaseException | None, _: TracebackType | None = None) -> None:
        if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
            ours.error("a fault", exc_info=error)

    def printed(*_: object, **__: object) -> None:
        kind, error = sys.exc_info()[:2]
        if kind is not None:
            failed(kind, error)

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        ours.warning("%s at %s:%d", category.__name__, _short(filename), lineno)

    # Gradio and others print the exception that they hold.
    traceback.print_exc = printed
    sys.excepthook = failed
    threading.excepthook = lambda given: failed(given.exc_type, given.exc_value)
    sys.unraisablehook = lambda given: failed(given.exc_type, given.exc_value)
    warnings.showwarning = warned  # type: ignore[assignment]
    try:
        yield
    finally:
        root.handlers[:], root.level, ours.level = before
        traceback.print_exc, sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def quiet(*modules: Any) -> None:
    """Have modules of others print nothing: Gradio prints names of files that it cannot delete."""
    for module in modules:
        module.print = lambda *_, **__: None
