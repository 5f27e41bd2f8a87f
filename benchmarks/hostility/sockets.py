"""Requests as bytes on a connection: sent whole, slowly, in part or without end, and how each was answered."""

import asyncio
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

API = "/gradio_api"
COOKIE = "shortcut-gen=" + "a" * 32
"""Anyone can make one up, and speaks for pages of nobody else with it."""
KEPT, CLOSED = "kept", "closed"
"""A connection that the server has neither answered nor closed, and one that it closed without an answer."""
HEAD_BYTES = 64 * 1024
CONNECT_SECONDS = 30.0


@dataclass
class Target:
    """The server that is attacked, and from where."""

    port: int
    host: str = "127.0.0.1"
    source: str = "127.0.0.2"
    """The attacker's own address."""
    many: int = 150
    """Connections of an attack, where it says nothing else."""
    seconds: float = 75.0
    """For which those hold out that are slow."""
    large: int = 2 * 1024**3
    """Bytes of an upload that is too large."""
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    """What must never be in an answer, by the file that it is in."""
    events: Mapping[str, int] = field(default_factory=dict)
    """The page's events by the button that asks for them."""

    @property
    def name(self) -> str:
        """As in a Host header."""
        return f"{self.host}:{self.port}"


@dataclass
class Tally:
    """What an attack has sent and how it was answered."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    megabytes: float = 0.0
    """Sent, where that is much."""

    @property
    def sent(self) -> int:
        """Requests or connections."""
        return self.answers.total()

    def allow(self, *allowed: str) -> "Tally":
        """All other answers are faults."""
        for answer, count in sorted(self.answers.items()):
            if answer not in allowed:
                self.faults.append(f"{count} were answered {answer}, none should be")
        return self


@dataclass(frozen=True)
class Answer:
    """To one request."""

    how: str
    """Its status, KEPT or CLOSED."""
    body: bytes = b""
    sent: int = 0
    """Bytes of the request's body."""


def request(
    target: Target, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request with a Host and, unless `headers` has another or an empty one, a browser's cookie; the length of the
    body where there is one. An empty value leaves a header out."""
    said = {"Host": target.name, "Cookie": COOKIE}
    if body is not None:
        said["Content-Length"] = str(len(body))
    said |= dict(headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


def status_of(head: bytes) -> str | None:
    """The status of an answer that is not a mere 100; None while there is none."""
    found = [status for status in re.findall(rb"(?:^|\r\n)HTTP/1\.[01] (\d{3})", head) if status != b"100"]
    return found[0].decode() if found else None


def body_of(answer: bytes) -> bytes:
    """What is behind the headers."""
    return answer.partition(b"\r\n\r\n")[2]


async def connect(target: Target, small: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from the attacker's address. small: of the answer, as little as can be is taken in advance. Raises
    OSError."""
    made = socket.socket()
    try:
        if small:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        made.bind((target.source, 0))
        made.setblocking(False)
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(made, (target.host, target.port))
        return await asyncio.open_connection(sock=made, limit=1024 if small else HEAD_BYTES)
    except BaseException:
        made.close()
        raise


async def whole(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A body, piece by piece, as fast as it is taken."""
    for piece in pieces:
        yield piece


async def slowly(data: bytes, every: float) -> AsyncIterator[bytes]:
    """A byte, and a while later the next."""
    for place in range(len(data)):
        yield data[place : place + 1]
        await asyncio.sleep(every)


async def ask(
    target: Target,
    head: bytes,
    body: AsyncIterator[bytes] | None = None,
    patience: float = 60.0,
    most: int = HEAD_BYTES,
) -> Answer:
    """Send, until there is an answer or the server closes; read what it answers, `most` bytes of it."""
    try:
        reader, writer = await connect(target)
    except (OSError, TimeoutError):
        return Answer(CLOSED)
    sent = 0

    async def send() -> None:
        nonlocal sent
        with suppress(OSError):
            writer.write(head)
            await writer.drain()
            async for piece in body or whole(()):
                writer.write(piece)
                await writer.drain()
                sent += len(piece)

    sending = asyncio.create_task(send())
    got, how = b"", KEPT
    try:
        async with asyncio.timeout(patience):
            while len(got) < most and (piece := await reader.read(HEAD_BYTES)):
                got += piece
                if (status := status_of(got)) is not None:
                    how = status
                    sending.cancel()
                    if _is_whole(got):
                        break
            else:
                how = how if status_of(got) else CLOSED
    except TimeoutError:
        pass
    except OSError:
        how = status_of(got) or CLOSED
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        drop(writer)
    return Answer(how, body_of(got), sent)


def _is_whole(got: bytes) -> bool:
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])


def drop(writer: asyncio.StreamWriter, reset: bool = False) -> None:
    """Close at once, with what was not sent thrown away. reset: so that the other side sees it as a fault."""
    connection = writer.get_extra_info("socket")
    if reset and connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def asked(asking: Iterable[Awaitable[Answer]]) -> Tally:
    """All at the same time, and how they were answered."""
    answers = await asyncio.gather(*asking)
    return Tally(Counter(answer.how for answer in answers), megabytes=sum(answer.sent for answer in answers) / 1e6)


async def in_turn(asking: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """One after another."""
    return [await each for each in asking]


async def taken(reader: asyncio.StreamReader, seconds: float, most: int = 2**30) -> tuple[int, bool]:
    """(bytes that still come, whether the server has ended the connection), after so many seconds at most."""
    got, until = 0, time.monotonic() + seconds
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(until - time.monotonic(), 0.1)):
            while got < most:
                piece = await reader.read(HEAD_BYTES)
                if not piece:
                    return got, True
                got += len(piece)
    except TimeoutError:
        return got, False
    except OSError:
        return got, True
    return got, False
