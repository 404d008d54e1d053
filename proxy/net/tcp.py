"""TCP sockets: the options all of them have, and what Twisted wants to ask of them."""

import socket
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address

_KEEPALIVE_IDLE: Final = 120
_KEEPALIVE_INTERVAL: Final = 30
_KEEPALIVE_COUNT: Final = 4


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and not a name."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_ours(address: str) -> bool:
    """Whether an IP address is one of this machine's."""
    if ip_address(address.partition("%")[0]).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing, but asks for a route
        except OSError:
            return False
        # To itself alone a machine speaks from the very address that is spoken to.
        return bool(probe.getsockname()[0] == address)


def set_options(connection: socket.socket) -> None:
    """Have the kernel find out about peers that vanished, and send small writes at once.

    Set on a listening socket, they hold for all that it accepts.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)


class TCPSocket:
    """The part of `twisted.internet.interfaces.ITCPTransport` that is about the socket alone."""

    __slots__ = ("_socket",)

    _socket: socket.socket | None

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the address of the peer."""
        return _address(None if self._socket is None else self._socket.getpeername())

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address at this end."""
        return _address(None if self._socket is None else self._socket.getsockname())

    def getTcpNoDelay(self) -> bool:
        """Whether small writes go out at once."""
        return self._option(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set whether small writes go out at once."""
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether the kernel looks after silent peers."""
        return self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Set whether the kernel looks after silent peers."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 when it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def _option(self, level: int, name: int) -> bool:
        return self._socket is not None and bool(self._socket.getsockopt(level, name))


def _address(name: tuple[Any, ...] | None) -> IPv4Address | IPv6Address:
    if name is None:
        return IPv4Address("TCP", "0.0.0.0", 0)  # noqa: S104 - nowhere, not everywhere
    if len(name) == 2:  # noqa: PLR2004 - host and port; IPv6 has flow and scope as well
        return IPv4Address("TCP", name[0], name[1])
    return IPv6Address("TCP", name[0], name[1])
