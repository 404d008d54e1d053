"""What a daemon has told, shown to people. What peers have said is escaped before it gets here."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.daemon.control.facts import (
    TLS,
    AlertRow,
    CertificateRow,
    ListenerFacts,
    ServerFacts,
    SessionFacts,
    State,
    Status,
    Traced,
    WorkerFacts,
    WorkerState,
)
from proxy.daemon.printed import printed
from proxy.session.options import one_line
from proxy.xmpp.text import printable

WIDTH: Final = 120
"""Columns of output that goes to no terminal."""

SOON: Final = 21
"""Days before its end from which a certificate is called to mind."""

_LABEL: Final = 12
_GOOD: Final = "green"
_BAD: Final = "red"
_FAIR: Final = "yellow"
_SEVERITIES: Final = {"critical": _BAD, "warning": _FAIR}
_STATES: Final = {WorkerState.RUNNING.value: _GOOD, WorkerState.SILENT.value: _BAD}
_KILO: Final = 1_000
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400


def print_shown(shown: RenderableType) -> None:
    """Print something on standard output.

    Raises:
        OSError: it cannot be written.
    """
    with printed(WIDTH) as console:
        console.print(shown)


def status_shown(status: Status) -> RenderableType:
    """Return how a daemon is doing."""
    return Group(*_status(status))


def _status(status: Status) -> Iterator[RenderableType]:
    yield _grid(_head(status))
    yield Text()
    yield _listeners(status.listeners)
    if status.workers:
        yield Text()
        yield _workers(status.workers)
    if status.certificates:
        yield Text()
        yield _certificates(status.certificates)
    if status.alerts:
        yield Text()
        yield _alerts(status.alerts)


def _head(status: Status) -> Iterator[tuple[str, Text]]:
    yield "bascule", Text(f"{printable(status.version)}, process {status.pid}")
    yield "up", Text(f"{duration(status.seconds)}, since {_time(status.started)}")
    yield "sessions", Text(counted(status.sessions))
    if status.pending is not None:
        text = Text("no certificate waits for a decision")
        if status.pending:
            noun = "certificate waits" if status.pending == 1 else "certificates wait"
            told = f'{status.pending} {noun} for a decision: "bascule keyring pending"'
            text = Text(told, _FAIR)
        yield "keyring", text


def counted(sessions: dict[str, int]) -> str:
    """Return in words how many sessions there are, and how far they have come."""
    words = [state.value for state in State]
    words += sorted(sessions.keys() - set(words))
    each = [f"{sessions[word]} {printable(word)}" for word in words if sessions.get(word)]
    total = str(sum(sessions.values()))
    return f"{total}: {', '.join(each)}" if each else total


def _listeners(listeners: Iterable[ListenerFacts]) -> Table:
    grid = _table("LISTENER", "DIRECTION", "STREAM", "ADDRESS", "TLS", "SESSIONS")
    for each in listeners:
        words = (each.name, each.direction, each.stream, each.address, each.tls)
        grid.add_row(*map(_text, words), str(each.sessions))
    return grid


def _workers(workers: Iterable[WorkerFacts]) -> Table:
    grid = _table("WORKER", "PROCESS", "STATE", "SINCE", "RESTARTS", "SESSIONS")
    for each in workers:
        since = "" if each.started is None else _time(each.started)
        grid.add_row(
            str(each.number),
            _or_nothing(each.pid),
            _standing(each),
            since,
            str(each.restarts),
            _or_nothing(each.sessions),
        )
    return grid


def _or_nothing(number: int | None) -> str:
    return "" if number is None else str(number)


def _standing(worker: WorkerFacts) -> Text:
    """Return how a worker is."""
    state = printable(worker.state)
    if worker.state == WorkerState.SILENT.value:
        state = "does not answer"
    elif worker.seconds is not None:
        state = f"starts again in {worker.seconds:.1f} s"
    return Text(state, _STATES.get(worker.state, _FAIR))


def _certificates(certificates: Iterable[CertificateRow]) -> Table:
    grid = _table("CERTIFICATE", "KEY", "ENDS", "LEFT", "FILE")
    for each in certificates:
        left = Text("expired", _BAD)
        if each.days_left is not None:
            days = f"{each.days_left} day{'s' * (each.days_left != 1)}"
            left = Text(days, _FAIR if each.days_left <= SOON else "")
        ends = _text(each.not_after.partition("T")[0])
        grid.add_row(_text(each.domain), _text(each.kind), ends, left, Text(one_line(each.file)))
    return grid


def _alerts(alerts: Iterable[AlertRow]) -> Table:
    grid = _table("ALERT", "SEVERITY", "TIMES", "TEXT")
    for each in alerts:
        severity = Text(printable(each.severity), _SEVERITIES.get(each.severity, ""))
        # The daemon has made the text fit to be shown; it may have escapes in it.
        text = Text(one_line(each.text))
        grid.add_row(Text(_time(each.time)), severity, str(each.count), text)
    return grid


def servers_shown(servers: Sequence[ServerFacts]) -> RenderableType:
    """Return what came of asking the servers behind."""
    if not servers:
        return Text("\nno [[domain]] names a server that could be asked")
    grid = _table("SERVER OF", "STREAM", "ADDRESS", "ANSWER")
    for each in servers:
        words = map(_text, (each.domain, each.stream, each.server))
        grid.add_row(*words, Text(_answer(each), _GOOD if each.answered else _BAD))
    return Group(Text(), grid)


def _answer(server: ServerFacts) -> str:
    """Return what a server has answered; what is wrong is fit to be shown already."""
    words = []
    if server.seconds is not None:
        words.append(f"in {server.seconds * 1000:.0f} ms")
    if server.version is not None:
        words.append(f"XMPP {printable(server.version)}")
        words.append("with features" if server.features else "without features")
    if server.problem:
        words.append(one_line(server.problem))
    return ", ".join(words)


def sessions_shown(sessions: Iterable[SessionFacts]) -> Table:
    """Return sessions as a table, two lines for each: of the client, and of the server."""
    grid = _table("SESSION", "STATE", "CLIENT, ITS TLS", "FOR", "SERVER, ITS TLS", "BYTES")
    for each in sessions:
        grid.add_row(
            f"{printable(each.id)}\n{printable(each.listener)}",
            f"{printable(each.state)}\n{duration(each.seconds)}",
            f"{printable(each.client)}\n{tls_words(each.client_tls)}",
            for_words(each),
            ""
            if each.server is None
            else f"{printable(each.server)}\n{tls_words(each.server_tls)}",
            f"{octets(each.from_client)} up\n{octets(each.from_server)} down",
        )
    return grid


def for_words(session: SessionFacts) -> str:
    """Return for which domain a session is, and between servers which one it comes from."""
    domain = printable(session.domain or "")
    return f"{domain}\nfrom {printable(session.origin)}" if session.origin else domain


def tls_words(tls: TLS | None) -> str:
    """Return what matters most of a leg's TLS."""
    if tls is None:
        return "plaintext"
    return printable(f"{tls.version} {tls.group or tls.cipher}{', resumed' * tls.resumed}")


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    whole = int(seconds)
    days, hours = whole // _DAY, whole % _DAY // _HOUR
    minutes, rest = whole % _HOUR // _MINUTE, whole % _MINUTE
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def octets(number: float) -> str:
    """Return a number of bytes with the decimal prefix that fits."""
    if number < _KILO:
        return f"{number:.0f} B"
    for prefix in "kM":
        number /= _KILO
        if number < _KILO:
            return f"{number:.1f} {prefix}B"
    return f"{number / _KILO:.1f} GB"


def traced_line(traced: Traced) -> str:
    """Return what happened in a traced session, on one line.

    The text is fit to be shown already; its escapes are not escaped again.
    """
    arrow = {"received": "<-", "sent": "->"}.get(traced.way, "--")
    clock = traced.time.partition("T")[2].partition("+")[0]
    return one_line(f"{clock} {traced.session} {traced.leg:<6} {arrow} {traced.text}")


def _grid(lines: Iterable[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines:
        table.add_row(label, text)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _text(text: str) -> Text:
    return Text(printable(text))


def _time(written: str) -> str:
    try:
        return f"{datetime.fromisoformat(written):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return printable(written)
