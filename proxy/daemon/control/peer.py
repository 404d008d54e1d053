"""Who is at the other end of a Unix socket, and whether they may control the daemon."""

import array
import os
import socket
import struct
from typing import Final

import attrs

# Python has no name for it; this is its number on all but a few old processors (socket(7)).
_SO_PEERGROUPS: Final = 59
_CREDENTIALS: Final = struct.Struct("iII")
_MOST_OCTETS: Final = 1_024
"""What Python takes of an option: 256 groups. Who is in more is known by the first one alone."""


@attrs.frozen
class Peer:
    """A process, as it was when it connected.

    Attributes:
        pid: its number.
        uid: its effective user.
        groups: its effective group and all others that it is in.
    """

    pid: int
    uid: int
    groups: frozenset[int]

    def may_control(self, group: int) -> bool:
        """Whether it is root, the daemon's own user, or in ``group``, which the socket is of."""
        return self.uid in (0, os.geteuid()) or group in self.groups


def peer_of(connection: socket.socket) -> Peer:
    """Return who has connected, as the kernel says (unix(7), ``SO_PEERCRED``).

    Raises:
        OSError: the kernel does not say.
    """
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(told)
    groups = array.array("I")
    try:
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_OCTETS))
    except OSError:
        groups = array.array("I")  # nobody gets in by what is not known
    return Peer(pid, uid, frozenset((gid, *groups)))
