"""The page and its description, kept once Gradio has rendered them: they are the same for all who call the server by
the same name, and a rendering takes a fifth of a second of a processor, which a crowd would wait for one by one.

What is kept depends on no visitor: a rendering is told the address by which the server was called and nothing else, no
cookie and no query. What belongs to a visitor, cookie and nonce, is added by the guard, which stands before this.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT = ("/", "/config", "/config/", "/gradio_api/config", "/gradio_api/config/")
"""Addresses whose answers are kept."""
ANY = "/gradio_api/app_id"
"""One of Gradio's other addresses: with the first request of one it works all of them out, for a second."""
ADDRESSES = 32
"""Of them, with the names by which the server was called, that are kept: one of `KEPT` takes some 250 kB."""
_NAMED = frozenset((b"host", b"x-forwarded-host", b"x-forwarded-proto"))
"""What of a request's headers Gradio makes addresses of."""
_SEEN = ("type", "asgi", "http_version", "scheme", "path", "raw_path", "root_path", "server")

Key = tuple[Any, ...]


@dataclass
class _Answer:
    """One rendering."""

    start: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        """A part of it."""
        if message["type"] == "http.response.start":
            self.start = dict(message)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


class Rendered:
    """An ASGI application before Gradio's, which it asks once for each address of a page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: OrderedDict[Key, _Answer] = OrderedDict()
        self._rendering = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http" or scope["path"] not in KEPT or scope["method"] not in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        answer = await self._answer(_addressed(scope))
        # A server sends no body after HEAD, and each answer's headers are changed on the way.
        await send({**answer.start, "headers": list(answer.start["headers"])})
        await send({"type": "http.response.body", "body": answer.body})

    async def render(self, host: str) -> None:
        """Have everything rendered for who calls the server so, before anybody does, and all addresses worked out."""
        for path in (*KEPT[:2], ANY):
            headers = [(b"host", host.encode())]
            scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "path": path}
            told = _addressed(scope | {"raw_path": path.encode(), "headers": headers})
            await (self._answer(told) if path in KEPT else self._app(told, _nothing, _Answer().take))

    async def _answer(self, scope: dict[str, Any]) -> _Answer:
        key = (scope["path"], scope["scheme"], tuple(scope["headers"]))
        if (kept := self._kept.get(key)) is None:
            async with self._rendering:  # one at a time: who comes by a hundred names takes one processor at most
                if (kept := self._kept.get(key)) is None:
                    kept = _Answer()
                    await self._app(scope, _nothing, kept.take)
                    if kept.start.get("status") != 200:
                        return kept
                    self._kept[key] = kept
                    while len(self._kept) > ADDRESSES:
                        self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept


async def _nothing() -> Message:
    """The body of a request without one."""
    return {"type": "http.request", "body": b"", "more_body": False}


def _addressed(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What a rendering may see of a request: by which address the server was called."""
    headers = sorted((name, value) for name, value in scope["headers"] if name in _NAMED)
    told = {name: scope[name] for name in _SEEN if name in scope}
    return told | {"method": "GET", "query_string": b"", "headers": headers, "client": None, "state": {}}
