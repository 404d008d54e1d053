"""The legacy servers of a configuration, asked on demand, but never more often than they can bear.

Whoever may read metrics may ask, so asking must not become a way to attack the servers.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, succeed

from proxy.daemon.metrics.legacy import Outcome, probe
from proxy.daemon.model import Conf
from proxy.session.hooks import Address
from proxy.session.kinds import Kind

EVERY: Final = 10.0
"""Seconds for which answers hold; who asks meanwhile gets the same ones."""

AT_ONCE: Final = 8
"""How many servers are asked at the same time."""

PATIENCE: Final = 20.0
"""Seconds after which those that have not been asked are not asked any more."""


@attrs.frozen
class Behind:
    """A legacy server, as a domain's table names it.

    Attributes:
        domain: the domain, as A-labels.
        kind: the kind of stream that it accepts there.
        address: where it is.
        tells: whether it expects a header of the PROXY protocol.
    """

    domain: str
    kind: Kind
    address: Address
    tells: bool = False


@attrs.frozen
class Asked:
    """What came of asking one server."""

    server: Behind
    outcome: Outcome


def servers_of(conf: Conf) -> tuple[Behind, ...]:
    """Return the legacy servers of a configuration."""
    return tuple(
        Behind(domain.name, kind, Address(server.host, server.port), domain.tells(kind))
        for domain in conf.domains
        for kind in Kind
        if (server := domain.server(kind)) is not None
    )


def _ask(reactor: Any, server: Behind) -> Deferred[Outcome]:
    address = server.address
    return probe(
        reactor, address.host, address.port, server.domain, server.kind, tells=server.tells
    )


class LegacyServers:
    """Asks servers.

    Args:
        reactor: the reactor.
        servers: which.
        ask: asks one of them; its outcome is never a failure.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[Behind],
        ask: Callable[[Any, Behind], Deferred[Outcome]] = _ask,
    ) -> None:
        self._reactor = reactor
        self._servers = tuple(servers)
        self._ask = ask
        self._left: deque[Behind] = deque()
        self._going: dict[Behind, Deferred[Outcome]] = {}
        self._outcomes: dict[Behind, Outcome] = {}
        self._waiting: list[Deferred[tuple[Asked, ...]]] = []
        self._patience: Any = None
        self._holds: Any = None  # the answers hold until this is called

    def asked(self) -> Deferred[tuple[Asked, ...]]:
        """Return what the servers answer, within little more than `PATIENCE`."""
        if self._holds is not None or not self._servers:
            return succeed(self._found())
        waiting: Deferred[tuple[Asked, ...]] = Deferred()
        self._waiting.append(waiting)
        if self._patience is None:
            self._left.extend(self._servers)
            self._outcomes.clear()
            self._patience = self._reactor.callLater(PATIENCE, self._hurry)
            self._go_on()
        return waiting

    def replace(self, servers: Sequence[Behind]) -> None:
        """Ask others from now on; whoever waits gets what is known of those asked so far."""
        self.stop()
        self._servers = tuple(servers)

    def stop(self) -> None:
        """Ask no more; what is under way is given up."""
        if self._patience is not None:
            self._hurry()
        if self._holds is not None:
            self._holds.cancel()
            self._holds = None

    def _go_on(self) -> None:
        while self._left and len(self._going) < AT_ONCE:
            server = self._left.popleft()
            going = self._going[server] = self._ask(self._reactor, server)
            going.addCallback(self._answered, server)
        if not self._left and not self._going and self._patience is not None:
            self._finish()

    def _answered(self, outcome: Outcome, server: Behind) -> None:
        self._outcomes[server] = outcome
        if self._going.pop(server, None) is not None:
            self._go_on()

    def _hurry(self) -> None:
        """Give up those from which nothing has come."""
        for server in self._left:
            self._outcomes[server] = Outcome("was not asked: others have taken too long")
        self._left.clear()
        for going in list(self._going.values()):
            going.cancel()

    def _finish(self) -> None:
        if self._patience.active():
            self._patience.cancel()
        self._patience = None
        self._holds = self._reactor.callLater(EVERY, self._forget)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._found())

    def _forget(self) -> None:
        self._holds = None

    def _found(self) -> tuple[Asked, ...]:
        return tuple(Asked(server, self._outcomes[server]) for server in self._servers)
