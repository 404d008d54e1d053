"""Runs a probe: asks, connects, judges, and prints what came of it."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.daemon.exits import Exit
from proxy.daemon.forwarding import ForwardRules, Remote
from proxy.daemon.model import FORWARD, Conf, Deadlines
from proxy.daemon.probe.outcome import (
    Carried,
    Course,
    JudgedTarget,
    Report,
    Serving,
    Wanted,
    course,
    judged,
    outcome,
)
from proxy.daemon.probe.printing import print_report
from proxy.daemon.probe.structure import structure
from proxy.daemon.remote import Resolver as ResolverConf
from proxy.net.probe import Prober, Terms
from proxy.net.resolver import LookupFailedError
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.net.tcp import is_ours
from proxy.net.tls import TLSSetupError
from proxy.session.options import one_line
from proxy.session.rules import TLSRule
from proxy.trust.policy import Level

NOT_CARRIED: Final = 1
"""The exit code when a client would not be carried to the domain's server."""

DEFAULTS: Final = Conf(
    plugins=(),
    deadlines=Deadlines(),
    domains=(),
    listeners=(),
    policies=(),
    dns=ResolverConf(()),
)
"""What holds without a conf: every domain must prove itself, and the system's DNS is asked."""


async def examine(
    conf: Conf, file: Path | None, remote: Remote, domain: str, reactor: Any
) -> Report:
    """Probe a domain and judge what was found.

    Args:
        conf: the conf.
        file: where it was read; None if it is `DEFAULTS`.
        remote: what that says of remote domains.
        domain: the domain, as A-labels.
        reactor: the reactor.
    """
    policy = remote.ladder.find(domain)
    server = None if policy.server is None else Target(*policy.server, direct=policy.direct_tls)
    request = Request(domain, server=server, private_addresses=policy.private_addresses)
    terms = Terms(
        context=remote.context(domain),
        optional=policy.level in (Level.NONE, Level.MAY),
        seconds=conf.deadlines.connect,
        own=_own(conf),
    )
    wanted = Wanted(domain, policy, default=policy not in conf.policies)
    targets: tuple[JudgedTarget, ...] = ()
    try:
        found = await Prober(reactor, remote.resolver, request, terms).probe()
    except LookupFailedError as error:
        strict = lenient = Course(Carried.NOT, reasons=(str(error),))
    else:
        now = datetime.now(UTC)
        targets = tuple(judged(wanted, probed, now) for probed in found)
        strict, lenient = course(targets), course(targets, report=True)
    forward = [listener for listener in conf.listeners if listener.direction == FORWARD]
    serving = tuple(
        Serving(
            listener.name,
            listener.tls,
            (lenient if listener.tls is TLSRule.REPORT else strict).carried,
        )
        for listener in forward
        if ForwardRules(listener, remote.ladder).serves(domain)
    )
    forbidden = ""
    if file is not None and not serving:
        forbidden = "no forward listener allows it" if forward else "there is no forward listener"
    result = outcome(wanted, strict, lenient, serving, forbidden=forbidden)
    return Report(wanted, file, serving, targets, result)


def _own(conf: Conf) -> Callable[[str, int], bool]:
    """Return what tells whether an IP address and a port are a listener of the conf's."""

    def own(address: str, port: int) -> bool:
        return any(
            listener.address.port == port
            and (
                listener.address.host == address
                or (ip_address(listener.address.host).is_unspecified and is_ours(address))
            )
            for listener in conf.listeners
        )

    return own


def run(conf: Conf | None, file: Path, domain: str, *, as_json: bool) -> int:
    """Probe a domain and print what was found on standard output.

    Args:
        conf: the conf; `DEFAULTS` without one.
        file: where it was read.
        domain: the domain, as A-labels.
        as_json: whether to print JSON, instead of text for people.

    Returns:
        The exit code: 0 if a client would be carried to the domain's server, which meets the
        policy, 1 if not, or one of `Exit`.

    Raises:
        OSError: standard output cannot be written.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    try:
        where = None if conf is None else file.absolute()
        report = _reported(conf or DEFAULTS, where, domain, reactor)
    except TLSSetupError as error:
        click.echo(one_line(f"bascule: {error}"), err=True)
        return Exit.CONFIG
    if report is None:
        return Exit.INTERRUPTED
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # letters that an old locale lacks
    if as_json:
        print(json.dumps(structure(report), indent=2))  # noqa: T201 - the output of the command
    else:
        print_report(report)
    return NOT_CARRIED if report.outcome.carried is Carried.NOT else Exit.OK


def _reported(conf: Conf, file: Path | None, domain: str, reactor: Any) -> Report | None:
    """Run the reactor until there is a report; None if Ctrl-C comes first.

    Raises:
        TLSSetupError: the roots of a policy cannot be read.
    """
    remote = Remote(conf, reactor)
    reports: list[Report | Failure] = []
    stopping: list[bool] = []

    def probe() -> None:
        Deferred.fromCoroutine(examine(conf, file, remote, domain, reactor)).addBoth(done)

    def done(result: Report | Failure) -> None:
        if not stopping:  # else what came of it is that the connections were closed
            reports.append(result)
            reactor.stop()

    reactor.addSystemEventTrigger("before", "shutdown", stopping.append, True)
    reactor.callWhenRunning(probe)
    reactor.run()
    remote.close()
    for result in reports:
        if isinstance(result, Failure):
            result.raiseException()
        else:
            return result
    return None
