"""Sessions, sources and configurations as the metrics are told of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from proxy.daemon.metrics.counting import Metrics
from proxy.daemon.metrics.names import Names, Place
from proxy.daemon.metrics.snapshot import Numbers, Snapshot
from proxy.daemon.metrics.sources import Expiring, Live
from proxy.net.summary import Summary
from proxy.session.commands import Severity, Side
from proxy.session.hooks import Address, TLSFacts, TLSRule, View

TLS = TLSFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", "example.com", False, False)
NAMES = Names(
    {"c2s": Place("reverse", "c2s"), "out": Place("forward", "s2s")},
    frozenset({"example.com"}),
    frozenset({"example.net", "*.example.org", "*"}),
)


def view(listener: str = "c2s", *, outward: bool = False, **known: Any) -> View:
    client = Address("192.0.2.1", 5000)
    return View("1", listener, TLSRule.REQUIRED, client, outward=outward).but(**known)


@attrs.define(eq=False)
class Session:
    """A session that is whatever the test says."""

    view: View = attrs.field(factory=view)
    passed: tuple[int, int] = (0, 0)
    stalled: bool = False

    def summary(self, reason: str = "the client closed the stream") -> Summary:
        up, down = self.passed
        return Summary(self.view, 1.0, up, down, reason, Severity.INFO, None)


@attrs.define
class FakeSources:
    going: set[Live] = attrs.field(factory=set)
    expiring: Sequence[Expiring] = ()
    waiting: int = 0
    stalled: Mapping[Side, int] = attrs.field(factory=lambda: dict.fromkeys(Side, 0))
    wrong: Sequence[str] = ()
    fault: Exception | None = None
    asked: int = 0

    def sessions(self) -> Iterable[Live]:
        return self.going

    def certificates(self) -> Iterable[Expiring]:
        self.asked += 1
        return self.expiring

    def pending(self) -> int:
        if self.fault is not None:
            raise self.fault
        return self.waiting

    def stalls(self) -> Mapping[Side, int]:
        return self.stalled

    def troubles(self) -> Sequence[str]:
        return self.wrong


TURN = 0.001


class Turns(Clock):
    """A clock on which what is called at once is called in the next turn, as on a reactor."""

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - as Twisted calls it
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        return super().callLater(max(delay, TURN), callable, *args, **kw)

    def turn(self) -> None:
        self.advance(TURN)


@attrs.define
class Counted:
    """Metrics on a clock that the test turns."""

    sources: FakeSources = attrs.field(factory=FakeSources)
    clock: Turns = attrs.field(factory=Turns)
    metrics: Metrics = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.metrics = Metrics(NAMES, self.sources, self.clock, lambda: 1000.0)

    def snapshot(self) -> Snapshot:
        found: list[Snapshot] = []
        self.metrics.snapshot().addCallback(found.append)
        while not found:
            self.clock.turn()
        return found[0]

    def numbers(self, name: str, *labels: str) -> Numbers | None:
        return self.snapshot().values.get(name, {}).get(labels)

    def value(self, name: str, *labels: str) -> float | None:
        numbers = self.numbers(name, *labels)
        return None if numbers is None else numbers[0]
