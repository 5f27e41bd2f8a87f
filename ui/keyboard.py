"""The piano keyboard of the page: its samples, made of the piano that is here, and the piece of HTML it lies in.

A key must sound at once, so the browser plays samples by itself (`static/keyboard-sound.js`). They are rendered note by
note when a page first asks for them, and kept compressed: 3 MB in all, which every page of the server shares.
"""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from string import Template

import numpy as np
import soundfile
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shortcut_gen.errors import MediaError
from shortcut_gen.media import Note, Score
from shortcut_gen.media.render import render
from ui.text import keyboard as words

PITCHES = tuple(range(21, 109, 3))
"""Of the samples; what lies between is played a little faster or slower."""
VELOCITIES = (36, 72, 108)
"""Of the samples: a piano that is struck harder is brighter, not only louder."""
SAMPLE_RATE = 44100
LONGEST = (6.0, 2.0)
"""Seconds of the lowest and of the highest sample at most; a string that rings for longer is faded out."""
INAUDIBLE = 0.003
"""Where a sample may end: 50 dB under its loudest moment."""
LEAST_SECONDS = 0.5
PAGE = Path(__file__).with_name("static") / "keyboard.html"
_FADE_SECONDS = 0.25  # at least, and a quarter of a sample
_BLOCK = 4096  # libsndfile's Vorbis overflows its stack on a long sound given at once
_KEPT = {"Cache-Control": "private, max-age=3600"}


def strike(pitch: int, velocity: int) -> NDArray[np.float32]:
    """A key that is held down until it is hardly heard, (2, S) at SAMPLE_RATE. Raises MediaError."""
    seconds = float(np.interp(pitch, (PITCHES[0], PITCHES[-1]), LONGEST))
    score = Score(notes=(Note(pitch=pitch, velocity=velocity, start=0.0, end=seconds),))
    samples = render(score, sample_rate=SAMPLE_RATE).samples[:, : round(seconds * SAMPLE_RATE)]
    loud = np.abs(samples).max(axis=0)
    heard = np.flatnonzero(loud > INAUDIBLE * loud.max(initial=0.0))
    last = int(heard[-1]) + 1 if len(heard) else 0
    samples = samples[:, : max(last, round(LEAST_SECONDS * SAMPLE_RATE))].copy()
    fade = max(samples.shape[1] // 4, round(_FADE_SECONDS * SAMPLE_RATE))
    samples[:, -fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return samples


def compress(samples: NDArray[np.float32]) -> bytes:
    """(2, S) at SAMPLE_RATE as Ogg Vorbis, which begins with the very first sample."""
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", SAMPLE_RATE, len(samples), format="OGG", subtype="VORBIS", compression_level=0.7
    ) as file:
        for at in range(0, samples.shape[1], _BLOCK):
            file.write(samples[:, at : at + _BLOCK].T)
    return out.getvalue()


def make(pitch: int, velocity: int) -> bytes:
    """A sample as the page loads it. Raises MediaError where nothing can render."""
    return compress(strike(pitch, velocity))


class Bank:
    """The samples that were asked for so far. One is made at a time: pages that ask at once share the work."""

    def __init__(self, make: Callable[[int, int], bytes] = make) -> None:
        self._make = make
        self._made: dict[tuple[int, int], bytes] = {}
        self._turn = asyncio.Lock()

    async def sample(self, pitch: int, velocity: int) -> bytes:
        """Raises MediaError where nothing can render."""
        key = (pitch, velocity)
        async with self._turn:
            if key not in self._made:
                self._made[key] = await run_in_threadpool(self._make, pitch, velocity)
            return self._made[key]

    async def listing(self, _: Request) -> Response:
        """Which samples there are; `problem` says why there is no sound, if so."""
        problem = ""
        try:
            await self.sample(60, VELOCITIES[1])
        except MediaError as error:
            problem = str(error)
        return JSONResponse({"pitches": PITCHES, "velocities": VELOCITIES, "problem": problem})

    async def answer(self, request: Request) -> Response:
        """One of them."""
        pitch, velocity = request.path_params["pitch"], request.path_params["velocity"]
        if pitch not in PITCHES or velocity not in VELOCITIES:
            return Response("there is no such sample", status_code=404, media_type="text/plain")
        try:
            return Response(await self.sample(pitch, velocity), media_type="audio/ogg", headers=_KEPT)
        except MediaError as error:
            return Response(str(error), status_code=503, media_type="text/plain")


def routes(bank: Bank | None = None) -> list[Route]:
    """Where a page finds the samples; the addresses are among those that `ui.guard` lets in."""
    bank = bank or Bank()
    return [
        Route("/static/keyboard.json", bank.listing),
        Route("/static/keyboard/{pitch:int}-{velocity:int}.ogg", bank.answer),
    ]


def panel() -> str:
    """The keyboard as HTML, closed; static/keyboard.js fills and plays it."""
    said = {name: text for name, text in vars(words).items() if isinstance(text, str) and name.isupper()}
    return Template(PAGE.read_text(encoding="utf-8")).substitute(said)
