"""What stands before the guard: who asks, whether they may come in and how much they may ask for; health and metrics.

The guard (`ui.guard`) says what may be asked at all. Here it is said by whom and how often (`ui.clients`, `ui.auth`),
how large and how slow a request may be, and what becomes of one while the server ends. Each answer is counted
(`ui.metrics`), and each that was refused is a line in the log, without anyone's content (`ui.logs`).
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.auth import Accounts
from ui.bodies import RefusalError, refused
from ui.clients import INSIDE, LOOPBACK, Client, Clients, Limits, Network, client_of, within
from ui.ending import RETRY_SECONDS, ending
from ui.guard import Policy, same_site
from ui.kinds import kind_of
from ui.metrics import CONTENT_TYPE, Metrics
from ui.sessions import Sessions

log = logging.getLogger(__name__)

UPLOAD_BYTES = 50 * 1024**2
"""Of one upload: ten minutes of mp3 take about 10 MB, of CD sound 100. Of MIDI less is taken (`ui.piano`)."""
FORM_BYTES = 64 * 1024
"""What a form may have beside its file."""
BODY_SECONDS = 15.0
"""Within which a request's body must have come, and for each of BODY_RATE bytes of an upload a second more, and within
which more of it must come."""
BODY_RATE = 64 * 1024
LINGER_SECONDS = 2.0
"""For which the rest of an upload that was refused is read, so that its sender sees the answer."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How a server is run; what is not given is as for localhost."""

    limits: Limits = field(default_factory=Limits)
    proxies: Sequence[Network] = ()
    """Whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    readers: Sequence[Network] = LOOPBACK
    """Who may read the metrics and which models there are."""
    accounts: Accounts | None = None
    root_path: str = ""
    """Under which a proxy shows the page."""
    most_upload: int = UPLOAD_BYTES
    inside: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    """By which this server knows its own client of MCP."""


class Front:
    """An ASGI application before the guard."""

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        metrics: Metrics,
        operation: Operation,
        policy: Policy,
        models: Mapping[str, Any],
    ) -> None:
        self._app, self._sessions, self.metrics, self._policy, self._models = app, sessions, metrics, policy, models
        self.operation, self.clients = operation, Clients(operation.limits)
        self.starting = False
        """Pages are served already, calls by MCP not yet: Gradio would serve them by a client of its own making."""
        self.last = time.monotonic()
        """When the last answer ended that brought something of a run."""
        self.render: Callable[[str], Coroutine[Any, Any, None]] | None = None
        """Has the page rendered for who calls the server by a name, as `ui.rendered` does."""
        self.waiting: Callable[[], Sequence[str]] = tuple
        """Whose events wait in Gradio's queue, as `ui.waiting` finds them."""
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        asked = _Asked(self, scope, receive, send)
        try:
            await asked.answer()
        except RefusalError as refusal:
            asked.broken = asked.broken or refusal
        except Exception:
            if asked.broken is None:
                self.metrics.errors.labels("request").inc()
                raise
        finally:
            if asked.broken is not None:
                await asked.refuse(asked.broken)
            asked.count()

    def who(self, scope: Scope, headers: Headers) -> Client:
        """Who asks."""
        peer = scope.get("client")
        client = client_of(peer[0] if peer else None, headers, self.operation.proxies)
        if client.proxied and not self._warned:
            self._warned = True
            log.warning(
                "a proxy passes requests on that --proxies does not name, or that does not say for whom by "
                "X-Forwarded-For: all who come by it are one client"
            )
        return client

    def ready(self, client: Client) -> Response:
        """The answer to a question after the server's health."""
        ready = not (self._sessions.draining or self.starting)
        status = "draining" if self._sessions.draining else "starting" if self.starting else "ready"
        said: dict[str, Any] = {"status": status}
        if self.reads(client):
            said["models"] = {name: each.names for name, each in self._models.items()}
            said["made"], said["waiting"] = self._sessions.load()
        retry = {} if ready else {"Retry-After": str(RETRY_SECONDS)}
        return JSONResponse(said, 200 if ready else 503, headers=retry | {"Cache-Control": "no-store"})

    def reads(self, client: Client) -> bool:
        """Whether a client may read figures: a proxy's own address does not stand for those behind it."""
        return not client.proxied and within(client.host, self.operation.readers)

    def is_inside(self, headers: Headers) -> bool:
        """Whether this server asks itself."""
        return hmac.compare_digest(headers.get(INSIDE, "").encode(), self.operation.inside.encode())


