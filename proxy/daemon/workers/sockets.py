"""Sockets that all workers accept from: the supervisor keeps them, and hands them on."""

import socket
from collections.abc import Iterable, Mapping, Sequence

import attrs

from proxy.daemon.listening import Sockets, open_sockets
from proxy.daemon.model import Listener
from proxy.daemon.ports import Held


@attrs.frozen(eq=False)
class Kept:
    """A socket that listens, from which this process does not accept.

    Attributes:
        host: the address that is listened on.
        socket: the socket.
    """

    host: str
    socket: socket.socket

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.socket.getsockname()[1])

    def stop(self) -> None:
        """Close it; workers may have it too."""
        self.socket.close()


def keep(listener: Listener, sockets: Sockets | None) -> list[Kept]:
    """Open the sockets of a listener.

    Args:
        listener: the listener.
        sockets: those that listen already; None if there are none.

    Raises:
        OSError: an address cannot be listened on; the message says which and why.
    """
    hosts = [endpoint.host for endpoint in listener.address.endpoints]
    return list(map(Kept, hosts, open_sockets(listener, sockets)))


def named(held: Iterable[Held[Kept]]) -> list[tuple[str, int]]:
    """Return the descriptors of what is held, each with the name of its listener, in order."""
    return [(each.name, port.socket.fileno()) for each in held for port in each.ports]


class Handed:
    """Sockets that the supervisor has handed on (`proxy.daemon.listening.Sockets`)."""

    shared = True

    def __init__(self) -> None:
        self._by_name: dict[str, list[socket.socket]] = {}
        self._coming: dict[str, list[socket.socket]] = {}

    def take(self, names: Iterable[str], descriptors: Iterable[int], *, anew: bool) -> None:
        """Take some; they count when all are there.

        Args:
            names: the names of their listeners.
            descriptors: theirs, in the same order.
            anew: whether those are forgotten that were taken before and do not count yet: who
                handed them on has not got to the end.
        """
        if anew:
            self._close(self._coming)
            self._coming = {}
        for name, descriptor in zip(names, descriptors, strict=True):
            taken = socket.socket(fileno=descriptor)
            taken.setblocking(False)
            self._coming.setdefault(name, []).append(taken)

    def renew(self) -> None:
        """Have those that were taken since in place of all before."""
        self.release()
        self._by_name, self._coming = self._coming, {}

    def release(self) -> None:
        """Close those that count: whoever listens does so on duplicates by now.

        A port is free, and refuses connections, only when nobody has its socket any more.
        """
        self._close(self._by_name)
        self._by_name = {}

    @staticmethod
    def _close(by_name: Mapping[str, Iterable[socket.socket]]) -> None:
        for sockets in by_name.values():
            for each in sockets:
                each.close()

    def of(self, listener: Listener) -> Sequence[socket.socket]:
        """Return those of a listener, one for each of its endpoints."""
        return self._by_name.get(listener.name, [])
