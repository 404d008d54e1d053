"""Looks for a ClientHello on a socket without taking it."""

import socket
from enum import Enum
from select import POLLERR, POLLHUP, POLLRDHUP, poll
from typing import Final

from proxy.net.client_hello import Hello, Incomplete, MalformedError, read

PEEK_SIZE: Final = 20_480
"""Enough for the longest ClientHello and the headers of its records."""


class Wait(Enum):
    """There is no ClientHello yet."""

    READABLE = "look again when the socket can be read"
    LATER = "look again in a while: the socket can be read, but does not have enough"
    ENDED = "none will come: the peer has closed"


class HelloWatch:
    """The look-out for one ClientHello.

    The kernel is told how many bytes are needed, so that one that comes in drips wakes nobody up
    for each of them.
    """

    __slots__ = ("_needed",)

    def __init__(self) -> None:
        self._needed = 1

    def look(self, connection: socket.socket, seen: bytes = b"") -> Hello | Wait:
        """Look at what ``connection`` has.

        Args:
            connection: the socket.
            seen: what has just been seen at the front of it, if anybody has looked.

        Raises:
            MalformedError: it has no ClientHello.
            OSError: the connection is lost.
        """
        found = read(seen) if seen else None
        if not isinstance(found, Hello):
            try:
                data = connection.recv(PEEK_SIZE, socket.MSG_PEEK)
            except BlockingIOError:
                return Wait.READABLE
            if not data:
                return Wait.ENDED
            found = read(data)
        if isinstance(found, Hello):
            self._need(connection, 1)
            return found
        return self._wait(connection, found)

    def _wait(self, connection: socket.socket, incomplete: Incomplete) -> Wait:
        if incomplete.needed > PEEK_SIZE:
            raise MalformedError("the ClientHello is spread too thin")
        woken_in_vain = self._needed == incomplete.needed
        self._need(connection, incomplete.needed)
        if _hung_up(connection):
            return Wait.ENDED
        return Wait.LATER if woken_in_vain else Wait.READABLE

    def _need(self, connection: socket.socket, count: int) -> None:
        if count != self._needed:
            self._needed = count
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _hung_up(connection: socket.socket) -> bool:
    """Whether the peer has closed, which looking at what it sent does not show."""
    watch = poll()
    watch.register(connection, POLLRDHUP)
    return any(event & (POLLRDHUP | POLLHUP | POLLERR) for _, event in watch.poll(0))
