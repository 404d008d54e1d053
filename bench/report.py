"""From results to the published table."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.errors import BenchError
from bench.relays import DIRECT, DIRECTS, FORWARD, REFERENCE, SLIXMPP, Contender
from bench.rounds import Result
from bench.rows import Row

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"

NAMES_SECONDS = 300
"""How long the name server's answers hold (``NAMES_TTL`` of loadgen/names.h)."""


@attrs.frozen
class Cell:
    """One relay's value in one row.

    Attributes:
        median: Of the absolute values.
        ratio: The median of the ratios to the reference within the same round; None for the
            reference itself, and where the reference has no value.
        quartiles: The first and the third quartile of these ratios.
        rounds: How many rounds have counted.
    """

    median: float
    ratio: float | None
    quartiles: tuple[float, float] | None
    rounds: int


Table = dict[str, dict[str, Cell]]
"""Cells by the row's name and the relay's."""


def summarise(results: Sequence[Result], rows: Sequence[Row]) -> Table:
    """Makes the table's cells; a row has those relays that took part in it.

    Rounds in which a relay or the reference was disturbed count only where there are no others.
    """
    table: Table = {}
    for row in rows:
        mine = [
            result
            for result in results
            if result.scenario == row.scenario and row.measure.key in result.values
        ]
        to = row.reference
        reference = _by_round(mine, to, row)
        relays = dict.fromkeys(result.relay for result in mine)
        table[row.name] = {
            relay: _cell(_by_round(mine, relay, row), reference if relay != to else {})
            for relay in relays
        }
    return table


@attrs.frozen
class _Value:
    value: float
    disturbed: bool


def _by_round(results: Sequence[Result], relay: str, row: Row) -> dict[int, _Value]:
    return {
        result.round: _Value(float(result.values[row.measure.key]), result.is_disturbed)
        for result in results
        if result.relay == relay
    }


def _cell(mine: Mapping[int, _Value], reference: Mapping[int, _Value]) -> Cell:
    values = [value.value for value in mine.values() if not value.disturbed]
    values = values or [value.value for value in mine.values()]
    pairs = [(mine[number], reference[number]) for number in mine if number in reference]
    calm = [pair for pair in pairs if not any(value.disturbed for value in pair)]
    ratios = [own.value / other.value for own, other in calm or pairs if other.value]
    ratio = statistics.median(ratios) if ratios else None
    quartiles: tuple[float, float] | None = None
    if len(ratios) > 1:
        first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
        quartiles = (first, third)
    return Cell(statistics.median(values), ratio, quartiles, len(ratios or values))


@attrs.frozen
class Judgement:
    """A target and what came of it.

    Attributes:
        row: The row.
        relay: The relay's name.
        bound: What was to be reached.
        cell: What was measured.
        met: Whether the median is within the bound.
    """

    row: Row
    relay: str
    bound: float
    cell: Cell
    met: bool


def judge(table: Table, rows: Sequence[Row]) -> list[Judgement]:
    """Compares all ratios that have a target with it."""
    return [
        Judgement(row, target.relay, target.bound, cell, row.meets(cell.ratio, target.bound))
        for row in rows
        for target in row.targets
        if (cell := table[row.name].get(target.relay)) is not None and cell.ratio is not None
    ]


@attrs.frozen
class Circumstances:
    """What else belongs to a result.

    Attributes:
        command: The command that made it.
        date: The day, in ISO form.
        rounds: How many rounds.
        seconds: The measured part of each run.
        tls: The TLS version, cipher suite and group of the runs through reverse relays.
        forward_tls: Those of `DIRECTS` and `FORWARD` by name, and how many ClientHellos it took.
        versions: By the relay's name.
        disturbed: How many runs were still disturbed by others after all tries.
        runs: How many runs there were.
        failures: What was lost, changed or refused, one line for each run.
    """

    command: str
    date: str
    rounds: int
    seconds: float
    tls: str
    forward_tls: Mapping[str, str]
    versions: Mapping[str, str]
    disturbed: int
    runs: int
    failures: Sequence[str]


