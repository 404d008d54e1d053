"""``bascule top``: a daemon and its busiest sessions, live."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.daemon.control.client import NotRunningError
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import SessionFacts, Status, WorkerState
from proxy.daemon.control.protocol import RefusedError
from proxy.daemon.control.shown import counted, duration, octets, tls_words
from proxy.xmpp.text import printable

SHARE: Final = 10
"""Asking takes one of so many parts of the time at most: many sessions take a daemon a while."""

_AROUND: Final = 5
"""Lines of the view that are no sessions."""

Ask = Callable[[str], Iterator[Any]]
"""Asks the daemon, by the name of a command."""


@attrs.frozen
class Sample:
    """A daemon at one moment.

    Attributes:
        at: when, by the monotonic clock.
        status: how it is doing.
        sessions: its sessions by id.
    """

    at: float
    status: Status
    sessions: Mapping[str, SessionFacts]


@attrs.frozen
class Rates:
    """How many bytes came in a second from the client and from the server of a session."""

    up: float
    down: float


def sample(ask: Ask, clock: Callable[[], float] = time.monotonic) -> Sample:
    """Ask a daemon how it is doing.

    Raises:
        Exception: see `proxy.daemon.control.client.ask`.
    """
    (status,) = (decoded(Status, item) for item in ask("status"))
    sessions = [decoded(SessionFacts, item) for item in ask("sessions")]
    return Sample(clock(), status, {each.id: each for each in sessions})


def rates(before: Sample | None, now: Sample) -> dict[str, Rates]:
    """Return the rates of the sessions of ``now``, by id; those of new ones since they began."""
    result = {}
    for each in now.sessions.values():
        earlier = None if before is None else before.sessions.get(each.id)
        if before is None or earlier is None:
            seconds, up, down = each.seconds, each.from_client, each.from_server
        else:
            seconds = now.at - before.at
            up = each.from_client - earlier.from_client
            down = each.from_server - earlier.from_server
        result[each.id] = Rates(max(up, 0) / max(seconds, 1), max(down, 0) / max(seconds, 1))
    return result


def view(before: Sample | None, now: Sample, height: int, trouble: str = "") -> RenderableType:
    """Return the view of a daemon: its state, and as many of its sessions as there is room for.

    Args:
        before: the sample before, with which the new one is compared; None for none.
        now: the new one.
        height: lines of the terminal.
        trouble: why there is nothing newer; empty if there is.
    """
    found = rates(before, now)
    total = Rates(
        sum(each.up for each in found.values()), sum(each.down for each in found.values())
    )
    status = now.status
    head = (
        f"bascule {printable(status.version)}, process {status.pid}, "
        f"up {duration(status.seconds)}   {_per_second(total)}"
    )
    attention = Text(trouble, "red") if trouble else _attention(status)
    sessions = Text(f"sessions {counted(status.sessions)}{_of_workers(status)}")
    return Group(Text(head, "bold"), sessions, attention, _table(now, found, height - _AROUND))


def _of_workers(status: Status) -> str:
    """Return how many sessions each process has, where there are several."""
    each = [f"{worker.number}: {_known(worker.sessions)}" for worker in status.workers]
    return f"   workers {', '.join(each)}" if each else ""


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _attention(status: Status) -> Text:
    words = []
    down = [each for each in status.workers if each.state != WorkerState.RUNNING.value]
    if down:
        words.append(f"{len(down)} of {len(status.workers)} workers not running")
    if status.pending:
        words.append(f"{status.pending} pending in the keyring")
    critical = sum(each.severity == "critical" for each in status.alerts)
    if critical:
        words.append(f"{critical} critical alert{'s' * (critical != 1)}")
    if words:
        words.append('see "bascule status"')
    return Text(", ".join(words), "yellow")


def _table(now: Sample, found: Mapping[str, Rates], room: int) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for heading in ("SESSION", "LISTENER", "STATE", "AGE", "CLIENT", "TLS", "FOR"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for heading in ("UP/s", "DOWN/s"):
        table.add_column(heading, justify="right", no_wrap=True)

    def busy(session: SessionFacts) -> tuple[float, float]:
        rate = found[session.id]
        return -(rate.up + rate.down), session.seconds

    for each in sorted(now.sessions.values(), key=busy)[: max(room, 1)]:
        rate = found[each.id]
        words = (each.id, each.listener, each.state, duration(each.seconds), each.client)
        goal = each.domain if not each.origin else f"{each.origin} > {each.domain or '?'}"
        tls = tls_words(each.client_tls or each.server_tls)
        shown = [*map(printable, words), tls, printable(goal or "")]
        table.add_row(*map(Text, shown), octets(rate.up), octets(rate.down))
    return table


def _per_second(total: Rates) -> str:
    return f"{octets(total.up)}/s up, {octets(total.down)}/s down"


def run(
    ask: Ask,
    interval: float,
    console: Console,
    *,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Show a daemon until ``wait`` or anything else is interrupted.

    Args:
        ask: asks the daemon.
        interval: seconds between two samples, or more where asking takes long.
        console: the terminal.
        wait: waits so many seconds.
        clock: the monotonic clock.

    Raises:
        Exception: see `proxy.daemon.control.client.ask`. Once there is a view, a daemon that does
            not answer is told of there and asked again: it may come back.
    """
    before, now = None, sample(ask, clock)
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(view(before, now, console.height, trouble), refresh=True)
            wait(interval)
            began = clock()
            try:
                before, now, trouble = now, sample(ask, clock), ""
            except (NotRunningError, RefusedError) as error:
                trouble = printable(str(error))
            wait(max(0.0, (SHARE - 1) * (clock() - began) - interval))
