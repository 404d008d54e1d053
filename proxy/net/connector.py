"""Connects the server leg: several addresses raced, or a configured server of one's own."""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet import interfaces
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.net.outgoing import Ends, Outgoing
from proxy.net.targets import literal
from proxy.net.tcp import set_options
from proxy.net.tls import describe
from proxy.session.hooks import Address

ATTEMPT_DELAY: Final = 0.25
"""Seconds that an address has to itself before the next one is tried beside it (RFC 8305)."""

_ENDED_AT_ONCE: Final = (errno.ECONNRESET, errno.EPIPE)
"""What the kernel says of a connection that was accepted, and reset before anybody looked."""

Connected = Callable[[socket.socket], None]
Failed = Callable[[str], None]


class Connector:
    """One attempt to reach a configured host and port; calls back once, unless it is cancelled.

    Nothing is called back before `start` has returned.

    Args:
        reactor: the reactor.
        host: an IPv4 or IPv6 address, or a host name for the system's resolver.
        port: the TCP port.
        connected: gets the connected, not blocking socket.
        failed: gets the reason, in words.
        outgoing: takes note of connections as they begin, until one has been handed over.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        connected: Connected,
        failed: Failed,
        *,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._connected = connected
        self._failed = failed
        self._outgoing = outgoing
        self._race: Race | None = None
        self._over = False

    def start(self) -> None:
        """Begin."""
        if literal(self._host) is not None:
            self._resolved((self._host,))
        else:
            system_addresses(self._reactor, self._host).addCallback(self._resolved)

    def cancel(self) -> None:
        """Stop; nothing is called back any more."""
        self._over = True
        if self._race is not None:
            self._race.stop()
            self._race = None

    def _resolved(self, addresses: tuple[str, ...]) -> None:
        if self._over:
            return
        self._race = Race(
            self._reactor,
            addresses,
            self._port,
            self._won,
            self._lost,
            outgoing=self._outgoing,
        )
        self._race.start()

    def _won(self, connection: socket.socket, _address: str) -> None:
        self._race = None  # it refers to us, and would not be freed soon
        self._connected(connection)

    def _lost(self, reason: str) -> None:
        self._race = None
        self._failed(reason or f"the name {self._host} has no address")


def system_addresses(reactor: Any, host: str) -> Deferred[tuple[str, ...]]:
    """Return the addresses of a configured host, in the order of the system's resolver.

    An address stands for itself. A name that has no address, or cannot be looked up, gives none:
    the system tells no more.
    """
    if literal(host) is not None:
        return succeed((host,))
    resolution = _Resolution()
    reactor.nameResolver.resolveHostName(resolution, host, 0)
    return resolution.done


@implementer(interfaces.IResolutionReceiver)
class _Resolution:
    """Gathers what the system's resolver says of one name."""

    def __init__(self) -> None:
        # Without a canceller: once cancelled, it takes no notice of the result that comes late.
        self.done: Deferred[tuple[str, ...]] = Deferred()
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Take note that the resolver is at work."""

    def addressResolved(self, address: interfaces.IAddress) -> None:
        """Take an address."""
        if isinstance(address, IPv4Address | IPv6Address):
            self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        """Hand over the addresses that have come."""
        self.done.callback(tuple(dict.fromkeys(self._addresses)))


class Race:
    """Connects to the first of several addresses that answers (RFC 8305, section 5).

    One is tried after the other, each next one when the last has failed or `ATTEMPT_DELAY` later.
    The first connection wins, the others are closed. It calls back once, unless it is stopped,
    and never before `start` has returned.

    A connection that was accepted, but has been reset since, wins where no other does: whether we
    have looked before the reset came or after it, who gets it finds that it has ended.

    Args:
        reactor: the reactor.
        addresses: IP addresses, in the order in which they are tried.
        port: the TCP port.
        won: gets the connected, not blocking socket and the address it is connected to.
        lost: gets the reasons, in words; empty if there was no address.
        seconds: how long all of it may take; None for as long as the kernel tries.
        outgoing: takes note of connections as they begin. All are forgotten again, the one that
            wins once ``won`` has returned: whoever keeps it takes note of it anew.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: Iterable[str],
        port: int,
        won: Callable[[socket.socket, str], None],
        lost: Failed,
        *,
        seconds: float | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._reactor = reactor
        self._addresses = deque(addresses)
        self._port = port
        self._won = won
        self._lost = lost
        self._seconds = seconds
        self._outgoing = outgoing
        self._attempts: dict[_Attempt, str] = {}
        self._reasons: dict[str, None] = {}
        self._ended_at_once: tuple[socket.socket, str] | None = None
        self._next: Any = None
        self._end: Any = None

    def start(self) -> None:
        """Begin."""
        if self._seconds is not None:
            self._end = self._reactor.callLater(self._seconds, self._expired)
        self._try()

    def stop(self) -> None:
        """Close what is under way; nothing is called back any more."""
        for call in (self._next, self._end):
            if call is not None and call.active():
                call.cancel()
        self._next = self._end = None
        self._addresses.clear()
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts:
            attempt.stop()
        if self._ended_at_once is not None:
            self._ended_at_once[0].close()
            self._ended_at_once = None

    def _try(self) -> None:
        """Begin with the next address that the system lets us try."""
        self._next = None
        while self._addresses:
            address = self._addresses.popleft()
            try:
                attempt = _Attempt(self._reactor, address, self._port, self._ended, self._outgoing)
            except OSError as error:
                self._reasons[describe(error)] = None
                continue
            self._attempts[attempt] = address
            if self._addresses:
                self._next = self._reactor.callLater(ATTEMPT_DELAY, self._try)
            return
        if not self._attempts:
            # Not at once: this may still be `start`.
            self._next = self._reactor.callLater(0, self._give_up)

    def _ended(
        self, attempt: "_Attempt", connection: socket.socket | None, error: OSError | None
    ) -> None:
        address = self._attempts.pop(attempt)
        if error is None and connection is not None:
            self.stop()
            self._won(connection, address)
            return
        if connection is not None:
            if self._ended_at_once is None:
                self._ended_at_once = connection, address
            else:
                connection.close()
        self._reasons[describe(error)] = None
        if self._next is not None:
            self._next.cancel()
        self._try()

    def _expired(self) -> None:
        self._reasons[f"no connection within {self._seconds:g} s"] = None
        self._give_up()

    def _give_up(self) -> None:
        last, self._ended_at_once = self._ended_at_once, None
        self.stop()
        if last is not None:
            self._won(*last)
        else:
            self._lost(", ".join(self._reasons))


