"""Redirected connections: where a client wanted to go that the packet filter led to us.

With nftables ``redirect`` the kernel keeps the place in its connection tracking; with ``tproxy`` it
is the local address of the accepted socket, and the listening socket must take any destination
(`proxy.net.transparent`).
"""

import errno
import socket
import struct
from ipaddress import ip_address
from typing import Any, Final

from proxy.net.targets import unmapped
from proxy.net.tcp import is_ours
from proxy.session.hooks import Address

_SO_ORIGINAL_DST: Final = 80  # the same number at SOL_IP and SOL_IPV6
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2xH4x16s4x")

_UNKNOWN: Final = frozenset((errno.ENOENT, errno.ENOPROTOOPT))
"""Connection tracking does not know the connection, or is not there at all."""


class NotRedirectedError(Exception):
    """The connection was meant for us; the message says so."""


def original_destination(connection: socket.socket, *, tproxy: bool) -> Address:
    """Return where the client of an accepted connection wanted to go.

    Args:
        connection: the accepted socket.
        tproxy: whether connections come by ``tproxy`` and not by ``redirect``.

    Raises:
        NotRedirectedError: to this very listener; with ``tproxy``, to this machine.
        OSError: the kernel cannot say.
    """
    here = _place(connection)
    found: Address | None = here
    if tproxy:
        # Nobody is led from one link to another by its addresses.
        meant_for_us = ip_address(here.host).is_link_local or is_ours(here.host)
    else:
        found = _before_redirection(connection)
        meant_for_us = found == here
    if found is None or meant_for_us:
        raise NotRedirectedError("the connection was not redirected")
    return found


def first_destination(connection: socket.socket, *, tproxy: bool) -> Address:
    """Return where an accepted connection was going when it began, led elsewhere or not.

    Args:
        connection: the accepted socket.
        tproxy: whether connections come by ``tproxy`` and not by ``redirect``.

    Raises:
        OSError: the kernel cannot say.
    """
    found = None if tproxy else _before_redirection(connection)
    return found or _place(connection)


def _before_redirection(connection: socket.socket) -> Address | None:
    """Ask connection tracking, which knows an IPv4 connection as such on an IPv6 socket too."""
    if ":" in _place(connection).host:
        level, layout, family = socket.IPPROTO_IPV6, _SOCKADDR_IN6, socket.AF_INET6
    else:
        level, layout, family = socket.SOL_IP, _SOCKADDR_IN, socket.AF_INET
    try:
        answer = connection.getsockopt(level, _SO_ORIGINAL_DST, layout.size)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise
    port, address = layout.unpack(answer)
    return Address(socket.inet_ntop(family, address), port)


def _place(connection: socket.socket) -> Address:
    """Return the local address, an IPv4-mapped one as IPv4."""
    name: tuple[Any, ...] = connection.getsockname()
    return Address(unmapped(name[0]), name[1])
