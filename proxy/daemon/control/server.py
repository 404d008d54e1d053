"""The control socket, on the daemon's side."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from proxy.daemon.control.answering import Answer, Answering
from proxy.daemon.control.controlled import Controlled
from proxy.daemon.control.conversation import Conversation
from proxy.daemon.control.place import Place, take
from proxy.net.hub import IN, Hub

MOST_CLIENTS: Final = 16
"""Clients at a time; others are told to try again."""

_AT_ONCE: Final = 8
_PAUSE: Final = 0.5
"""Seconds without accepting when a connection could not be accepted."""

_log = Logger()


class Clients(Factory):
    """Those who ask a daemon.

    Args:
        reactor: the reactor.
        answering: answers them.
        most: how many there may be at a time; others are told to try again.

    Attributes:
        group: the group whose members may ask; -1 for none.
    """

    noisy = False

    def __init__(self, reactor: Any, answering: Answering, most: int = MOST_CLIENTS) -> None:
        self._reactor = reactor
        self._answering = answering
        self._most = most
        self._there: set[Conversation] = set()
        self.group = -1

    def __len__(self) -> int:
        return len(self._there)

    def adopt(self, connection: socket.socket) -> None:
        """Serve who is at the other end of a connection.

        Args:
            connection: it is closed here, and served by a descriptor of its own.
        """
        with connection:
            try:
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self)
            except OSError as error:
                _log.warn("a control connection is closed: {reason}", reason=error.strerror)

    def buildProtocol(self, _address: IAddress | None) -> Conversation:
        """Return what speaks with a client."""
        client = Conversation(
            self._reactor,
            self._answering,
            group=self.group,
            busy=len(self._there) >= self._most,
            gone=self._there.discard,
        )
        self._there.add(client)
        return client

    def close(self) -> None:
        """Close every connection."""
        for client in tuple(self._there):
            client.close()


class ControlSocket:
    """A control socket.

    Args:
        hub: watches the socket.
        path: where it is to be.
        controlled: the daemon.
        more: what is answered to further commands, by their names.
    """

    def __init__(
        self,
        hub: Hub,
        path: Path,
        controlled: Controlled,
        more: Mapping[str, Answer] | None = None,
    ) -> None:
        self._hub = hub
        self._path = path
        self._place: Place | None = None
        self._pause: Any = None
        self._clients = Clients(hub.reactor, Answering(controlled, more))

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: the place cannot be taken; ``strerror`` says why.
        """
        self._place = take(self._path)
        self._clients.group = self._place.group
        self._hub.watch(self._place.listening.fileno(), self._ready, IN)

    def stop(self) -> None:
        """Listen no more, close every connection, and remove the socket."""
        if self._place is not None:
            self.retire()
            self._clients.close()

    def retire(self) -> None:
        """Listen no more, and remove the socket; whoever is being answered gets the answer."""
        place, self._place = self._place, None
        if place is None:
            return
        if self._pause is None:
            self._hub.forget(place.listening.fileno())
        else:
            self._pause.cancel()
            self._pause = None
        place.leave()

    def fail(self, reason: str) -> None:
        """Take note that accepting has failed: the next connection may fare better."""
        _log.error("the control socket has failed: {reason}", reason=reason)

    def _ready(self, _events: int) -> None:
        for _ in range(_AT_ONCE):
            if self._place is None:
                return
            try:
                connection, _ = self._place.listening.accept()
            except BlockingIOError:
                return
            except OSError:
                self._rest(self._place)
                return
            self._clients.adopt(connection)

    def _rest(self, place: Place) -> None:
        self._hub.forget(place.listening.fileno())
        self._pause = self._hub.callLater(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._place is not None:
            self._hub.watch(self._place.listening.fileno(), self._ready, IN)
