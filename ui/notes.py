"""What the page draws of a run: each note is sent once, when it has ended, and of sound each column once.

`static/notes.js` asks again and again while a run goes on, and says how much of each variation it has.
"""

import gzip
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shortcut_gen.media import Note
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Continuation
from ui import depth
from ui.piano_figures import MAX_DRAWN, Roll, describe, numbers
from ui.sessions import Run
from ui.speech_figures import Analysis, Sketch, columns
from ui.speech_figures import describe as described
from ui.text import refusals, runs


def address(token: str, place: int) -> str:
    """Where a page asks for the notes of a run, relative to the page, and which of its variations a roll shows."""
    return f"notes/{token}#{place}"


def new_seconds(made: Continuation) -> float:
    """How long a continuation lasts without its prompt."""
    return max(made.seconds - made.seam_seconds, 0.0)


def facts(made: Continuation, done: bool, new: float | None = None) -> str:
    """How far a variation has come, in words. new: how long it is without its prompt, if it is not as its ids say."""
    new = new_seconds(made) if new is None else new
    return runs.new(new, made.seed) if done else runs.so_far(new, made.params.seconds or new, made.seed)


def ended(notes: Iterable[Note], now: float | None) -> tuple[list[Note], list[Note]]:
    """The notes that have ended before `now`, in seconds, in the order of their ends; and those that may still sound.

    What has ended stays so: as more ids come, the first list only grows at its end. None: all have ended.
    """
    in_order = sorted(notes, key=lambda note: (note.end, note.start, note.pitch))
    over = sum(note.end < now for note in in_order) if now is not None else len(in_order)
    return in_order[:over], in_order[over:]


def row(made: Continuation, done: bool, after: int, bins: int = 0) -> dict[str, Any]:
    """One variation as the page reads it, without the first `after` notes and `bins` of the strip, which it has.

    notes, open: those that have ended and those that still sound, as `numbers` has them. taps, drew, drewOpen, strip,
    heads and headStrips at the end: what `ui.depth` says of them, where the run was asked for it.
    """
    told: dict[str, Any] = {"after": 0, "notes": [], "open": []}
    if isinstance(made.tokenizer, PianoTokenizer):
        over, still = ended(made.score.notes[:MAX_DRAWN], None if done else made.seconds)
        roll = Roll(score=made.score, seam=made.seam_seconds, seconds=made.seconds)
        told = {"after": min(after, len(over)), "notes": numbers(over[after:]), "open": numbers(still)}
        told |= {"facts": facts(made, done), "said": describe(roll)}
        if made.depth is not None:
            drew = depth.drawn(made, [*over, *still])
            told |= {"drew": drew[after : len(over)], "drewOpen": drew[len(over) :]}
    if made.depth is not None:
        told |= {"taps": list(made.depth.taps), "strip": depth.strip(made, done, bins)}
        told |= {"heads": depth.heads(made), "headStrips": depth.head_strips(made)} if done else {}
    return told


def sound(made: Continuation, analysis: Analysis, done: bool) -> dict[str, Any]:
    """What is said of a variation that is sound."""
    new = max(analysis.seconds - made.seam_seconds, 0.0)
    sketch = Sketch(sample_rate=analysis.sample_rate, seam=made.seam_seconds, seconds=analysis.seconds)
    return {"facts": facts(made, done, new), "said": described(sketch, analysis.seconds)}


def sounds(run: Run, after: Sequence[int]) -> list[dict[str, Any]]:
    """The columns of the variations that are sound, without those that the page has. What a later one has in common
    with the first, their prompt, is not told again: `after` may be more than the page has of it."""
    there = [columns(each) for each in run.sounds]
    return [
        each.told(max(have, each.shared(there[0]) if place else 0))
        for place, (each, have) in enumerate(zip(there, after, strict=False))
    ]


def counts(text: str) -> list[int]:
    """How many notes of each variation a page has, of "12,7,30"; what is no such number is 0."""
    parts = text.split(",")[:16]
    return [int(part) if part.isascii() and part.isdigit() and len(part) < 8 else 0 for part in parts]


def rows(run: Run, after: Sequence[int], bins: Sequence[int] = ()) -> dict[str, Any]:
    """All variations of a run as they stand."""
    done = bool(run.made)
    made = run.made or run.making
    after, bins = [*after, *(0 for _ in made)], [*bins, *(0 for _ in made)]
    told = [row(each, done, *have) for each, *have in zip(made, after, bins, strict=False)]
    for each, one, analysis, heard in zip(told, made, run.sounds, sounds(run, after), strict=False):
        each |= heard | sound(one, analysis, done)
    return {"done": done, "over": done or run.ended, "rows": told}


def route(find: Callable[[str], Run | None]) -> Route:
    """Serves the notes of the run that `find` gives for its token; 404 where there is none.

    The query's `after` and `bins` say how many notes and bins of each variation the page has.
    """

    async def serve(request: Request) -> Response:
        run = find(request.path_params["token"])
        if run is None:
            return JSONResponse({"error": refusals.RUN_GONE}, 404)
        asked = request.query_params
        have, bins = counts(asked.get("after", "")), counts(asked.get("bins", ""))
        found = await run_in_threadpool(rows, run, have, bins)
        answer = JSONResponse(found, headers={"Cache-Control": "no-store", "Vary": "Accept-Encoding"})
        if "gzip" in request.headers.get("accept-encoding", ""):
            answer.body = gzip.compress(answer.body, 5)
            answer.headers["Content-Encoding"] = "gzip"
            answer.headers["Content-Length"] = str(len(answer.body))
        return answer

    return Route("/notes/{token}", serve)
