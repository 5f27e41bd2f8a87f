"""Saving a page's steps to a file; `ui.saved` has its format, `ui.opening` opens it."""

from collections.abc import Callable
from pathlib import Path

from shortcut_gen.errors import MediaError
from shortcut_gen.files import write_whole
from shortcut_gen.pipeline import Prompt
from ui.saved import MAX_BYTES, Origin, Saved, Step, write
from ui.sessions import Run, Sessions
from ui.text import refusals


def save(sessions: Sessions, tab: str, run: Run) -> Callable[[Path], None]:
    """What writes all steps of a run's page, this one as the one that is shown."""

    def to(path: Path) -> None:
        steps = [_saved(each) for each in sessions.beside(run)]
        data = write(Saved(tab=tab, shown=run.number, steps=tuple(steps)))
        if len(data) > MAX_BYTES:
            raise MediaError(refusals.take_too_large(len(data), MAX_BYTES))
        write_whole(path, data)

    return to


def _saved(run: Run) -> Step:
    first = run.made[0]
    assert run.origin is not None and run.made_by is not None
    return Step(
        number=run.number,
        parent=run.parent,
        origin=run.origin,
        ids=first.prompt_ids,
        params=first.params,
        made_by=run.made_by,
        variations=tuple(each.ids for each in run.made),
    )


def origin_of(prompt: Prompt, example: str | None) -> Origin:
    """What a prompt was, for the file."""
    return Origin(name=prompt.name[:200], example=example, start=prompt.start, seconds=prompt.seconds)
