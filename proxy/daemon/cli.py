"""The command line: ``bascule run``, ``check``, ``show-config``, ``probe``, ``keyring``, ``demo``.

Exit codes are those of sysexits.h. A fault is told in one line on standard error; ``--debug``, or
``BASCULE_DEBUG=1`` in the environment, adds the traceback of a fault of Bascule's own.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
from click.core import ParameterSource

from proxy.daemon.activation import Activation
from proxy.daemon.check import inspect, summary
from proxy.daemon.conf import load
from proxy.daemon.control.commands import COMMANDS
from proxy.daemon.exits import Exit
from proxy.daemon.files import DEFAULT_PATH, read_documents
from proxy.daemon.keyring_cli import keyring
from proxy.daemon.model import Conf, Finding
from proxy.daemon.show import show
from proxy.net.passed import PassedError, PassedSockets
from proxy.session.kinds import Kind
from proxy.session.options import one_line
from proxy.xmpp.domains import domain as a_labels

_HIGHEST_PORT = 65535


@attrs.define
class _Invocation:
    """What the command line said before the command's name."""

    debug: bool = False


def _conf_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-c",
        "--conf",
        "conf_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_PATH,
        show_default=True,
        metavar="CONF",
        help="The configuration file; conf.d/*.toml beside it are read after it.",
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bascule", prog_name="bascule", message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    envvar="BASCULE_DEBUG",
    help="Show the traceback of a fault of Bascule's own (also BASCULE_DEBUG=1).",
)
@click.pass_obj
def cli(invocation: _Invocation, *, debug: bool) -> None:
    """Bascule gives XMPP servers and clients that know no TLS today's, without touching them.

    A reverse listener stands in front of an old server: it insists on TLS before anything else, and
    passes what follows to the server behind. A forward listener takes in old clients: it carries
    each to the server of its domain, under TLS that is verified. Both together, for streams between
    servers, let an old server federate with the servers of today.

    Start with "bascule demo" for servers, or "bascule probe" for clients of a domain. Then write a
    configuration and try it with "bascule check".
    """
    invocation.debug = debug


@cli.command()
@_conf_option
def run(conf_path: Path) -> int:
    """Run the proxy in the foreground.

    With a mistake in the configuration it does not start: each is printed on a line of its own,
    and the exit code is 78.
    """
    try:
        activation = Activation(PassedSockets.of_process())
    except PassedError as error:
        _complain(str(error))
        return Exit.CONFIG
    report = inspect(conf_path, datetime.now(UTC), activation=activation)
    if report.conf is None:
        _print_findings((*report.mistakes, *report.cautions))
        return Exit.CONFIG
    # The service brings Twisted along, which the other commands do without.
    from proxy.daemon import running  # noqa: PLC0415

    warnings = [Finding.__str__(caution) for caution in report.cautions]
    return running.run(report.conf, warnings, activation, conf_path)


@cli.command(short_help="Report every mistake in the configuration.")
@_conf_option
def check(conf_path: Path) -> int:
    """Report every mistake in the configuration, certificates included.

    Mistakes and warnings go to standard error, one line each: file, key, what is wrong, what is
    allowed. Without a mistake a summary follows on standard output. The exit code is 0, or 78.
    """
    report = inspect(conf_path, datetime.now(UTC))
    _print_findings((*report.mistakes, *report.cautions))
    if report.conf is None:
        return Exit.CONFIG
    click.echo(summary(report.conf, report.certificates, warnings=len(report.cautions)))
    return Exit.OK


@cli.command("show-config", short_help="Print the effective configuration, defaults filled in.")
@_conf_option
def show_config(conf_path: Path) -> int:
    """Print the effective configuration as TOML, defaults filled in.

    What is printed may be loaded again and means the same. Certificates are not looked at.
    """
    loaded = load(conf_path)
    if loaded.conf is None:
        _print_findings(loaded.mistakes)
        return Exit.CONFIG
    click.echo(show(loaded.conf), nl=False)
    return Exit.OK


