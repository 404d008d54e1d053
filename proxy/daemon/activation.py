"""Listeners whose sockets systemd opens: those that it has passed find their listeners."""

import socket
from collections.abc import Iterable
from typing import Any

import attrs

from proxy.daemon.endpoints import Endpoint, PassedPlace
from proxy.daemon.model import Listener, Mistake
from proxy.daemon.tables import Placed
from proxy.net.passed import Passed, PassedError, PassedSockets
from proxy.net.transparent import takes_any_destination
from proxy.session.options import one_line


class Activation:
    """The sockets that were passed to this process, and the listeners that want them.

    Args:
        passed: what was passed.
    """

    shared = False

    def __init__(self, passed: PassedSockets) -> None:
        self._passed = passed
        self._taken: dict[str, tuple[socket.socket, ...]] = {}

    def settle(self, listeners: Iterable[Placed[dict[str, Any]]]) -> list[Mistake]:
        """Find the sockets of every listener that is to have some, and let it know their addresses.

        Args:
            listeners: the tables; the ``address`` of such a listener is replaced by one with
                its ``endpoints``.
        """
        mistakes = []
        for table in listeners:
            place = table.value.get("address")
            if not isinstance(place, PassedPlace):
                continue
            try:
                taken = self._take(place.name)
                _check(taken, tproxy=table.value.get("tproxy") is True)
            except PassedError as error:
                mistakes.append(Mistake(table.file, f"{table.key}.address", str(error)))
            else:
                endpoints = tuple(Endpoint(*each.getsockname()[:2]) for each in taken)
                table.value["address"] = attrs.evolve(place, endpoints=endpoints)
        return mistakes

    def of(self, listener: Listener) -> tuple[socket.socket, ...]:
        """Return the sockets of a listener; none of one that wants none of systemd's."""
        place = listener.address
        return self.sockets(place) if isinstance(place, PassedPlace) else ()

    def sockets(self, place: PassedPlace) -> tuple[socket.socket, ...]:
        """Return the sockets of a place, each with its address as in ``place.endpoints``."""
        return self._taken[place.name]

    def left(self) -> tuple[Passed, ...]:
        """Return what was passed and no listener wants."""
        return self._passed.left()

    def _take(self, name: str) -> tuple[socket.socket, ...]:
        if name not in self._taken:
            others = ", ".join(self._passed.names()) or "none"
            taken = self._passed.take(name)
            if not taken:
                raise PassedError(
                    f"systemd has passed no socket named {name} (passed and free: "
                    f"{one_line(others)}); a socket unit with FileDescriptorName={name} must be "
                    "active when it starts the service"
                )
            self._taken[name] = taken
        return self._taken[name]


def _check(taken: Iterable[socket.socket], *, tproxy: bool) -> None:
    for each in taken:
        if tproxy and not takes_any_destination(each):
            place = Endpoint(*each.getsockname()[:2])
            raise PassedError(
                f"the socket on {place} takes connections to its own address alone; with "
                "tproxy = true its unit must say Transparent=yes"
            )
