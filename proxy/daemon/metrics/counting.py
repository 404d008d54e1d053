"""What the daemon tells its metrics, and what it gets back: a snapshot of all of them."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from proxy.daemon.control.facts import WorkerState
from proxy.daemon.metrics import families
from proxy.daemon.metrics.cause import Cause, cause_of, cause_of_report
from proxy.daemon.metrics.health import Health
from proxy.daemon.metrics.loop import LoopDelay
from proxy.daemon.metrics.names import Names
from proxy.daemon.metrics.process import Process
from proxy.daemon.metrics.round import STATES, Round, add_passed
from proxy.daemon.metrics.snapshot import Labels, Numbers, Snapshot
from proxy.daemon.metrics.sources import Expiring, Live, Source, Sources
from proxy.daemon.metrics.tally import Tally
from proxy.daemon.model import REVERSE
from proxy.net.summary import Summary
from proxy.session.commands import Report, Side
from proxy.session.hooks import TLSFacts
from proxy.trust.keyring.alerts import Alert, Kind, Severity

SELDOM: Final = 60.0
"""Seconds for which what the certificates are asked for holds: they hardly change."""

_ASKED: Final = ("sessions", "process", "certificates", "keyring", "stalls", "troubles")
"""What is asked for values, as `families.FAULTS` calls it."""

_log = Logger()

Series = dict[Labels, Numbers]


class Metrics:
    """The metrics of one process.

    Its methods are for moments of negotiation and for the end of a session. Nothing here is called
    while a session is relayed.

    Args:
        names: the names that labels may have.
        sources: what is asked for the rest.
        reactor: the reactor.
        clock: the time of day, in seconds since 1970.
    """

    def __init__(
        self, names: Names, sources: Sources, reactor: Any, clock: Callable[[], float] = time.time
    ) -> None:
        self._names = names
        self._sources = sources
        self._reactor = reactor
        self._clock = clock
        self._tally = Tally()
        self._process = Process()
        self._round: Round | None = None
        self._step: Any = None
        self._waiting: list[Deferred[Snapshot]] = []
        self._received: Series = {}
        self._certificates: tuple[float, dict[str, Series]] | None = None
        self.delay: Final = LoopDelay(reactor, self._looped)
        """Looks at the event loop from `start` to `stop`."""
        self._begin_at_nothing()

    def _begin_at_nothing(self) -> None:
        """Show counters before they count: Prometheus takes no notice of a first appearance."""
        for listener in self._names.places:
            self._tally.add(families.STARTED, listener, amount=0)
            self._tally.add(families.TURNED_AWAY, listener, amount=0)
            self._tally.add(families.STALLED, listener, amount=0)
            add_passed(self._tally, listener, (0, 0))
            for state in STATES:
                self._tally.add(families.SESSIONS, listener, state, amount=0)
            for cause in Cause:
                self._tally.add(families.ENDED, listener, cause.value, amount=0)
                if cause.is_refusal:
                    self._tally.add(families.REFUSALS, listener, cause.value, "yes", amount=0)
        for kind in Kind:
            for severity in Severity:
                self._tally.add(families.ALERTS, kind.value, severity.value, amount=0)
        for source in _ASKED:
            self._tally.add(families.FAULTS, source, amount=0)

    def rename(self, names: Names) -> None:
        """Take up the names of another configuration; what was counted stays.

        Sessions may still be those of listeners that are gone, so these are not forgotten.
        """
        self._names = attrs.evolve(names, places={**self._names.places, **names.places})
        self._certificates = None
        self._begin_at_nothing()

    def start(self) -> None:
        """Begin to look at the event loop."""
        self.delay.start()

    def stop(self) -> None:
        """Look no more; snapshots that are under way never come."""
        self.delay.stop()
        if self._step is not None:
            self._step.cancel()
            self._step = self._round = None
        self._waiting.clear()

    # What happens

    def session_opened(self, listener: str) -> None:
        """Count a session that begins on a listener."""
        self._tally.add(families.STARTED, listener)

    def session_closed(self, session: Live, summary: Summary, *, divided: bool = False) -> None:
        """Count a session that has ended.

        Args:
            session: the one of `Sources.sessions` that it was.
            summary: what is known of it.
            divided: whether it was divided by domains: its bytes are those of its branches.
        """
        view = summary.view
        cause = cause_of(summary.reason, outward=view.outward)
        self._tally.add(families.ENDED, view.listener, cause.value)
        if cause.is_refusal:
            self._tally.add(families.REFUSALS, view.listener, cause.value, "yes")
        if not divided:
            add_passed(self._tally, view.listener, (summary.from_client, summary.from_server))
        if self._round is not None:
            self._round.ended(session)

    def turned_away(self, listener: str) -> None:
        """Count a connection that becomes no session."""
        self._tally.add(families.TURNED_AWAY, listener)

    def handshake(self, leg: Side, facts: TLSFacts) -> None:
        """Count a TLS handshake that has succeeded."""
        self._tally.add(
            families.HANDSHAKES,
            leg.value,
            facts.version,
            facts.cipher,
            facts.group or "unknown",
            "resumed" if facts.resumed else "established",
        )

    def handshake_failed(self, leg: Side) -> None:
        """Count a TLS handshake that has failed, so that nothing was agreed on."""
        self._tally.add(families.HANDSHAKES, leg.value, "none", "none", "none", "failed")

    def reported(self, listener: str, report: Report) -> None:
        """Count what a line of the log says was refused without an end of its session."""
        cause = cause_of_report(report.message)
        if cause is not None:
            enforced = "yes" if cause is Cause.DIALBACK else "no"
            self._tally.add(families.REFUSALS, listener, cause.value, enforced)

    def connected(self, listener: str, domain: str, seconds: float | None = None) -> None:
        """Count a connection to the server of a domain.

        Args:
            listener: the listener's name.
            domain: the domain, as A-labels.
            seconds: how long it took; None if nobody has measured.
        """
        place = self._names.places[listener]
        self._attempted(listener, domain, "connected")
        if seconds is not None:
            self._tally.observe(families.CONNECTING, place.direction, place.stream, value=seconds)
        if self._is_own(listener, domain):
            self._tally.put(families.LAST_SUCCESS, place.stream, domain, value=self._clock())
            if seconds is not None:
                self._tally.put(families.LAST_CONNECT, place.stream, domain, value=seconds)

    def unreachable(self, listener: str, domain: str) -> None:
        """Count that the server of a domain (A-labels) could not be connected to."""
        self._attempted(listener, domain, "failed")
        if self._is_own(listener, domain):
            stream = self._names.places[listener].stream
            self._tally.put(families.LAST_FAILURE, stream, domain, value=self._clock())

    def alerted(self, alert: Alert) -> None:
        """Count an alert of the keyring."""
        self._tally.add(families.ALERTS, alert.kind.value, alert.severity.value)

    def _attempted(self, listener: str, domain: str, outcome: str) -> None:
        place = self._names.places[listener]
        name = self._names.domain(place, domain)
        self._tally.add(families.CONNECTIONS, place.direction, place.stream, name, outcome)

    def _is_own(self, listener: str, domain: str) -> bool:
        return self._names.places[listener].direction == REVERSE and domain in self._names.own

    def _looped(self, delay: float) -> None:
        self._tally.observe(families.LOOP_DELAY, value=delay)

    # What is asked for

    def troubles(self) -> Sequence[str]:
        """Return why the process is not ready, in words; nothing if it is."""
        unknown = "it cannot be found out; see the log"
        troubles = list(self._asked("troubles", self._sources.troubles, (unknown,)))
        if self.delay.stuck:
            troubles.append("the event loop was stuck a moment ago")
        return troubles

    def health(self) -> Health:
        """Return how the process is."""
        return Health(self.troubles())

    def snapshot(self) -> Deferred[Snapshot]:
        """Return all values, as they are after some turns of the event loop.

        Whoever asks while one is under way gets the same one.
        """
        waiting: Deferred[Snapshot] = Deferred()
        self._waiting.append(waiting)
        if self._round is None:
            self._round = Round(self._asked("sessions", self._sources.sessions, ()))
            self._step = self._reactor.callLater(0, self._go_on)
        return waiting

    def _go_on(self) -> None:
        self._step = None
        going = self._round
        if going is None:
            return
        if self._asked("sessions", going.step, False):
            self._step = self._reactor.callLater(0, self._go_on)
            return
        self._round = None
        snapshot = self._complete(going)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(snapshot)

    def _complete(self, going: Round) -> Snapshot:
        """Return the values that were counted, and those that are there anyway."""
        there: dict[str, Series] = {}
        there |= self._asked("process", self._process.values, {})
        there |= self._asked("certificates", self._expiring, {})
        there |= self._asked("keyring", self._pending, {})
        there |= self._asked("stalls", self._stalls, {})
        there[families.READY.name] = _single(0 if self.troubles() else 1)
        there[families.WORKERS.name] = {(WorkerState.RUNNING.value,): (1.0,)}
        there[families.RESTARTS.name] = _single(0)
        there[families.BUILD.name] = {_versions(): (1.0,)}
        values = {**self._tally.values(), **there}
        for name, series in going.values().items():
            into = values.setdefault(name, {})
            for labels, (amount,) in series.items():
                into[labels] = (into.get(labels, (0.0,))[0] + amount,)
        self._never_less(values[families.RECEIVED.name])
        return Snapshot(values)

    def _never_less(self, received: Series) -> None:
        """A session that was divided takes some bytes with it; a counter must not go back."""
        for labels, (amount,) in received.items():
            before = self._received.get(labels, (0.0,))[0]
            received[labels] = (max(amount, before),)
        self._received = dict(received)

    def _asked(self, source: str, ask: Callable[[], Any], without: Any) -> Any:
        """Return what a source says; where it fails, what does without it."""
        try:
            return ask()
        except Exception:  # noqa: BLE001 - one value that is missing must not hide the others
            _log.failure("metrics: {source} could not be collected", source=source)
            self._tally.add(families.FAULTS, source)
            return without

    def _pending(self) -> dict[str, Series]:
        return {families.PENDING.name: _single(self._sources.pending())}

    def _stalls(self) -> dict[str, Series]:
        stalls = self._sources.stalls()
        return {families.STALLS.name: {(leg.value,): (float(stalls[leg]),) for leg in Side}}

    def _expiring(self) -> dict[str, Series]:
        now = time.monotonic()
        if self._certificates is None or now - self._certificates[0] >= SELDOM:
            self._certificates = (now, self._look_at_certificates())
        return self._certificates[1]

    def _look_at_certificates(self) -> dict[str, Series]:
        counted = dict.fromkeys(Source, 0)
        expiry: dict[Labels, float] = {}
        for each in self._sources.certificates():
            counted[each.source] += 1
            domain = self._shown(each)
            if domain is not None:
                labels = (each.source.value, domain)
                there = expiry.get(labels, each.not_after)
                # Of ours the first to end hurts; of others' an old one has been replaced.
                first = min if each.source is Source.SERVED else max
                expiry[labels] = first(there, each.not_after)
        return {
            families.CERTIFICATES.name: {
                (source.value,): (float(count),) for source, count in counted.items()
            },
            families.EXPIRY.name: {labels: (end,) for labels, end in expiry.items()},
        }

    def _shown(self, certificate: Expiring) -> str | None:
        if certificate.source is Source.SERVED:
            return certificate.domain
        return self._names.remembered(certificate.domain)


def _single(value: float) -> Series:
    return {(): (float(value),)}


@cache
def _versions() -> Labels:
    """The versions of Bascule, Python, Twisted and OpenSSL, as `families.BUILD` has them."""
    python = ".".join(map(str, sys.version_info[:3]))
    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[1]
    return version("bascule"), python, version("twisted"), openssl
