"""The hub: one epoll descriptor for all sockets of all sessions, itself one reader of the reactor.

A wake-up serves every socket that is ready without the reactor's own dispatch for each of them. To
a leg it looks like a reactor (`IReactorFDSet` and ``callLater``); relays call it directly.
"""

import select
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from twisted.internet import interfaces
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.net.descriptors import Descriptors
from proxy.session.commands import Side

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
GONE: Final = select.EPOLLHUP | select.EPOLLERR

HUNG_UP: Final = select.EPOLLRDHUP
"""The peer has closed its direction; told of only where it is asked for."""

AT_ONCE: Final = 64
"""How many sockets are served before it is seen how long that takes."""

BUSY: Final = 8
"""So many at a time, and more have come by the time that these are served."""

LONGEST: Final = 0.005
"""Seconds after which the reactor has its turn with all else, timers among it, however busy."""

_log = Logger()

Call = Callable[[int], None]


class Watched(Protocol):
    """What a leg is to a hub."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def ready(self, events: int) -> None:
        """Act on epoll's events."""


@implementer(interfaces.IReadDescriptor)
class Hub:
    """Watches descriptors.

    Args:
        reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.callLater: Final = reactor.callLater
        self._poller = select.epoll()
        self._called: list[Call | None] = []  # by descriptor: they are small, and without gaps
        self._fresh: set[int] = set()  # what is watched only since the last poll
        self.stalled: Final = {Side.CLIENT: 0, Side.SERVER: 0}
        """How often each leg of joined sessions has not taken all at once."""
        self._wanted: dict[int, int] = {}  # of those that call addReader and addWriter
        self.watched = 0
        """How many descriptors are watched."""
        self.descriptors: Final = Descriptors(self)
        """How many more there may be."""
        reactor.addReader(self)

    def fileno(self) -> int:
        """Return the epoll descriptor."""
        return self._poller.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted's log calls this."""
        return "hub"

    def doRead(self) -> None:
        """Serve the sockets that are ready, and those that become so for `LONGEST`."""
        end = monotonic() + LONGEST
        # A turn of the reactor costs as much as a message.
        while self._serve() >= BUSY and monotonic() < end and not self._poller.closed:
            pass

    def _serve(self) -> int:
        """Serve some that are ready; how many they were."""
        called, fresh = self._called, self._fresh
        fresh.clear()
        ready = self._poller.poll(0, AT_ONCE)
        for descriptor, events in ready:
            call = called[descriptor]
            # An event of a socket that was closed meanwhile is not that of its number's next owner.
            if call is not None and descriptor not in fresh:
                try:
                    call(events)
                except BaseException:  # noqa: BLE001 - one session's fault is not the others'
                    _log.failure("fault in a session")
                    self._fail(call)
        return len(ready)

    def _fail(self, call: Call) -> None:
        """End the session whose code has failed."""
        try:
            call.__self__.fail("fault in the proxy; see the log")  # type: ignore[attr-defined]
        except BaseException:  # noqa: BLE001 - it has failed already
            _log.failure("fault in ending a session")

    def connectionLost(self, _reason: Failure) -> None:
        """Nothing to do: the descriptor lives as long as the service."""

    @property
    def quiet(self) -> bool:
        """Whether no leg is watched, not even one on which only last words are under way."""
        return not self._wanted

    def close(self) -> None:
        """Stop watching."""
        self.descriptors.stop()
        self.reactor.removeReader(self)
        self._poller.close()

    # For relays

    def watch(self, descriptor: int, call: Call, events: int) -> None:
        """Call ``call``, a method of something that can ``fail``, with the events that come."""
        self._poller.register(descriptor, events)
        missing = descriptor + 1 - len(self._called)
        if missing > 0:
            self._called.extend([None] * missing)
        self._called[descriptor] = call
        self._fresh.add(descriptor)
        self.watched += 1

    def change(self, descriptor: int, events: int) -> None:
        """Watch for other events."""
        self._poller.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Watch no more."""
        if 0 <= descriptor < len(self._called) and self._called[descriptor] is not None:
            self._called[descriptor] = None
            self.watched -= 1
            self._poller.unregister(descriptor)

    # For legs

    def addReader(self, watched: Watched) -> None:
        """Tell ``watched`` when there is something to read."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) | IN)

    def removeReader(self, watched: Watched) -> None:
        """Tell no more when there is something to read."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) & ~IN)

    def addWriter(self, watched: Watched) -> None:
        """Tell ``watched`` when it can write."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) | OUT)

    def removeWriter(self, watched: Watched) -> None:
        """Tell no more when it can write."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) & ~OUT)

    def addHangUp(self, watched: Watched) -> None:
        """Tell ``watched`` when the peer closes its direction, even if nothing is read."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) | HUNG_UP)

    def removeHangUp(self, watched: Watched) -> None:
        """Tell no more when the peer closes its direction."""
        self._want(watched, self._wanted.get(watched.fileno(), 0) & ~HUNG_UP)

    def _want(self, watched: Watched, events: int) -> None:
        descriptor = watched.fileno()
        before = self._wanted.pop(descriptor, 0)
        if events:
            self._wanted[descriptor] = events
            if before:
                self.change(descriptor, events)
            else:
                self.watch(descriptor, watched.ready, events)
        elif before:
            self.forget(descriptor)
