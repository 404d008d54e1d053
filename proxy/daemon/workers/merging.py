"""How one status is made of those of several workers."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from proxy.daemon.alerting.alerting import RECENT
from proxy.daemon.control.facts import AlertRow, CertificateRow, Status, WorkerFacts, WorkerState
from proxy.trust.keyring.alerts import Severity


def sessions_of(statuses: Iterable[Status]) -> dict[str, int]:
    """Return how many sessions there are, by the words of `State`."""
    total: Counter[str] = Counter()
    for status in statuses:
        total.update(status.sessions)
    return dict(total)


def by_listener(statuses: Iterable[Status]) -> Mapping[str, int]:
    """Return how many sessions each listener has, by its name."""
    total: Counter[str] = Counter()
    for status in statuses:
        total.update({listener.name: listener.sessions for listener in status.listeners})
    return total


def presented(statuses: Iterable[Status]) -> tuple[CertificateRow, ...]:
    """Return the certificates that at least one worker presents, one row for each."""
    return tuple(dict.fromkeys(row for status in statuses for row in status.certificates))


def pending(statuses: Iterable[Status]) -> int | None:
    """Return how many certificates wait for a decision: all workers look at the same keyring."""
    counts = [status.pending for status in statuses if status.pending is not None]
    return max(counts, default=None)


def alerts(statuses: Iterable[Status]) -> tuple[AlertRow, ...]:
    """Return the alerts of late, newest first; what several have met is one row.

    There are as many as one process tells of: `RECENT` critical and as many others.
    """
    rows: dict[tuple[str, str], AlertRow] = {}
    for row in (row for status in statuses for row in status.alerts):
        met = rows.get((row.severity, row.text))
        rows[row.severity, row.text] = row if met is None else _met_again(met, row)
    # All times are in UTC and written alike.
    newest = sorted(rows.values(), key=lambda row: row.time, reverse=True)
    ranks = [
        [row for row in newest if _is_critical(row) is rank][:RECENT] for rank in (True, False)
    ]
    return tuple(row for row in newest if any(row in rank for rank in ranks))


def _met_again(one: AlertRow, other: AlertRow) -> AlertRow:
    return attrs.evolve(one, time=max(one.time, other.time), count=one.count + other.count)


def _is_critical(row: AlertRow) -> bool:
    return row.severity == Severity.CRITICAL.value


def workers_of(
    facts: Sequence[WorkerFacts], asked: Collection[int], statuses: Mapping[int, Status]
) -> tuple[WorkerFacts, ...]:
    """Return what is known of the workers.

    Args:
        facts: what is known without asking them.
        asked: the numbers of those that were asked.
        statuses: what they have answered, by number.
    """
    told = []
    for each in facts:
        status = statuses.get(each.number)
        if status is not None:
            told.append(attrs.evolve(each, sessions=sum(status.sessions.values())))
        elif each.state == WorkerState.RUNNING.value and each.number in asked:
            told.append(attrs.evolve(each, state=WorkerState.SILENT.value))
        else:
            told.append(each)
    return tuple(told)
