"""Many people at once, through the real server: `python -m benchmarks.crowd [--people '[1,8]'] [--json FILE]`.

Starts the demo on the shipped checkpoints. So many people, each with a browser of their own, open the page and ask
within a second for a continuation: three of four of piano, one of speech. They speak to the server as the page's
scripts do: hear and look at what is made while it is made, and say now and then that the page is open. Printed for each
number of people: how many were answered, told their place first, refused, or lost without an answer; the seconds to the
first sound and to the whole, median and slowest, and until all had theirs; what `GET /` took meanwhile of somebody new,
twice a second in a process of its own; and the server's memory at most.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measuring.timing import about, command, describe, progress, table
from benchmarks.visitors.person import Person, Visit, tab_of
from benchmarks.visitors.server import Watched, served, watching
from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json

HEAD = ["people", "answered", "waited", "refused", "lost", "sound, s", "whole, s", "all, s", "GET /, s", "MiB"]


@dataclass(frozen=True)
class Round:
    """So many people."""

    visits: list[Visit]
    seconds: float
    """From the first click to the last answer."""
    seen: Watched

    def count(self, outcome: str) -> int:
        """How many visits ended so."""
        return sum(visit.outcome == outcome for visit in self.visits)

    def row(self) -> list[str]:
        """For the table."""
        counts = [self.count("answered"), sum(each.placed for each in self.visits)]
        counts += [self.count("refused"), self.count("lost")]
        times = [told(each.sound for each in self.visits), told(each.whole for each in self.visits)]
        page = told(self.seen.page, 2)
        return [str(len(self.visits)), *map(str, counts), *times, f"{self.seconds:.0f}", page, f"{self.seen.most:.0f}"]


async def visit(url: str, number: int, seconds: float, begin: asyncio.Barrier, spread: float) -> Visit:
    """One person's visit; all click within a second, once all have the page."""
    tab = tab_of(number)
    async with Person.at(url, f"crowd{number}x{time.monotonic_ns():x}") as person:
        await begin.wait()
        await asyncio.sleep(spread)
        return await person.ask(tab, {"seconds": seconds, "fresh": False, "seed": number})


def crowd(url: str, pid: int, people: int, seconds: float) -> Round:
    """All visits, and what was seen of the server meanwhile."""

    async def come() -> tuple[list[Visit], float]:
        begin = asyncio.Barrier(people + 1)
        visits = [asyncio.create_task(visit(url, each, seconds, begin, each / people)) for each in range(people)]
        await begin.wait()
        began = time.monotonic()
        return list(await asyncio.gather(*visits)), time.monotonic() - began

    with watching(url, pid) as seen:
        visits, took = asyncio.run(come())
    return Round(visits, took, seen)


def told(values: Iterable[float | None], digits: int = 1) -> str:
    """Median and slowest of seconds."""
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):.{digits}f} ({max(there):.{digits}f})" if there else "none"


def main(
    checkpoints: Path = Path("checkpoints"),
    people: Sequence[int] = (1, 8, 25, 60, 100),
    seconds: float = 10.0,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoints: Folder of the checkpoints that the page offers.
        people: How many come at once, in turn.
        seconds: Length of each continuation.
        json: File to write.
    """
    if not people or min(people) < 1 or not 2 <= seconds <= 20:
        raise SettingsError(
            f"people are {list(people)} and seconds {seconds}; numbers from 1 and from 2 to 20 are needed"
        )
    machine = about(("gradio", "httpx"))
    print(describe(machine), flush=True)
    rounds = []
    with served(checkpoints) as (pid, url):
        for count in people:
            rounds.append(crowd(url, pid, count, seconds))
            progress(f"{count} people: {rounds[-1].count('answered')} answered")
    rows = table([HEAD, *(each.row() for each in rounds)])
    print(f"\ncontinuations of {seconds:g} s asked for within a second; median (slowest)\n\n{rows}", flush=True)
    if json:
        write_json(json, {"machine": machine, "seconds": seconds, "rounds": [asdict(each) for each in rounds]})


if __name__ == "__main__":
    sys.exit(command(main))
