"""Connections that say nothing, take nothing, or are too many, against a real server of a small application."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from ui import serving
from ui.serving import Connection


async def application(scope: Any, receive: Any, send: Any) -> None:
    """A megabyte again and again at /much, a tenth of one at /some, a word elsewhere."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64 if scope["path"] == "/much" else 0):
        await send({"type": "http.response.body", "body": bytes(1024**2), "more_body": True})
    await send({"type": "http.response.body", "body": bytes(100_000) if scope["path"] == "/some" else b"word"})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Of a server that waits for a request as long as the test says."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", getattr(request, "param", 60.0))
    monkeypatch.setattr(serving, "SILENT_SECONDS", 3 * serving.HEAD_SECONDS)
    monkeypatch.setattr(serving, "READ_SECONDS", 2.0)
    monkeypatch.setattr(serving, "CONNECTIONS_OF_PEER", 5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(application, port=port, http=Connection, ws="none", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield "127.0.0.1", port
    server.should_exit = True
    thread.join(30)
    assert not Connection._peers  # every connection was counted out again


def opened(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    made = socket.create_connection(address, timeout=30)
    made.sendall(data)
    return made


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed it, once all is read that it had sent."""
    try:
        while connection.recv(2**20):
            pass
    except (ConnectionError, TimeoutError) as error:
        return not isinstance(error, TimeoutError)
    return True


@pytest.mark.parametrize("address", [0.5], indirect=True)
@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_who_does_not_say_what_it_wants_is_not_waited_for(address: tuple[str, int], said: bytes) -> None:
    with opened(address, said) as connection:
        assert ended(connection)


@pytest.mark.parametrize("address", [1.0], indirect=True)
def test_who_comes_late_with_a_request_is_answered(address: tuple[str, int]) -> None:
    """A busy client may have its connection long before it says what it wants."""
    with opened(address) as connection:
        time.sleep(1.5)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in connection.recv(4096)


@pytest.mark.parametrize("address", [0.5], indirect=True)
def test_a_header_that_trickles_is_not_waited_for_either(address: tuple[str, int]) -> None:
    with opened(address, b"GET / HTTP/1.1\r\nHost: a\r\nX: ") as connection, contextlib.suppress(ConnectionError):
        for _ in range(100):
            connection.sendall(b"a")
            time.sleep(0.05)
        pytest.fail("the connection was kept")
    # Nor on a connection that was used before.
    with opened(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        assert b"200" in connection.recv(4096)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"G")
                time.sleep(0.05)
            pytest.fail("the connection was kept")


def test_who_reads_slowly_is_served_and_who_does_not_read_is_not(address: tuple[str, int]) -> None:
    with opened(address, b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        time.sleep(6)
        got = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(2**20):
                got += len(piece)
        assert got < 60 * 1024**2
    with httpx.stream("GET", f"http://127.0.0.1:{address[1]}/much") as answer:
        got = 0
        for piece in answer.iter_bytes(2**20):
            got += len(piece)
            time.sleep(0.03)  # two seconds in all
    assert got == 64 * 1024**2 + 4


def test_who_takes_a_little_now_and_then_is_served(address: tuple[str, int]) -> None:
    with opened(address, b"GET /much HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as connection:
        got = 0
        for _ in range(12):  # a piece takes longer than the server waits for one who takes nothing
            got += len(connection.recv(100_000))
            time.sleep(0.5)
        while piece := connection.recv(2**20):
            got += len(piece)
    assert got > 64 * 1024**2


@pytest.mark.parametrize("said", [b"", b"Connection: close\r\n"])
def test_the_last_bytes_of_an_answer_are_not_kept_for_ever(address: tuple[str, int], said: bytes) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(30)
        connection.connect(address)
        connection.sendall(b"GET /some HTTP/1.1\r\nHost: a\r\n" + said + b"\r\n")
        time.sleep(5)
        got = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(2**20):
                got += len(piece)
    assert got < 100_000


def test_one_address_has_so_many_connections_unless_it_is_a_proxys(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(opened(address)) for _ in range(5)]
        time.sleep(0.1)
        with opened(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as one_more:
            assert b"200" not in received(one_more)
        first[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in received(first[0])
        monkeypatch.setattr(Connection, "exempt", staticmethod(lambda peer: peer == "127.0.0.1"))
        with opened(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as one_more:
            assert b"200" in received(one_more)


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionError:
        return b""