def machine() -> dict[str, Any]:
    """The machine: its processors, kernel and system."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line]
    return {
        "processors": len(models) or None,
        "model": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _targets(table: Table, rows: Sequence[Row], titles: Mapping[str, str]) -> list[str]:
    judgements = judge(table, rows)
    if not judgements:
        return []
    lines = [
        "| measure | relay | target | ratio | to | quartiles | |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in judgements:
        sign = "≥" if each.row.measure.better == "more" else "≤"
        quartiles = each.cell.quartiles
        spread = f"{quartiles[0]:.2f} to {quartiles[1]:.2f}" if quartiles else "one round"
        lines.append(
            f"| {each.row.title} | {titles[each.relay]} | {sign} {each.bound} "
            f"| {each.cell.ratio:.2f} | {titles[each.row.reference]} | {spread} "
            f"| {'met' if each.met else '**missed**'} |"
        )
    return [*lines, ""]


def _medians(
    table: Table, rows: Sequence[Row], reference: Contender, relays: Sequence[Contender]
) -> list[str]:
    """The medians of those rows whose ratios are to one reference."""
    rows = [row for row in rows if row.reference == reference.name and table[row.name]]
    if not rows:
        return []
    lines = [
        f"Medians, with the ratio to {_REFERENCES[reference.name]}:",
        "",
        f"| measure | unit | {' | '.join(relay.title for relay in relays)} |",
        f"|---|---|{'---|' * len(relays)}",
    ]
    for row in rows:
        cells = []
        for relay in relays:
            cell = table[row.name].get(relay.name)
            ratio = "" if cell is None or cell.ratio is None else f" ({cell.ratio:.2f})"
            cells.append("" if cell is None else f"{_number(cell.median)}{ratio}")
        lines.append(f"| {row.title} | {row.measure.unit} | {' | '.join(cells)} |")
    return [*lines, ""]


_REVERSE = """\
Every session first logs in; messages have 200 bytes, and every byte that comes back, or to the \
backend where nothing does, is compared. {tls}. Ratios are medians of the ratios to HAProxy \
(`mode tcp`, `nbthread 1`, a line of log for each connection) in the same round."""

_FORWARD = """\
Time to features: what one client alone waits until it may log in, directly and through *Bascule, \
forward* in turn. Clients and relay are on one processor, the name server and the server on the \
other. *slixmpp* is a library that people use, with the same code both ways, timed from its call \
of `connect` to the first features after TLS. The *C client* does no more than it must and is the \
strictest reference there is; ratios to it have no target. It is timed from its first question to \
DNS, and through the relay from the first byte of its header. The answers of DNS hold for \
{seconds} s: the relay keeps them, a direct client asks each time. For a domain not looked up \
before both have to ask. {agreed}."""

_REFERENCES = {
    REFERENCE.name: REFERENCE.title,
    SLIXMPP.name: "slixmpp that goes directly",
    DIRECT.name: "the C client that goes directly, the strictest reference",
}
"""What the ratios are to, as the tables' headings have it."""


def _introduction(circumstances: Circumstances) -> list[str]:
    first = (
        f"Measured on {circumstances.date} by `{circumstances.command}`: "
        f"{circumstances.seconds:g} s a run, rounds: {circumstances.rounds}, the relays in turn in "
        "each; the relay on one processor, load generator and backend on another."
    )
    if circumstances.tls:
        first = f"{first} {_REVERSE.format(tls=circumstances.tls)}"
    if not circumstances.forward_tls:
        return [first]
    agreed = "; ".join(circumstances.forward_tls.values())
    return [first, "", _FORWARD.format(seconds=NAMES_SECONDS, agreed=agreed)]


def markdown(
    table: Table,
    rows: Sequence[Row],
    relays: Sequence[Contender],
    circumstances: Circumstances,
    more: Sequence[str] = (),
) -> str:
    """The table as it is published, ending with a line feed.

    Args:
        table: What it says.
        rows: Its rows.
        relays: The reverse relays, `REFERENCE` among them.
        circumstances: What else belongs to it.
        more: Lines of what was measured without relays.
    """
    titles = {each.name: each.title for each in (*relays, *DIRECTS, FORWARD)}
    here = machine()
    where = (
        f"Machine: {here['processors']} processors ({here['model']}), Linux {here['kernel']}, "
        f"{here['system']}."
    )
    disturbed = (
        f"{circumstances.disturbed} of {circumstances.runs} runs were disturbed by other "
        "processes, or by the machine's host, and stayed so when repeated; they count only where "
        "there are no others."
    )
    lines = [
        *_introduction(circumstances),
        "",
        *(f"**Failed:** {failure}\n" for failure in circumstances.failures),
        *_targets(table, rows, titles),
        *_medians(table, rows, REFERENCE, relays),
        *(line for each in DIRECTS for line in _medians(table, rows, each, (each, FORWARD))),
        *more,
        where,
        "",
        *(f"- {titles[name]}: {version}" for name, version in circumstances.versions.items()),
        "",
        disturbed,
    ]
    return "\n".join(lines) + "\n"


def publish(path: Path, text: str) -> None:
    """Puts the table between the markers of a page.

    Raises:
        BenchError: The page has no markers.
    """
    before, after = split_page(path)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def split_page(path: Path) -> tuple[str, str]:
    """What stands before and after the markers of a page.

    Raises:
        BenchError: It cannot be read, or does not have both markers, once and in order.
    """
    try:
        page = path.read_text()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise BenchError(f"{path}: the lines {BEGIN} and {END} must be there, once each")
    return page.split(BEGIN)[0], page.split(END)[1]
