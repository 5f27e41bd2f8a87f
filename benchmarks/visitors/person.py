"""One person with a browser of their own, who speaks to the server as the page's scripts do: asks, hears, looks."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import httpx

from shortcut_gen.errors import SettingsError

API = "/gradio_api"
LIMIT = 1800.0
"""Seconds after which a person gives up."""
ALIVE_SECONDS = 4.0
ENOUGH_SECONDS = 1.5
"""Of sound that a page has ahead, with which it is in no hurry to ask for more (static/live.js)."""
LOOK_SECONDS = (0.3, 1.0)
"""Between two askings for notes, at first and at most (static/notes.js)."""
SPEECH_EVERY = 4
"""Every so many-th person asks for speech."""
TABS = {"piano": "", "speech": "speech-"}
_LIVE = re.compile(r"data-live=\\*\"(live/[0-9a-f]+)\\*\" data-rate=\\*\"(\d+)\\*\"(?: data-channels=\\*\"(\d+))?")
_NOTES = re.compile(r"data-from=\\*\"(notes/[0-9a-f]+)")


@lru_cache(1)
def _context() -> ssl.SSLContext:
    """For all: each takes a tenth of a second to make, and none is used."""
    return ssl.create_default_context()


class _Browser(httpx.AsyncHTTPTransport):
    """Asks once more where a connection was closed before it answered, as browsers do with one that was kept open: a
    server closes it after a while, maybe just then."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return await super().handle_async_request(request)


def tab_of(number: int) -> str:
    """What the person of that number asks for."""
    return "speech" if number % SPEECH_EVERY == SPEECH_EVERY - 1 else "piano"


@dataclass
class Visit:
    """What became of one click on Continue, in seconds from it."""

    tab: str
    placed: bool = False
    """Whether they were told to wait first."""
    first: float | None = None
    """Until something of the continuation was there."""
    sound: float | None = None
    """Until the first sound of it was there."""
    whole: float | None = None
    """Until all of it was."""
    outcome: str = "lost"
    """answered, stopped, refused, left (the page was closed meanwhile), or lost: there was no answer."""
    said: str = ""
    """The page's last line, or what went wrong."""
    files: list[str] = field(default_factory=list)
    """Where its files are."""


