"""Connections: how long one may take to say what it wants or to read its answer, and how many there may be."""

import asyncio
import socket
from collections import Counter
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""Within which a request's headers must have come, counted from its first byte."""
SILENT_SECONDS = 60.0
"""Within which that byte must have come: browsers open connections before they need them, and a busy machine's clients
are late."""
READ_SECONDS = 60.0
"""Within which a client must take more of its answer, and however little it takes is enough for as long again."""
UNSENT_BYTES = 64 * 1024
"""Of an answer that the system holds for a client beyond what is on its way; megabytes if it is not told."""
CONNECTIONS = 1000
"""At a time; one more is closed at once."""
CONNECTIONS_OF_PEER = 200
"""From one address, unless it is this machine's or a proxy's. A browser opens six."""

_UNIX = getattr(socket, "AF_UNIX", None)


class Connection(H11Protocol):
    """uvicorn's, which waits for ever, with limits."""

    exempt: Any = staticmethod(lambda peer: False)
    """Whether an address may have any number of connections."""
    _peers: ClassVar[Counter[str]] = Counter()
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _unsent = 0
    """Bytes of the answer that wait here, when that was last looked at."""
    _peer = ""
    _begun = False
    """Some of a request's headers have come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is there."""
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        self._peer = peer
        self._peers[peer] += 1
        many = self._peers[peer] > CONNECTIONS_OF_PEER and not self.exempt(peer)
        if many or len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        # Also the last bytes of an answer are watched, which a closed connection would hold for ever.
        transport.set_write_buffer_limits(high=0)
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and connection.family != _UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._expect_head(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        self._peers[self._peer] -= 1
        if self._peers[self._peer] <= 0:
            del self._peers[self._peer]

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request have come."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
            self.transport.abort()  # a body that nobody reads, of a request that was answered
            return
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if not self._begun:
                self._begun = True
                self._cancel()
            self._expect_head(HEAD_SECONDS)
        else:
            self._begun = False
            self._cancel()

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        super().pause_writing()
        if self._stuck is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._stuck = self.loop.call_later(READ_SECONDS, self._look_at_unsent)

    def resume_writing(self) -> None:
        """It goes on."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _look_at_unsent(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:  # nothing is added while there is some
            self._stuck = None
            self.transport.abort()
            return
        self._unsent = unsent
        self._stuck = self.loop.call_later(READ_SECONDS, self._look_at_unsent)

    def _expect_head(self, seconds: float) -> None:
        if self._late is None:
            self._late = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()

    def _cancel(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
