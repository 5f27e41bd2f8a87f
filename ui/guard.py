"""Who may ask the page for what: what stands before Gradio, which trusts every request.

Gradio answers any `Host` and any `Origin`, ends a run for whoever knows the hash of its page, offers two dozen
addresses that this page does not use, and prints a traceback for a body it did not expect. Here a request

- names a host of ours (against DNS rebinding) and comes from a page of ours (against forged requests);
- goes to one of the addresses that the page uses;
- carries, where it speaks for a page, the cookie of the browser in which that page was opened;
- has a body of the size and kind that the page's own script sends.

Programs, which have no page, are let in to their own endpoints by the rules of `ui.programs`.

What it gets has a Content-Security-Policy: scripts from here alone, by a nonce for those within the page.
"""

import ipaddress
import json
import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.bodies import RefusalError, again, read, refused
from ui.storage import tidy

if TYPE_CHECKING:
    from ui.programs import Programs

log = logging.getLogger(__name__)

COOKIE = "shortcut-gen"
API = "/gradio_api"
TEXT_LENGTH = 1000
"""Of a value in it."""
PATH_BYTES, PART_BYTES = 4000, 255
"""Of an address and of a name in it; no file can have a longer one, and Gradio fails at looking for it."""
PAGES = 10_000
"""Pages whose browser is remembered; the one unused for longest is forgotten first, and must be reloaded."""
FIRST = b'<script src="static/alive.js"></script>'
"""What the page is to run before Gradio, which has its own way of adding scripts, and adds them late."""
NO_COOKIE = "the page's cookie is missing; reload the page, and allow it its cookie"
UPLOADED_BYTES = 2 * 1024**3
"""Of all uploads that are kept at a time."""
UPLOADED_SECONDS = 2 * 3600
"""After which a file goes with the next upload. Gradio deletes its own after an hour, but forgets those sent by MCP."""

_READ = re.compile(
    r"/(config/?|theme\.css|robots\.txt|favicon\.ico|manifest\.json|(assets|static|svelte)/[^?]*|(live|notes)/[0-9a-f]+"
    r"|results/[0-9a-f]+/[^/]+|why/[0-9a-f]+/[0-9]{1,2}/[0-9]{1,7}|alive/[0-9A-Za-z-]+"
    rf"|{API[1:]}/(config/?|info/?|theme\.css|startup-events|app_id/?|upload_progress|queue/data|heartbeat/[^/]+|file=.*))?"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{0,5})?")
"""A name and a port: as an address of a browser's would be read, evil.example@127.0.0.1 is 127.0.0.1 too."""
_ALIVE = "/alive/"
_SPEAKS = (f"{API}/heartbeat/", _ALIVE)
"""Addresses that end in a page's name."""
_FRAGILE = (f"{API}/upload", f"{API}/queue/data", f"{API}/call", f"{API}/mcp")
_WRITE = re.compile(rf"{API}/(queue/join|run/predict|cancel|reset|upload)/?|{_ALIVE}[0-9A-Za-z-]+")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is let in, beside what is always."""

    hosts: frozenset[str] = frozenset()
    """Names by which the server may be called, beside localhost and any IP address; "*" for all."""
    frames: Sequence[str] = ()
    """Origins whose pages may show this one in a frame, such as https://example.org."""
    secure: bool = False
    """The page is reached by https alone: its cookie is too."""
    path: str = "/"
    """Where the browser finds the page, and whither it sends its cookie."""

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server. An IP address does: a rebound name is none."""
        name = _name(host)
        if "*" in self.hosts or name in self.hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def content(self, nonce: str) -> str:
        """The Content-Security-Policy of an answer."""
        frames = " ".join(("'self'", *self.frames))
        return "; ".join(
            (
                "default-src 'none'",
                f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",  # Gradio's HTML component is made by Function()
                "style-src 'self' 'unsafe-inline'",  # Gradio and the pictures style single elements
                "img-src 'self' data: blob:",
                "media-src 'self' blob: data:",
                "font-src 'self' data:",
                "connect-src 'self'",
                "worker-src 'self' blob:",
                "manifest-src 'self'",
                "base-uri 'self'",
                "form-action 'self'",
                f"frame-ancestors {frames}",
            )
        )


class Owners:
    """Which browser opened which page."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, page: str, browser: str) -> None:
        """The first browser that speaks for a page owns it. Raises RefusalError for another one."""
        if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", page):
            raise RefusalError(403, NO_COOKIE)
        with self._lock:
            if self._owners.setdefault(page, browser) != browser:
                raise RefusalError(403, "this page was opened in another browser")
            self._owners.move_to_end(page)
            while len(self._owners) > PAGES:
                self._owners.popitem(last=False)


