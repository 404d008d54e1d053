"""What a bridge tells whoever watches its negotiation."""

from typing import Protocol

from proxy.session.commands import Command, Side
from proxy.session.hooks import Address, ClientHello, TLSFacts


class Watching(Protocol):
    """Told of all that happens on the legs until they are joined. No method may fail."""

    def received(self, side: Side, data: bytes) -> None:
        """Take bytes that came from a leg, before anything comes of them."""

    def commanded(self, command: Command) -> None:
        """Take a command of the negotiation, before it is carried out."""

    def hello(self, hello: ClientHello) -> None:
        """Take the ClientHello."""

    def secured(self, side: Side, facts: TLSFacts) -> None:
        """Take note that TLS is up."""

    def tls_failed(self, side: Side, reason: str) -> None:
        """Take note that TLS has failed."""

    def connected(self, address: Address) -> None:
        """Take note that the server leg is connected."""

    def unreachable(self, reason: str) -> None:
        """Take note that a way to the server leads nowhere."""

    def lost(self, side: Side, reason: str) -> None:
        """Take note that a leg has ended."""

    def ended(self) -> None:
        """Take note that the session is over."""
