"""The HTTP server for metrics and health: two pages, and nothing that anybody could make it do.

Each connection has one request, without a body, and a life that is bounded whatever is read or
written; there are few connections at a time.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from proxy.daemon.control.controlled import Soon, awaited
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.metrics.behind import Asked, LegacyServers
from proxy.daemon.metrics.exposition import CONTENT_TYPE, expose
from proxy.daemon.metrics.health import Health
from proxy.daemon.metrics.snapshot import Snapshot

MOST_CONNECTIONS: Final = 32
"""How many connections there may be; more are closed at once."""

IDLE: Final = 10.0
"""Seconds within which a request has to come."""

LIFE: Final = 60.0
"""Seconds after which a connection ends, whatever happens on it."""

_TEXT: Final = b"text/plain; charset=utf-8"
_JSON: Final = b"application/json"
_log = Logger()


@attrs.frozen
class Pages:
    """What the pages are made from.

    Attributes:
        snapshot: returns the values of all metrics.
        health: returns how the daemon is.
        servers: the legacy servers, which are asked for their health.
    """

    snapshot: Callable[[], Deferred[Snapshot]]
    health: Callable[[], Soon[Health]]
    servers: LegacyServers


class MetricsServer:
    """Answers ``/metrics`` and ``/healthz``.

    Args:
        reactor: the reactor.
        address: where to listen.
        pages: what is shown.
    """

    def __init__(self, reactor: Any, address: Endpoint, pages: Pages) -> None:
        self._reactor = reactor
        self._address = address
        self._site = _Site(reactor, pages)
        self._port: Any = None

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be listened on; the message says which and why.
        """
        address = self._address
        try:
            self._port = self._reactor.listenTCP(
                address.port, self._site, interface=address.host, backlog=MOST_CONNECTIONS
            )
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            raise OSError(f"metrics: {address}: {why}") from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._address.port if self._port is None else int(self._port.getHost().port)

    def stop(self) -> None:
        """Close everything."""
        if self._port is not None:
            self._port.stopListening()
            self._port = None
        self._site.close()


class _Site(http.HTTPFactory):
    """Makes the channels, as long as there are not too many."""

    noisy = False

    def __init__(self, reactor: Any, pages: Pages) -> None:
        super().__init__(timeout=IDLE, reactor=reactor)
        self.pages = pages
        self.channels: set[_Channel] = set()

    def startFactory(self) -> None:
        """Keep no log of requests: it would say the same every few seconds."""

    def buildProtocol(self, _address: IAddress | None) -> Any:
        """Make a channel; None closes the connection."""
        if len(self.channels) >= MOST_CONNECTIONS:
            return None
        # Twisted's channel has no types that would let it be set up.
        channel: Any = _Channel(self)
        channel.callLater = self.reactor.callLater
        channel.timeOut = IDLE
        channel.requestFactory = _Request
        self.channels.add(channel)
        return channel

    def close(self) -> None:
        """End all connections."""
        for channel in list(self.channels):
            channel.forceAbortClient()


class _Channel(http.HTTPChannel):
    """One connection, for one request."""

    maxHeaders = 64
    totalHeadersSize = 8192

    def __init__(self, site: _Site) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.factory = site
        self._end: Any = None

    def connectionMade(self) -> None:
        """Begin to live."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._end = self.factory.reactor.callLater(LIFE, self.forceAbortClient)

    def checkPersistence(self, request: http.Request, _version: bytes) -> bool:
        """One request is all there is."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def timeoutConnection(self) -> None:
        """End a connection on which no request has come."""
        self.forceAbortClient()

    def forceAbortClient(self) -> None:
        """End the connection at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        self.factory.channels.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class _Request(http.Request):
    """One request."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Refuse a request that has a body: nothing of it is read."""
        self.content = BytesIO()
        if length != 0:
            self._refused = True
            channel: Any = self.channel
            channel._respondToBadRequestAndDisconnect()  # noqa: SLF001 - as the channel does

    def handleContentChunk(self, _data: bytes) -> None:
        """Drop what comes of a body."""

    def process(self) -> None:
        """Answer."""
        if self._refused:
            return
        if self.method not in (b"GET", b"HEAD"):
            self.responseHeaders.setRawHeaders(b"Allow", [b"GET, HEAD"])
            self._answer(http.NOT_ALLOWED, _TEXT, b"only GET and HEAD are answered\n")
        elif self.path == b"/metrics":
            self._when(self._pages.snapshot(), self._show_metrics)
        elif self.path == b"/healthz":
            servers: Deferred[tuple[Asked, ...] | None] = succeed(None)
            if b"servers" in self._asked_for:
                servers = self._pages.servers.asked()  # type: ignore[assignment]
            self._when(servers.addCallback(self._health), self._show_health)
        else:
            self._answer(http.NOT_FOUND, _TEXT, b"there are /metrics and /healthz\n")

    @property
    def _asked_for(self) -> set[bytes]:
        """The names in the query, whether they have a value or not."""
        _, _, query = self.uri.partition(b"?")
        return {part.partition(b"=")[0] for part in query.split(b"&")}

    @property
    def _pages(self) -> Pages:
        pages: Pages = self.channel.factory.pages
        return pages

    def _when(self, found: Deferred[Any], show: Callable[[Any], None]) -> None:
        found.addCallback(show).addErrback(self._failed)

    def _show_metrics(self, snapshot: Snapshot) -> None:
        self._answer(http.OK, CONTENT_TYPE, expose(snapshot))

    def _health(self, servers: Sequence[Asked] | None) -> Deferred[Health]:
        health = awaited(self._pages.health())
        return health.addCallback(lambda found: attrs.evolve(found, servers=servers))

    def _show_health(self, health: Health) -> None:
        code = http.OK if health.good else http.SERVICE_UNAVAILABLE
        accepted = b",".join(self.requestHeaders.getRawHeaders(b"Accept", []))
        if _JSON in accepted:
            self._answer(code, _JSON, health.to_json().encode())
        else:
            self._answer(code, _TEXT, health.text().encode())

    def _failed(self, failure: Failure) -> None:
        _log.failure("metrics cannot be shown", failure)
        self._answer(http.INTERNAL_SERVER_ERROR, _TEXT, b"that has failed; see the log\n")

    def _answer(self, code: int, kind: bytes, body: bytes) -> None:
        if self._disconnected or self.finished:
            return
        self.setResponseCode(code)
        for name, value in (
            (b"Content-Type", kind),
            (b"Content-Length", b"%d" % len(body)),
            (b"Cache-Control", b"no-store"),
        ):
            self.responseHeaders.setRawHeaders(name, [value])
        request: Any = self  # the methods have no types
        request.write(body)
        request.finish()
