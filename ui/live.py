"""Sound that a page plays while it is made: plain 16-bit samples over one growing HTTP answer.

Gradio's own streaming audio is encoded by a program named ffmpeg, which must be installed, and what the listener gets
is not the samples that were made. These are, to a 16th bit, and without a gap: `static/live.js` puts each piece at the
very sample where the one before it ends.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

POLL_SECONDS = 0.02
"""How often an answer looks for more; well under what a page has buffered."""
FULL_SCALE = 32767
"""What 1.0 is as a 16-bit sample, as in the WAV files."""


class LiveSound:
    """Sound that grows in one thread while answers read it in another."""

    def __init__(self) -> None:
        self._samples = bytearray()
        self._closed = False
        self._lock = threading.Lock()

    def push(self, samples: NDArray[np.float32]) -> None:
        """Add (S,) samples in [-1, 1], or (C, S) of several channels, always as many."""
        whole = np.rint(np.clip(samples.T, -1.0, 1.0) * FULL_SCALE).astype("<i2")  # channels lie side by side
        with self._lock:
            self._samples += whole.tobytes()

    def close(self) -> None:
        """No more will come."""
        with self._lock:
            self._closed = True

    def forget(self) -> None:
        """Whoever hears it has heard all."""
        with self._lock:
            self._samples = bytearray()

    def after(self, position: int) -> tuple[bytes, bool]:
        """The bytes there are from a position on, and whether these are the last."""
        with self._lock:
            return bytes(self._samples[position:]), self._closed


def address(token: str) -> str:
    """Where a page hears a run, relative to the page."""
    return f"live/{token}"


def route(find: Callable[[str], LiveSound | None]) -> Route:
    """Serves the sound that `find` gives for a run's token, from its start until it is closed; 404 where it has none.

    Little-endian 16-bit samples, channel by channel; the page has been told their rate and number. It is heard once.
    """

    async def pieces(sound: LiveSound) -> AsyncIterator[bytes]:
        position = 0
        while True:
            piece, last = sound.after(position)
            if piece:
                position += len(piece)
                yield piece
            if last:
                sound.forget()
                return
            if not piece:
                await asyncio.sleep(POLL_SECONDS)

    async def answer(request: Request) -> Response:
        sound = find(request.path_params["token"])
        if sound is None:
            return Response("there is no such sound", status_code=404, media_type="text/plain")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(pieces(sound), media_type="application/octet-stream", headers=headers)

    return Route(f"/{address('{token}')}", answer)
