"""What becomes of new ids while a run goes on: a modality's pictures, sounds and files."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from shortcut_gen.pipeline import Continuation, Prompt
from ui.html import Live, Onward, Variation, variations_html
from ui.links import link
from ui.results import slug
from ui.saving import save
from ui.sessions import Run, Sessions
from ui.takes import together
from ui.text import runs


def continues(made: Continuation) -> str:
    """What a variation continues, in words."""
    name = made.prompt.name
    return runs.continues(name, name == Prompt.empty().name)


class Performance(ABC):
    """The variations of one run while they are made."""

    every_tokens: int
    """Ids between two looks."""
    redraw_seconds: float
    """Between two drawings: smooth enough for the eye, and little work beside the model's."""
    live: Live | None = None
    """The first variation while it is made, if it can be heard."""

    def hear(self, first: Continuation) -> None:  # noqa: B027, what need not be heard
        """New ids of the first variation are there."""

    def finish(self, made: Sequence[Continuation]) -> None:  # noqa: B027
        """No more ids will come."""

    def close(self) -> None:  # noqa: B027
        """Free what it holds, whether or not it was finished."""

    @abstractmethod
    def draw(self, made: Sequence[Continuation], done: Sequence[bool]) -> list[Variation]:
        """The variations as they stand."""

    @abstractmethod
    def files(self, place: int, continuation: Continuation) -> tuple[tuple[str, str, Callable[[Path], None]], ...]:
        """The files of a finished variation: a label, a suffix and what writes it when it is asked for.

        The WAV file is what its player plays; there are none where there is nothing to hear.
        """

    @abstractmethod
    def outcome(self, made: Sequence[Continuation], stopped: bool, took: float) -> str:
        """What is said when all is done after so many seconds."""


def finished(run: Run, performance: Performance, made: Sequence[Continuation], sessions: Sessions, tab: str) -> str:
    """The variations as they stay, with players and files, and what can be had of all of them together."""
    variations = performance.draw(made, (True,) * len(made))
    step = f"-step-{run.number}" if run.number > 1 else ""
    every: list[str] = []
    for place, each in enumerate(made):
        stem = f"{slug(each.prompt.name)}{step}-seed{each.seed}-variation-{each.variation + 1}"
        files = tuple(
            (label, f"{stem}{suffix}", run.offer(f"{stem}{suffix}", write))
            for label, suffix, write in performance.files(place, each)
        )
        if files:
            every += [name for _, name, _ in files]
            onward = Onward(f"{run.number}.{place + 1}", each.seconds)
            sound = next(where for label, _, where in files if label == runs.WAV)
            origin = variations[place].prompt
            if run.parent:
                origin = runs.onward(origin, run.parent[1], run.parent[0], each.seam_seconds)
            variations[place] = replace(variations[place], prompt=origin, sound=sound, files=files, onward=onward)
    stem = f"{slug(made[0].prompt.name)}{step}-seed{made[0].seed}"
    take = f"{stem}-take.json"
    links = [(runs.SAVE_TAKE, take, run.offer(take, save(sessions, tab, run), fresh=True))]
    if every:
        parts = [run.results[name] for name in (*every, take)]
        links.append((runs.ALL_FILES, f"{stem}.zip", run.offer_together(f"{stem}.zip", parts, sessions.made)))
    return variations_html(variations) + together(run, links, link(run, made, tab))
