"""A leg that ends in good order: what waits is written, and the peer has time to read it."""

import socket
from abc import abstractmethod
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from proxy.net.buffered import BufferedSocket
from proxy.net.leg_protocol import LegProtocol

LINGER: Final = 2.0
"""Seconds for which a closed leg waits for its peer to close, so that the last words arrive."""

BRIEF_LINGER: Final = 0.2
"""The same where there may be very many such legs."""

READ_SIZE: Final = 16_384
"""Bytes read from a socket at a time."""


class ClosingSocket(BufferedSocket):
    """How a leg ends, on top of its writing side.

    Args:
        reactor: watches the socket: the reactor, or a hub, which is quicker.
        connection: the socket, connected and not blocking, which this owns from now on.
        protocol: is told what happens.
    """

    __slots__ = ("_linger", "_peer_closed", "_said_all", "protocol")

    def __init__(self, reactor: Any, connection: socket.socket, protocol: LegProtocol) -> None:
        super().__init__(reactor)
        self._socket = connection
        self._linger: Any = None
        self._peer_closed = False
        self._said_all = False  # the last byte is written; what still comes is thrown away
        self.protocol: LegProtocol | None = protocol

    def loseConnection(self) -> None:
        """Send what is waiting, then close, as `close` does."""
        self.close(LINGER)

    def close(self, linger: float) -> None:
        """Send what is waiting, then close: ``close_notify`` under TLS, and the TCP direction.

        The leg then waits up to ``linger`` seconds for the peer to close, for closing a socket with
        unread bytes would destroy what the peer has not read yet.
        """
        if self._socket is None or self._closing:
            return
        self._closing = True
        self._stop_reading()
        self._watch_hang_up(wanted=False)
        self.unregisterProducer()
        if self._is_mute:
            self._end(ConnectionDone())
            return
        if not self._buffer:
            self._shut()
        if self._socket is not None:
            self._linger = self._reactor.callLater(linger, self._give_up)

    def abortConnection(self) -> None:
        """Close at once; what is waiting is lost."""
        self._end(ConnectionAborted())

    def loseWriteConnection(self) -> None:
        """Not done: a leg ends whole (`loseConnection`)."""
        self.loseConnection()

    def stopProducing(self) -> None:
        """End the leg, for nobody takes what it reads."""
        self.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Take note that the reactor has dropped the socket."""
        self._end(reason.value or ConnectionLost())

    def fail(self, _reason: str) -> None:
        """End, because the code of this session has failed."""
        self._end(ConnectionAborted())

    # What TLS makes of it

    @property
    @abstractmethod
    def _is_mute(self) -> bool:
        """Whether nothing can be said now, for TLS is awaited or has begun."""

    @abstractmethod
    def _notify(self) -> None:
        """Say under TLS that nothing more follows; without TLS there is nothing to say.

        Raises:
            OpenSSL.SSL.Error: it cannot be said.
            OSError: the connection is lost.
        """

    @abstractmethod
    def _let_go(self) -> None:
        """Drop the TLS of a socket that is closed now, or somebody else's."""

    # Inside

    def _receive(self, flags: int = 0) -> bytes | None:
        """Read from the socket: None if there is nothing, or the leg has just ended."""
        assert self._socket is not None  # noqa: S101 - only called while there is one
        try:
            return self._socket.recv(READ_SIZE, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            self._end(error)
            return None

    def _discard(self) -> None:
        """Read what nobody wants any more, to see the peer close."""
        data = self._receive()
        if data is not None and not data:
            self._end(ConnectionDone())

    def _shut(self) -> None:
        """Everything is written: say so, and read on only to see the peer close."""
        if self._socket is None or self._said_all:
            return
        self._said_all = True
        try:
            self._notify()
            if self._peer_closed:
                self._end(ConnectionDone())
                return
            self._socket.shutdown(socket.SHUT_WR)
        except (SSL.Error, OSError) as error:
            self._end_soon(error)
            return
        self._watch_reading(wanted=True)

    def _end_soon(self, reason: BaseException) -> None:
        """End, but not at once: whoever writes or closes does not expect to be told meanwhile."""
        self._watch_nothing()
        self._reactor.callLater(0, self._end, reason)

    def _give_up(self) -> None:
        self._linger = None
        self._end(ConnectionDone() if self._said_all else ConnectionAborted())

    def _end(self, reason: BaseException) -> None:
        """Close, and tell the protocol, once."""
        if self._socket is None:
            return
        self._watch_nothing()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._socket.close()
        self._socket = self._producer = None
        self._let_go()
        self._buffer.clear()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]