def _a_domain(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        return a_labels(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _is_absent(path: Path) -> bool:
    """Whether there is certainly no such file: one that cannot be looked at may be there."""
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _is_unset(path: Path) -> bool:
    """Whether there is no configuration, or one that sets nothing, as a package brings it."""
    if _is_absent(path):
        return True
    reading = read_documents(path)
    return not reading.mistakes and not any(each.content for each in reading.documents)


def _a_domain_or_none(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> str | None:
    return None if text is None else _a_domain(context, parameter, text)


def _is_led_to(domain: str, conf: Conf) -> bool:
    """Whether a policy says where the server of a domain is, which may be ours too."""
    return any(
        policy.domain.text == domain and policy.s2s_server is not None for policy in conf.policies
    )


@cli.command(short_help="Show what becomes of clients, or servers, of a domain, and why.")
@click.argument("domain", callback=_a_domain)
@_conf_option
@click.option("--s2s", is_flag=True, help="Ask what becomes of servers instead of clients.")
@click.option(
    "--from",
    "sender",
    callback=_a_domain_or_none,
    metavar="DOMAIN",
    help="With --s2s, the [[domain]] whose server asks; by default the first one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text for people.")
@click.pass_context
def probe(
    context: click.Context,
    domain: str,
    conf_path: Path,
    *,
    s2s: bool,
    sender: str | None,
    as_json: bool,
) -> int:
    """Show whether clients of a forward listener would be carried to the server of DOMAIN.

    With --s2s: whether an old server behind Bascule would be, and how it may prove itself there.

    Every target that DNS or the policy names is connected to at each of its addresses, up to TLS
    and no further, and its certificate judged, as the daemon would. What the configuration says of
    listeners, DNS, policies and deadlines holds; if nothing is set and -c not given, the defaults.

    With --s2s the certificate of the [[domain]] whose server asks is shown, and a stream is opened
    under TLS to see whether SASL EXTERNAL and dialback are on offer; nobody authenticates. DOMAIN
    is then somebody else's.

    The exit code is 0 if a listener allows the domain and a client, or server, would be carried to
    a server that meets its policy; 1 if not, even where a listener with tls = "report" carries it.
    """
    if sender is not None and not s2s:
        raise click.UsageError("--from is for --s2s alone", context)
    conf = None
    chosen = context.get_parameter_source("conf_path") is not ParameterSource.DEFAULT
    if chosen or not _is_unset(conf_path):
        loaded = load(conf_path)
        if loaded.conf is None:
            _print_findings(loaded.mistakes)
            return Exit.CONFIG
        conf = loaded.conf
    ours = () if conf is None else tuple(each.name for each in conf.domains)
    if sender is not None and sender not in ours:
        raise click.UsageError(f"--from: there is no [[domain]] with the name {sender}", context)
    if conf is not None and s2s and domain in ours and not _is_led_to(domain, conf):
        text = (
            f"{domain} is a [[domain]] here, and your server needs no way to itself; to see it as "
            f"others do, run bascule probe {domain} --s2s on another machine"
        )
        raise click.UsageError(text, context)
    # As in run: only this command needs what it brings along.
    from proxy.daemon import probe as probing  # noqa: PLC0415

    question = probing.Question(domain, Kind.S2S if s2s else Kind.C2S, sender)
    return probing.run(conf, conf_path, question, as_json=as_json)


@cli.command()
@click.option("--once", is_flag=True, help="Leave after the first message instead of staying up.")
@click.option(
    "--port",
    type=click.IntRange(0, _HIGHEST_PORT),
    default=0,
    show_default="any free one",
    help="The port the proxy listens on, at 127.0.0.1.",
)
def demo(*, once: bool, port: int) -> int:
    """Show the proxy at work, with everything it needs made up.

    A small plaintext server, a certificate authority, the proxy, and a client that logs in through
    it over TLS and sends a message; what went over each leg is printed side by side. It stays up
    for other clients until Ctrl-C.
    """
    # As in run: only this command needs what it brings along.
    from proxy.daemon import demo as demonstration  # noqa: PLC0415

    return demonstration.run(once=once, port=port)


cli.add_command(keyring)


for _command in COMMANDS:
    cli.add_command(_command)


def _print_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        click.echo(str(finding), err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the command's name; those of this process when left out.

    Returns:
        The exit code, one of `Exit` or what a command's own work ended with.
    """
    invocation = _Invocation()
    if sys.stdout is None:
        sys.stdout = _unwritable()
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        with cli.make_context("bascule", words, obj=invocation) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except click.ClickException as error:
        _explain(error)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _give_up_lost_output()  # nobody reads on
        return Exit.IO
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback for users
        if isinstance(error, OSError) and error.filename is None:
            # Whatever fails while a file is read names that file; what is left is output.
            _give_up_lost_output()
            _complain(f"output cannot be written: {error.strerror}")
            return Exit.IO
        if invocation.debug:
            traceback.print_exc()
        _complain(f"internal fault: {type(error).__name__}: {error}")
        return Exit.SOFTWARE
    return code if isinstance(code, int) else Exit.OK


def _unwritable() -> TextIO:
    """Stand in for standard output that was closed: what is written fails, as it would there.

    Its descriptor also keeps a socket from becoming standard output.
    """
    return os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")


def _give_up_lost_output() -> None:
    """Let what is buffered and cannot be written go nowhere: Python would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explain(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
    else:
        path = context.command_path if context is not None else "bascule"
        _complain(f"{error.format_message()} (see {path} --help)")


def _complain(text: str) -> None:
    with suppress(OSError):  # the exit code remains
        click.echo(one_line(f"bascule: {text}"), err=True)
