"""An alert as it is told: to a command, in a message, in the log."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import attrs

from proxy.trust.keyring.alerts import Alert, Severity

VERSION: Final = 1
"""Of the JSON; names are only ever added to one version."""

LONGEST: Final = 4_096
"""Characters of the text, and of each field."""

DOMAINS_SHOWN: Final = 10
"""How many domains are named where alerts are summed up."""

MOST_DOMAINS: Final = 1_000
"""How many domains are counted."""

MORE: Final = "more"
"""The kind of what sums up alerts that were too many to be told one by one."""

PERIOD: Final = "hour"
"""What such alerts are counted by."""


@attrs.frozen
class Told:
    """One alert, once it has been decided that it is told.

    Attributes:
        time: when.
        kind: what it is about: a value of `proxy.trust.keyring.alerts.Kind`, or `MORE`.
        severity: how soon somebody should look.
        domain: the domain, in A-labels; empty if it is about all.
        stream: the kind of stream; likewise.
        text: what has happened and what to do now, on one line.
        fields: the same for programs, by name.
        count: how often it was met since it was told last; 1 the first time.
    """

    time: datetime
    kind: str
    severity: Severity
    domain: str
    stream: str
    text: str
    fields: Mapping[str, str] = attrs.field(repr=False)
    count: int = 1

    @classmethod
    def of(cls, alert: Alert, time: float, count: int) -> "Told":
        """Return an alert as it is told at ``time``, in seconds since 1970."""
        cut = bounded(alert)
        return cls(
            time=moment(time),
            kind=cut.kind.value,
            severity=cut.severity,
            domain=cut.domain,
            stream=cut.stream,
            text=cut.text,
            fields=cut.fields,
            count=count,
        )

    @classmethod
    def summing_up(cls, severity: Severity, others: "Others", time: float) -> "Told":
        """Return what tells of alerts that were not told one by one.

        Args:
            severity: how soon somebody should look.
            others: those alerts; at least one.
            time: when it is told.
        """
        kinds, domains = others.kinds, others.shown()
        count = sum(kinds.values())
        listed = ", ".join(f"{number} of {kind}" for kind, number in sorted(kinds.items()))
        about = f", about {domains}" if domains else ""
        text = (
            f"{count} more alert{'s' * (count > 1)} within an {PERIOD}, too many to be told one by "
            f"one ({listed}){about}; the log tells of them"
        )
        return cls(moment(time), MORE, severity, "", "", text, others.fields(), count)

    def json(self) -> bytes:
        """Write it as one line of JSON, in ASCII.

        An object of ``version`` (a number, `VERSION`), ``time`` (RFC 3339, UTC), ``kind``,
        ``severity`` (``notice``, ``warning`` or ``critical``), ``domain``, ``stream``, ``text``,
        ``fields`` (an object of texts) and ``count`` (a number).
        """
        content = {
            "version": VERSION,
            "time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}",
            "kind": self.kind,
            "severity": self.severity.value,
            "domain": self.domain,
            "stream": self.stream,
            "text": self.text,
            "fields": dict(self.fields),
            "count": self.count,
        }
        return json.dumps(content).encode("ascii") + b"\n"


@attrs.define
class Others:
    """Alerts that were not told one by one.

    Attributes:
        kinds: how many there were, by kind.
        domains: how many there were, by domain, of at most `MOST_DOMAINS`.
    """

    kinds: Counter[str] = attrs.field(factory=Counter)
    domains: Counter[str] = attrs.field(factory=Counter)

    def add(self, kind: str, domain: str) -> None:
        """Count one."""
        self.kinds[kind] += 1
        if domain and (domain in self.domains or len(self.domains) < MOST_DOMAINS):
            self.domains[domain] += 1

    def shown(self) -> str:
        """Name the domains, those with most alerts first; nothing if they are about none."""
        names = [domain for domain, _ in self.domains.most_common(DOMAINS_SHOWN)]
        left = len(self.domains) - len(names)
        return ", ".join(names) + (f" and {left} more" if left else "")

    def fields(self) -> dict[str, str]:
        """Return the same for programs: the numbers by kind, and ``domains`` if there are any."""
        fields = {kind: str(number) for kind, number in self.kinds.items()}
        return fields | {"domains": self.shown()} if self.domains else fields


def bounded(alert: Alert) -> Alert:
    """Return an alert as much of it as is kept and told."""
    fields = {name: _cut(value) for name, value in alert.fields.items()}
    return attrs.evolve(alert, text=_cut(alert.text), fields=fields)


def moment(time: float) -> datetime:
    """Return ``time``, in seconds since 1970, as a time of day in UTC."""
    return datetime.fromtimestamp(time, UTC)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
