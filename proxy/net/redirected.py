"""Redirected connections: where a client wanted to go that the packet filter led to us.

With nftables ``redirect`` the kernel keeps the place in its connection tracking; with ``tproxy`` it
is the local address of the accepted socket, and the listening socket must be allowed to take such
connections.
"""

import socket
import struct
from typing import Final

from proxy.session.hooks import Address

_SO_ORIGINAL_DST: Final = 80  # the same number at SOL_IP and SOL_IPV6
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2xH4x16s4x")


class NotRedirectedError(Exception):
    """The connection was meant for us; the message says so."""


def take_any_destination(listening: socket.socket) -> None:
    """Let a socket accept connections to addresses that are not ours (nftables ``tproxy``).

    Raises:
        OSError: that takes the capability CAP_NET_ADMIN.
    """
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    listening.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)


def original_destination(connection: socket.socket, *, tproxy: bool) -> Address:
    """Return where the client of an accepted connection wanted to go.

    Args:
        connection: the accepted socket.
        tproxy: whether connections come by ``tproxy`` and not by ``redirect``.

    Raises:
        NotRedirectedError: to this very listener.
        OSError: the kernel cannot say.
    """
    here = _place(connection.getsockname())
    if tproxy:
        return here
    found = _before_redirection(connection)
    if found is None or found == here:
        raise NotRedirectedError("the connection was not redirected")
    return found


def _before_redirection(connection: socket.socket) -> Address | None:
    if connection.family == socket.AF_INET or _is_mapped(connection.getsockname()[0]):
        level, layout, family = socket.SOL_IP, _SOCKADDR_IN, socket.AF_INET
    else:
        level, layout, family = socket.IPPROTO_IPV6, _SOCKADDR_IN6, socket.AF_INET6
    try:
        answer = connection.getsockopt(level, _SO_ORIGINAL_DST, layout.size)
    except FileNotFoundError:
        return None  # connection tracking knows of no redirection
    port, address = layout.unpack(answer)
    return Address(socket.inet_ntop(family, address), port)


def _is_mapped(host: str) -> bool:
    return host.startswith("::ffff:")


def _place(name: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return Address(name[0].removeprefix("::ffff:"), name[1])