class Guard:
    """An ASGI application before another one."""

    def __init__(
        self,
        app: ASGIApp,
        policy: Policy,
        uploads: Path,
        inputs: Callable[[], Mapping[int, Sequence[bool]]],
        programs: "Programs | None" = None,
        begins: Callable[[int], None] | None = None,
        uploaded_bytes: int | None = None,
    ) -> None:
        """uploads: where uploaded files lie. inputs: whether each value that an event is sent is a file, by the event's
        number. programs: what callers without a page may ask for; None lets none in. begins: is called with each
        event's number, and may raise RefusalError. uploaded_bytes: UPLOADED_BYTES if not said.
        """
        self._begins = begins
        self._uploaded = uploaded_bytes
        self._app, self._policy, self._uploads, self._inputs = app, policy, uploads.resolve(), inputs
        self._programs = programs
        self._owners = Owners()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        answer = _Answer(scope, send, self._policy)
        try:
            receive = await self._admit(scope, receive, answer.browser)
        except RefusalError as refusal:
            program = self._programs is not None and answer.browser is None
            return await refused(refusal, program)(scope, receive, answer)
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            # What Gradio lets pass as a fault of its own where the request was at fault; all others are ours to see.
            if not scope["path"].startswith(_FRAGILE):
                raise
            log.warning("a request that Gradio did not expect failed", exc_info=error)  # nothing of what it held
            await answer.end()

    async def _admit(self, scope: Scope, receive: Receive, browser: str | None) -> Receive:
        """Raises RefusalError. Returns what the application is to read the body from."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._policy.knows(host):
            raise RefusalError(
                421, f"{host[:100]!r} is no name of this server; start it with --allowed-hosts to give it one"
            )
        if not same_site(headers, host):
            raise RefusalError(403, "the request comes from another site's page")
        reads = method in ("GET", "HEAD")
        program = self._programs.caller(scope, headers, browser) if self._programs is not None else None
        known = bool((_READ if reads else _WRITE).fullmatch(path)) and (reads or method == "POST")
        if (not known and not (program and self._programs and self._programs.answers(method, path))) or _is_long(path):
            raise RefusalError(404, "there is nothing at this address")
        pages = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
        if path.startswith(_SPEAKS):
            pages.append(path.rsplit("/", 1)[1])
        speaker = browser or program
        if program and self._programs and (pages or not reads):
            self._programs.count(program)
        if speaker is None and (pages or not reads):
            raise RefusalError(403, NO_COOKIE)
        if path.startswith(f"{API}/upload") and not reads:
            self._check_uploads(2 if program else 1)
        elif not reads and not path.startswith(_ALIVE):  # its body is not read
            receive = await self._check_body(path, receive, pages, program)
        for page in pages:
            self._owners.check(page, str(speaker))
        return receive

    async def _check_body(self, path: str, receive: Receive, pages: list[str], program: str | None) -> Receive:
        """Notes the page that a body in JSON speaks for. Raises RefusalError. Returns what gives the body again."""
        if program is None or self._programs is None:
            body, receive = await read(receive)
            pages.append(self._page_of(body, path))
            return receive
        body, receive = await read(receive, self._programs.body_bytes(path))
        asked = self._programs.joined(path, body, program)
        if asked is None:  # MCP's: it may hold a file
            self._check_uploads(2)
            return receive
        if "data" in asked:
            self._check_data(asked)
            receive = again(json.dumps(body).encode(), receive)  # an upload may have got its path
        if asked is body or "session_hash" in asked:
            pages.append(self._page_of(asked, path))
        return receive

    def _check_uploads(self, share: int) -> None:
        """Raises RefusalError where more than one part in `share` of what may be kept is there."""
        most = UPLOADED_BYTES if self._uploaded is None else self._uploaded
        if tidy(self._uploads, UPLOADED_SECONDS) > most // share:
            line = "the server holds too many uploaded files; try again in an hour"
            raise RefusalError(507, line, headers={"Retry-After": "3600"})

    def _page_of(self, body: Any, path: str) -> str:
        """Which page a body in JSON speaks for. Raises RefusalError where it is none that the page's script sends."""
        if not isinstance(body, dict) or not isinstance(body.get("session_hash"), str):
            raise RefusalError(422, "the request names no page; an object with a session_hash is needed")
        if "data" in body or path.rstrip("/").endswith(("join", "predict")):
            self._check_data(body)
        for name in ("event_id", "trigger_id", "simple_format", "api_name", "event_data"):
            if not isinstance(body.get(name), str | int | float | bool | None):
                raise RefusalError(422, f"{name} is {type(body[name]).__name__}; a plain value is needed")
        return str(body["session_hash"])

    def _check_data(self, body: Mapping[str, Any]) -> None:
        known, event, data = self._inputs(), body.get("fn_index"), body.get("data")
        if not isinstance(event, int) or isinstance(event, bool) or event not in known:
            raise RefusalError(422, f"fn_index is {str(event)[:40]}; the number of one of the page's events is needed")
        if not isinstance(data, list) or len(data) != len(known[event]):
            raise RefusalError(422, f"data is not what this event is sent; a list of {len(known[event])} is needed")
        if self._begins is not None:
            self._begins(event)
        for value, is_file in zip(data, known[event], strict=True):
            if is_file and value is not None:
                self._check_file(value)
            elif not (value is None or isinstance(value, bool | int | float | str)) or len(str(value)) > TEXT_LENGTH:
                raise RefusalError(
                    422, "data holds a value that is neither a number, a short text, true, false nor a file"
                )

    def _check_file(self, value: Any) -> None:
        kinds = {"path": str, "url": str, "orig_name": str, "mime_type": str, "size": int, "is_stream": bool}
        if not isinstance(value, dict) or value.get("meta") != {"_type": "gradio.FileData"}:
            raise RefusalError(422, "data holds something else where a file is needed")
        path = value.get("path")
        flat = all(part is None or isinstance(part, kinds.get(name, dict)) for name, part in value.items())
        short = all(len(str(part)) <= TEXT_LENGTH for part in value.values())
        if not isinstance(path, str) or "\0" in path or not flat or not short:
            raise RefusalError(422, "data holds a file without a path, or more than a file has")
        try:
            there = Path(path).resolve()
            inside = there.is_relative_to(self._uploads) and there.is_file()
        except (OSError, RuntimeError):
            inside = False
        if not inside:
            raise RefusalError(422, "the file is not there any more; upload it again")


