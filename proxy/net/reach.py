"""Reaching servers: the one that is configured, or those that DNS names for a domain."""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from proxy.net.connector import Connector
from proxy.net.outgoing import Ends, Outgoing
from proxy.net.resolver import Resolver
from proxy.net.route import Request, Route, Way
from proxy.session.hooks import Address
from proxy.session.ways import Reached, Trouble

Connected = Callable[[socket.socket, Reached], None]
"""Gets a connected, not blocking socket, and what it leads to."""

Failed = Callable[[Trouble, str], None]
"""Told that no way is left, and why, in words."""


class Reach(Protocol):
    """The ways to one server, for one session.

    Each of `next`, `again` and `redirect` is answered by one call of what was given for it, unless
    another one or `cancel` comes first, and never before it has returned.
    """

    def next(self) -> None:
        """Go the next way: the first one to begin with."""

    def again(self) -> None:
        """Go the way that was gone last, once more."""

    def redirect(self, host: str, port: int | None, *, keep: bool) -> None:
        """Go where the server points; ``keep`` the ways that are left for after that."""

    def cancel(self) -> None:
        """Stop; nothing is called back for what is under way."""

    def settle(self) -> Callable[[], None] | None:
        """Keep to the connection that there is; return what to call when it has ended, if need be.

        A session that goes on for long need not keep what looks for ways.
        """


class Behind:
    """The server behind a reverse listener, of which there is one.

    Args:
        reactor: the reactor.
        server: where it is.
        connected: gets the connection.
        failed: told that there is none.
    """

    __slots__ = ("_connected", "_connector", "_failed", "_reactor", "_server")

    def __init__(self, reactor: Any, server: Address, connected: Connected, failed: Failed) -> None:
        self._reactor = reactor
        self._server = server
        self._connected = connected
        self._failed = failed
        self._connector: Connector | None = None

    def next(self) -> None:
        """Connect."""
        self.cancel()
        self._connector = Connector(
            self._reactor, self._server.host, self._server.port, self._arrived, self._stranded
        )
        self._connector.start()

    def again(self) -> None:
        """Connect once more."""
        self.next()

    def redirect(self, _host: str, _port: int | None, *, keep: bool) -> None:  # noqa: ARG002
        """Refuse: the server behind is the one that is configured."""
        raise RuntimeError("the server behind this proxy is where the conf says")

    def cancel(self) -> None:
        """Stop."""
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None

    def settle(self) -> None:
        """Stop; nothing is left to be done at the end."""
        self.cancel()

    def _arrived(self, connection: socket.socket) -> None:
        self._connector = None
        self._connected(connection, Reached(self._server.host, self._server, False, False))

    def _stranded(self, reason: str) -> None:
        self._connector = None
        self._failed(Trouble.UNREACHABLE, reason)


class Abroad:
    """The servers of a domain, wherever DNS or a policy says they are.

    Args:
        reactor: the reactor.
        resolver: asks DNS.
        request: whose server is wanted, and what limits the ways to it.
        own: whether an IP address and a port are a listener of ours.
        outgoing: takes note of connections, for as long as they are ours.
        connected: gets the connection.
        failed: told that there is none.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        request: Request,
        *,
        own: Callable[[str, int], bool],
        outgoing: Outgoing,
        connected: Connected,
        failed: Failed,
    ) -> None:
        self._reactor = reactor
        self._outgoing = outgoing
        self._connected = connected
        self._failed = failed
        self._route = Route(
            reactor,
            resolver,
            request,
            own=own,
            outgoing=outgoing,
            connected=self._arrived,
            failed=failed,
        )
        self._last: tuple[Way, bool] | None = None
        self._connector: Connector | None = None
        self._ends: Ends | None = None

    def next(self) -> None:
        """Go to the next target."""
        self._route.next()

    def again(self) -> None:
        """Connect once more to the address that was connected to last."""
        self.cancel()
        if self._last is None:
            raise RuntimeError("no server has been reached yet")
        way, more = self._last
        self._connector = Connector(
            self._reactor,
            way.address,
            way.target.port,
            lambda connection: self._arrived(connection, way, more),
            lambda reason: self._failed(Trouble.UNREACHABLE, f"{way.target}: {reason}"),
            outgoing=self._outgoing,
        )
        self._connector.start()

    def redirect(self, host: str, port: int | None, *, keep: bool) -> None:
        """Go where the server points, if that is allowed."""
        self._route.redirect(host, port, keep=keep)

    def cancel(self) -> None:
        """Stop what is under way."""
        self._route.cancel()
        if self._connector is not None:
            self._connector.cancel()
            self._connector = None

    def settle(self) -> Callable[[], None] | None:
        """Stop; at the end it is to be forgotten where the connection came from."""
        self.cancel()
        ends, self._ends = self._ends, None
        return None if ends is None else partial(self._outgoing.discard, ends)

    def _arrived(self, connection: socket.socket, way: Way, more: bool) -> None:
        self._connector = None
        self._last = (way, more)
        target = way.target
        address = Address(way.address, target.port)
        if self._ends is not None:
            self._outgoing.discard(self._ends)
        self._ends = self._outgoing.add(connection, address)
        reached = Reached(target.host, address, target.direct, more, way.claims)
        self._connected(connection, reached)
