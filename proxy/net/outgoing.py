"""Our own connections to servers, known by where they come from."""

import socket

from proxy.session.hooks import Address


class Outgoing:
    """Where our own connections to servers come from.

    A connection that is accepted from such a place is our own, led back by a redirection in the
    packet filter: the session would run in a circle. It may be accepted before we know that it is
    up, so each is noted as soon as it has begun.
    """

    def __init__(self) -> None:
        self._places: set[Address] = set()

    def add(self, connection: socket.socket) -> Address:
        """Take note of a connection that is up, or has begun; return where it comes from."""
        host, port = connection.getsockname()[:2]
        place = Address(host, port)
        self._places.add(place)
        return place

    def discard(self, place: Address) -> None:
        """Forget a connection."""
        self._places.discard(place)

    def __contains__(self, place: Address) -> bool:
        return place in self._places
