"""The commands that ask a running daemon, over its control socket."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import attrs
import click
from click.core import ParameterSource
from rich.console import Console

from proxy.daemon.control import top as live
from proxy.daemon.control.answering import MOST_TRACED, SERVERS
from proxy.daemon.control.client import PATIENCE, NotAllowedError, NotRunningError, ask
from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import Drained, Reloaded, ServerFacts, SessionFacts, Status, Traced
from proxy.daemon.control.protocol import Code, NotUnderstoodError, RefusedError
from proxy.daemon.control.shown import (
    print_shown,
    servers_shown,
    sessions_shown,
    status_shown,
    traced_line,
)
from proxy.daemon.exits import Exit
from proxy.daemon.files import DEFAULT_PATH
from proxy.daemon.stated import ConfError, stated
from proxy.session.commands import Severity
from proxy.session.options import one_line
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

_EXITS: Final = {
    Code.BAD_REQUEST: os.EX_PROTOCOL,
    Code.NOT_PERMITTED: os.EX_NOPERM,
    Code.NOT_FOUND: os.EX_DATAERR,
    Code.BUSY: os.EX_TEMPFAIL,
    Code.TIMEOUT: os.EX_TEMPFAIL,
    Code.FAULT: Exit.SOFTWARE,
}
UNANSWERED: Final = 1
"""The exit code where a legacy server does not answer as it should."""

_LONGEST_INTERVAL: Final = 60.0
LONGEST_LINE: Final = 4_096
"""Characters of a line that are shown."""

PROBING: Final = 40.0
"""Seconds to wait for what the legacy servers answer, longer than they are waited for."""

RELOADING: Final = 60.0
"""Seconds to wait for a reload: files may be long, and other reloads be under way."""


@attrs.frozen
class _Daemon:
    """The daemon that is asked, by the path of its control socket."""

    path: Path

    def ask(
        self, command: str, *, patience: float | None = PATIENCE, **arguments: object
    ) -> Iterator[Any]:
        """Ask; see `proxy.daemon.control.client.ask`."""
        return ask(self.path, command, arguments, patience=patience)


def _command(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say which daemon, and tell its errors in a line."""

    @click.option(
        "-c",
        "--conf",
        "conf_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_PATH,
        show_default=True,
        metavar="CONF",
        help="The configuration file, for its control_socket.",
    )
    @click.option(
        "--control-socket",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The daemon's control socket, whatever the configuration says.",
    )
    @functools.wraps(command)
    def told(conf_path: Path, control_socket: Path | None, **arguments: Any) -> int:
        source = click.get_current_context().get_parameter_source("conf_path")
        try:
            path = control_socket or _configured(conf_path, source)
            return command(_Daemon(path), **arguments)
        except ConfError as error:
            return _complain(error, Exit.CONFIG)
        except NotRunningError as error:
            return _complain(error, Exit.UNAVAILABLE)
        except NotAllowedError as error:
            return _complain(error, os.EX_NOPERM)
        except NotUnderstoodError as error:
            return _complain(f"the daemon's answer {error}", os.EX_PROTOCOL)
        except RefusedError as error:
            return _complain(error, _EXITS[error.code])

    return told


def _configured(conf_path: Path, source: ParameterSource | None) -> Path:
    return stated(conf_path, "control_socket", needed=source is not ParameterSource.DEFAULT)


def _complain(error: object, code: int) -> int:
    click.echo(one_line(f"bascule: {error}"), err=True)
    return code


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, not text for people.")


@click.command(short_help="Show how the running daemon is doing.")
@click.option("--probe", is_flag=True, help="Also ask the servers behind whether they are there.")
@_as_json
@_command
def status(daemon: _Daemon, *, probe: bool, as_json: bool) -> int:
    """Show how the running daemon is doing: its listeners, sessions, certificates and alerts.

    With --probe each server that a [[domain]] names is sent a stream header, and what it answers is
    shown; nobody logs in. The exit code is 1 if one of them does not answer as it should.
    """
    items = list(daemon.ask("status"))
    if len(items) != 1:
        raise NotUnderstoodError("is no status")
    found = decoded(Status, items[0])
    asked = list(daemon.ask(SERVERS, patience=PROBING)) if probe else []
    servers = [decoded(ServerFacts, item) for item in asked]
    if as_json:
        _print_json({**items[0], "servers": asked} if probe else items[0])
    else:
        print_shown(status_shown(found))
    if probe and not as_json:
        print_shown(servers_shown(servers))
    return Exit.OK if all(each.answered for each in servers) else UNANSWERED


