"""One stream to an account's server, as the initiating entity has it, an element at a time."""

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from proxy.xmpp import headers
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, StreamError, describe
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.text import printable

LIMITS: Final = Limits(element=65_536)

MOST: Final = 262_144
"""Bytes that a server may send before we leave."""


class DeliveryError(Exception):
    """What was to be sent could not be; the message says why."""


class Stream(Protocol):
    """A connection to a server, and the streams on it; at most one element is waited for."""

    transport: ITCPTransport

    def __init__(self) -> None:
        self._framer = Framer(LIMITS)
        self._waiting: Deferred[Element | None] | None = None
        self._amount = 0
        self._lost: str | None = None

    def open(self, domain: str) -> None:
        """Start a stream to ``domain``, or start it anew.

        Raises:
            DeliveryError: the server has said something that it was not asked.
        """
        if self._framer.held:
            raise DeliveryError("the server speaks out of turn")
        self._framer = Framer(LIMITS)
        self.send(headers.opening(domain))

    def send(self, data: bytes) -> None:
        """Write ``data``."""
        self.transport.write(data)

    def next(self) -> "Deferred[Element | None]":
        """Return the next element; ``None`` once the server has ended its stream.

        The Deferred fails with `DeliveryError` if the server breaks the rules, refuses the stream
        or goes away. It can be cancelled.
        """
        waiting: Deferred[Element | None] = Deferred(self._forget)
        self._waiting = waiting
        self._look()
        return waiting

    def end(self) -> None:
        """End our side of the stream; the server is to end its own."""
        self.send(FOOTER)

    def close(self) -> None:
        """Close the connection in good order."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take in what the server sends, in bounds."""
        self._amount += len(data)
        if self._amount > MOST:
            self.transport.abortConnection()
            self._fail("the server sends too much")
            return
        self._framer.feed(data)
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits that nothing more will come."""
        if self._lost is None:
            clean = isinstance(reason.value, ConnectionDone)
            why = f"the connection was lost: {reason.getErrorMessage()}"
            self._lost = "the server closed the connection" if clean else why
        self._look()

    def _forget(self, _waiting: object) -> None:
        self._waiting = None

    def _look(self) -> None:
        """Give whoever waits what there is."""
        while self._waiting is not None:
            try:
                event = self._framer.next_event()
                if event is None:
                    if self._lost is not None:
                        self._fail(self._lost)
                    return
                self._take(event)
            except StreamError as error:
                self._fail(f"the server breaks the rules: {error}")
            except DeliveryError as error:
                self._fail(str(error))

    def _take(self, event: Event) -> None:
        match event:
            case Header():
                if not headers.read(event, ns.CLIENT).has_features:
                    raise DeliveryError("the server is older than XMPP 1.0 and knows no SASL")
            case Footer():
                self._fire(None)
            case Element() if event.name == ns.ERROR:
                raise DeliveryError(f"the server ended the stream: {describe(event.tree)}")
            case Element():
                self._fire(event)
            case WhiteSpace():
                pass

    def _fire(self, element: Element | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(element)

    def _fail(self, why: str) -> None:
        self._lost = self._lost or why
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(DeliveryError(printable(why)))
