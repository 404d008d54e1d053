"""The command: ``python -m bench``."""

import datetime as dt
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import click

from bench import ground, keyring, report
from bench.errors import BenchError
from bench.processes import raise_file_limit
from bench.relays import (
    DIRECTS,
    FORWARD,
    PLAIN,
    REFERENCE,
    RELAYS,
    SLIXMPP,
    Contender,
    Relay,
    has_slixmpp,
    sessions_at_most,
)
from bench.rounds import Bench, Plan, Result
from bench.rows import ROWS, SCENARIOS, Row, Scenario, fitted

RESULTS = Path(__file__).resolve().parent / "results"
QUICK_RELAYS = ("haproxy", "bascule", "bascule-limits")


def choose_relays(names: str | None, *, quick: bool) -> list[Relay]:
    """The relays that take part.

    Args:
        names: As given, separated by commas; None for all that are installed.
        quick: All are then fewer.

    Raises:
        BenchError: One is not known or not installed, or the reference is missing.
    """
    wanted = names.split(",") if names else list(QUICK_RELAYS if quick else RELAYS)
    unknown = [name for name in wanted if name not in RELAYS]
    if unknown:
        raise BenchError(
            f"no relay {', '.join(unknown)}; there are {', '.join(RELAYS)}", os.EX_USAGE
        )
    if REFERENCE.name not in wanted:
        raise BenchError(f"--relays needs {REFERENCE.name}: ratios are to it", os.EX_USAGE)
    chosen = []
    for relay in (RELAYS[name] for name in dict.fromkeys(wanted)):
        if relay.is_installed:
            chosen.append(relay)
            continue
        line = f"{relay.title} is not installed (Debian package {relay.package})"
        if names or relay is REFERENCE:
            raise BenchError(line, os.EX_UNAVAILABLE)
        click.echo(f"bench: {line}: left out", err=True)
    return chosen


def choose_rows(names: tuple[str, ...], *, quick: bool) -> list[Row]:
    """The rows that are wanted: those named, else all, or all of a quick run.

    Raises:
        BenchError: One is not known.
    """
    unknown = [name for name in names if name not in {keyring.NAME, *(row.name for row in ROWS)}]
    if unknown:
        known = ", ".join([*(row.name for row in ROWS), keyring.NAME])
        raise BenchError(f"no row {', '.join(unknown)}; there are {known}", os.EX_USAGE)
    fitting = {scenario.name: _fitting(scenario) for scenario in SCENARIOS}
    usual = {name for name, scenario in fitting.items() if scenario.quick or not quick}
    return [
        row.titled(fitting[row.scenario])
        for row in ROWS
        if (row.name in names if names else row.scenario in usual)
    ]


def _fitting(scenario: Scenario) -> Scenario:
    """The scenario as this machine can run it."""
    return scenario if scenario.forward else fitted(scenario, sessions_at_most())


def _tell_of_fewer(scenarios: Sequence[Scenario]) -> None:
    for wanted in SCENARIOS:
        for scenario in scenarios:
            if scenario.name == wanted.name and scenario.connections < wanted.connections:
                click.echo(
                    f"bench: {scenario.name}: {scenario.connections:,} sessions of "
                    f"{wanted.connections:,}: the limit on descriptors (ulimit -Hn) allows no more",
                    err=True,
                )


def _can_run(scenario: Scenario, chosen: list[Relay]) -> bool:
    if scenario.direct is SLIXMPP and not has_slixmpp():
        click.echo(f"bench: slixmpp is not installed: {scenario.name} left out", err=True)
        return False
    return PLAIN in chosen or not scenario.forward


def write_results(
    results: list[Result],
    rows: list[Row],
    plan: Plan,
    answers: Sequence[keyring.Answers],
) -> str:
    """Writes latest.json and latest.md into `RESULTS`.

    Args:
        results: What the runs brought.
        rows: The rows of the table.
        plan: What was planned.
        answers: How soon the keyring has answered; none if it was not asked.

    Returns:
        The Markdown.
    """
    table = report.summarise(results, rows)
    # A direct client's results are of the same run as the forwarded one's.
    runs = [result for result in results if result.relay not in {each.name for each in DIRECTS}]
    circumstances = report.Circumstances(
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        rounds=plan.rounds,
        seconds=plan.seconds,
        tls=" and ".join(
            sorted({str(result.values["tls"]) for result in results if result.values.get("tls")})
        ),
        forward_tls=_forward_tls(results),
        versions={each.name: each.version() for each in _contenders(results, plan)},
        disturbed=sum(result.is_disturbed for result in runs),
        runs=len(runs),
        failures=[
            f"{result.scenario}, {result.relay}, round {result.round + 1}: {result.failure}"
            for result in results
            if result.failure is not None
        ],
    )
    more = keyring.markdown(answers) if answers else []
    text = report.markdown(table, rows, plan.relays, circumstances, more)
    whole = {
        "circumstances": attrs.asdict(circumstances),
        "machine": report.machine(),
        "table": {
            name: {relay: attrs.asdict(cell) for relay, cell in cells.items()}
            for name, cells in table.items()
        },
        "targets": [attrs.asdict(judgement) for judgement in report.judge(table, rows)],
        "keyring": [attrs.asdict(each) for each in answers],
        "results": [attrs.asdict(result) for result in results],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "latest.md").write_text(text)
    return text


