"""Slow ones: who sends a byte and then a while nothing, who takes nothing of what was asked for, who only is there."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from benchmarks.hostility.sockets import (
    API,
    CLOSED,
    KEPT,
    Answer,
    Tally,
    Target,
    ask,
    asked,
    connect,
    drop,
    request,
    slowly,
    status_of,
    taken,
)
from benchmarks.hostility.visitor import sound_of

BYTE_SECONDS = 0.5
FORM = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.mid"\r\n\r\n'


async def headers(target: Target) -> Tally:
    """Headers that come a byte at a time."""
    slow = request(target, "GET", "/", {"X-Slow": "a" * 10_000})
    tally = await asked(ask(target, b"", slowly(slow, BYTE_SECONDS), target.seconds) for _ in range(target.many))
    return tally.allow(CLOSED, "408")


async def bodies(target: Target) -> Tally:
    """JSON that comes a byte at a time."""
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "slow" + "w" * 10_000}).encode()
    head = request(target, "POST", f"{API}/queue/join", {"Content-Length": str(len(body))})
    tally = await asked(ask(target, head, slowly(body, BYTE_SECONDS), target.seconds) for _ in range(target.many))
    return tally.allow(CLOSED, "408", "429")


async def uploads(target: Target) -> Tally:
    """Files that come a byte at a time."""
    body = FORM.encode() + bytes(10_000)
    said = {"Content-Length": str(len(body)), "Content-Type": "multipart/form-data; boundary=b"}
    head = request(target, "POST", f"{API}/upload", said)
    tally = await asked(ask(target, head, slowly(body, BYTE_SECONDS), target.seconds) for _ in range(target.many))
    return tally.allow(CLOSED, "408", "429", "503")


async def silent(target: Target) -> Tally:
    """Connections that say nothing, more than are let in at a time."""
    tally = await asked(ask(target, b"", None, target.seconds) for _ in range(8 * target.many))
    return tally.allow(CLOSED)


async def unread(target: Target) -> Tally:
    """Twenty pages asked for at once, and nothing taken of them."""
    data = request(target, "GET", "/") * 20
    return await _held(target, target.many, lambda: data)


async def unread_ends(target: Target) -> Tally:
    """A page asked for, the connection to be closed behind it, and nothing taken of it."""
    data = request(target, "GET", "/", {"Connection": "close"})
    return await _held(target, target.many, lambda: data)


async def trickled(target: Target) -> Tally:
    """A page taken a byte at a time."""

    async def one() -> Answer:
        try:
            reader, writer = await connect(target, small=True)
        except OSError:
            return Answer(CLOSED)
        got, until = b"", time.monotonic() + target.seconds
        try:
            writer.write(request(target, "GET", "/"))
            while time.monotonic() < until and (piece := await reader.read(1)):
                got += piece
                await asyncio.sleep(BYTE_SECONDS)
        except OSError:
            return Answer(CLOSED)
        finally:
            drop(writer)
        return Answer(status_of(got) or CLOSED)

    return (await asked(one() for _ in range(target.many))).allow("200", CLOSED)


async def unread_sound(target: Target) -> Tally:
    """A minute of sound, asked for again and again, and nothing taken of it."""
    async with sound_of(target, 60) as address:
        data = request(target, "GET", f"/{address}?from=0&wait=0")
        return await _held(target, target.many, lambda: data)


async def streams(target: Target) -> Tally:
    """News of pages that there are not, never read."""
    numbers = iter(range(10**9))

    def listen() -> bytes:
        return request(target, "GET", f"{API}/heartbeat/slow{next(numbers)}")

    brief = replace(target, seconds=target.seconds / 3)
    tally = await _held(brief, 4 * target.many, listen)
    tally.faults.clear()  # each is what a page that is open does; that they are many is what is bounded
    return tally


async def streams_by_proxy(target: Target) -> Tally:
    """The same by a proxy, which may have any number of connections, for one client behind it."""
    behind = {"X-Forwarded-For": "203.0.113.66"}
    numbers = iter(range(10**9))

    def listen() -> bytes:
        return request(target, "GET", f"{API}/heartbeat/proxied{next(numbers)}", behind)

    proxied = replace(target, source="127.0.0.1", seconds=target.seconds / 3)
    tally = await _held(proxied, 8 * target.many, listen)
    tally.faults.clear()
    return tally


async def _held(target: Target, count: int, data: Callable[[], bytes]) -> Tally:
    """So many connections, each of which asks, takes nothing for long, and then looks whether it is still there."""

    async def one() -> Answer:
        try:
            reader, writer = await connect(target, small=True)
        except (OSError, TimeoutError):
            return Answer(CLOSED)
        try:
            writer.write(data())
            with suppress(OSError):
                await asyncio.wait_for(writer.drain(), 5)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(target.seconds)
            with suppress(RuntimeError):
                writer.transport.resume_reading()  # type: ignore[attr-defined]
            got = await _rest(reader)
            return Answer(got)
        except (OSError, TimeoutError):
            return Answer(CLOSED)
        finally:
            drop(writer)

    return (await asked(one() for _ in range(count))).allow(CLOSED, "429")


async def _rest(reader: asyncio.StreamReader) -> str:
    """What there was for who took nothing for long: CLOSED where the server gave it up, else the answer's status."""
    try:
        async with asyncio.timeout(5):
            first = await reader.read(1024)
    except TimeoutError:
        return KEPT
    except OSError:
        return CLOSED
    status = status_of(first)
    if status != "200":
        return status or CLOSED
    _, ended = await taken(reader, 5)
    return CLOSED if ended else "200"


SCENARIOS = (headers, bodies, uploads, silent, unread, unread_ends, trickled, unread_sound, streams, streams_by_proxy)
