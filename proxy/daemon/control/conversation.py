"""One client of the control socket: its request, and what is answered, within bounds."""

import socket
from collections.abc import Callable, Generator
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.daemon.control.answering import TRACE, Answering, Items, wanted
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Traced
from proxy.daemon.control.peer import peer_of
from proxy.daemon.control.protocol import (
    LONGEST_REQUEST,
    Code,
    RefusedError,
    end_line,
    error_line,
    item_line,
    read_request,
)

ASKING: Final = 5.0
"""Seconds until a request must be there."""

ANSWERING: Final = 60.0
"""Seconds until an answer must have been taken in."""

TRACING: Final = 3_600.0
"""Seconds that a trace lasts at most."""

SLOW: Final = 10.0
"""Seconds for which a client may take in nothing of what waits for it."""

AT_ONCE: Final = 50
"""Sessions that are told in one turn of the reactor, which others wait for."""

MOST_WAITING: Final = 262_144
"""Bytes of a trace that may wait for a client to take them in."""

_END: Final = object()
_log = Logger()


@implementer(IHalfCloseableProtocol, IPushProducer)
class Conversation(Protocol):
    """One client.

    Args:
        reactor: the reactor.
        answering: answers the request.
        group: the group whose members may control it.
        busy: whether there are too many clients already.
        gone: called once when this one is gone.
    """

    def __init__(
        self,
        reactor: Any,
        answering: Answering,
        *,
        group: int,
        busy: bool,
        gone: Callable[["Conversation"], None],
    ) -> None:
        self._reactor = reactor
        self._answering = answering
        self._group = group
        self._busy = busy
        self._gone = gone
        self._read = b""
        self._asked = False
        self._over = False
        self._paused = False
        self._waiting = 0  # bytes of a trace written since the client is slow
        self._items: Items = iter(())
        self._coming = False  # whether an item takes its time
        self._stop_trace: Callable[[], None] | None = None
        self._next: Any = None
        self._deadline: Any = None
        self._slow: Any = None

    # What the transport tells

    def connectionMade(self) -> None:
        """See who has connected, and wait for the request."""
        self._wait(ASKING, "no request came in time")
        self._transport.registerProducer(self, True)
        if self._busy:
            self._refuse(RefusedError(Code.BUSY, "too many others are asking; try again"))
        elif not self._is_permitted():
            text = "only root, the daemon's own user and the group of the socket may ask"
            self._refuse(RefusedError(Code.NOT_PERMITTED, text))

    def dataReceived(self, data: bytes) -> None:
        """Take the request; nothing may follow it."""
        if self._over:
            return
        if self._asked:
            self._refuse(RefusedError(Code.BAD_REQUEST, "something follows the request"))
            return
        self._read += data
        try:
            line = _whole(self._read)
            if line is not None:
                self._asked, self._read = True, b""
                self._begin(line)
        except Exception as error:  # noqa: BLE001 - the daemon must not suffer from being asked
            self._fail(error)

    def readConnectionLost(self) -> None:
        """The client has said all; it may still listen, if it has asked for what has an end."""
        if not self._asked or self._stop_trace is not None:
            self._leave()

    def writeConnectionLost(self) -> None:
        """The client listens no more."""
        self._leave()

    def connectionLost(self, _reason: Failure | None = None) -> None:
        """Let go of everything."""
        self._end()
        for timer in (self._deadline, self._slow):
            if timer is not None:
                timer.cancel()
        self._deadline = self._slow = None
        self._gone(self)

    def pauseProducing(self) -> None:
        """The client is slow."""
        self._paused = True
        if self._slow is None:
            self._slow = self._reactor.callLater(SLOW, self._too_slow)

    def resumeProducing(self) -> None:
        """The client has taken in what there was."""
        self._paused = False
        self._waiting = 0
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self._turn_later()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._end()

    def close(self) -> None:
        """End this at once."""
        self._transport.abortConnection()

    # The answer

    @property
    def _transport(self) -> Any:
        return self.transport

    def _is_permitted(self) -> bool:
        handle = self._transport.getHandle()
        try:
            return isinstance(handle, socket.socket) and peer_of(handle).may_control(self._group)
        except OSError:
            return False

    def _begin(self, line: bytes) -> None:
        request = read_request(line)
        if request.command == TRACE:
            self._wait(TRACING, f"a trace lasts {TRACING / 3_600:g} hour at most")
            controlled = self._answering.controlled
            stop = controlled.trace(wanted(request), self._traced, self._trace_ended)
            if self._over:
                stop()
            else:
                self._stop_trace = stop
            return
        self._wait(ANSWERING, "the answer was not taken in in time")
        self._items = self._answering.answer(request)
        self._turn()

    def _turn_later(self) -> None:
        waits = self._over or self._stop_trace is not None or self._coming
        if self._next is None and self._asked and not waits:
            self._next = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        """Tell the next few items."""
        self._next = None
        if self._paused or self._over:
            return
        lines: list[bytes] = []
        try:
            for _ in range(AT_ONCE):
                item = next(self._items, _END)
                if item is _END or isinstance(item, Deferred):
                    break
                if item is not None:
                    lines.append(item_line(item))
        except Exception as error:  # noqa: BLE001 - the daemon must not suffer from being asked
            self._fail(error)
            return
        self._transport.write(b"".join(lines))
        if item is _END:
            self._answered()
        elif isinstance(item, Deferred):
            self._coming = True
            item.addCallback(self._come).addErrback(self._missed)
        else:
            self._turn_later()

    def _come(self, item: Any) -> None:
        """What was waited for is there."""
        self._coming = False
        if not self._over:
            if item is not None:
                self._transport.write(item_line(item))
            self._turn_later()

    def _missed(self, failure: Failure) -> None:
        self._fail(failure.value)

    def _traced(self, traced: Traced) -> None:
        if self._over:
            return
        line = item_line(traced)
        if self._paused:
            self._waiting += len(line)
            if self._waiting > MOST_WAITING:
                self._leave()
                return
        self._transport.write(line)

    def _trace_ended(self, why: str = "") -> None:
        if why:
            self._refuse(RefusedError(Code.NOT_FOUND, why))
        else:
            self._answered()

    def _wait(self, seconds: float, late: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.callLater(seconds, self._late, late)

    # The end

    def _late(self, text: str) -> None:
        self._deadline = None
        if self._over or self._paused:
            self._leave()
        else:
            self._refuse(RefusedError(Code.TIMEOUT, text))

    def _too_slow(self) -> None:
        self._slow = None
        self._leave()

    def _fail(self, error: BaseException | None) -> None:
        """Say why there is no answer, or no more of it."""
        if isinstance(error, RefusedError):
            self._refuse(error)
        elif isinstance(error, NotControllableError):
            self._refuse(RefusedError(Code.NOT_FOUND, str(error)))
        else:
            _log.failure("fault in the control socket", failure=Failure(error))  # type: ignore[no-untyped-call]
            self._refuse(RefusedError(Code.FAULT, "the daemon has failed; its log says more"))

    def _refuse(self, error: RefusedError) -> None:
        self._say_last(error_line(error))

    def _answered(self) -> None:
        self._say_last(end_line())

    def _say_last(self, line: bytes) -> None:
        if self._over:
            return
        self._end()
        self._transport.write(line)
        self._wait(SLOW, "")
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def _leave(self) -> None:
        """End without a word."""
        self._end()
        self._transport.abortConnection()

    def _end(self) -> None:
        """Answer no more."""
        self._over = True
        items, self._items = self._items, iter(())
        if isinstance(items, Generator):
            items.close()  # it may have asked others, who need not go on
        if self._next is not None:
            self._next.cancel()
            self._next = None
        stop, self._stop_trace = self._stop_trace, None
        if stop is not None:
            stop()


def _whole(read: bytes) -> bytes | None:
    """Return the request that has been read; None while it is not all there.

    Raises:
        RefusedError: it is too long, or something follows it.
    """
    line, ended, rest = read.partition(b"\n")
    if len(line) >= LONGEST_REQUEST:
        text = f"the request is longer than {LONGEST_REQUEST} bytes"
        raise RefusedError(Code.BAD_REQUEST, text)
    if rest:
        raise RefusedError(Code.BAD_REQUEST, "something follows the request")
    return line if ended else None
