"""Asks a legacy server whether it is there: a stream is opened, and its answer awaited.

No more than a header goes out, and no stream is left open. Nobody logs in.
"""

import socket
import time
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from proxy.net.connector import Connector
from proxy.session.kinds import Kind
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, StreamError, describe
from proxy.xmpp.events import Element, Event, Footer, Header
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.headers import opening, read_answer

SECONDS: Final = 5.0
"""How long a server may take to answer."""

LINGER: Final = 1.0
"""Seconds that it gets to end its stream."""

LOCAL: Final = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
"""A header of the PROXY protocol, version 2, for a connection that is the proxy's own (LOCAL)."""

_CEILING: Final = Limits(element=65_536)
_UNNAMED: Final = (
    f"{{{ns.STREAM_ERRORS}}}improper-addressing",
    f"{{{ns.STREAM_ERRORS}}}invalid-from",
)
"""What a server may have against a stream between servers that does not say from whom it is."""


@attrs.frozen
class Outcome:
    """What came of asking a server.

    Attributes:
        problem: what is wrong, as a clause about the server; empty if it has answered.
        seconds: how long the answer took; None if there was none.
        reached: whether the connection was taken.
        version: of XMPP, as the server's header says; ``0.9`` if it says none, and None if there
            was no header.
        features: whether the header was followed by features.
    """

    problem: str = ""
    seconds: float | None = None
    reached: bool = False
    version: str | None = None
    features: bool = False


def probe(
    reactor: Any, host: str, port: int, domain: str, kind: Kind, *, tells: bool = False
) -> Deferred[Outcome]:
    """Ask a legacy server for an answer to a stream header.

    The outcome comes within `SECONDS` and `LINGER`, when the connection has been closed, and never
    as a failure. Who cancels gets an outcome at once.

    Args:
        reactor: the reactor.
        host: where it is: an IP address or a host name.
        port: its TCP port.
        domain: whom the stream is to, as A-labels.
        kind: the kind of stream.
        tells: whether the server expects a header of the PROXY protocol first.
    """
    before = LOCAL if tells else b""
    return _Asking(reactor, before + opening(domain, kind.content), kind).start(host, port)


class _Asking(Protocol):
    """One connection to a server."""

    def __init__(self, reactor: Any, header: bytes, kind: Kind) -> None:
        self._reactor = reactor
        self._header = header
        self._kind = kind
        self._framer = Framer(_CEILING)
        self._concluded = False
        self._answered: float | None = None
        self._reached_it = False
        self._version: str | None = None
        self._features = False
        self._outcome = Outcome(f"did not answer within {SECONDS:g} s")
        self._connector: Connector | None = None
        self._began = 0.0
        self._timer: Any = None
        self._done: Deferred[Outcome] = Deferred(lambda _: self._cancelled())

    def start(self, host: str, port: int) -> Deferred[Outcome]:
        """Begin."""
        self._began = time.monotonic()
        self._timer = self._reactor.callLater(SECONDS, self._expired)
        self._connector = Connector(self._reactor, host, port, self._reached, self._stranded)
        self._connector.start()
        return self._done

    def _reached(self, connection: socket.socket) -> None:
        self._connector = None
        self._reached_it = True
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        with connection:  # the reactor takes a copy of the descriptor
            self._reactor.adoptStreamConnection(connection.fileno(), connection.family, factory)

    def _stranded(self, reason: str) -> None:
        self._connector = None
        self._outcome = Outcome(f"cannot be reached: {reason}")
        self._end()

    def _cancelled(self) -> None:
        self._outcome = Outcome("was not waited for")
        self._expired()
        self._end()

    def _expired(self) -> None:
        """The time is over, that of the server's answer or that of its goodbye."""
        if self.transport is not None:
            transport: Any = self.transport
            transport.abortConnection()
        elif self._connector is not None:
            self._connector.cancel()
            self._connector = None
            self._end()

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            if timer.active():
                timer.cancel()
            if not self._done.called:
                outcome = attrs.evolve(
                    self._outcome,
                    reached=self._reached_it,
                    version=self._version,
                    features=self._features,
                )
                self._done.callback(outcome)

    # What the connection tells

    def connectionMade(self) -> None:
        """Open a stream."""
        self._write(self._header)

    def dataReceived(self, data: bytes) -> None:
        """Take what the server says, until it has said enough."""
        if self._concluded:
            if FOOTER in data and self.transport is not None:
                self.transport.loseConnection()
            return
        self._framer.feed(data)
        try:
            self._read()
        except StreamError as error:
            self._conclude(f"does not speak XMPP for {self._kind.peers}: {error}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Tell the outcome."""
        if not self._concluded and self._timer is not None and self._timer.active():
            lacking = "without an answer" if self._answered is None else "behind its header"
            self._outcome = Outcome(f"closed the connection {lacking}", self._answered)
        self._end()

    # What the server says

    def _read(self) -> None:
        while not self._concluded and (event := self._framer.next_event()) is not None:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Header():
                header = read_answer(event, self._kind.content)
                self._answered = time.monotonic() - self._began
                self._version = ".".join(map(str, header.version))
                self._outcome = Outcome("sent a stream header and nothing more", self._answered)
                if self._kind is Kind.COMPONENT or not header.has_features:
                    self._conclude_later()
            case Element(name=ns.ERROR):
                self._conclude(self._complaint(event))
            case Element():
                self._features = event.name == ns.FEATURES
                self._conclude("")
            case Footer():
                self._conclude("closed the stream at once")

    def _complaint(self, error: Element) -> str:
        own = self._kind is Kind.S2S and any(error.tree.find(name) is not None for name in _UNNAMED)
        return "" if own else f"refuses the stream: {describe(error.tree)}"

    def _conclude_later(self) -> None:
        """Nothing more has to come; an error may, and is close behind the header if it does."""
        self._reactor.callLater(0, self._conclude, "")

    def _conclude(self, problem: str) -> None:
        """End the stream."""
        if self._concluded or self._timer is None:
            return
        self._concluded = True
        self._outcome = Outcome(problem, self._answered)
        self._write(FOOTER)
        self._timer.reset(LINGER)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)
