"""Which requests programs may make: callers without a page, and so without its cookie. `ui.guard` asks here.

A program is whoever sends neither the cookie nor what every browser sends of itself (`Origin`, `Sec-Fetch-*`): a page
of another site can make a browser ask, but not leave these out. It may

- run the endpoints of `ui.api` and `ui.harp`, and none of the page's own events;
- upload files, to half of what is kept for all;
- speak for sessions that it opened from the same address, never for a page;
- ask so often a minute, and wait with so many others: pages are served beside programs, not after them.
"""

import json
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio_client import Client
from starlette.datastructures import Headers
from starlette.types import Scope

from ui.api import PLACE
from ui.bodies import BODY_BYTES, RefusalError
from ui.clients import INSIDE
from ui.guard import API, TEXT_LENGTH
from ui.waiting import waiting_clients

WAITING = 6
"""Calls that wait for their turn at most; one more is refused. Gradio's own queue is shared with the pages."""
REQUESTS = 120
"""From one address within a minute; a call takes three."""
ADDRESSES = 1000
"""Whose requests are counted; the one unheard for longest is forgotten first."""
MCP_SECONDS = 60
"""Without a word from this server, after which a call by MCP has failed."""
MCP_BYTES = 8 * 1024**2
"""Of a request by MCP, which may hold a file in base64."""

_CALL = re.compile(rf"{API}/call/(?P<named>v2/)?(?P<name>[a-z_]+)/?")
_ANSWER = re.compile(rf"{API}/call/(v2/)?[a-z_]+/[0-9a-f]{{32}}")
_MCP = re.compile(rf"{API}/mcp/?")
_OURS = re.compile(rf"https?://[^/?#]+{API}/file=([^?#]+)")


class Programs:
    """What there is for programs on one page, and how much they have asked for."""

    def __init__(self, page: gr.Blocks, mcp: bool = False, of_client: int | None = None) -> None:
        """page: built, with its endpoints. mcp: whether Gradio's MCP server is on. of_client: calls from one address
        that wait at most; None is no limit of its own."""
        self._page, self._mcp, self._of_client = page, mcp, of_client
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def events(self) -> dict[str, int]:
        """The endpoints, by name, and their numbers: what was not made private."""
        fns = self._page.fns.items()
        return {str(fn.api_name): number for number, fn in fns if fn.api_visibility != "private" and fn.api_name}

    def caller(self, scope: Scope, headers: Headers, browser: str | None) -> str | None:
        """A program's name, which no cookie can have; None where a browser asks, be it without a cookie."""
        if browser is not None or "origin" in headers or any(name.startswith("sec-") for name in headers):
            return None
        client = scope.get("client")
        return named(client[0] if client else "nowhere")

    def answers(self, method: str, path: str) -> bool:
        """Whether an address is for programs alone. Raises RefusalError."""
        if _MCP.fullmatch(path) and self._mcp:
            if method != "POST":  # the answers come with the requests; there is nothing to listen to or to close
                raise RefusalError(405, "MCP is by POST here")
            return True
        if method in ("GET", "HEAD"):
            return bool(_ANSWER.fullmatch(path))
        call = _CALL.fullmatch(path)
        return method == "POST" and call is not None and call["name"] in self.events

    def count(self, caller: str) -> None:
        """One more request that costs something. Raises RefusalError where there were too many."""
        now = time.monotonic()
        with self._lock:
            times = self._asked.setdefault(caller, deque(maxlen=REQUESTS))
            self._asked.move_to_end(caller)
            while len(self._asked) > ADDRESSES:
                self._asked.popitem(last=False)
            if len(times) == REQUESTS and now - times[0] < 60:
                line = f"more than {REQUESTS} requests in a minute; ask less often"
                raise RefusalError(429, line, headers={"Retry-After": "30"})
            times.append(now)

    @staticmethod
    def body_bytes(path: str) -> int:
        """Of a request in JSON, at most."""
        return MCP_BYTES if _MCP.fullmatch(path) else BODY_BYTES

    def joined(self, path: str, body: Any, caller: str = "") -> Mapping[str, Any] | None:
        """What a program's request asks of Gradio's queue, in the words of the page's own; None for MCP's.

        The body is changed where it names an upload by its address here, as MCP's clients do: nothing is ever fetched.
        Raises RefusalError.
        """
        if _MCP.fullmatch(path):
            check_mcp(body)
            return None
        if not isinstance(body, dict):
            raise RefusalError(422, "the request is no object")
        call = _CALL.fullmatch(path)
        if call is None:
            if path.rstrip("/").endswith("predict"):
                raise RefusalError(404, "there is nothing at this address")  # it goes past the queue
            if not path.rstrip("/").endswith("join"):
                return body
            if body.get("fn_index") not in self.events.values():
                raise RefusalError(403, "the page's cookie is missing; programs have the endpoints of docs/programs.md")
            number, data = body["fn_index"], body.get("data")
        else:
            number, data = self.events[call["name"]], self._values(call["name"], body, bool(call["named"]))
        self._check_room(number, caller)
        for value in data if isinstance(data, list) else ():
            if isinstance(value, dict) and (ours := _OURS.fullmatch(str(value.get("path")))):
                value["path"] = unquote(ours[1])
        named = {"session_hash": body["session_hash"]} if body.get("session_hash") is not None else {}
        return body if call is None else {"data": data, "fn_index": number} | named

    def _values(self, name: str, body: Mapping[str, Any], named: bool) -> Any:
        if not named:
            if not set(body) <= {"data", "session_hash"}:
                raise RefusalError(422, "the request has more than data and a session_hash")
            return body.get("data")
        described: dict[str, Any] = self._page.get_api_info()["named_endpoints"].get(f"/{name}", {})  # type: ignore
        parameters = described.get("parameters", [])
        known: dict[str, Any] = {each["parameter_name"]: each.get("parameter_default") for each in parameters}
        if not set(body) <= set(known):
            raise RefusalError(422, f"there is no parameter {min(set(body) - set(known))[:40]!r} of {name}")
        return [body.get(each, default) for each, default in known.items()]

    def _check_room(self, number: int, caller: str) -> None:
        if self._page.fns[number].concurrency_id != PLACE:
            return
        waiting = waiting_clients(self._page, PLACE)
        if len(waiting) >= WAITING:
            line = f"{WAITING} calls wait already; try again in a minute"
            raise RefusalError(503, line, headers={"Retry-After": "60"})
        mine = sum(caller == named(client) for client in waiting)
        if self._of_client and caller != named(INSIDE) and mine >= self._of_client:
            line = f"{self._of_client} calls from your address wait already; try again in a minute"
            raise RefusalError(429, line, headers={"Retry-After": "60"})


