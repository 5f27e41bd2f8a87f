"""One click on Continue, and what became of it."""

import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shortcut_gen.pipeline import Continuation
from ui.live import LiveSound
from ui.results import Made, Result, address, together
from ui.saved import MadeBy, Origin
from ui.speech_figures import Analysis

PROGRAM = "program"
"""In place of a browser's name, of a run for a program: those have a place and results of their own (`ui.programs`)."""


class Admission(enum.Enum):
    """What a click on Continue gets."""

    SERVED = enum.auto()
    WAITS = enum.auto()
    REFUSED = enum.auto()


class Missing(enum.Enum):
    """Why a click on Continue that comes to its turn has no place."""

    TOLD = enum.auto()
    """It was refused, or the page's next click took it: the page has that one's line."""
    GIVEN_BACK = enum.auto()
    """By Stop, whose own answer may come later than this."""
    GONE = enum.auto()


@dataclass(eq=False)
class Run:
    """One click on Continue. Nothing in it is shared with another page or run."""

    folder: Path
    """Its results. The name is also the token by which the page asks for the sound while it is made."""
    older: list["Run"]
    """Earlier runs of the page, the newest first: those that made something can be shown again and gone on from."""
    stop: threading.Event = field(default_factory=threading.Event)
    sound: LiveSound = field(default_factory=LiveSound)
    results: dict[str, Result] = field(default_factory=dict)
    """By the name of the file."""
    number: int = 0
    """Of the page's steps, from 1 on."""
    parent: tuple[int, int] | None = None
    """The step and the variation, from 1 on, that it goes on from."""
    making: tuple[Continuation, ...] = ()
    """How far the variations have come, while it computes."""
    made: tuple[Continuation, ...] = ()
    sounds: tuple[Analysis, ...] = ()
    """What the page draws of variations that are no notes."""
    origin: Origin | None = None
    """What its prompt is."""
    made_by: MadeBy | None = None
    drawing: str = ""
    """What the page shows of it when it is done."""
    draw: Callable[[], str] | None = None
    """What makes the drawing of a step that was opened from a file, when it is first shown."""
    outcome: str = ""
    """The line under the buttons once it is over, as HTML."""
    asked: bool = True
    """A place was asked for, and it has not begun."""
    asked_at: float = field(default_factory=time.monotonic)
    browser: str = ""
    client: str = ""
    """Whose limits it counts against."""
    tab: str = ""
    ended: bool = False
    failed: bool = False
    """It came to nothing."""
    closed_at: float | None = None
    heard_at: float = field(default_factory=time.monotonic)
    """When its page was last heard of."""

    def offer(self, name: str, write: Callable[[Path], None], fresh: bool = False) -> str:
        """A file that is made when it is first asked for, or whenever it is; where the page finds it."""
        self.results[name] = Result(self.folder / name, write, fresh)
        return address(self.folder.name, name)

    def offer_together(self, name: str, parts: Sequence[Result], made: Made) -> str:
        """A zip of some of its files; where the page finds it."""
        self.results[name] = Result(self.folder / name, together(parts, made), light=True)
        return address(self.folder.name, name)


class Lapsed:
    """Places that went before their turn came. Gradio still holds their clicks; the last of them are known here."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._browsers: OrderedDict[tuple[str, str, str], str | None] = OrderedDict()
        """By page, tab and token; None where the place was given back."""

    def note(self, key: tuple[str, str], run: Run) -> None:
        """A place goes, given back or of a page of which nothing was heard."""
        self._browsers[*key, run.folder.name] = None if run.stop.is_set() else run.browser
        while len(self._browsers) > self._most:
            self._browsers.popitem(last=False)

    def take(self, key: tuple[str, str], token: str) -> str | None:
        """The page is there after all: its browser. None where it gave the place back, or never had it."""
        browser = self._browsers.get((*key, token))
        if browser is not None:
            del self._browsers[*key, token]
        return browser

    def knows(self, key: tuple[str, str], token: str) -> bool:
        """Whether a place was one of these."""
        return (*key, token) in self._browsers


class Watch:
    """Is told of runs, to count them (`ui.metrics`); this one does nothing."""

    def refused(self, tab: str) -> None:
        """There was no place for a run."""

    def sounded(self, run: Run) -> None:
        """The first of a run can be heard."""

    def ended(self, run: Run) -> None:
        """A run is over."""
