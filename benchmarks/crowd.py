"""Many people at once, through the real server: `python -m benchmarks.crowd [--people 1 8 25 60 100] [--json FILE]`.

Starts the demo on the shipped checkpoints. So many people, each with a browser of their own, open the page and ask
within a second for a continuation: three of four of piano, one of speech. They speak to the server as the page's script
does, and say now and then that the page is open. Printed for each number of people: how many were answered, told their
place first, or refused; the seconds to the first notes and to the whole, median and slowest; what `GET /` took
meanwhile; and the server's memory.
"""

import asyncio
import json as json_module
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measuring.timing import about, command, describe, progress, table
from benchmarks.screenshots import start
from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json

API = "/gradio_api"
LIMIT = 1800.0
"""Seconds after which a person gives up."""
ALIVE_SECONDS = 4.0
SPEECH_EVERY = 4
"""Every so many-th person asks for speech."""


@dataclass
class Visit:
    """What became of one person, in seconds from the click."""

    tab: str
    placed: bool = False
    """Whether they were told to wait first."""
    first: float | None = None
    """Until something of the continuation was there."""
    whole: float | None = None
    """Until all of it was."""
    said: str = ""
    """The page's last line."""


class Page:
    """The page's events, found by its own description."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.components = {each["id"]: each for each in config["components"]}
        self.events = config["dependencies"]

    def name(self, component: int) -> str:
        """The id of a component's element; its kind where it has none."""
        each = self.components[component]
        return str(each["props"].get("elem_id") or each["type"])

    def run_of(self, prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What Continue asks for first, and what follows."""
        for event in self.events:
            before = next((each for each in self.events if each["id"] == event.get("trigger_after")), None)
            if before and self.name(before["targets"][0][0]) == f"{prefix}go":
                return before, event
        raise SettingsError("the page has no such tab; checkpoints of piano and speech are needed")

    def values(self, event: dict[str, Any], token: str, changes: dict[str, Any]) -> list[Any]:
        """What the page sends with it, some values changed by the names of their elements."""
        data = [self.components[each]["props"].get("value") for each in event["inputs"]]
        names = [self.name(each) for each in event["inputs"]]
        return [token, *(changes.get(name.split("-", 1)[-1], value) for name, value in zip(names[1:], data[1:]))]  # noqa: B905


async def visit(url: str, number: int, seconds: float, spread: float) -> Visit:
    """One person's visit."""
    tab = "speech" if number % SPEECH_EVERY == SPEECH_EVERY - 1 else "piano"
    mine = Visit(tab)
    limits = httpx.Limits(max_connections=6)  # as browsers have them
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT, limits=limits) as browser:
        await browser.get("/")
        page = Page((await browser.get("/config")).json())
        key = f"crowd{number}x{time.monotonic_ns():x}"
        stays = asyncio.create_task(_stay(browser, key))
        try:
            await asyncio.sleep(spread)
            clicked = time.monotonic()
            asks, runs = page.run_of("speech-" if tab == "speech" else "")
            body = {"data": [], "fn_index": asks["id"], "session_hash": key, "event_data": None, "trigger_id": None}
            answer = (await browser.post(f"{API}/run/predict", json=body)).json()
            mine.said, token = str(answer["data"][0]), str(answer["data"][-1])
            if token == "refused":
                return mine
            mine.placed = "yours begins" in mine.said
            changes = {"seconds": seconds, "fresh": False, "seed": number}
            body |= {"data": page.values(runs, token, changes), "fn_index": runs["id"]}
            await browser.post(f"{API}/queue/join", json=body)
            await _follow(browser, key, clicked, mine)
        finally:
            stays.cancel()
            with suppress(asyncio.CancelledError, httpx.HTTPError):
                await stays
    return mine


async def _stay(browser: httpx.AsyncClient, key: str) -> None:
    """Say again and again that the page is open, until this is cancelled; then that it is closed."""
    try:
        while True:
            await browser.get(f"/alive/{key}")
            await asyncio.sleep(ALIVE_SECONDS)
    finally:
        await browser.post(f"/alive/{key}")


async def _follow(browser: httpx.AsyncClient, key: str, clicked: float, mine: Visit) -> None:
    """Read what comes until the run is over."""
    async with browser.stream("GET", f"{API}/queue/data", params={"session_hash": key}) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data:"):
                continue
            message = json_module.loads(line.removeprefix("data:"))
            kind, now = message.get("msg"), time.monotonic() - clicked
            if kind in ("process_generating", "process_completed") and mine.first is None and "article" in line:
                mine.first = now
            if kind == "process_completed":
                mine.whole = now if message.get("success") and mine.first is not None else None
                return
            if kind == "close_stream":
                return


async def watch(url: str, taken: list[float]) -> None:
    """How long the page itself takes to answer somebody new, again and again."""
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT) as client:
        while True:
            began = time.monotonic()
            await client.get("/")
            taken.append(time.monotonic() - began)
            await asyncio.sleep(1.0)


async def crowd(url: str, people: int, seconds: float) -> tuple[list[Visit], list[float]]:
    """All visits, and what `GET /` took meanwhile."""
    taken: list[float] = []
    watcher = asyncio.create_task(watch(url, taken))
    visits = await asyncio.gather(*(visit(url, each, seconds, each / people) for each in range(people)))
    watcher.cancel()
    return list(visits), taken


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def told(values: Iterable[float | None]) -> str:
    """Median and slowest of seconds."""
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):.1f} ({max(there):.1f})" if there else "none"


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
    server, url = start(checkpoints)
    rows, cells = [], [["people", "answered", "waited", "refused", "first, s", "whole, s", "GET /, s", "MiB"]]
    try:
        for count in people:
            visits, taken = asyncio.run(crowd(url, count, seconds))
            answered = sum(each.whole is not None for each in visits)
            refused = sum("Too many" in each.said for each in visits)
            used = memory(server.pid)
            firsts, wholes = [each.first for each in visits], [each.whole for each in visits]
            waited = sum(each.placed for each in visits)
            cells.append(
                [str(count), str(answered), str(waited), str(refused), told(firsts), told(wholes), told(taken)]
            )
            cells[-1].append(f"{used:.0f}")
            rows.append({"people": count, "get": taken, "mib": used, "visits": [asdict(each) for each in visits]})
            progress(f"{count} people: {answered} answered")
    finally:
        server.terminate()
        server.wait(120)
        if server.stdout:
            server.stdout.close()
    print(f"\ncontinuations of {seconds:g} s asked for within a second; median (slowest)\n\n{table(cells)}", flush=True)
    if json:
        write_json(json, {"machine": machine, "seconds": seconds, "rounds": rows})


if __name__ == "__main__":
    sys.exit(command(main))
