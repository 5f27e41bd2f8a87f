"""Requests that another site's page makes a browser send, and names that were bent to this server."""

import json
from itertools import product

from benchmarks.hostility.sockets import API, COOKIE, Answer, Tally, Target, ask, request
from benchmarks.hostility.uploads import END, TYPE, part

ADDRESSES = (
    *(f"{API}/queue/join", f"{API}/run/predict", f"{API}/upload", f"{API}/call/continue_midi", f"{API}/cancel"),
    *(f"{API}/reset", f"{API}/mcp/", "/alive/page1", "/login", f"{API}/call/v2/continue_midi"),
)
READS = (
    "/config",
    f"{API}/info",
    f"{API}/queue/data?session_hash=page1",
    f"{API}/heartbeat/page1",
    "/metrics",
    "/healthz",
)
FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "file://"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "chrome-extension://aaaa"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
)
"""What browsers say of a request that is not of this server's own page."""
HOSTS = (
    *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example@127.0.0.1"),
    *(
        "127.0.0.1@evil.example",
        "127.0.0.1 evil.example",
        "127.0.0.1,evil.example",
        "[::1",
        "a" * 5000,
        "xn--evil",
        "*",
    ),
)
"""Names that a rebound one might have."""


def body_of(path: str) -> tuple[str, bytes]:
    """(the kind of body that an address wants, one that would be taken from this server's own page)."""
    if path.endswith("/upload"):
        return TYPE, part() + b"MThd" + END
    named = {"session_hash": "page1", "event_data": None, "trigger_id": None}
    return "application/json", json.dumps({"data": [], "fn_index": 0, **named}).encode()


async def _sent(target: Target, method: str, path: str, headers: dict[str, str], empty: bool = False) -> Answer:
    kind, body = body_of(path)
    said = {"Content-Type": kind, "Connection": "close"} | headers
    return await ask(target, request(target, method, path, said, None if empty else body), None, 60)


async def posts(target: Target) -> Tally:
    """Posts by pages of others, with and without the browser's cookie, in the forms that need no preflight too."""
    tally = Tally()
    cookies = ({}, {"Cookie": ""})
    kinds: tuple[dict[str, str], ...] = (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    for path, origin, cookie, kind in product(ADDRESSES, FOREIGN, cookies, kinds):
        answer = await _sent(target, "POST", path, {**origin, **cookie, **kind})
        tally.answers[answer.how] += 1
    return tally.allow("403", "404", "429")


async def reads(target: Target) -> Tally:
    """Reads by pages of others; what may be asked for may at least not be read."""
    tally = Tally()
    for path, origin in product(READS, FOREIGN):
        answer = await _sent(target, "GET", path, origin, empty=True)
        tally.answers[answer.how] += 1
        if answer.how == "200" and path != "/healthz":
            tally.faults.append(f"{path} was given to {origin}")
    return tally


async def preflights(target: Target) -> Tally:
    """What browsers ask before they let a page of another site send JSON."""
    tally = Tally()
    for path, origin in product((*ADDRESSES, *READS, "/"), FOREIGN[:6]):
        wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answer = await _sent(target, "OPTIONS", path, origin | wants, empty=True)
        tally.answers[answer.how] += 1
        if answer.how == "200":
            tally.faults.append(f"{path} was opened to {origin}")
    return tally.allow("403", "404", "405", "429")


async def hosts(target: Target) -> Tally:
    """Names of others in Host, alone and beside what proxies write; a Host twice, and none."""
    tally = Tally()
    bent = ({}, {"X-Forwarded-Host": target.name}, {"Forwarded": f"host={target.name}"})
    for path, host, more in product(
        ("/", "/config", f"{API}/queue/join", f"{API}/upload", "/healthz", "/metrics"), HOSTS, bent
    ):
        method = "POST" if path.endswith(("join", "upload")) else "GET"
        answer = await _sent(target, method, path, {"Host": host, **more}, empty=method == "GET")
        tally.answers[answer.how] += 1
        if answer.how == "200":
            tally.faults.append(f"{path} was given to who called the server {host[:40]}")
    plain = request(target, "GET", "/config", {"Connection": "close"})
    for data in (
        plain.replace(b"Host: ", b"Host: evil.example\r\nHost: "),
        plain.replace(f"Host: {target.name}\r\n".encode(), b""),
    ):
        answer = await ask(target, data, None, 60)
        tally.answers[answer.how] += 1
    absolute = request(target, "GET", "http://evil.example/config", {"Host": "evil.example", "Connection": "close"})
    tally.answers[(await ask(target, absolute, None, 60)).how] += 1
    return tally.allow("400", "404", "421", "429")


async def others_pages(target: Target) -> Tally:
    """Who knows the name of a page that another browser has opened, or comes without a cookie, speaks for it."""
    tally = Tally()
    opened = await _sent(target, "GET", "/alive/page2", {}, empty=True)
    if opened.how != "204":
        tally.faults.append(f"a page could not be opened: {opened.how}")
    theft: tuple[dict[str, str], ...] = (
        {"Cookie": COOKIE.replace("a" * 32, "b" * 32)},
        {"Cookie": "", "Origin": f"http://{target.name}"},
        {"Cookie": ""},
        {"Cookie": f"shortcut-gen={'a' * 33}"},
        {"Cookie": "shortcut-gen=" + "A" * 32},
    )
    for cookie in theft:
        for method, path in (
            ("GET", f"{API}/queue/data?session_hash=page2"),
            ("GET", f"{API}/heartbeat/page2"),
            ("POST", "/alive/page2"),
        ):
            answer = await _sent(target, method, path, cookie, empty=True)
            tally.answers[answer.how] += 1
    return tally.allow("403", "429")


SCENARIOS = (posts, reads, preflights, hosts, others_pages)
