"""Sockets that take connections to addresses that are not ours (``IP_TRANSPARENT``)."""

import socket
from typing import Final

_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75


def take_any_destination(listening: socket.socket) -> None:
    """Let a socket accept connections to addresses that are not ours (nftables ``tproxy``).

    Raises:
        OSError: that takes the capability CAP_NET_ADMIN or CAP_NET_RAW.
    """
    listening.setsockopt(*_option(listening), 1)


def takes_any_destination(listening: socket.socket) -> bool:
    """Whether a socket accepts connections to addresses that are not ours."""
    return bool(listening.getsockopt(*_option(listening)))


def _option(listening: socket.socket) -> tuple[int, int]:
    if listening.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, _IPV6_TRANSPARENT
    return socket.SOL_IP, _IP_TRANSPARENT