def named(address: str) -> str:
    """A program's name, by its address."""
    return f"program at {address}"


def connect_mcp(page: gr.Blocks, address: str, inside: str = "") -> Client:
    """Give Gradio's MCP server the client by which it calls this server, which is up; who serves closes it.

    It would make one itself at the first call, to wherever that call's headers say that this server is, and one that
    gives up after five seconds, which a busy machine may take.
    """
    client = Client(
        address,
        download_files=False,
        verbose=False,
        analytics_enabled=False,
        _skip_components=False,
        headers={"x-gradio-user": "mcp", INSIDE: inside},
        httpx_kwargs={"timeout": MCP_SECONDS},
    )
    server: Any = page.mcp_server_obj
    server._client_instance = client
    return client


def check_mcp(body: Any) -> None:
    """Raises RefusalError where a message holds what no tool here takes.

    Gradio's MCP server calls this server as a client would, and such a client reads each file that it is handed: a
    value that is an object could name one of the server's own.
    """
    if not isinstance(body, dict):
        raise RefusalError(422, "the request is no single message of MCP")
    parameters = body.get("params")
    if body.get("method") != "tools/call":
        if len(json.dumps(body)) > BODY_BYTES:
            raise RefusalError(413, f"the request has more than {BODY_BYTES:,} bytes")
        return
    values = parameters.get("arguments") if isinstance(parameters, dict) else None
    if line := _wrong(values):
        # A client of MCP gives up at any other status than 200.
        result = {"content": [{"type": "text", "text": line}], "isError": True}
        raise RefusalError(200, line, {"jsonrpc": "2.0", "id": body.get("id"), "result": result})


def _wrong(values: object) -> str:
    """What is wrong with a tool's arguments; "" where nothing is."""
    if not isinstance(values, dict | None):
        return "a tool's arguments are not an object"
    for name, value in (values or {}).items():
        if isinstance(value, str):
            if value.startswith(("http://", "https://")) and not _OURS.fullmatch(value):
                return f"{name[:40]} is no address of an upload to this server; nothing is fetched from others"
            if len(value) > TEXT_LENGTH and not value.startswith("data:"):
                return f"{name[:40]} is a text of more than {TEXT_LENGTH:,} characters"
        elif not isinstance(value, bool | int | float | None):
            return f"{name[:40]} is neither a number, a text, true nor false"
    return ""


def files_of(inputs: Sequence[Any]) -> list[bool]:
    """Whether each value that an event is sent is a file."""
    return [isinstance(each, gr.File) or "gradio.FileData" in json.dumps(each.api_info()) for each in inputs]
