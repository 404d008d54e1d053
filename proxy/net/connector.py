"""Connects the server leg: resolves a configured host, tries its addresses in order."""

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet import interfaces
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.net.tcp import set_options
from proxy.net.tls import describe

Connected = Callable[[socket.socket], None]
Failed = Callable[[str], None]


@implementer(interfaces.IResolutionReceiver)
class Connector:
    """One attempt to reach a host and port; calls back exactly once, unless it is cancelled.

    Args:
        reactor: the reactor.
        host: an IPv4 or IPv6 address, or a host name for the system's resolver.
        port: the TCP port.
        connected: gets the connected, not blocking socket.
        failed: gets the reason, in words.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, connected: Connected, failed: Failed
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._connected = connected
        self._failed = failed
        self._addresses: list[str] = []
        self._attempt: _Attempt | None = None
        self._problem = "no address"
        self._over = False

    def start(self) -> None:
        """Begin."""
        if _is_address(self._host):
            self._addresses = [self._host]
            self._next()
        else:
            self._reactor.nameResolver.resolveHostName(self, self._host, self._port)

    def cancel(self) -> None:
        """Stop; nothing is called back any more."""
        self._over = True
        if self._attempt is not None:
            self._attempt.stop()

    # IResolutionReceiver

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Take note that the resolver is at work."""

    def addressResolved(self, address: interfaces.IAddress) -> None:
        """Take an address."""
        if isinstance(address, IPv4Address | IPv6Address):
            self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        """Try the addresses that have come."""
        if not self._addresses:
            self._problem = f"the name {self._host} has no address"
        self._next()

    def _next(self) -> None:
        if self._over:
            return
        if not self._addresses:
            self._over = True
            self._failed(self._problem)
            return
        host = self._addresses.pop(0)
        try:
            self._attempt = _Attempt(self._reactor, host, self._port, self._ended)
        except OSError as error:
            self._ended(None, error)

    def _ended(self, connection: socket.socket | None, error: OSError | None) -> None:
        self._attempt = None
        if self._over:
            if connection is not None:
                connection.close()
            return
        if connection is None:
            self._problem = describe(error) if error is not None else "unknown error"
            self._next()
            return
        self._over = True
        self._connected(connection)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@implementer(interfaces.IReadWriteDescriptor)
class _Attempt:
    """One address being tried."""

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        ended: Callable[[socket.socket | None, OSError | None], None],
    ) -> None:
        self._reactor = reactor
        self._ended = ended
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket: socket.socket | None = socket.socket(
            family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        set_options(self._socket)
        status = self._socket.connect_ex((host, port))
        if status not in (0, errno.EINPROGRESS):
            self._socket.close()
            self._socket = None
            raise OSError(status, os.strerror(status))
        reactor.addWriter(self)

    def stop(self) -> None:
        """Give up."""
        if self._socket is not None:
            self._reactor.removeWriter(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """Return the descriptor; -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted's log calls this."""
        return "connector"

    def doRead(self) -> None:
        """Never asked for."""

    def doWrite(self) -> None:
        """Take the outcome."""
        if self._socket is None:
            return
        self._reactor.removeWriter(self)
        connection, self._socket = self._socket, None
        status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            connection.close()
            self._ended(None, OSError(status, os.strerror(status)))
        else:
            self._ended(connection, None)

    def connectionLost(self, _reason: Failure) -> None:
        """Take the outcome, which the reactor has seen as the end of a connection."""
        self.doWrite()
