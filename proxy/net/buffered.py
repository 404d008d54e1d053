"""A socket with bytes waiting to be written, and back-pressure for whoever produces them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL

from proxy.net.hub import Hub
from proxy.net.tcp import TCPSocket

HIGH_WATER: Final = 65_536
"""Bytes waiting to be written beyond which the producer is paused."""


class BufferedSocket(TCPSocket, ABC):
    """The writing side of a leg.

    Args:
        reactor: watches the socket: the reactor, or a hub, which is quicker.
    """

    __slots__ = (
        "_buffer",
        "_closing",
        "_hang_up_watched",
        "_producer",
        "_producer_paused",
        "_reactor",
        "_reading",
        "_starved",
        "_writing",
    )

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._buffer = bytearray()
        self._closing = False  # what waits is the last
        self._hang_up_watched = False
        self._producer: Any = None
        self._producer_paused = False
        self._reading = False
        self._starved = False  # writing waits until TLS could read
        self._writing = False

    def write(self, data: bytes) -> None:
        """Send ``data``, at once as far as the socket takes it."""
        if self._socket is None or self._closing or not data:
            return
        self._buffer += data
        if not self._writing:
            self._flush()
        if len(self._buffer) > HIGH_WATER and self._producer is not None:
            self._pause_producer()

    def writeSequence(self, iovec: Any) -> None:
        """Send the pieces of ``iovec`` in order."""
        self.write(b"".join(iovec))

    @abstractmethod
    def ready(self, events: int) -> None:
        """Act on what a hub has seen."""

    @abstractmethod
    def _send(self, piece: memoryview) -> int:
        """Write to the socket; return how many bytes it took."""

    @abstractmethod
    def _write_failed(self, error: BaseException) -> None:
        """Take note that nothing can be written any more."""

    @abstractmethod
    def _shut(self) -> None:
        """Take note that the last byte is written."""

    def _flush(self) -> None:
        """Write what is waiting, as far as the socket takes it."""
        while self._buffer and self._socket is not None:
            try:
                with memoryview(self._buffer) as waiting, waiting[:HIGH_WATER] as piece:
                    sent = self._send(piece)
            except SSL.WantReadError:
                # TLS must read first; the socket could be written to, and would say so for ever.
                self._watch_writing(wanted=False)
                self._starved = True
                self._watch_reading(wanted=True)
                return
            except (BlockingIOError, SSL.WantWriteError):
                self._watch_writing(wanted=True)
                return
            except (SSL.Error, OSError) as error:
                self._buffer.clear()
                self._write_failed(error)
                return
            del self._buffer[:sent]
        self._watch_writing(wanted=False)
        if self._closing:
            self._shut()
        else:
            self._drained()

    def _drained(self) -> None:
        """Let those go on who have waited until everything is written."""
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while more than `HIGH_WATER` bytes wait to be written."""
        if not streaming:
            raise ValueError("a leg takes streaming producers only")
        self._producer = producer
        self._producer_paused = False
        if len(self._buffer) > HIGH_WATER:
            self._pause_producer()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def _pause_producer(self) -> None:
        if not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    # The reactor

    def _watch_reading(self, *, wanted: bool) -> None:
        if wanted != self._reading and self._socket is not None:
            self._reading = wanted
            watch: Callable[[Any], None] = (
                self._reactor.addReader if wanted else self._reactor.removeReader
            )
            watch(self)

    def _stop_reading(self) -> None:
        """Read no more, but for what TLS needs before it can write."""
        if not self._starved:
            self._watch_reading(wanted=False)

    def _watch_writing(self, *, wanted: bool) -> None:
        if wanted != self._writing and self._socket is not None:
            self._writing = wanted
            watch: Callable[[Any], None] = (
                self._reactor.addWriter if wanted else self._reactor.removeWriter
            )
            watch(self)

    def _watch_hang_up(self, *, wanted: bool) -> None:
        """Watch whether the peer closes while nothing is read; only a hub can do that."""
        if wanted == self._hang_up_watched or self._socket is None:
            return
        if isinstance(self._reactor, Hub):
            self._hang_up_watched = wanted
            watch = self._reactor.addHangUp if wanted else self._reactor.removeHangUp
            watch(self)

    def _watch_nothing(self) -> None:
        self._watch_reading(wanted=False)
        self._watch_writing(wanted=False)
        self._watch_hang_up(wanted=False)
