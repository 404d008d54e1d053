"""What a leg tells the protocol that uses it."""

from typing import Any, Protocol

from twisted.python.failure import Failure

from proxy.net.client_hello import Hello
from proxy.session.hooks import TLSFacts


class LegProtocol(Protocol):
    """The methods of `twisted.internet.interfaces.IProtocol`, and those that TLS in place needs."""

    def makeConnection(self, transport: Any) -> None:
        """The leg is connected."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come, and are taken."""

    def dataPeeked(self, data: bytes) -> int:
        """Plaintext has come; return how many bytes of it are taken, the rest being TLS's.

        Nothing may be done to the leg before `dataTaken`.
        """

    def dataTaken(self) -> None:
        """Those bytes have been taken."""

    def helloReceived(self, hello: Hello) -> None:
        """The ClientHello has come whole."""

    def tlsEstablished(self, facts: TLSFacts) -> None:
        """The handshake is finished."""

    def tlsFailed(self, reason: str) -> None:
        """TLS has failed; nothing can be written any more."""

    def readConnectionLost(self) -> None:
        """The peer has closed its direction."""

    def connectionLost(self, reason: Failure) -> None:
        """The leg has ended; called once, and last."""


class Silence:
    """The protocol of a leg of which nobody wants to hear any more."""

    def makeConnection(self, transport: Any) -> None:
        """Take no notice."""

    def dataReceived(self, data: bytes) -> None:
        """Take no notice."""

    def dataPeeked(self, data: bytes) -> int:
        """Take all of it."""
        return len(data)

    def dataTaken(self) -> None:
        """Take no notice."""

    def helloReceived(self, hello: Hello) -> None:
        """Take no notice."""

    def tlsEstablished(self, facts: TLSFacts) -> None:
        """Take no notice."""

    def tlsFailed(self, reason: str) -> None:
        """Take no notice."""

    def readConnectionLost(self) -> None:
        """Take no notice."""

    def connectionLost(self, reason: Failure) -> None:
        """Take no notice."""
