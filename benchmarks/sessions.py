"""Many sessions for long: `python -m benchmarks.sessions [--people 200] [--minutes 10] [--json FILE]`.

Starts the demo on the shipped checkpoints. So many people use it at the same time, each with a browser of their own and
as the page's scripts do (`benchmarks.visitors`): ask for piano or speech, hear and look at it while it is made, fetch a
file, think for some seconds, ask again. Some stop what is made, some close the page in the middle and come again as
somebody new. When the time is over, all stop. Each click must have an answer: what was asked for, what there was when
it was stopped, or a line that says why not. Printed minute by minute: how clicks ended, memory, and what `GET /` took
meanwhile. The status is 1 where an answer was lost, or where memory after the first minute was ever more than a tenth
above what it was then.
"""

import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.measuring.timing import about, command, describe, table
from benchmarks.visitors.person import Person, Visit, tab_of
from benchmarks.visitors.server import Watched, served, watching
from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json

STOP, LEAVE, FETCH = 0.15, 0.1, 0.25
"""Shares of clicks that are stopped, whose page is closed meanwhile, whose first file is fetched."""
THINK_SECONDS = (1.0, 15.0)
ARRIVE_SECONDS = 20.0
"""Within which all come."""
PATIENCE_SECONDS = 900.0
"""Without an answer for so long, it is taken to be lost."""
FLAT = 1.1
"""Memory after the first minute, at most, as a share of what it was then."""
OUTCOMES = ("answered", "stopped", "refused", "left", "lost")


@dataclass(frozen=True)
class Click:
    """A click on Continue."""

    at: float
    """When it was over, in seconds from the beginning."""
    visit: Visit


class Crowd:
    """All who use the page until the time is over."""

    def __init__(self, url: str, people: int, minutes: float, seconds: float, seed: int) -> None:
        self.url, self.people, self.seconds, self.seed = url, people, seconds, seed
        self.clicks: list[Click] = []
        self.opened = 0
        """Pages that were opened."""
        self.broken: list[str] = []
        """Pages that could not be opened."""
        self.began = time.monotonic()
        self.until = self.began + 60 * minutes

    async def use(self) -> None:
        """All of it."""
        await asyncio.gather(*(self._somebody(number) for number in range(self.people)))

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return self.until - time.monotonic()

    async def _somebody(self, number: int) -> None:
        chance = random.Random(self.seed * 1_000_003 + number)
        await asyncio.sleep(chance.uniform(0, ARRIVE_SECONDS))
        tab = tab_of(number)
        while self.left > 0:
            self.opened += 1
            try:
                async with Person.at(self.url, f"s{number}x{time.monotonic_ns():x}") as person:
                    await self._stay(person, tab, chance)
            except (httpx.HTTPError, ValueError) as error:
                self.broken.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)

    async def _stay(self, person: Person, tab: str, chance: random.Random) -> None:
        while self.left > 0:
            does, seed = chance.random(), chance.randrange(10**6)
            some = chance.uniform(1.0, 20.0)
            stops = min(some, self.left) if does < STOP else self.left
            leaves = some if STOP <= does < STOP + LEAVE else None
            asked = {"seconds": self.seconds, "fresh": False, "seed": seed}
            visit = await person.ask(tab, asked, max(stops, 0.1), leaves, PATIENCE_SECONDS)
            self.clicks.append(Click(time.monotonic() - self.began, visit))
            if visit.outcome == "left":
                return
            if visit.files and chance.random() < FETCH:
                await person.browser.get(f"/{visit.files[0]}")
            await asyncio.sleep(min(chance.uniform(*THINK_SECONDS), max(self.left, 0)))


def growth(seen: Watched) -> float:
    """Memory after the first minute at most, as a share of its median in the ten seconds before it was over."""
    before = [mib for at, mib in zip(seen.at, seen.mib, strict=True) if 50 <= at <= 60]
    after = [mib for at, mib in zip(seen.at, seen.mib, strict=True) if at > 60]
    return max(after) / statistics.median(before) if before and after else float("nan")


def by_minute(clicks: list[Click], seen: Watched, minutes: int) -> list[list[str]]:
    """A table: a line for each minute, the last with what came behind it."""
    rows = [["minute", *OUTCOMES, "MiB", "GET /, s: median", "slowest"]]
    for minute in range(minutes):
        first, last = 60.0 * minute, 60.0 * (minute + 1) if minute < minutes - 1 else float("inf")
        counts = Counter(click.visit.outcome for click in clicks if first <= click.at < last)
        looks = [look for look in zip(seen.at, seen.page, seen.mib, strict=True) if first <= look[0] < last]
        page, mib = [look[1] for look in looks] or [float("nan")], [look[2] for look in looks] or [float("nan")]
        figures = [f"{max(mib):.0f}", f"{statistics.median(page):.2f}", f"{max(page):.2f}"]
        rows.append([str(minute + 1), *(str(counts[outcome]) for outcome in OUTCOMES), *figures])
    return rows


def main(
    checkpoints: Path = Path("checkpoints"),
    people: int = 200,
    minutes: float = 10.0,
    seconds: float = 5.0,
    seed: int = 1,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoints: Folder of the checkpoints that the page offers.
        people: How many use it at a time.
        minutes: For how long.
        seconds: Length of each continuation.
        seed: Of what people do.
        json: File to write.
    """
    if people < 1 or minutes <= 0 or not 2 <= seconds <= 20:
        raise SettingsError(
            f"people is {people}, minutes {minutes}, seconds {seconds}; at least 1, more than 0, 2 to 20 are needed"
        )
    machine = about(("gradio", "httpx"))
    print(describe(machine), flush=True)
    with served(checkpoints) as (pid, url), watching(url, pid) as seen:
        crowd = Crowd(url, people, minutes, seconds, seed)
        asyncio.run(crowd.use())
    counts, grown = Counter(click.visit.outcome for click in crowd.clicks), growth(seen)
    print(f"\n{table(by_minute(crowd.clicks, seen, max(round(minutes), 1)))}\n")
    print(f"{len(crowd.clicks)} clicks: " + ", ".join(f"{counts[each]} {each}" for each in OUTCOMES))
    print(f"{crowd.opened} pages opened, {len(crowd.broken)} of them in vain; GET / at most {max(seen.page):.2f} s")
    print(f"memory after the first minute: at most {grown:.2f} times what it was then", flush=True)
    lost = [click.visit.said for click in crowd.clicks if click.visit.outcome == "lost"] + crowd.broken
    for said, count in Counter(lost).most_common(10):
        print(f"lost {count} times: {said}", flush=True)
    if json:
        told = {"machine": machine, "people": people, "minutes": minutes, "seconds": seconds, "seed": seed}
        told |= {"clicks": [asdict(click) for click in crowd.clicks], "seen": asdict(seen), "growth": grown}
        write_json(json, told | {"opened": crowd.opened, "broken": crowd.broken})
    if lost or grown > FLAT:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(command(main))
