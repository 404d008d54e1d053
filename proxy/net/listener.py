"""A listening port whose connections become bridges."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from proxy.net.tcp import set_options
from proxy.session.hooks import Address

Accepted = Callable[[socket.socket, Address], None]

BACKLOG = 4096
"""Connections that the kernel holds until they are accepted; it may hold fewer."""


class _Accepting(Factory):
    """Makes no protocol: the port hands sockets over instead."""

    noisy = False

    def __init__(self, accepted: Accepted) -> None:
        self.accepted = accepted

    def buildProtocol(self, _address: IAddress | None) -> Any:
        return _HandOver(self.accepted)


class _HandOver:
    """Stands where Twisted's port expects a protocol, for the moment between its two calls."""

    def __init__(self, accepted: Accepted) -> None:
        self._accepted = accepted

    def makeConnection(self, transport: "_Accepted") -> None:
        """Hand the socket over."""
        self._accepted(transport.connection, transport.address)


class _Accepted:
    """A connection that Twisted's port has accepted."""

    def __init__(
        self,
        connection: socket.socket,
        _protocol: _HandOver,
        address: tuple[Any, ...],
        _port: tcp.Port,
        _number: int,
        _reactor: Any,
    ) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.address = client_address(address)


class Listener(tcp.Port):
    """Twisted's port, with its care for exhausted descriptors, but without its transports.

    Args:
        reactor: the reactor.
        host: an IPv4 or IPv6 address.
        port: the TCP port; 0 for any.
        accepted: takes each socket, not blocking, and where its peer is.
    """

    transport = _Accepted  # type: ignore[assignment]

    def __init__(self, reactor: Any, host: str, port: int, accepted: Accepted) -> None:
        super().__init__(
            port, _Accepting(accepted), backlog=BACKLOG, interface=host, reactor=reactor
        )

    def startListening(self) -> None:
        """Listen; what is accepted has the options of the listening socket."""
        super().startListening()
        set_options(self.socket)

    @property
    def bound_port(self) -> int:
        """The port that is listened on."""
        return int(self._realPortNumber or 0)

    def stop(self) -> None:
        """Accept no more."""
        self.stopListening()  # type: ignore[no-untyped-call]


def client_address(address: tuple[Any, ...]) -> Address:
    """Return where a peer is; an IPv4 address that comes through an IPv6 socket as IPv4."""
    host: str = address[0]
    if ":" in host:
        mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
        if mapped is not None:
            host = str(mapped)
    return Address(host, address[1])
