"""The notes of a run for the page's drawing: each is sent once, when it has ended, so that what grows costs little.

`static/notes.js` asks again and again while a run goes on, and says how many notes of each variation it has.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shortcut_gen.media import Note
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation
from ui.piano_figures import MAX_DRAWN, Roll, describe, numbers
from ui.sessions import Run


def address(token: str, place: int) -> str:
    """Where a page asks for the notes of a run, relative to the page, and which of its variations a roll shows."""
    return f"notes/{token}#{place}"


def new_seconds(made: Continuation) -> float:
    """How long a continuation lasts without its prompt."""
    return max(made.seconds - made.seam_seconds, 0.0)


def facts(made: Continuation, done: bool) -> str:
    """How far a variation has come, in words."""
    new = new_seconds(made)
    length = f"{new:.1f} s new" if done else f"{new:.1f} of {made.params.seconds or new:.0f} s"
    return f"{length}, seed {made.seed}"


def ended(notes: Iterable[Note], now: float | None) -> tuple[list[Note], list[Note]]:
    """The notes that have ended before `now`, in seconds, in the order of their ends; and those that may still sound.

    What has ended stays so: as more ids come, the first list only grows at its end. None: all have ended.
    """
    in_order = sorted(notes, key=lambda note: (note.end, note.start, note.pitch))
    over = sum(note.end < now for note in in_order) if now is not None else len(in_order)
    return in_order[:over], in_order[over:]


def row(made: Continuation, done: bool, after: int) -> dict[str, Any]:
    """One variation as the page reads it, without the first `after` notes, which it has.

    notes, open: those that have ended and those that still sound, as `numbers` has them.
    """
    over, still = ended(made.score.notes[:MAX_DRAWN], None if done else made.seconds)
    roll = Roll(score=made.score, seam=made.seam_seconds, seconds=made.seconds)
    return {
        "after": min(after, len(over)),
        "notes": numbers(over[after:]),
        "open": numbers(still),
        "facts": facts(made, done),
        "said": describe(roll),
    }


def counts(text: str) -> list[int]:
    """How many notes of each variation a page has, of "12,7,30"; what is no such number is 0."""
    parts = text.split(",")[:16]
    return [int(part) if part.isascii() and part.isdigit() and len(part) < 8 else 0 for part in parts]


def rows(run: Run, after: Sequence[int]) -> dict[str, Any]:
    """All variations of a run as they stand."""
    done = bool(run.made)
    made = run.made or run.making
    known = [*after, *(0 for _ in made)]
    drawn = [
        row(each, done, have)
        for each, have in zip(made, known, strict=False)
        if isinstance(each.tokenizer, PianoTokenizer)
    ]
    return {"done": done, "over": done or run.ended, "rows": drawn}


def route(find: Callable[[str], Run | None]) -> Route:
    """Serves the notes of the run that `find` gives for its token; 404 where there is none.

    The query's `after` says how many notes of each variation the page has.
    """

    async def answer(request: Request) -> Response:
        run = find(request.path_params["token"])
        if run is None:
            return JSONResponse({"error": "this run is not there any more"}, 404)
        found = await run_in_threadpool(rows, run, counts(request.query_params.get("after", "")))
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    return Route("/notes/{token}", answer)
