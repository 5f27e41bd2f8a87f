"""Who asks, and how much of the server one of them may take: requests, runs, uploads, stored bytes.

A client is an address: of IPv6 the network of 64 bits that one line is given. Behind a proxy it is what the proxy says
in `X-Forwarded-For`, where the operator has named that proxy, and what any other says there is not read: whoever may
write it could be anybody. People behind one address (a school, an office) are one client.
"""

import hmac
import ipaddress
import secrets
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from shortcut_gen.errors import SettingsError
from ui.bodies import RefusalError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
HERE: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("::1/128"))
"""Where a proxy on this machine comes from that nobody has named."""
CLIENTS = 10_000
"""Whose requests are counted; the one unheard for longest is forgotten first."""
KEPT_SECONDS = 2 * 3600.0
"""For which an upload counts as stored: by then it is gone (`ui.guard.UPLOADED_SECONDS`)."""
UPLOADS_WITHIN = 3600.0
UPLOADS_AT_ONCE = 8
"""Over all clients: each is a file that grows."""
UPLOADS_OF_CLIENT = 3
LISTENING_OF_CLIENT = 200
"""Answers that last as long as there is something to tell: a page has one or two, and each holds a connection, also
behind a proxy, whose own connections are not counted (`ui.serving`)."""
WAITING_OF_CLIENT = 40
"""Events in Gradio's queue that have no turn yet, or as many as the runs of a client where that is more. All that come
behind them wait for them, also for those that are refused in their turn."""
LINES = 20
"""Of the log, within a minute, about refusals of one client."""
BURST = 0.25
"""Of a minute's requests that may come at once: a page is some 150 of them."""
FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via")
"""Headers by which a proxy is told."""
INSIDE = "x-shortcut-gen-inside"
"""The header by which this server's own client of MCP is known to it, and what it is called in place of an address."""
NOBODY = "unknown"
"""The client of a connection without an address, such as a Unix socket's."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one client; None is no limit."""

    runs: int | None = None
    """Continuations that are made or wait, at a time."""
    rate: int | None = None
    """Requests within a minute."""
    uploads: int | None = None
    """Uploads within an hour."""
    stored: int | None = None
    """Bytes of uploads that are kept at a time."""


OPEN = Limits(runs=4, rate=3000, uploads=120, stored=256 * 1024**2)
"""Where others than this machine are served, unless the operator says otherwise."""


def networks(names: Sequence[str], flag: str) -> tuple[Network, ...]:
    """Addresses and networks, such as 10.0.0.0/8. Raises SettingsError."""
    found = []
    for name in names:
        try:
            found.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            raise SettingsError(
                f"{flag} names {name!r}; addresses or networks such as 127.0.0.1 or 10.0.0.0/8 are needed"
            ) from None
    return tuple(found)


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as sockets and proxies write it, with a port or not; None where it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)  # what a socket for both kinds calls an IPv4 address
    return mapped or found


def within(text: str, among: Sequence[Network]) -> bool:
    """Whether an address lies in one of some networks."""
    found = address(text)
    return found is not None and any(found in network for network in among if network.version == found.version)


@dataclass(frozen=True)
class Client:
    """Who asks."""

    host: str
    """The address as it is."""
    name: str
    """By which it is counted."""
    proxied: bool
    """A proxy has passed the request on and `host` is the proxy's: nobody named it, or it did not say for whom."""


def client_of(peer: str | None, headers: Headers, proxies: Sequence[Network]) -> Client:
    """Who asks, by the connection and by what proxies that were named have noted: the last address that is not
    one of theirs, as all before it is what the client itself may have written."""
    host, trusted = peer or "", within(peer or "", proxies)
    proxied = any(name in headers for name in FORWARDED)
    if trusted:
        for one in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
            noted = address(one)
            if noted is None:
                break
            host = str(noted)
            if not within(host, proxies):
                proxied = False
                break
    found = address(host)
    if found is None:
        return Client(host, NOBODY, proxied)
    name = str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
    return Client(str(found), name, proxied)


@dataclass
class _Account:
    """What one client has asked for."""

    allowance: float
    at: float
    told_at: float = -60.0
    told: int = 0
    """Lines of the log within the minute that began then."""
    uploads: deque[tuple[float, int]] = field(default_factory=deque)
    """When each began, and its bytes."""


