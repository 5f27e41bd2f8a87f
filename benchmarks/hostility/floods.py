"""Too many of all that is allowed once, and requests that are made to cost."""

import asyncio
import json
import time
from collections import Counter

from benchmarks.hostility.sockets import API, CLOSED, Tally, Target, ask, asked, request
from benchmarks.hostility.visitor import PATIENCE_SECONDS
from benchmarks.visitors.person import Person
from ui.clients import BURST, OPEN

LIMITED = ("429", "503", CLOSED)


async def pages(target: Target) -> Tally:
    """GET / two thousand times, fifty at a time."""
    tally, began = Tally(), time.monotonic()
    for _ in range(40):
        some = await asked(ask(target, request(target, "GET", "/", {"Connection": "close"})) for _ in range(50))
        tally.answers += some.answers
    # A slow machine answers fewer than a client may ask for.
    allowed = (OPEN.rate or 0) * (BURST + (time.monotonic() - began) / 60)
    if tally.sent > allowed and not tally.answers["429"]:
        tally.faults.append("nobody was told that these are too many requests")
    return tally.allow("200", *LIMITED)


async def sessions(target: Target) -> Tally:
    """Forty pages of ten browsers at one address, each of which wants a minute of piano at once."""

    async def one(number: int) -> str:
        async with Person.at(f"http://{target.name}", f"flood{number}", target.source) as person:
            visit = await person.ask("piano", {"seconds": 60, "fresh": False}, stop_after=20, limit=PATIENCE_SECONDS)
            return "refused in words" if visit.outcome == "refused" else visit.outcome

    tally = Tally(Counter(await asyncio.gather(*(one(number) for number in range(40)))))
    if tally.answers["refused in words"] < 30:
        tally.faults.append("one client has more runs than --per-client lets it")
    return tally.allow("refused in words", "answered", "stopped")


async def names(target: Target) -> Tally:
    """A thousand pages that were never opened are said to be there, by a thousand browsers."""
    asking = [
        ask(
            target,
            request(target, "GET", f"/alive/name{n}", {"Cookie": f"shortcut-gen={n:032x}", "Connection": "close"}),
        )
        for n in range(1000)
    ]
    tally = Tally()
    for first in range(0, len(asking), 50):
        tally.answers += (await asked(asking[first : first + 50])).answers
    return tally.allow("200", "204", *LIMITED)


async def joins(target: Target) -> Tally:
    """A thousand events for Gradio's own queue, which the page's script would send one by one."""
    event = target.events["go"]
    body = json.dumps(
        {"data": [], "fn_index": event, "session_hash": "joins", "event_data": None, "trigger_id": None}
    ).encode()
    tally = Tally()
    for _ in range(20):
        head = request(
            target, "POST", f"{API}/queue/join", {"Content-Type": "application/json", "Connection": "close"}, body
        )
        tally.answers += (await asked(ask(target, head) for _ in range(50))).answers
    return tally.allow("200", "422", *LIMITED)


async def json_bodies(target: Target) -> Tally:
    """JSON that is none, is nested a hundred thousand deep, has numbers of a million digits, or megabytes."""
    digits, deep = b"9" * 60_000, b"[" * 30_000 + b"]" * 30_000
    named = b'{"session_hash": "json", "fn_index": 0, "data": %s}'
    some = [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"',
        b"\xff\xfe",
        b"NaN",
        b"[" * 60_000,
        deep,
        b'{"a":' * 12_000 + b"1" + b"}" * 12_000,
    ]
    some += [
        digits,
        b"-" + digits,
        b"1e999999",
        named % digits,
        named % b"1e999999",
        named % deep,
        named % b"[[[[[[]]]]]]",
    ]
    some += [
        named % (b"[" + b"0," * 25_000 + b"0]"),
        named % b'[{"path": {"path": {}}}]',
        named % b'["\\ud800"]',
        b"[" * 10**6,
    ]
    some += [
        named.replace(b'"json"', digits) % b"[]",
        named.replace(b"0", digits) % b"[]",
        b'{"session_hash": "json", ' * 2000,
    ]
    tally = Tally()
    for path in (
        f"{API}/queue/join",
        f"{API}/run/predict",
        f"{API}/cancel",
        f"{API}/reset",
        f"{API}/call/continue_midi",
    ):
        said = {"Content-Type": "application/json", "Connection": "close"}
        asking = [ask(target, request(target, "POST", path, said, body)) for body in some]
        tally.answers += (await asked(asking)).answers
    return tally.allow("400", "403", "404", "413", "422", *LIMITED)


async def heads(target: Target) -> Tally:
    """Headers of megabytes, thousands of them, cookies by the thousand, bytes that are no HTTP, HTTP/2 and TLS."""
    plain = request(target, "GET", "/", {"Connection": "close"})[:-2]
    some = [
        plain + b"X: " + b"a" * 2**21 + b"\r\n\r\n",
        plain + b"X: a\r\n" * 50_000 + b"\r\n",
        plain + b"Cookie: " + b"a=b; " * 10_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 2**21 + b" HTTP/1.1\r\n\r\n",
        b"GET /?" + b"a=b&" * 15_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(1000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        bytes(10_000),
        b"\r\n" * 10_000,
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"A" * 100_000,
        plain + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"a" * 22 + b"==\r\n\r\n",
        request(target, "TRACE", "/", {"Connection": "close"}),
        request(target, "CONNECT", "evil.example:443", {"Connection": "close"}),
    ]
    tally = Tally()
    for _ in range(10):
        tally.answers += (await asked(ask(target, data) for data in some)).answers
    return tally.allow("200", "400", "403", "404", "405", "413", "414", "421", "431", *LIMITED)


SCENARIOS = (pages, sessions, names, joins, json_bodies, heads)