class Page:
    """The page's events, found by its own description."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.components = {each["id"]: each for each in config["components"]}
        self.events = config["dependencies"]

    def name(self, component: int | None) -> str:
        """The id of a component's element; its kind where it has none; "" for none, as for the page itself."""
        if component not in self.components:
            return ""
        each = self.components[component]
        return str(each["props"].get("elem_id") or each["type"])

    def of(self, button: str) -> dict[str, Any]:
        """What a click on a button asks for. Raises SettingsError where the page has no such button."""
        for event in self.events:
            if event["targets"] and event["backend_fn"] and self.name(event["targets"][0][0]) == button:
                return dict(event)
        raise SettingsError("the page has no such tab; checkpoints of piano and speech are needed")

    def run_of(self, tab: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What Continue asks for first, and what follows. Raises SettingsError."""
        asks = self.of(f"{TABS[tab]}go")
        return asks, dict(next(event for event in self.events if event.get("trigger_after") == asks["id"]))

    def values(self, event: dict[str, Any], token: str, changes: dict[str, Any]) -> list[Any]:
        """What the page sends with it, some values changed by the names of their elements."""
        data = [self.components[each]["props"].get("value") for each in event["inputs"][1:]]
        names = [self.name(each).split("-", 1)[-1] for each in event["inputs"][1:]]
        return [token, *(changes.get(name, value) for name, value in zip(names, data, strict=True))]


class Person:
    """Someone who has the page open."""

    def __init__(self, browser: httpx.AsyncClient, page: Page, key: str) -> None:
        self.browser, self.page, self.key = browser, page, key

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, key: str, source: str | None = None) -> AsyncIterator[Self]:
        """Someone new opens the page. It says now and then that it is open, and in the end that it is closed. source:
        the address that they come from, where this machine has several."""
        limits = httpx.Limits(max_connections=6)  # as browsers have them
        way = _Browser(limits=limits, verify=_context(), local_address=source)
        async with httpx.AsyncClient(base_url=url, timeout=LIMIT, transport=way) as browser:
            (await browser.get("/")).raise_for_status()
            person = cls(browser, Page((await browser.get("/config")).json()), key)
            stays = asyncio.create_task(person._stay())
            try:
                yield person
            finally:
                await _end(stays)
                with suppress(httpx.HTTPError):
                    await browser.post(f"/alive/{key}")

    async def _stay(self) -> None:
        while True:
            with suppress(httpx.HTTPError):
                await self.browser.get(f"/alive/{self.key}")
            await asyncio.sleep(ALIVE_SECONDS)

    async def press(self, event: dict[str, Any]) -> list[Any]:
        """A click that is answered at once; what the page is to show."""
        body = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": self.key}
        answer = await self.browser.post(f"{API}/run/predict", json={**body, "event_data": None, "trigger_id": None})
        answer.raise_for_status()
        return list(answer.json()["data"])

    async def ask(
        self,
        tab: str,
        changes: dict[str, Any],
        stop_after: float | None = None,
        leave_after: float | None = None,
        limit: float = LIMIT,
    ) -> Visit:
        """Continue, to its end. changes: values of the page's fields. stop_after: seconds after which Stop is clicked.
        leave_after: those after which the page is closed. limit: those after which the answer is taken to be lost."""
        mine = Visit(tab)
        clicked = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                asks, runs = self.page.run_of(tab)
                line, *_, token = await self.press(asks)
                mine.said = plain(line)
                if token == "refused":
                    mine.outcome = "refused"
                    return mine
                mine.placed = "yours begins" in mine.said
                named = {"session_hash": self.key, "event_data": None, "trigger_id": None}
                body = {"data": self.page.values(runs, str(token), changes), "fn_index": runs["id"], **named}
                joined = await self.browser.post(f"{API}/queue/join", json=body)
                event = str(joined.raise_for_status().json()["event_id"])
                stops = asyncio.create_task(self._stop(mine, stop_after))
                try:
                    async with asyncio.timeout(leave_after):
                        await self._follow(event, clicked, mine)
                finally:
                    await _end(stops)
        except TimeoutError:
            mine.outcome = "left" if leave_after is not None else "lost"
        except (httpx.HTTPError, KeyError, ValueError) as error:
            mine.said = f"{type(error).__name__}: {error}"
        return mine

    async def _stop(self, mine: Visit, seconds: float | None) -> None:
        if seconds is not None:
            await asyncio.sleep(seconds)
            line, *_ = await self.press(self.page.of(f"{TABS[mine.tab]}stop"))
            mine.said = plain(str(line))

    async def _follow(self, event: str, clicked: float, mine: Visit) -> None:
        """Read what comes until the run of that event is over; hear and look at it meanwhile."""
        tasks: list[asyncio.Task[None]] = []
        hears = looks = False
        try:
            async with self.browser.stream("GET", f"{API}/queue/data", params={"session_hash": self.key}) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if not line.startswith("data:") or ("event_id" in line and event not in line):
                        continue  # of an earlier click, whose stream broke off
                    if not hears and (live := _LIVE.search(line)):
                        hears = True
                        rate = int(live[2]) * int(live[3] or 1) * 2
                        tasks.append(asyncio.create_task(self._hear(live[1], rate, clicked, mine)))
                    if not looks and (notes := _NOTES.search(line)):
                        looks, mine.first = True, time.monotonic() - clicked
                        tasks.append(asyncio.create_task(self._look(notes[1])))
                    if "process_completed" in line:
                        message = json.loads(line.removeprefix("data:"))
                        return self._note(message, time.monotonic() - clicked, mine)
                    if "close_stream" in line:
                        mine.said = f"the server closed the stream; {mine.said}"
                        return
                mine.said = f"the stream broke off; {mine.said}"
        finally:
            if mine.outcome in ("answered", "stopped"):  # what is left to hear is there
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                await _end(task)

    @staticmethod
    def _note(message: dict[str, Any], now: float, mine: Visit) -> None:
        output = message.get("output") or {}
        text = json.dumps(output.get("data") or output.get("error") or "")
        mine.said = plain(text) or mine.said
        if not message.get("success") or "status error" in text:
            mine.said = plain(text) or f"failed: {text[:200]}"
            return
        if "Stopped" in mine.said:  # maybe before it began, which the button's own answer has said
            mine.outcome = "stopped"
        elif "<article" in text:
            mine.outcome, mine.whole = "answered", now
            mine.files = re.findall(r"results/[0-9a-f]+/[\w.-]+\.(?:mid|wav)", text)
        else:
            mine.said = f"nothing was made; {mine.said}"

    async def _hear(self, address: str, bytes_per_second: int, clicked: float, mine: Visit) -> None:
        """As static/live.js: over short answers, in a hurry where there is little ahead."""
        place, begun = 0, 0.0
        while True:
            now = time.monotonic()
            ahead = place / bytes_per_second - (now - begun) if begun else 0.0
            query = f"?from={place}" + ("" if ahead < ENOUGH_SECONDS else "&wait=0")
            came = 0
            async with self.browser.stream("GET", f"/{address}{query}") as answer:
                if answer.status_code != 200:
                    return
                async for piece in answer.aiter_bytes():
                    came += len(piece)
                    if mine.sound is None:
                        begun = time.monotonic()
                        mine.sound = begun - clicked
            place += came
            if not came and "x-last" in answer.headers:
                return
            if ahead > ENOUGH_SECONDS:
                await asyncio.sleep(0.2)

    async def _look(self, address: str) -> None:
        """As static/notes.js: what has ended since."""
        after, bins, wait = 0, 0, LOOK_SECONDS[0]
        while True:
            answer = await self.browser.get(f"/{address}?after={after}&bins={bins}")
            if answer.status_code != 200:
                return
            told = answer.json()
            for row in told["rows"]:
                after = row["after"] + (len(row["peaks"]) if row.get("peaks") else len(row.get("notes", ())) // 4)
                if strip := row.get("strip"):
                    bins = strip["after"] + len(strip["bins"])
            if told["over"]:
                return
            await asyncio.sleep(wait)
            wait = min(wait + 0.005, LOOK_SECONDS[1])


def plain(text: str) -> str:
    """The last line of a status, without its element."""
    found = re.findall(r'class=\\*"status[^>]*>([^<]*)', text)
    return str(found[-1]) if found else ""


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, httpx.HTTPError):
        await task
