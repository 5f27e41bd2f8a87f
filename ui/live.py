"""Sound that a page plays while it is made: plain 16-bit samples, over short HTTP answers.

Gradio's own streaming audio is encoded by a program named ffmpeg, which must be installed, and what the listener gets
is not the samples that were made. These are, to a 16th bit, and without a gap: `static/live.js` puts each piece at the
very sample where the one before it ends. No answer stays open: a browser has six connections to a host, for all tabs.
"""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

POLL_SECONDS = 0.02
"""How often an answer looks for more; well under what a page has buffered."""
WAIT_SECONDS = 0.5
"""How long an answer goes on."""
PIECE_BYTES = 64 * 1024
"""Of sound that are handed on at a time, the next once these were taken: what nobody takes is held but once."""
_PLACE = re.compile(r"[0-9]{1,12}")
FULL_SCALE = 32767
"""What 1.0 is as a 16-bit sample, as in the WAV files."""


class LiveSound:
    """Sound that grows in one thread while answers read it in another."""

    def __init__(self) -> None:
        self._samples = bytearray()
        self._closed = False
        self._asked_at = time.monotonic()
        self._lock = threading.Lock()
        self.first: Callable[[], None] | None = None
        """Is called when there is something to hear for the first time."""

    def push(self, samples: NDArray[np.float32]) -> None:
        """Add (S,) samples in [-1, 1], or (C, S) of several channels, always as many."""
        whole = np.rint(np.clip(samples.T, -1.0, 1.0) * FULL_SCALE).astype("<i2")  # channels lie side by side
        with self._lock:
            self._samples += whole.tobytes()
        if self.first is not None and whole.size:
            self.first()
            self.first = None

    def close(self) -> None:
        """No more will come."""
        with self._lock:
            self._closed, self._asked_at = True, time.monotonic()

    def forget(self) -> None:
        """Whoever hears it has heard all."""
        with self._lock:
            self._samples = bytearray()

    def forget_unheard(self, seconds: float) -> None:
        """The same if nobody has asked for more for so long, and no more will come: 10 s of piano are 1.8 MB, and who
        stopped, or does not listen, never asks for the rest."""
        with self._lock:
            if self._closed and time.monotonic() - self._asked_at > seconds:
                self._samples = bytearray()

    def after(self, position: int, most: int | None = None) -> tuple[bytes, bool]:
        """The bytes there are from a position on, `most` of them, and whether no more will come."""
        end = None if most is None else position + most
        with self._lock:
            self._asked_at = time.monotonic()
            return bytes(self._samples[position:end]), self._closed


def address(token: str) -> str:
    """Where a page hears a run, relative to the page."""
    return f"live/{token}"


def route(find: Callable[[str], LiveSound | None]) -> Route:
    """Serves the sound that `find` gives for a run's token, from the byte `?from=` on: what there is, and what comes
    within a moment; `&wait=0` asks for what there is alone. The header X-Last says that it is closed and no more will
    come; 404 where there is no sound, 400 for a wrong place.

    Little-endian 16-bit samples, channel by channel; the page has been told their rate and number. Who is told that
    nothing is left has heard it all, and it is forgotten.
    """

    async def pieces(sound: LiveSound, position: int, seconds: float) -> AsyncIterator[bytes]:
        until = time.monotonic() + seconds
        while True:
            piece, last = sound.after(position, PIECE_BYTES)
            position += len(piece)
            if piece:
                yield piece
                continue
            if last or time.monotonic() >= until:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def answer(request: Request) -> Response:
        sound = find(request.path_params["token"])
        if sound is None:
            return Response("there is no such sound", status_code=404, media_type="text/plain")
        place = _PLACE.fullmatch(request.query_params.get("from", "0"))
        if place is None:
            return Response("from is no place in the sound", status_code=400, media_type="text/plain")
        position = int(place[0])
        piece, last = sound.after(position, 1)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"} | ({"X-Last": "1"} if last else {})
        if last and not piece:
            sound.forget()
        seconds = 0.0 if last or request.query_params.get("wait") == "0" else WAIT_SECONDS
        body = pieces(sound, position, seconds)
        return StreamingResponse(body, media_type="application/octet-stream", headers=headers)

    return Route(f"/{address('{token}')}", answer)