class Clients:
    """What each client has asked for, against its limits."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._uploading: Counter[str] = Counter()
        self._listening: Counter[str] = Counter()
        self._lock = threading.Lock()

    def pseudonym(self, name: str) -> str:
        """A client in the log: the same until the server ends, and no way back to an address."""
        return hmac.new(self._key, name.encode(), "sha256").hexdigest()[:8]

    def tells(self, name: str) -> bool:
        """Whether a refusal is worth a line of the log: who is refused all the time fills no disk with that."""
        with self._lock:
            account, now = self._account(name), self._clock()
            if now - account.told_at >= 60:
                account.told_at, account.told = now, 0
            account.told += 1
            return account.told <= LINES

    def __len__(self) -> int:
        return len(self._accounts)

    def count(self, name: str) -> None:
        """One more request. Raises RefusalError where there were too many."""
        rate = self.limits.rate
        if rate is None:
            return
        with self._lock:
            account, now = self._account(name), self._clock()
            gained = (now - account.at) * rate / 60
            account.allowance, account.at = min(account.allowance + gained, max(rate * BURST, 1.0)), now
            if account.allowance < 1:
                wait = max(round(60 / rate), 1)
                line = f"more than {rate:,} requests in a minute from your address; ask less often"
                raise RefusalError(429, line, headers={"Retry-After": str(wait)})
            account.allowance -= 1

    def check_upload(self, name: str, size: int) -> None:
        """Whether one more upload of so many bytes may come. Raises RefusalError."""
        with self._lock:
            account = self._account(name)
            self._forget(account)
            recent = sum(self._clock() - at < UPLOADS_WITHIN for at, _ in account.uploads)
            held = sum(bytes_ for _, bytes_ in account.uploads)
        if self.limits.uploads is not None and recent >= self.limits.uploads:
            raise RefusalError(
                429,
                f"more than {self.limits.uploads:,} uploads in an hour from your address; try again later",
                headers={"Retry-After": "600"},
            )
        if self.limits.stored is not None and held + size > self.limits.stored:
            most = self.limits.stored / 1e6
            line = f"more than {most:,.0f} MB of uploads from your address are kept; try again in an hour"
            raise RefusalError(507, line, headers={"Retry-After": "3600"})

    @contextmanager
    def uploading(self, name: str) -> Iterator[None]:
        """While an upload comes. Raises RefusalError where too many do."""
        with self._lock:
            limited = self.limits.uploads is not None and self._uploading[name] >= UPLOADS_OF_CLIENT
            if limited or self._uploading.total() >= UPLOADS_AT_ONCE:
                line = "too many files arrive right now; try again in a moment"
                raise RefusalError(429 if limited else 503, line, headers={"Retry-After": "5"})
            self._uploading[name] += 1
        with self._counted(self._uploading, name):
            yield

    @contextmanager
    def listening(self, name: str) -> Iterator[None]:
        """While an answer lasts. Raises RefusalError where too many do."""
        with self._lock:
            if self.limits.rate is not None and self._listening[name] >= LISTENING_OF_CLIENT:
                line = "too many pages are open at your address; close some"
                # The connection goes too, as it is connections that there are too few of.
                raise RefusalError(429, line, headers={"Retry-After": "30", "Connection": "close"})
            self._listening[name] += 1
        with self._counted(self._listening, name):
            yield

    def check_waiting(self, name: str, waiting: Callable[[], Sequence[str]]) -> None:
        """Whether one more event may wait, where those of these clients do. Raises RefusalError."""
        if self.limits.rate is None or waiting().count(name) < max(WAITING_OF_CLIENT, self.limits.runs or 0):
            return
        line = "too many clicks from your address wait already; try again in a moment"
        raise RefusalError(429, line, headers={"Retry-After": "5"})

    @contextmanager
    def _counted(self, among: Counter[str], name: str) -> Iterator[None]:
        """What was counted there is over with the block."""
        try:
            yield
        finally:
            with self._lock:
                among[name] -= 1
                if not among[name]:
                    del among[name]

    def note_upload(self, name: str, size: int) -> None:
        """An upload has come, of so many bytes."""
        with self._lock:
            account = self._account(name)
            account.uploads.append((self._clock(), size))
            while len(account.uploads) > max(self.limits.uploads or 0, 1000):
                account.uploads.popleft()

    def _forget(self, account: _Account) -> None:
        while account.uploads and self._clock() - account.uploads[0][0] > KEPT_SECONDS:
            account.uploads.popleft()

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account((self.limits.rate or 0) * BURST or 1.0, self._clock())
        self._accounts.move_to_end(name)
        while len(self._accounts) > CLIENTS:
            self._accounts.popitem(last=False)
        return account
