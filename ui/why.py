"""Why a note, as far as attention says it: what the model looked at when it drew the note's id, and what was likelier.

Attention, not cause. It is read anew when it is asked for (`shortcut_gen.explain`), one note at a time.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.explain import Explanation, explain
from shortcut_gen.modalities.piano import NOTE_OFF, TICKS_PER_SECOND, TIME_SHIFT, VELOCITY, PianoTokenizer, bin_velocity
from shortcut_gen.pipeline import Continuation
from ui.models import Models
from ui.sessions import Run
from ui.text import pictures, refusals

READ = 200
"""Places and taps of which the attention is told, most first."""
LIKELIEST = 6
"""Alternatives that are told."""
_TURN = threading.BoundedSemaphore(1)
"""One explanation at a time: each is a whole pass of the model."""


def word(token: int) -> str:
    """A piano id in words."""
    if token >= VELOCITY:
        return pictures.loudness(bin_velocity(token - VELOCITY))
    if token >= TIME_SHIFT:
        return pictures.pause((token - TIME_SHIFT + 1) / TICKS_PER_SECOND)
    return pictures.end_of(token - NOTE_OFF) if token >= NOTE_OFF else pictures.pitch(token)


def struck(ids: Sequence[int]) -> list[tuple[int, int] | None]:
    """For each id the note that it begins or ends, as pitch and start in hundredths of a second; None for others."""
    tick, sounding = 0, dict[int, tuple[int, int]]()
    found: list[tuple[int, int] | None] = []
    for token in ids:
        if TIME_SHIFT <= token < VELOCITY:
            tick += token - TIME_SHIFT + 1
        if token < NOTE_OFF:
            sounding[token] = (token, tick)
        found.append(sounding.get(token % NOTE_OFF) if token < TIME_SHIFT else None)
    return found


def told(explanation: Explanation, ids: Sequence[int]) -> dict[str, Any]:
    """An explanation as the page reads it.

    looked: notes that were attended to, most first, each its pitch, its start in hundredths of a second, its weight in
    thousandths, and the tap through which most of that came. shares: the taps' own, in thousandths; heads: the same of
    each head.
    """
    notes = struck(ids)
    weights: dict[tuple[int, int], dict[int, float]] = {}
    for position, tap, weight in explanation.attended:
        if note := notes[position]:
            taps = weights.setdefault(note, {})
            taps[tap] = taps.get(tap, 0.0) + weight
    looked = sorted(weights.items(), key=lambda item: -sum(item[1].values()))
    return {
        "word": word(explanation.token),
        "probability": explanation.probability,
        "likeliest": [[word(each.token), each.probability] for each in explanation.alternatives if each.allowed],
        "taps": list(explanation.taps),
        "shares": [round(1000 * share) for share in explanation.shares],
        "heads": [[round(1000 * share) for share in shares] for shares in explanation.by_head],
        "looked": [
            [*note, round(1000 * sum(taps.values())), max(taps, key=lambda tap: taps[tap])] for note, taps in looked
        ],
    }


def why(made: Continuation, place: int, models: Mapping[str, Models], name: str | None) -> dict[str, Any]:
    """What is told of the new id at `place`. name: of the checkpoint that drew it. Raises ShortcutGenError."""
    ids, before = made.prompt_ids + made.ids, len(made.prompt_ids)
    pipeline = models[made.tokenizer.name].pipeline(name)
    with _TURN:
        explanation = explain(pipeline, ids[: before + place + 1], before + place, before, READ, made.params.tap_gains)
    found = told(explanation, ids)
    return found | {"likeliest": found["likeliest"][:LIKELIEST]}


def route(find: Callable[[str], Run | None], models: Mapping[str, Models]) -> Route:
    """Serves the explanation of a new id of the run that `find` gives for its token; 404 where there is none."""

    async def answer(request: Request) -> Response:
        run = find(request.path_params["token"])
        made, at = (run.made or run.making) if run else (), request.path_params
        if run is None or at["variation"] >= len(made) or at["place"] >= len(made[at["variation"]].ids):
            return JSONResponse({"error": refusals.NOTE_GONE}, 404)
        variation = made[at["variation"]]
        if not isinstance(variation.tokenizer, PianoTokenizer):
            return JSONResponse({"error": refusals.NOTES_ONLY}, 404)
        name = run.made_by.name if run.made_by else None
        try:
            found = await run_in_threadpool(why, variation, at["place"], models, name)
        except ShortcutGenError as error:
            return JSONResponse({"error": str(error)}, 422)
        return JSONResponse(found, headers={"Cache-Control": "private, max-age=3600"})

    return Route("/why/{token}/{variation:int}/{place:int}", answer)