def _contenders(results: list[Result], plan: Plan) -> list[Contender]:
    """The relays, and those in the forward rows if these were run."""
    also = (FORWARD, *DIRECTS)
    return [*plan.relays, *(each for each in also if any(r.relay == each.name for r in results))]


def _forward_tls(results: list[Result]) -> dict[str, str]:
    """What was negotiated with the remote server, by the name of who did, fit to be read."""
    said: dict[str, str] = {}
    for each in (*DIRECTS, FORWARD):
        mine = [result.values for result in results if result.relay == each.name]
        agreed = sorted({str(values["agreed"]) for values in mine if "agreed" in values})
        if agreed:
            start = each.title[0].upper() + each.title[1:]
            said[each.name] = f"{start}: {' or '.join(map(_agreement, agreed))}"
    return said


def _agreement(said: str) -> str:
    tls, _, hellos = said.rpartition(" ")
    return f"{tls} after one ClientHello" if hellos == "1" else f"{tls} after {hellos} ClientHellos"


def _keyring_alone(publish: Path | None) -> None:
    """Asks the keyring only, which takes neither relays nor a load generator."""
    if publish is not None:
        raise BenchError(f"--publish puts a whole table in, not {keyring.NAME} alone", os.EX_USAGE)
    answers = keyring.measure(click.echo)
    click.echo()
    click.echo("\n".join(keyring.markdown(answers)), nl=False)


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), help="Default 5, with --quick 1.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="Of a run; default 0.8, quick 0.5.")
@click.option("--only", "only", multiple=True, metavar="ROW", help="Only this row; repeatable.")
@click.option("--relays", metavar="NAME,…", help=f"Of {', '.join(RELAYS)}; default: all.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    help="Seconds for repeating disturbed runs, in all; default 40, quick 0.",
)
@click.option("--quick", is_flag=True, help="Less than a minute, and rough.")
@click.option(
    "--publish",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also put the table between the markers of this page.",
)
def main(
    *,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    relays: str | None,
    patience: float | None,
    quick: bool,
    publish: Path | None,
) -> None:
    """Measure Bascule beside HAProxy, stunnel and direct clients, and its keyring alone.

    Results go to bench/results/latest.json and latest.md. The exit code is 70 if a relay lost,
    changed or refused anything, whatever the figures are.
    """
    try:
        if only == (keyring.NAME,):
            _keyring_alone(publish)
            return
        chosen = choose_relays(relays, quick=quick)
        rows = choose_rows(only, quick=quick)
        needed = {row.scenario for row in rows}
        plan = Plan(
            relays=chosen,
            scenarios=[
                _fitting(scenario)
                for scenario in SCENARIOS
                if scenario.name in needed and _can_run(scenario, chosen)
            ],
            rounds=rounds or (1 if quick else 5),
            seconds=seconds or (0.5 if quick else 0.8),
            patience=patience if patience is not None else (0 if quick else 40),
        )
        _tell_of_fewer(plan.scenarios)
        if publish is not None:
            report.split_page(publish)
        processors = ground.choose_processors()
        raise_file_limit()
        ground.BUILD.mkdir(exist_ok=True)
        ground.compile_programs()
        certificates, authority = ground.make_certificates(), ground.make_authority()
        bench = Bench(plan, certificates, authority, processors, click.echo)
        results = bench.run()
        answers: list[keyring.Answers] = []
        if keyring.NAME in only or not (only or quick):
            answers = keyring.measure(click.echo)
        text = write_results(results, rows, plan, answers)
        if publish is not None:
            report.publish(publish, text)
    except BenchError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(error.code)
    click.echo()
    click.echo(text, nl=False)
    if any(result.failure is not None for result in results):
        sys.exit(os.EX_SOFTWARE)


if __name__ == "__main__":
    main(prog_name="python -m bench")
