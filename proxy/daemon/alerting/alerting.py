"""Alerting: each event is told once, to the log and to an administrator, and nobody is flooded."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from proxy.daemon.alerting.allowance import Allowance
from proxy.daemon.alerting.events import Clock, Events, Met
from proxy.daemon.alerting.hook import Hook
from proxy.daemon.alerting.messenger import Messenger
from proxy.daemon.alerting.table import AlertsTable, account_jid
from proxy.daemon.alerting.told import LONGEST, PERIOD, Others, Told
from proxy.daemon.alerting.ways import Connect
from proxy.daemon.log import Log
from proxy.session import commands
from proxy.trust.keyring.alerts import Alert, Severity

LOGGED_PER_HOUR: Final = 1_000
"""Lines in the log, of critical alerts and of others each."""

LOGGED_OF_ONE: Final = 50
"""How many of those may be about one domain."""

TOLD_OF_ONE: Final = 3
"""How many in an hour an administrator is told about one domain, likewise."""

RECENT: Final = 100
"""Events that are shown, of critical alerts and of others each."""

SEVERITIES: Final = {
    Severity.NOTICE: commands.Severity.INFO,
    Severity.WARNING: commands.Severity.WARNING,
    Severity.CRITICAL: commands.Severity.CRITICAL,
}
"""By severity of an alert: that of its line in the log."""


class _Rank:
    """Alerts that are limited together: no flood of others can displace what is critical.

    Attributes:
        events: which of them are one event.
        lines: how many go to the log.
        hooked: how many go to an administrator.
    """

    def __init__(self, events: Events, lines: Allowance, hooked: Allowance) -> None:
        self.events = events
        self.lines = lines
        self.hooked = hooked


class Alerting:
    """Tells of alerts.

    Args:
        table: the conf.
        log: where to write; None keeps quiet.
        reactor: the reactor.
        connect: finds the way to the server of the account that sends messages.
        clock: the time of day.
        monotonic: a clock that is never set.

    Attributes:
        met: how many alerts came, by kind and severity as they are written.
        told: how many of them were told, and not only counted, likewise.
    """

    def __init__(
        self,
        table: AlertsTable,
        log: Log | None,
        reactor: Any,
        connect: Connect,
        *,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self.met: Counter[tuple[str, str]] = Counter()
        self.told: Counter[tuple[str, str]] = Counter()
        self._log = log
        self._clock = clock
        self._stopping = False
        self._listeners: list[Callable[[Alert], None]] = []
        self._hooks: list[Hook | Messenger] = []
        if table.command:
            self._hooks.append(Hook(table.command, reactor, self._write))
        account = account_jid(table.account)
        if account is not None and table.to:
            self._hooks.append(
                Messenger(
                    account,
                    table.to,
                    password_file=table.password_file,
                    connect=connect,
                    reactor=reactor,
                    report=self._write,
                )
            )

        def rank(severity: Severity) -> _Rank:
            return _Rank(
                Events(table.repeat, clock, monotonic),
                Allowance(
                    LOGGED_PER_HOUR,
                    LOGGED_OF_ONE,
                    reactor,
                    monotonic,
                    partial(self._not_logged, severity),
                ),
                Allowance(
                    table.per_hour,
                    TOLD_OF_ONE,
                    reactor,
                    monotonic,
                    partial(self._summed_up, severity),
                ),
            )

        self._critical, self._other = rank(Severity.CRITICAL), rank(Severity.WARNING)

    def listen(self, listener: Callable[[Alert], None]) -> None:
        """Have every alert passed on at once, those too that are only counted."""
        self._listeners.append(listener)

    def tell(self, alert: Alert) -> None:
        """Tell of an alert, or count it if its event has been told of; nothing is ever raised."""
        try:
            self._tell(alert)
        except Exception as error:  # noqa: BLE001 - a session must not fail because of its alert
            fields = {"error": f"{type(error).__name__}: {error}", "alert": alert.kind.value}
            self._write(commands.Severity.ERROR, "an alert could not be told", fields)

    def recent(self) -> list[Met]:
        """Return the events that were told last, `RECENT` critical and as many others, in order."""
        found = [*self._critical.events.recent(RECENT), *self._other.events.recent(RECENT)]
        return sorted(found, key=lambda met: met.told)

    def stop(self) -> None:
        """End what is under way; the log gets what has not been told."""
        self._stopping = True
        for rank in (self._critical, self._other):
            rank.lines.stop()
            rank.hooked.stop()
        for hook in self._hooks:
            hook.stop()

    def _tell(self, alert: Alert) -> None:
        name = alert.kind.value, alert.severity.value
        self.met[name] += 1
        for listener in self._listeners:
            listener(alert)
        rank = self._critical if alert.severity is Severity.CRITICAL else self._other
        told = rank.events.meet(alert)
        if told is None:
            return
        self.told[name] += 1
        if rank.lines.spend(told.kind, told.domain):
            self._write_line(told)
        if self._hooks and rank.hooked.spend(told.kind, told.domain):
            self._pass_on(told)

    def _write_line(self, told: Told) -> None:
        if self._log is None:
            return
        fields: dict[str, object] = {"alert": told.kind, "domain": told.domain}
        fields |= {"stream": told.stream} | dict(told.fields)
        if told.count > 1:
            fields["count"] = told.count
        self._log.write(SEVERITIES[told.severity], told.text, fields, longest=LONGEST)

    def _pass_on(self, told: Told) -> None:
        for hook in self._hooks:
            hook.tell(told)

    def _summed_up(self, severity: Severity, others: Others) -> None:
        if self._stopping:
            text = "alerts were not passed on, nor summed up: Bascule stops"
            self._write(SEVERITIES[severity], text, {"alert": "more", **others.fields()})
        else:
            self._pass_on(Told.summing_up(severity, others, self._clock()))

    def _not_logged(self, severity: Severity, others: Others) -> None:
        text = f"more alerts within an {PERIOD} than are logged one by one"
        self._write(SEVERITIES[severity], text, {"alert": "more", **others.fields()})

    def _write(self, severity: commands.Severity, text: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.write(severity, text, fields)