class _Asked:
    """One request."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send) -> None:
        self.front, self.operation = front, front.operation
        self.scope, self._receive, self._send = dict(scope), receive, send
        self.headers = Headers(scope=scope)
        self.client = front.who(scope, self.headers)
        self.began = time.monotonic()
        self.status = 0
        self.kind, self._inside = "other", False
        self.broken: RefusalError | None = None
        """Why the request ends here, whatever those who read its body make of that."""
        self._begun = self._refusing = False
        self._got = 0
        self._most = 0
        self._until = 0.0

    async def answer(self) -> None:
        """Raises RefusalError."""
        front, scope = self.front, self.scope
        inside = self._inside = front.is_inside(self.headers)
        moved = self._take_root()
        self.kind = kind_of(scope["path"])
        if self.kind in ("health", "metrics"):
            return await self._about_itself()
        if moved:
            return await moved(scope, self._receive, self.send)
        self._rewrite()
        if inside:
            self.scope["client"] = (INSIDE, 0)
        else:
            front.clients.count(self.client.name)
            await self._let_in()
        reads = scope["method"] in ("GET", "HEAD")
        if front.starting and self.kind == "mcp":
            raise ending()
        if front._sessions.draining and ((self.kind in ("upload", "mcp", "call") and not reads) or self.kind == "page"):
            raise ending()
        if reads:
            lasts = self.kind in ("news", "sound") and not inside
            with front.clients.listening(self.client.name) if lasts else nullcontext():
                return await front._app(scope, self._receive, self.send)
        if self.kind == "event" and not inside and scope["path"].rstrip("/").endswith("join"):
            front.clients.check_waiting(self.client.name, front.waiting)
        upload = self.kind == "upload"
        self._most = self.operation.most_upload + FORM_BYTES if upload else 16 * 1024**2
        self._until = self.began + BODY_SECONDS
        self._check_length()
        if not upload or inside:
            return await front._app(scope, self.receive, self.send)
        with front.clients.uploading(self.client.name):
            try:
                await front._app(scope, self.receive, self.send)
            finally:
                front.clients.note_upload(self.client.name, self._got)

    def _take_root(self) -> Response | None:
        """Take the path under which a proxy shows the page away, where the proxy has left it. Returns what leads to
        the page from that path without its slash."""
        root, path = self.operation.root_path, self.scope["path"]
        if root and path == root:
            return RedirectResponse(f"{root}/", 307)
        if root and path.startswith(f"{root}/"):
            self.scope["path"] = path[len(root) :]
            self.scope["raw_path"] = self.scope["path"].encode()
        return None

    def _rewrite(self) -> None:
        """What comes after is to see the client, and of what proxies note only what one that was named has noted."""
        peer = self.scope.get("client")
        self.scope["client"] = (self.client.name, 0 if peer is None else peer[1])
        headers = MutableHeaders(raw=list(self.scope["headers"]))
        trusted = peer is not None and within(peer[0], self.operation.proxies)
        host = headers.get("x-forwarded-host", "")
        if not trusted or not self.front._policy.knows(host.split(",")[0].strip()):
            del headers["x-forwarded-host"]
        proto = headers.get("x-forwarded-proto", "").split(",")[0].strip()
        del headers["x-gradio-server"]
        if self.front._policy.secure or (trusted and proto == "https"):
            self.scope["scheme"] = "https"
            headers["x-forwarded-proto"] = "https"
        self.scope["headers"] = headers.raw

    async def _about_itself(self) -> None:
        front = self.front
        if not front._policy.knows(self.headers.get("host", "")):
            raise RefusalError(421, "this is no name of this server; start it with --allowed-hosts to give it one")
        if self.scope["method"] not in ("GET", "HEAD"):
            raise RefusalError(405, "this is asked for by GET", headers={"Allow": "GET, HEAD"})
        if self.kind == "metrics" and not same_site(self.headers, self.headers.get("host", "")):
            raise RefusalError(403, "the request comes from another site's page")
        if self.kind == "health":
            response = front.ready(self.client)
        elif front.reads(self.client):
            text = await run_in_threadpool(front.metrics.text)
            response = Response(text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
        else:
            raise RefusalError(404, "there is nothing at this address")
        await response(self.scope, self._receive, self.send)

    async def _let_in(self) -> None:
        accounts = self.operation.accounts
        if accounts is None:
            return
        header = self.headers.get("authorization")
        if accounts.known(header) is None:
            await run_in_threadpool(accounts.check, header, self.client.name)

    def _check_length(self) -> None:
        """Refuse what says that it is too large before any of it is read. Raises RefusalError."""
        with suppress(ValueError):
            size = int(self.headers.get("content-length", "0"))
            if size > self._most:
                raise too_large(self.kind, self.operation.most_upload)
            if not self._inside and (self.kind == "upload" or (self.kind == "mcp" and size > FORM_BYTES)):
                self.front.clients.check_upload(self.client.name, size)

    async def receive(self) -> Message:
        """What comes of the body, within its size and time. Raises RefusalError."""
        try:
            allowed = self._until + self._got / BODY_RATE - time.monotonic()
            waits = min(max(allowed, 0.001), BODY_SECONDS) if self._until else None
            message = await asyncio.wait_for(self._receive(), waits)
        except TimeoutError:
            self.broken = RefusalError(408, "the request was sent too slowly")
            raise self.broken from None
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            if self._got > self._most:
                self.broken = too_large(self.kind, self.operation.most_upload)
                raise self.broken
            if not message.get("more_body"):
                self._until = 0.0  # what comes now is that the client went away
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on, and see its status."""
        if self.broken is not None and not self._begun and not self._refusing:
            return  # what Gradio says of a body that ended
        if message["type"] == "http.response.start":
            self.status, self._begun = message["status"], True
        await self._send(message)

    async def refuse(self, refusal: RefusalError) -> None:
        """Answer with a line, where nothing was answered yet."""
        if self._begun:
            return
        self._refusing = True
        if self.kind == "page":
            response: Response = PlainTextResponse(f"{refusal}\n", refusal.status, headers=refusal.headers)
        else:
            response = refused(refusal, program=False)
        response.headers["X-Content-Type-Options"] = "nosniff"
        body = self._until > 0
        if body:
            response.headers["Connection"] = "close"
        held: list[Message] = []

        async def begin(message: Message) -> None:
            # A connection is closed once its answer is whole, and the sender may then never see it: read on a while.
            if message["type"] == "http.response.body" and body:
                held.append(message)
                message = {**message, "more_body": True}
            await self.send(message)

        await response(self.scope, self._receive, begin)
        if held:
            await self._read_on()
            await self.send({"type": "http.response.body", "body": b""})

    async def _read_on(self) -> None:
        until = time.monotonic() + LINGER_SECONDS
        with suppress(TimeoutError):
            while (left := until - time.monotonic()) > 0:
                message = await asyncio.wait_for(self._receive(), left)
                if message["type"] != "http.request" or not message.get("more_body"):
                    return

    def count(self) -> None:
        """The request is over."""
        front, took = self.front, time.monotonic() - self.began
        front.metrics.requests.labels(self.kind, str(self.status or "none")).inc()
        if self.kind not in ("news", "sound"):  # these last as long as there is something to hear
            front.metrics.request_seconds.labels(self.kind).observe(took)
        if self.kind in ("result", "news", "sound", "notes", "call", "mcp"):
            front.last = time.monotonic()
        gone = self.status == 404 and self.kind in ("asset", "other", "result", "sound", "notes")
        if self.status >= 400 and not gone and front.clients.tells(self.client.name):
            client = front.clients.pseudonym(self.client.name)
            more = {"status": self.status, "seconds": round(took, 3), "client": client}
            log.info("a request for %s was refused", self.kind, extra=more)


def too_large(kind: str, most_upload: int) -> RefusalError:
    """What is said of a body that is too large."""
    if kind == "upload":
        return RefusalError(413, f"the file is larger than {most_upload / 1024**2:,.0f} MB")
    return RefusalError(413, "the request has more bytes than any that is taken")
