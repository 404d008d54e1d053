"""What a bridge's legs tell it, and about which of them."""

from typing import TYPE_CHECKING

from twisted.python.failure import Failure

from proxy.net import client_hello
from proxy.net.tls import describe
from proxy.session.commands import Side
from proxy.session.hooks import TLSFacts

if TYPE_CHECKING:
    from proxy.net.bridge import Bridge


class BridgeEnd:
    """The protocol of one of a bridge's legs: tells the bridge what happens there."""

    __slots__ = ("_bridge", "_side")

    def __init__(self, bridge: "Bridge", side: Side) -> None:
        self._bridge = bridge
        self._side = side

    def makeConnection(self, _transport: object) -> None:
        """Nothing to do: the bridge has made the leg."""

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        watch = self._bridge.watch
        if watch is not None:
            watch.received(self._side, data)
        self._bridge.received(self._side, data)

    def dataPeeked(self, data: bytes) -> int:
        """Pass it on."""
        taken = self._bridge.peeked(data)
        watch = self._bridge.watch
        if watch is not None:
            watch.received(self._side, data[:taken])
        return taken

    def dataTaken(self) -> None:
        """Pass it on."""
        self._bridge.taken()

    def helloReceived(self, hello: client_hello.Hello) -> None:
        """Pass it on."""
        self._bridge.hello(hello)

    def tlsEstablished(self, facts: TLSFacts) -> None:
        """Pass it on."""
        watch = self._bridge.watch
        if watch is not None:
            watch.secured(self._side, facts)
        self._bridge.secured(self._side, facts)

    def tlsFailed(self, reason: str) -> None:
        """Pass it on."""
        watch = self._bridge.watch
        if watch is not None:
            watch.tls_failed(self._side, reason)
        self._bridge.tls_failed(self._side, reason)

    def readConnectionLost(self) -> None:
        """Pass it on."""
        self._bridge.half_closed(self._side)

    def connectionLost(self, reason: Failure) -> None:
        """Pass it on."""
        watch = self._bridge.watch
        if watch is not None:
            watch.lost(self._side, describe(reason.value))
        self._bridge.lost(self._side, reason)
