"""A listening socket whose connections become bridges."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import Logger

from proxy.net.hub import IN, Hub
from proxy.net.tcp import is_ours, set_options
from proxy.net.tls import describe
from proxy.net.transparent import take_any_destination
from proxy.session.hooks import Address

Accepted = Callable[[socket.socket, Address], None]

BACKLOG: Final = 4096
"""Connections that the kernel holds until they are accepted; it may hold fewer."""

_AT_ONCE: Final = 64
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_log = Logger()


class Listener:
    """Accepts connections; those that cannot be accepted now wait in the kernel.

    Args:
        hub: watches the socket.
        host: an IPv4 or IPv6 address.
        port: the TCP port; 0 for any.
        accepted: takes each socket, not blocking, and where its peer is.
        tproxy: whether to take connections to addresses that are not ours.
        passed: a socket that listens there already; without it one is made. It is closed by `stop`.
        shared: whether other processes accept from this socket too: each then leaves connections
            to those that have less to do.
    """

    def __init__(
        self,
        hub: Hub,
        host: str,
        port: int,
        accepted: Accepted,
        *,
        tproxy: bool = False,
        passed: socket.socket | None = None,
        shared: bool = False,
    ) -> None:
        self._at_once = 1 if shared else _AT_ONCE
        self._tproxy = tproxy
        self._hub = hub
        self._host = host
        self._port = port
        self._accepted = accepted
        self._passed = passed
        self._socket: socket.socket | None = None
        self._resting = False

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be listened on.
        """
        if self._passed is None:
            listening = open_socket(self._host, self._port, tproxy=self._tproxy)
        else:
            listening, self._passed = self._passed, None
            set_options(listening)
        self._socket = listening
        self._hub.watch(listening.fileno(), self._ready, IN)

    def serve(self, accepted: Accepted) -> None:
        """Have another take the connections that are accepted from now on."""
        self._accepted = accepted

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def host(self) -> str:
        """The address that is listened on."""
        return self._host

    def takes(self, address: str) -> bool:
        """Whether connections to ``address``, of this machine, come here: all do, or none."""
        return ip_address(self._host).is_unspecified and is_ours(address)

    def stop(self) -> None:
        """Accept no more. Connections to a socket that was passed wait for who opens it next."""
        if self._socket is not None:
            if self._resting:
                self._hub.descriptors.forget(self)
            else:
                self._hub.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def fail(self, reason: str) -> None:
        """Take note that accepting has failed: the next connection may fare better."""
        _log.error("a connection could not be accepted: {reason}", reason=reason)

    def _ready(self, _events: int) -> None:
        descriptors = self._hub.descriptors
        for _ in range(self._at_once):
            if self._socket is None or self._resting:
                return
            scarcity = descriptors.scarcity()
            if scarcity:
                self._rest(scarcity)
                return
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(describe(error))
                    return
                continue  # this connection is gone already
            if descriptors.is_late(connection.fileno()):
                self._rest()
            connection.setblocking(False)
            self._accepted(connection, client_address(address))

    def _rest(self, reason: str = "") -> None:
        """Accept no more until there is room."""
        if self._socket is not None:
            self._resting = True
            self._hub.forget(self._socket.fileno())
            self._hub.descriptors.pause(self, reason)

    def go_on(self) -> None:
        """Accept again, after a pause."""
        if self._socket is not None and self._resting:
            self._resting = False
            self._hub.watch(self._socket.fileno(), self._ready, IN)


def open_socket(host: str, port: int, *, tproxy: bool = False) -> socket.socket:
    """Return a socket that listens, not blocking.

    Args:
        host: an IPv4 or IPv6 address.
        port: the TCP port; 0 for any.
        tproxy: whether to take connections to addresses that are not ours.

    Raises:
        OSError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_options(listening)  # what is accepted has them too
        if tproxy:
            take_any_destination(listening)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def client_address(address: tuple[Any, ...]) -> Address:
    """Return where a peer is; an IPv4 address that comes through an IPv6 socket as IPv4."""
    host: str = address[0]
    if ":" in host:
        mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
        if mapped is not None:
            host = str(mapped)
    return Address(host, address[1])
