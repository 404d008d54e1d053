"""Connections that come through a proxy, which says in a header first of all whose they are."""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs

from proxy.net.deadlines import Deadlines
from proxy.net.hub import IN, Hub
from proxy.net.proxy_protocol import LONGEST, Header, HeaderError, Incomplete, Versions, read
from proxy.session.commands import Deadline
from proxy.session.hooks import Address

Taken = Callable[[socket.socket, Address, Address | None], None]
"""Gets a socket whose header is off it, where the client is, and where it has connected to.

The last is None if the header does not say, so that the socket's own addresses hold.
"""

Refused = Callable[[Address, str], None]
"""Told of a connection that was closed: where it came from, and why."""


@attrs.frozen
class Network:
    """Some IP addresses; ``str()`` writes a network of one as that address."""

    addresses: IPv4Network | IPv6Network

    def __str__(self) -> str:
        few = self.addresses.num_addresses == 1
        return str(self.addresses.network_address if few else self.addresses)

    def __contains__(self, host: str) -> bool:
        """Whether an IP address is among them, whatever its scope."""
        return ip_address(host) in self.addresses


class Proxied:
    """Takes the header off each connection of a listener before anybody else sees the connection.

    What follows the header stays on the socket. Connections that do not come from a proxy that is
    trusted are closed unread, for anybody could write such a header.

    Args:
        hub: watches the sockets.
        deadlines: runs `Deadline.NEGOTIATION`, within which the header must come.
        versions: which headers are taken.
        trusted: where proxies may be.
        taken: gets the connections.
        refused: told of those that are closed, but for probes: of a proxy that closes before it
            has sent anything, or after saying no more than that the connection is its own.

    Attributes:
        waiting: the connections whose header has not come. They know the rest.
    """

    def __init__(
        self,
        hub: Hub,
        deadlines: Deadlines,
        *,
        versions: Versions,
        trusted: Sequence[Network],
        taken: Taken,
        refused: Refused,
    ) -> None:
        self.hub = hub
        self.deadlines = deadlines
        self.versions = versions
        self.taken = taken
        self.refused = refused
        self._trusted = tuple(trusted)
        self.waiting: set[_Waiting] = set()

    def accepted(self, connection: socket.socket, peer: Address) -> None:
        """Take a connection, not blocking, that has come from ``peer``."""
        if not self._trusts(peer.host):
            connection.close()
            self.refused(peer, "it does not come from a trusted proxy")
            return
        waiting = _Waiting(self, connection, peer)
        self.waiting.add(waiting)
        waiting.start()

    def stop(self) -> None:
        """Close all connections whose header has not come."""
        for waiting in list(self.waiting):
            waiting.close()

    def _trusts(self, host: str) -> bool:
        return any(host in network for network in self._trusted)


class _Waiting:
    """One connection until its header is off it."""

    __slots__ = ("_around", "_begun", "_connection", "_header", "_peer", "_timer")

    def __init__(self, around: Proxied, connection: socket.socket, peer: Address) -> None:
        self._around = around
        self._connection = connection
        self._peer = peer
        self._begun = b""  # the header, as far as it has come
        self._header: Header | None = None
        self._timer = around.deadlines.arm(Deadline.NEGOTIATION, self._expired)

    def start(self) -> None:
        """Begin to read."""
        self._around.hub.watch(self._connection.fileno(), self._ready, IN)

    def fail(self, reason: str) -> None:
        """Close, because the code of this connection has failed while it was ours."""
        if self in self._around.waiting:
            self._refuse(reason)

    def close(self) -> None:
        """Close."""
        self._let_go().close()

    def _ready(self, _events: int) -> None:
        try:
            seen = self._connection.recv(LONGEST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            seen = b""
        if not seen:
            self._peer_gone()
        elif self._header is None:
            self._read(seen)
        else:
            self._hand_over(self._header)

    def _read(self, seen: bytes) -> None:
        """Take off the socket what is the header's, and nothing else."""
        try:
            found = read(self._begun + seen, self._around.versions)
        except HeaderError as error:
            self._refuse(str(error))
            return
        count = len(seen) if isinstance(found, Incomplete) else found.length - len(self._begun)
        self._begun += self._connection.recv(count)
        if isinstance(found, Incomplete):
            return
        self._header = found
        # A probe says no more than this: nobody need hear of it until it does. With version 1 a
        # proxy gives its own address (section 2.1).
        relayed = found.source not in (None, self._peer)
        if relayed or len(seen) > count:
            self._hand_over(found)

    def _hand_over(self, header: Header) -> None:
        connection = self._let_go()
        self._around.taken(connection, header.source or self._peer, header.destination)

    def _peer_gone(self) -> None:
        if self._begun and self._header is None:
            self._refuse("it was closed in the middle of the PROXY header")
        else:
            self.close()

    def _expired(self, _deadline: Deadline) -> None:
        if self._header is None:
            self._refuse("no PROXY header came in time")
        else:
            self._refuse("nothing came in time after the PROXY header")

    def _refuse(self, reason: str) -> None:
        self.close()
        self._around.refused(self._peer, reason)

    def _let_go(self) -> socket.socket:
        self._timer.disarm()
        self._around.hub.forget(self._connection.fileno())
        self._around.waiting.discard(self)
        return self._connection
