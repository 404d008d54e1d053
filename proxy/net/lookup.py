"""One DNS question, put to name servers one after another until one of them answers it.

Nothing waits but the reactor: a question takes a socket and no thread, so that slow name servers
keep nobody else's answer back. Each try is a message with an id of its own, from a port of its own.

The AD bit asks to be told whether the answer is secure (RFC 6840, section 5.7). The DO bit would
have signatures sent as well, which nobody looks at here; and name servers that check nothing
themselves are known to pass on another's AD bit in answer to it.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType
from twisted.internet import interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from proxy.net.connector import Race
from proxy.net.tls import describe

LONGEST_MESSAGE: Final = 8192
"""Octets of an answer that are taken: an answer that says where servers are has no use for more."""

_EACH_SERVER: Final = 1.5  # seconds until the next name server, or the same again, is asked
_FIRST_PAUSE: Final = 0.1  # seconds after all have been asked; each next pause is twice as long
_LONGEST_PAUSE: Final = 2.0
_PAYLOAD: Final = 1232  # octets of UDP that need no fragments anywhere
_DATAGRAMS: Final = 16  # that are looked at in one turn of the reactor

_CLOCK: Final = 0.001  # seconds by which a timer may be early

_NONE_TO_SPARE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Server = tuple[str, int]
"""The address and port of a name server."""

_QUERY_FLAGS: Final = dns.flags.RD | dns.flags.AD
_ANSWERS: Final = frozenset((dns.rcode.NOERROR, dns.rcode.NXDOMAIN))


@attrs.frozen
class Silence:
    """No usable answer in time; there may be one the next time."""

    lasting: ClassVar = False


@attrs.frozen
class Unreachable:
    """A name server cannot be reached.

    Attributes:
        reason: why, in the system's words.
        ours: whether that is for want of sockets or memory here.
        lasting: whether to ask again is in vain.
    """

    reason: str
    ours: bool = False
    lasting: bool = True


@attrs.frozen
class Malformed:
    """An answer that cannot be read, or is too long."""

    lasting: ClassVar = True


@attrs.frozen
class Refused:
    """A response code that is no answer.

    Attributes:
        response: the response.
    """

    response: dns.message.QueryMessage
    lasting: ClassVar = True


Problem = Silence | Unreachable | Malformed | Refused


@attrs.frozen
class Answer:
    """An answer that says NOERROR or NXDOMAIN.

    Attributes:
        response: it, as it came. It may have ``errors``: TLSA records that could not be read.
        chain: where its aliases lead.
        server: who gave it.
    """

    response: dns.message.QueryMessage
    chain: dns.message.ChainingResult
    server: Server


Answered = Callable[[Answer], None]
Failed = Callable[[Sequence[Problem]], None]


class Lookup:
    """A question under way; calls back once, unless it is stopped.

    Each name server has some time to answer, then the next one is asked, and all of them again
    after a pause. One that answers, but not the question, is not asked again. An answer that was
    truncated is fetched by TCP. Messages that do not answer the question are ignored, as anybody
    can send these.

    Args:
        reactor: the reactor.
        servers: the name servers, in the order in which they are asked.
        name: the absolute name that is asked for.
        kind: the type of record.
        answered: gets the answer.
        failed: gets what went wrong with each try, in order.
        seconds: how long all of it may take.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Iterable[Server],
        name: dns.name.Name,
        kind: RdataType,
        *,
        answered: Answered,
        failed: Failed,
        seconds: float,
    ) -> None:
        self._reactor = reactor
        self._servers = list(servers)  # those that are worth asking again
        self._turn = deque(self._servers)
        self._name = name
        self._kind = kind
        self._answered = answered
        self._failed = failed
        self._until = reactor.seconds() + seconds
        self._pause = _FIRST_PAUSE
        self._problems: list[Problem] = []
        self._attempt: _Attempt | None = None
        self._timer: Any = None

    def start(self) -> None:
        """Begin; it may be over when this returns."""
        self._next()

    def stop(self) -> None:
        """Close what is open; nothing is called back any more."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.stop()

    def _next(self) -> None:
        """Go on with the next name server, if there is any, and time."""
        self.stop()
        if not self._servers or self._left() <= _CLOCK:
            self._failed(self._problems)
            return
        if self._turn:
            self._ask(self._turn.popleft())
            return
        self._turn.extend(self._servers)
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        self._wait(pause, self._next)

    def _ask(self, server: Server, *, tcp: bool = False) -> None:
        query = dns.message.make_query(self._name, self._kind, use_edns=0, payload=_PAYLOAD)
        query.flags = _QUERY_FLAGS
        self._wait(_EACH_SERVER, lambda: self._tried(server, Silence()))
        attempt = self._attempt = _Attempt(
            self._reactor, server, query, lambda outcome: self._tried(server, outcome)
        )
        attempt.start(tcp=tcp)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self._reactor.callLater(min(seconds, self._left()), then)

    def _left(self) -> float:
        """Return how many seconds are left."""
        left: float = self._until - self._reactor.seconds()
        return max(left, 0.0)

    def _tried(self, server: Server, outcome: "_Outcome") -> None:
        """Take what came of asking a name server."""
        self.stop()
        if isinstance(outcome, _Truncated):
            self._ask(server, tcp=True)
            return
        problem: Problem
        if isinstance(outcome, dns.message.QueryMessage):
            if outcome.rcode() not in _ANSWERS:
                problem = Refused(outcome)
            elif (chain := _chain(outcome)) is None:
                problem = Malformed()
            else:
                self._answered(Answer(outcome, chain, server))
                return
        else:
            problem = outcome
        self._problems.append(problem)
        if problem.lasting:
            self._servers.remove(server)
        self._next()


@attrs.frozen
class _Truncated:
    """An answer that did not fit into a datagram."""


_Outcome = dns.message.QueryMessage | _Truncated | Silence | Unreachable | Malformed


@implementer(interfaces.IReadDescriptor)
class _Attempt:
    """A query to one name server; calls back once, unless it is stopped."""

    def __init__(
        self,
        reactor: Any,
        server: Server,
        query: dns.message.QueryMessage,
        ended: Callable[[_Outcome], None],
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._query = query
        self._ended = ended
        self._race: Race | None = None
        self._socket: socket.socket | None = None
        self._tcp = False
        self._received = bytearray()  # over TCP, its length before it (RFC 1035, section 4.2.2)

    def start(self, *, tcp: bool) -> None:
        """Send the query, by UDP or TCP; it may have failed when this returns."""
        host, port = self._server
        self._tcp = tcp
        if tcp:
            self._race = Race(self._reactor, [host], port, self._connected, self._not_connected)
            self._race.start()
            return
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # The kernel then takes datagrams from there alone.
            self._socket.connect((host, port))
            self._socket.send(self._query.to_wire())
        except OSError as error:
            self._end(Unreachable(describe(error), ours=error.errno in _NONE_TO_SPARE))
        else:
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Close what is open; nothing is called back any more."""
        race, self._race = self._race, None
        if race is not None:
            race.stop()
        connection, self._socket = self._socket, None
        if connection is not None:
            self._reactor.removeReader(self)
            connection.close()

    def fileno(self) -> int:
        """Return the descriptor; -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted's log calls this."""
        return "lookup"

    def doRead(self) -> None:
        """Take what has come."""
        try:
            if self._tcp:
                self._read_stream()
            else:
                self._read_datagrams()
        except BlockingIOError:
            return
        except OSError as error:
            self._rebuff(error)

    def connectionLost(self, _reason: Failure) -> None:
        """Take the network's word that it leads nowhere, or that the reactor stops."""
        if self._socket is None:
            return
        status = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        status = status or errno.ECONNABORTED
        self._rebuff(OSError(status, os.strerror(status)))

    def _connected(self, connection: socket.socket, _address: str) -> None:
        self._race = None
        self._socket = connection
        wire = self._query.to_wire()
        try:
            # There is room for this: nothing has been sent before.
            connection.send(len(wire).to_bytes(2) + wire)
        except OSError as error:
            self._rebuff(error)
        else:
            self._reactor.addReader(self)

    def _not_connected(self, reason: str) -> None:
        self._race = None
        self._end(Unreachable(reason))

    def _read_datagrams(self) -> None:
        for _ in range(_DATAGRAMS):
            if self._socket is None:
                return
            self._take_datagram(self._socket.recv(LONGEST_MESSAGE))

    def _take_datagram(self, wire: bytes) -> None:
        """Take an answer; whatever else comes has been sent by somebody else."""
        if wire[:2] != self._query.id.to_bytes(2):
            return
        response = self._parsed(wire)
        if response is None or not self._query.is_response(response):
            return
        self._end(_Truncated() if response.flags & dns.flags.TC else response)

    def _read_stream(self) -> None:
        if self._socket is None:
            return
        received = self._socket.recv(2 + LONGEST_MESSAGE - len(self._received))
        if not received:
            self._end(Malformed())
            return
        self._received += received
        if len(self._received) < 2:  # noqa: PLR2004 - the octets of the length
            return
        length = int.from_bytes(self._received[:2])
        if length > LONGEST_MESSAGE:
            self._end(Malformed())
        elif len(self._received) >= 2 + length:
            # What is no answer here is no stranger's message: nothing better will come.
            response = self._parsed(bytes(self._received[2 : 2 + length]))
            usable = response is not None and self._query.is_response(response)
            self._end(response if response is not None and usable else Malformed())

    def _parsed(self, wire: bytes) -> dns.message.QueryMessage | None:
        # A TLSA record whose digest is too short is there, unlike what else cannot be read.
        return _parsed(wire, lenient=self._query.question[0].rdtype == RdataType.TLSA)

    def _rebuff(self, error: OSError) -> None:
        """Take the network's word; anybody can forge it, so that it is worth asking again."""
        self._end(Unreachable(describe(error), lasting=False))

    def _end(self, outcome: _Outcome) -> None:
        self.stop()
        self._ended(outcome)


def _chain(answer: dns.message.QueryMessage) -> dns.message.ChainingResult | None:
    """Return where the aliases in an answer lead; None if nowhere."""
    try:
        return answer.resolve_chaining()
    except dns.exception.DNSException:
        return None


def _parsed(wire: bytes, *, lenient: bool) -> dns.message.QueryMessage | None:
    """Return a message, cut where it says that it is truncated; None if it cannot be read."""
    try:
        message: dns.message.Message = dns.message.from_wire(
            wire, raise_on_truncation=True, continue_on_error=lenient
        )
    except dns.message.Truncated as error:
        message = error.message()  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - what cannot be read is no answer
        return None
    return message if isinstance(message, dns.message.QueryMessage) else None