def _a_domain(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        return None if text is None else a_labels(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(short_help="List the sessions of the running daemon.")
@click.option("--listener", metavar="NAME", help="Only those of one listener.")
@click.option(
    "--domain", callback=_a_domain, metavar="DOMAIN", help="Only those to or from one domain."
)
@_as_json
@_command
def sessions(daemon: _Daemon, *, listener: str | None, domain: str | None, as_json: bool) -> int:
    """List the sessions of the running daemon, longest first.

    Of each: its id, listener, state and age, where its client and its server are and what TLS each
    leg has, for which domain it is, and how many bytes came from either.
    """
    items = list(daemon.ask("sessions", listener=listener, domain=domain))
    found = [decoded(SessionFacts, item) for item in items]
    if as_json:
        return _print_json(items)
    if found:
        found.sort(key=lambda session: -session.seconds)
        print_shown(sessions_shown(found))
    else:
        click.echo("no sessions", err=True)
    return Exit.OK


@click.command(short_help="End a session of the running daemon.")
@click.argument("session")
@_command
def kick(daemon: _Daemon, session: str) -> int:
    """End SESSION, given by its id; its client is told that an operator has done so."""
    for _ in daemon.ask("kick", session=session):
        click.echo(f"ended: {printable(session)}")
    return Exit.OK


def _a_network(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> str | None:
    try:
        return None if text is None else str(ip_network(text, strict=False))
    except ValueError as error:
        raise click.BadParameter("neither an IP address nor a network") from error


@click.command(short_help="Follow the negotiation of a session, credentials masked.")
@click.argument("session", required=False)
@click.option("--next", "listener", metavar="LISTENER", help="The next session at a listener.")
@click.option(
    "--from",
    "client",
    callback=_a_network,
    metavar="ADDRESS",
    help="The next session by a client at an IP address, or in a network.",
)
@click.option(
    "--count",
    type=click.IntRange(1, MOST_TRACED),
    default=1,
    show_default=True,
    help="How many sessions to wait for.",
)
@_as_json
@_command
def trace(
    daemon: _Daemon,
    *,
    session: str | None,
    listener: str | None,
    client: str | None,
    count: int,
    as_json: bool,
) -> int:
    """Follow the negotiation of SESSION, or of the next that --next and --from are about.

    Each line has the time, the session, a leg, an arrow (<- received there, -> sent there, -- told
    of it), and one element of the stream. Passwords, tokens and keys are masked, and so is all else
    that is not known to be harmless. It ends with the negotiation, or with Ctrl-C.
    """
    later = bool(listener or client)
    if bool(session) is later:
        text = "name a SESSION, or give --next or --from, for those to come"
        raise click.UsageError(text, click.get_current_context())
    if session and count != 1:
        raise click.UsageError("--count is for sessions to come", click.get_current_context())
    wanted = {"session": session, "listener": listener, "client": client}
    for item in daemon.ask("trace", patience=None, count=None if session else count, **wanted):
        traced = decoded(Traced, item)
        line = json.dumps(item, ensure_ascii=True) if as_json else traced_line(traced)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return Exit.OK


@click.command("log-level", short_help="Show or set the least severity that the log has.")
@click.argument(
    "level",
    metavar="[LEVEL]",
    required=False,
    type=click.Choice([each.value for each in Severity]),
)
@_command
def log_level(daemon: _Daemon, level: str | None) -> int:
    """Show the least severity of what the running daemon logs, or set it to LEVEL until it ends.

    LEVEL is one of: debug, info, warning, error, critical.
    """
    for item in daemon.ask("log-level", level=level):
        found = item.get("level") if isinstance(item, dict) else None
        click.echo(printable(str(found)))
    return Exit.OK


@click.command(short_help="Show the running daemon and its busiest sessions, live.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, _LONGEST_INTERVAL),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to ask; less often where there are very many sessions.",
)
@_command
def top(daemon: _Daemon, interval: float) -> int:
    """Show the running daemon and its busiest sessions, live, until Ctrl-C."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        text = "top needs a terminal; see bascule status and bascule sessions"
        return _complain(text, Exit.USAGE)
    try:
        live.run(daemon.ask, interval, console)
    except KeyboardInterrupt:
        return Exit.OK
    return Exit.OK


@click.command(short_help="Have the running daemon take up its configuration as it now is.")
@_command
def reload(daemon: _Daemon) -> int:
    """Have the running daemon take up its configuration as it now is, all of it or nothing.

    Sessions go on. What has changed is printed. With a mistake in the configuration nothing
    changes: each mistake is printed on a line of its own, and the exit code is 78.
    """
    items = list(daemon.ask("reload", patience=RELOADING))
    if len(items) != 1:
        raise NotUnderstoodError("does not say what came of it")
    reloaded = decoded(Reloaded, items[0])
    warnings = [f"warning: {line}" for line in reloaded.warnings]
    for line in (*reloaded.mistakes, *warnings):
        click.echo(printable(line, LONGEST_LINE), err=True)
    if reloaded.mistakes:
        return Exit.CONFIG
    told = [f"{name}: {value}" for name, value in reloaded.changes.items() if value]
    click.echo(printable(f"reloaded; {'; '.join(told)}", LONGEST_LINE))
    return Exit.OK


def _an_age(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    # What sessions are made of takes long to load, and few have a use for it.
    from proxy.daemon.draining import CERTIFICATE, age  # noqa: PLC0415

    try:
        if text not in {None, CERTIFICATE}:
            age(text or "", datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


@click.command(short_help="End the sessions of the running daemon, and then the daemon.")
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_an_age,
    help="End only sessions of that age: 30m, 12h, 7d, a time, or certificate.",
)
@_command
def drain(daemon: _Daemon, older_than: str | None) -> int:
    """End the sessions of the running daemon one after another, and then the daemon.

    It accepts no more, and clients are told that it shuts down. They are not told at once, lest all
    connect to another one at the same time: [deadlines] drain says over how long.

    With --older-than the daemon goes on, and only sessions that have lasted so long, that began
    before a time (2030-01-31T12:00, in UTC), or that were set up with a certificate which has been
    replaced since ("certificate"), end; their clients are told to connect again.
    """
    for item in daemon.ask("drain", older_than=older_than):
        drained = decoded(Drained, item)
        many = f"{drained.sessions} session{'s' * (drained.sessions != 1)}"
        click.echo(f"{many} will be ended within {drained.seconds:.1f} seconds")
    return Exit.OK


def _print_json(structure: Any) -> int:
    click.echo(json.dumps(structure, indent=2, ensure_ascii=True))
    return Exit.OK


COMMANDS: Final = (status, sessions, kick, trace, log_level, top, reload, drain)
"""All of them, for the command line."""