def _name(host: str) -> str:
    """The name or address in a Host header, without its port; "" where there is none, or more than that."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _is_long(path: str) -> bool:
    """Whether no file can have such a path."""
    whole = path.encode("utf-8", "replace")
    return len(whole) > PATH_BYTES or any(len(part) > PART_BYTES for part in whole.split(b"/"))


def same_site(headers: Headers, host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page: a program, or an address typed in."""
    origin = headers.get("origin")
    if origin is not None:
        return origin in (f"http://{host}", f"https://{host}")
    # A page may link to this one, and that is all: what browsers send of it says so.
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    return site in ("none", "same-origin") or mode == "navigate"


@lru_cache(8)
def _around_nonces(page: bytes) -> list[bytes]:
    """The page with what it runs first, in the pieces that a nonce goes between. Pages are kept (`ui.rendered`), and
    looking through one took as long as all else about it."""
    page = re.sub(rb"<head(\s[^>]*)?>", rb"\g<0>" + FIRST, page, count=1)
    return re.sub(rb"<script(?=[\s>])", rb'<script nonce="\0"', page).split(b"\0")


class _Answer:
    """Passes an answer on with the headers that each has; the page itself gets a nonce and, if need be, its cookie."""

    def __init__(self, scope: Scope, send: Send, policy: Policy) -> None:
        self._send, self._policy = send, policy
        self._nonce = secrets.token_urlsafe(16)
        self._page = scope["path"] == "/"
        self._start: Message | None = None
        self._body = b""
        self._ended = self._begun = False
        self._upload = scope["path"].startswith(f"{API}/upload")
        self.browser = _cookie(Headers(scope=scope))

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            if self._upload and message["status"] == 500:  # a form that Gradio did not expect
                message["status"] = 400
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            self._set(headers)
            if self._page and headers.get("content-type", "").startswith("text/html"):
                self._start = message  # until its body is there, which gets longer
                return
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = self._nonce.encode().join(_around_nonces(self._body))
            MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
            await self._send(self._start)
            message = {"type": "http.response.body", "body": body}
            self._start = None
        self._ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def end(self) -> None:
        """The application has failed: what it has begun ends here."""
        if not self._begun:
            await self({"type": "http.response.start", "status": 400, "headers": []})
        if not self._ended:
            await self({"type": "http.response.body", "body": b""})

    def _set(self, headers: MutableHeaders) -> None:
        for name in [name for name in headers.keys() if name.startswith("access-control-")]:  # noqa: SIM118
            del headers[name]
        headers["content-security-policy"] = self._policy.content(self._nonce)
        headers["x-content-type-options"] = "nosniff"
        headers["referrer-policy"] = "same-origin"
        headers["cross-origin-opener-policy"] = "same-origin"
        if not self._policy.frames:
            headers["cross-origin-resource-policy"] = "same-origin"
        if self._page:
            headers["cache-control"] = "no-store"  # the nonce is for once
            if self.browser is None:
                rules = f"Path={self._policy.path}; HttpOnly; SameSite=Lax" + (
                    "; Secure" if self._policy.secure else ""
                )
                headers.append("set-cookie", f"{COOKIE}={secrets.token_hex(16)}; {rules}")


def _cookie(headers: Headers) -> str | None:
    """The browser's name, if it has one."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None and re.fullmatch(r"[0-9a-f]{32}", morsel.value) else None
