"""One who means no harm and wants a short continuation meanwhile; and one whose sound is asked for by others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.hostility.sockets import Target
from benchmarks.visitors.person import Person, Visit
from shortcut_gen.errors import ShortcutGenError

PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Served:
    """What a friendly visitor got."""

    outcome: str
    """As of `Visit`; answered where all is well."""
    seconds: float
    """From opening the page until all was there."""
    said: str = ""


async def visited(url: str, key: str, seconds: float = 2.0) -> Served:
    """Somebody new opens the page and has a few seconds of piano made."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), Person.at(url, key) as person:
            visit = await person.ask("piano", {"seconds": seconds, "fresh": False, "seed": 1}, limit=PATIENCE_SECONDS)
            if visit.files:
                (await person.browser.get(f"/{visit.files[0]}")).raise_for_status()
    except (httpx.HTTPError, TimeoutError, ValueError) as error:
        return Served("lost", time.monotonic() - began, f"{type(error).__name__}: {error}")
    return Served(visit.outcome, time.monotonic() - began, visit.said)


class _Deaf(Person):
    """Somebody who does not listen, so that what there is to hear is kept."""

    sound = ""

    async def _hear(self, address: str, bytes_per_second: int, clicked: float, mine: Visit) -> None:
        self.sound = address


@asynccontextmanager
async def sound_of(target: Target, seconds: float) -> AsyncIterator[str]:
    """The address of so many seconds of sound, which are there while the block runs. Raises ShortcutGenError."""
    asked: dict[str, Any] = {"seconds": seconds, "fresh": False, "seed": 2}
    async with _Deaf.at(f"http://{target.name}", f"deaf{time.monotonic_ns():x}", target.source) as person:
        visit = await person.ask("piano", asked, limit=PATIENCE_SECONDS)
        if not person.sound:
            raise ShortcutGenError(f"no sound was made to be asked for: {visit.outcome}, {visit.said}")
        yield person.sound
