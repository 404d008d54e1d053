"""Our own connections to servers, known by their two ends."""

import socket

import attrs

from proxy.net.targets import unmapped
from proxy.session.counts import Counts, LocalCounts
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

    Several processes may share what they know. Another process may accept a connection an instant
    before it is noted; such a circle shows by the ids of our streams (`proxy.session.ids`).

    Args:
        counts: what all processes know; None if there is one.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self._counts: Counts = LocalCounts() if counts is None else counts
        self._own: dict[Ends, int] = {}

    def add(self, connection: socket.socket, remote: Address) -> Ends:
        """Take note of a connection that is up, or has begun; return its ends.

        What is noted several times must be forgotten as many times.
        """
        host, port = connection.getsockname()[:2]
        ends = Ends(_usual(Address(host, port)), _usual(remote))
        self._own[ends] = self._own.get(ends, 0) + 1
        self._count(ends, 1)
        return ends

    def discard(self, ends: Ends) -> None:
        """Forget a connection, once."""
        noted = self._own.pop(ends, 0)
        if noted:
            self._count(ends, -1)
        if noted > 1:
            self._own[ends] = noted - 1

    def begins_at(self, place: Address) -> bool:
        """Whether any connection comes from a place."""
        return self._counts.total(*_key(_usual(place))) > 0

    def __contains__(self, ends: Ends) -> bool:
        key = _key(_usual(ends.local), _usual(ends.remote))
        return self._counts.total(*key) > 0

    def __len__(self) -> int:
        """How many connections this process has noted and not forgotten, each once."""
        return len(self._own)

    def _count(self, ends: Ends, amount: int) -> None:
        self._counts.add(*_key(ends.local), amount=amount)
        self._counts.add(*_key(ends.local, ends.remote), amount=amount)


def _key(*places: Address) -> tuple[str, ...]:
    """Return what a place is counted under, or two."""
    return tuple(text for place in places for text in (place.host, str(place.port)))


def _usual(place: Address) -> Address:
    """Return a place with its address in the usual form, without the link it belongs to."""
    return Address(unmapped(place.host.partition("%")[0]), place.port)