@implementer(interfaces.IReadWriteDescriptor)
class _Attempt:
    """One address being tried.

    It ends with a connection, or with an error, or with both: a connection that was accepted and
    has ended by that error.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        ended: Callable[["_Attempt", socket.socket | None, OSError | None], None],
        outgoing: Outgoing | None,
    ) -> None:
        self._reactor = reactor
        self._ended = ended
        self._outgoing = outgoing
        self._ends: Ends | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket: socket.socket | None = socket.socket(
            family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        set_options(self._socket)
        status = self._socket.connect_ex((host, port))
        if status not in (0, errno.EINPROGRESS):
            self._socket.close()
            self._socket = None
            raise OSError(status, os.strerror(status))
        if outgoing is not None:
            self._ends = outgoing.add(self._socket, Address(host, port))
        reactor.addWriter(self)

    def stop(self) -> None:
        """Give up."""
        if self._socket is not None:
            self._reactor.removeWriter(self)
            self._socket.close()
            self._socket = None
            self._forget()

    def _forget(self) -> None:
        if self._outgoing is not None and self._ends is not None:
            self._outgoing.discard(self._ends)

    def fileno(self) -> int:
        """Return the descriptor; -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted's log calls this."""
        return "connector"

    def doRead(self) -> None:
        """Never asked for."""

    def doWrite(self) -> None:
        """Take the outcome."""
        self._take(lost=False)

    def connectionLost(self, _reason: Failure) -> None:
        """Take the outcome: a failure, or the reactor stops before there is any."""
        self._take(lost=True)

    def _take(self, *, lost: bool) -> None:
        if self._socket is None:
            return
        self._reactor.removeWriter(self)
        connection, self._socket = self._socket, None
        status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if lost and not status:
            status = errno.ECONNABORTED
        error = OSError(status, os.strerror(status)) if status else None
        if error is not None and status not in _ENDED_AT_ONCE:
            connection.close()
            self._forget()
            self._ended(self, None, error)
            return
        try:
            self._ended(self, connection, error)
        finally:
            self._forget()
