"""Our own connections to servers, known by their two ends."""

import socket

import attrs

from proxy.net.targets import unmapped
from proxy.session.hooks import Address


@attrs.frozen
class Ends:
    """The two ends of a connection, as they are where it begins.

    Attributes:
        local: where it comes from.
        remote: where it is to go.
    """

    local: Address
    remote: Address


class Outgoing:
    """Which connections to servers are ours.

    A connection that is accepted and has the very ends of one of them is our own, led back by a
    redirection in the packet filter: the session would run in a circle. It may be accepted before
    we know that it is up, so each is noted as soon as it has begun.

    Where it comes from is not enough: the kernel gives the same address and port to connections
    that go to different places, a client's and ours among them.
    """

    def __init__(self) -> None:
        # Where connections from a place go; as often as they have been noted.
        self._remotes: dict[Address, list[Address]] = {}

    def add(self, connection: socket.socket, remote: Address) -> Ends:
        """Take note of a connection that is up, or has begun; return its ends.

        What is noted several times must be forgotten as many times.
        """
        host, port = connection.getsockname()[:2]
        ends = Ends(_usual(Address(host, port)), _usual(remote))
        self._remotes.setdefault(ends.local, []).append(ends.remote)
        return ends

    def discard(self, ends: Ends) -> None:
        """Forget a connection, once."""
        remotes = self._remotes.get(ends.local, [])
        if ends.remote in remotes:
            remotes.remove(ends.remote)
        if not remotes:
            self._remotes.pop(ends.local, None)

    def begins_at(self, place: Address) -> bool:
        """Whether any connection comes from a place."""
        return _usual(place) in self._remotes

    def __contains__(self, ends: Ends) -> bool:
        return _usual(ends.remote) in self._remotes.get(_usual(ends.local), ())


def _usual(place: Address) -> Address:
    """Return a place with its address in the usual form, without the link it belongs to."""
    return Address(unmapped(place.host.partition("%")[0]), place.port)
