"""A legacy XMPP server, small enough to read: one domain, a few users, and no TLS at all.

It stands for the servers that Bascule is put in front of. It speaks plaintext to whoever
reaches it, so it listens on the loopback interface only.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IReactorTCP, IReactorTime
from twisted.internet.protocol import ServerFactory

from proxy.daemon.demo import stanzas
from proxy.daemon.demo.accounts import Accounts
from proxy.daemon.demo.connection import Connection
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition
from proxy.xmpp.events import Element
from proxy.xmpp.jids import Jid

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 256


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


Observer = Callable[[Direction, bytes], None]
"""Told of everything that passes on one connection, an element or a stream header at a time."""


class LegacyServer(ServerFactory):
    """The users of one domain, their sessions, and the way of stanzas between them.

    Args:
        accounts: who may log in.
        clock: what deadlines are measured by.

    Attributes:
        observer: watches the connections that are accepted from now on.
    """

    noisy = False

    def __init__(self, accounts: Accounts, clock: IReactorTime) -> None:
        self.accounts = accounts
        self.clock = clock
        self.observer: Observer | None = None
        self._connections: set[Connection] = set()
        self._sessions: dict[str, dict[str, Connection]] = {}

    def listen(self, reactor: IReactorTCP) -> int:
        """Listen on a free port of the loopback interface; return that port.

        Raises:
            CannotListenError: there is none.
        """
        listening = reactor.listenTCP(0, self, interface=LOOPBACK)
        return cast(IPv4Address, listening.getHost()).port

    def buildProtocol(self, addr: IAddress | None) -> Connection | None:  # noqa: ARG002
        """Accept a connection unless there are too many already."""
        if len(self._connections) >= MOST_CONNECTIONS:
            return None
        observer = self.observer
        connection = Connection(
            self,
            received=observer and _towards(observer, Direction.TO_SERVER),
            sent=observer and _towards(observer, Direction.TO_CLIENT),
        )
        self._connections.add(connection)
        return connection

    def lost(self, connection: Connection) -> None:
        """Forget ``connection``; whoever saw its user as available learns that it is gone."""
        self._connections.discard(connection)
        jid = connection.jid
        if jid is None or self._sessions.get(jid.local, {}).get(jid.resource) is not connection:
            return
        del self._sessions[jid.local][jid.resource]
        if connection.presence is not None:
            self._tell_watchers(jid, stanzas.presence(str(jid), "unavailable"))

    def bind(self, connection: Connection, jid: Jid) -> None:
        """Make ``connection`` the one for ``jid``; an older one ends (RFC 6120, 7.7.2.2)."""
        sessions = self._sessions.setdefault(jid.local, {})
        older = sessions.get(jid.resource)
        if older is not None:
            older.fail(Condition.CONFLICT, "the same resource has logged in elsewhere")
        sessions[jid.resource] = connection

    def route(self, sender: Connection, jid: Jid, stanza: Element, recipient: Jid) -> None:
        """Carry ``stanza`` from the session ``jid`` to ``recipient``, a user of this domain."""
        written = stanzas.stamped(stanza, str(jid))
        session = self._sessions.get(recipient.local, {}).get(recipient.resource)
        targets = [] if session is None else [session]
        if not targets and stanza.name != ns.IQ:  # then for any of them (RFC 6121, 8.5.3.2.1)
            targets = list(self._available(recipient.local))
        if not targets:
            sender.refuse(stanza, "service-unavailable")
        for target in targets:
            target.deliver(written)

    def announce(self, connection: Connection, jid: Jid, stanza: Element) -> None:
        """Tell who may know it about a presence without ``to`` (RFC 6121, section 4)."""
        written = stanzas.stamped(stanza, str(jid))
        first = connection.presence is None
        connection.presence = written if stanza.attributes.get("type") is None else None
        self._tell_watchers(jid, written)
        if first and connection.presence is not None:
            for watched in self._watchers(jid):
                if watched is not connection and watched.presence is not None:
                    connection.deliver(watched.presence)

    def _available(self, name: str) -> Iterator[Connection]:
        sessions = self._sessions.get(name, {})
        return (session for session in list(sessions.values()) if session.presence is not None)

    def _watchers(self, jid: Jid) -> Iterator[Connection]:
        for name in (jid.local, *self.accounts.contacts(jid.local)):
            yield from self._available(name)

    def _tell_watchers(self, jid: Jid, written: bytes) -> None:
        for watcher in list(self._watchers(jid)):
            watcher.deliver(written)


def _towards(observer: Observer, direction: Direction) -> Callable[[bytes], None]:
    return lambda data: observer(direction, data)
