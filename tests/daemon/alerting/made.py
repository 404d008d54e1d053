"""What the tests of alerting share: made-up alerts, a log to read, a reactor to run on."""

import io
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from proxy.daemon.alerting.stream import DeliveryError
from proxy.daemon.alerting.told import Told
from proxy.daemon.alerting.ways import Way
from proxy.daemon.log import Log
from proxy.session import commands
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from proxy.xmpp.jids import Jid

SECONDS = 60.0
"""How long a scenario may take; what must not be waited for lasts longer."""

NOON = 1_700_000_000.0
DOMAIN = "localhost"
ACCOUNT = Jid("bascule", DOMAIN)
ADMIN = Jid("admin", DOMAIN)
PASSWORD = "pässwörd"
T = TypeVar("T")


def alert(
    key: str = "unknown/example.net",
    *,
    kind: Kind = Kind.UNKNOWN,
    severity: Severity = Severity.WARNING,
    text: str = "something is wrong",
    domain: str = "example.net",
    **fields: str,
) -> Alert:
    return Alert(kind, severity, domain, "s2s", text, fields, key)


def told(count: int = 1, **changes: Any) -> Told:
    return attrs.evolve(Told.of(alert(id="a1"), NOON, count), **changes)


@attrs.define
class Reports:
    """What was reported to the log."""

    lines: list[tuple[commands.Severity, str, dict[str, object]]] = attrs.field(factory=list)

    def __call__(
        self, severity: commands.Severity, text: str, fields: Mapping[str, object]
    ) -> None:
        self.lines.append((severity, text, {**fields}))

    @property
    def reasons(self) -> list[str]:
        return [str(fields["reason"]) for _, _, fields in self.lines]


class Times:
    """A reactor's clock, a time of day and a clock that is never set, which go on together."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.set_by = 0.0  # how far the time of day was set

    def clock(self) -> float:
        return NOON + self.reactor.seconds() + self.set_by

    def monotonic(self) -> float:
        return self.reactor.seconds()

    def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)


def nowhere(_domain: str) -> "Deferred[Way]":
    """Find no way."""
    return fail(DeliveryError("no way"))


def memory_log() -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(stream, journal=True), stream


def run(scenario: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario on a reactor of its own, in this thread, with its signal handlers.

    Those from before are back when it is over: else nobody could interrupt the tests any more.
    """
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    reactor = EPollReactor()  # type: ignore[no-untyped-call]
    outcome: list[T | Failure] = []

    def ended(result: T | Failure) -> None:
        outcome.append(result)
        reactor.callLater(0.01, reactor.stop)  # connections that are aborted go in the next round

    def begin() -> None:
        running = Deferred.fromCoroutine(scenario(reactor))
        running.addTimeout(SECONDS, reactor)
        running.addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    for each, handler in before.items():
        signal.signal(each, handler)
    for left in reactor.removeAll():  # type: ignore[no-untyped-call]
        left.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    [result] = outcome
    if isinstance(result, Failure):
        assert result.value is not None
        raise result.value
    return result


async def until(reactor: Any, condition: Callable[[], object]) -> None:
    """Wait for a condition; the scenario's own time bounds it."""
    while not condition():
        await deferLater(reactor, 0.01)
