"""The end of a server: what is said to whoever asks now, and what becomes of what was asked before."""

import time
from collections.abc import Callable

from ui.bodies import RefusalError
from ui.sessions import Sessions
from ui.text import refusals

RETRY_SECONDS = 20
"""After which whoever was refused by a server that ends may ask again."""


def ending() -> RefusalError:
    """What is said of a request that begins something while the server ends."""
    return RefusalError(503, refusals.ENDING, headers={"Retry-After": str(RETRY_SECONDS)})


def drain(sessions: Sessions, seconds: float, waits: Callable[[], int], last: Callable[[], float]) -> bool:
    """Take no more; wait until what was taken is made, at most so long in all, and hand the rest back.

    waits: calls of programs that wait in Gradio's queue. last: when an answer ended that brought something of a run.
    Returns whether all was made.
    """
    sessions.draining = True
    began = time.monotonic()
    until, reserve = began + seconds, min(seconds / 2, 3.0)
    busy = had = _busy(sessions, waits)
    while busy and time.monotonic() < until - reserve:
        time.sleep(0.05)
        busy = _busy(sessions, waits)
    if busy:
        sessions.hand_back(refusals.PARTING)
        while _busy(sessions, waits) and time.monotonic() < until:
            time.sleep(0.05)
    # Whoever was served is to hear of it and fetch the files, as long as there is time.
    while had and time.monotonic() < until and time.monotonic() - max(last(), began) < 1.0:
        time.sleep(0.05)
    return not busy


def _busy(sessions: Sessions, waits: Callable[[], int]) -> bool:
    return any(sessions.load()) or waits() > 0
