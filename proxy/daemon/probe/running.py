"""Runs a probe: asks, connects, judges, and prints what came of it."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import attrs
import click
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.daemon.crl_files import read_revocation
from proxy.daemon.exits import Exit
from proxy.daemon.forwarding import Remote
from proxy.daemon.model import FORWARD, Conf, Deadlines
from proxy.daemon.probe.judging import judged
from proxy.daemon.probe.memory import recall
from proxy.daemon.probe.outcome import (
    Carried,
    Course,
    JudgedTarget,
    Report,
    Serving,
    Wanted,
    course,
    outcome,
)
from proxy.daemon.probe.printing import print_report
from proxy.daemon.probe.rehearsal import Site, rehearsing
from proxy.daemon.probe.structure import structure
from proxy.daemon.remote import Resolver as ResolverConf
from proxy.net.name_servers import NameServers
from proxy.net.posh import Posh, PoshError
from proxy.net.probe import Prober, Terms
from proxy.net.resolver import LookupFailedError
from proxy.net.route import Request
from proxy.net.tcp import is_ours
from proxy.net.tls import TLSSetupError, client_context
from proxy.session.kinds import Kind
from proxy.session.options import one_line
from proxy.session.rules import TLSRule
from proxy.trust.keyring.database import KeyringError
from proxy.trust.policy import Level, Policy
from proxy.trust.revocation import RevocationLists

NOT_CARRIED: Final = 1
"""The exit code when one would not be carried to the domain's server."""

DEFAULTS: Final = Conf(
    plugins=(),
    deadlines=Deadlines(),
    domains=(),
    listeners=(),
    policies=(),
    dns=ResolverConf(()),
)
"""What holds without a conf: every domain must prove itself, and the system's DNS is asked."""


@attrs.frozen
class Question:
    """What is asked about a domain.

    Attributes:
        domain: the domain, as A-labels.
        kind: what is wanted of it: streams of clients, or of servers.
        sender: the domain of ours on whose behalf a server asks; None for the conf's first.
    """

    domain: str
    kind: Kind = Kind.C2S
    sender: str | None = None

    def sender_of(self, conf: Conf) -> str:
        """Return the domain of the conf's that asks; empty if clients ask, or if it has none."""
        if self.kind is not Kind.S2S:
            return ""
        names = [domain.name for domain in conf.domains]
        return self.sender or next(iter(names), "")


async def examine(
    conf: Conf, file: Path | None, remote: Remote, question: Question, reactor: Any
) -> Report:
    """Probe a domain and judge what was found.

    Args:
        conf: the conf.
        file: where it was read; None if it is `DEFAULTS`.
        remote: what that says of remote domains.
        question: the domain, and what is wanted of it.
        reactor: the reactor.

    Raises:
        KeyringError: there is no place for a copy of what the keyring says.
        TLSSetupError: the certificate of the domain that asks, or a revocation list, cannot be
            used.
    """
    domain, kind = question.domain, question.kind
    policy = remote.ladder.find(domain)
    wanted = Wanted(
        domain,
        policy,
        default=policy not in conf.policies,
        kind=kind,
        sender=question.sender_of(conf),
        believed=_is_anybody_believed(conf),
    )
    request = Request(
        domain,
        service=kind.service,
        server=wanted.server,
        private_addresses=policy.private_addresses,
    )
    terms = Terms(
        context=_context(conf, remote, wanted),
        optional=policy.level in (Level.NONE, Level.MAY),
        seconds=conf.deadlines.connect,
        own=_own(conf),
        kind=kind,
        sender=wanted.sender,
    )
    revocation = _revocation(policy)
    targets: tuple[JudgedTarget, ...] = ()
    asking = Deferred.fromCoroutine(_said_by_site(remote, wanted, reactor))
    try:
        found = await Prober(reactor, remote.resolver, request, terms).probe()
    except LookupFailedError as error:
        found = ()
        strict = lenient = Course(Carried.NOT, reasons=(str(error),))
    site = await asking
    memory = recall(conf, file, domain, policy, kind)
    if found:
        with rehearsing(reactor, memory, site, datetime.now(UTC), revocation) as rehearsal:
            targets = tuple(judged(wanted, probed, rehearsal) for probed in found)
        strict, lenient = course(targets), course(targets, report=True)
    forward = [
        listener
        for listener in conf.listeners
        if listener.direction == FORWARD and listener.stream is kind
    ]
    serving = tuple(
        Serving(
            listener.name,
            listener.tls,
            (lenient if listener.tls is TLSRule.REPORT else strict).carried,
        )
        for listener in forward
        if listener.leads_to(domain)
    )
    forbidden = ""
    if file is not None and not serving:
        there = f"forward listener for {kind.peers}"
        forbidden = f"no {there} allows it" if forward else f"there is no {there}"
    result = outcome(wanted, strict, lenient, serving, forbidden=forbidden)
    return Report(wanted, file, serving, targets, result, memory, site)


def _is_anybody_believed(conf: Conf) -> bool:
    """Whether anybody who is asked for DNS records is believed about DNSSEC."""
    try:
        return NameServers(conf.dns.servers, conf.dns.validating).believed()
    except LookupFailedError:
        return False


def _revocation(policy: Policy) -> RevocationLists:
    try:
        return read_revocation([policy])
    except ValueError as error:
        raise TLSSetupError(str(error)) from error


async def _said_by_site(remote: Remote, wanted: Wanted, reactor: Any) -> Site | None:
    """Return what the domain's web site says; None if that does not count."""
    if not wanted.policy.posh:
        return None
    context, policy = remote.context, remote.ladder.find
    lists = _revocation(wanted.policy)
    posh = Posh(reactor, remote.resolver, context=context, policy=policy, revocation=lambda: lists)
    try:
        return await posh.fetch(wanted.domain, wanted.kind.service)
    except PoshError as error:
        return error
    finally:
        posh.close()


def _context(conf: Conf, remote: Remote, wanted: Wanted) -> SSL.Context:
    """Return the TLS context for the domain, with the certificate of the domain that asks.

    Raises:
        TLSSetupError: it cannot be used.
    """
    own = [
        files for each in conf.domains if each.name == wanted.sender for files in each.certificates
    ]
    if not own:
        return remote.context(wanted.domain)
    return client_context(wanted.policy, [(each.certificate, each.private_key) for each in own])


def _own(conf: Conf) -> Callable[[str, int], bool]:
    """Return what tells whether an IP address and a port are a listener of the conf's."""

    def own(address: str, port: int) -> bool:
        return any(
            place.port == port
            and (
                place.host == address
                or (ip_address(place.host).is_unspecified and is_ours(address))
            )
            for listener in conf.listeners
            for place in listener.address.endpoints
        )

    return own


def run(conf: Conf | None, file: Path, question: Question, *, as_json: bool) -> int:
    """Probe a domain and print what was found on standard output.

    Args:
        conf: the conf; `DEFAULTS` without one.
        file: where it was read.
        question: the domain, and what is wanted of it.
        as_json: whether to print JSON, instead of text for people.

    Returns:
        The exit code: 0 if one would be carried to the domain's server, which meets the policy, 1
        if not, or one of `Exit`.

    Raises:
        OSError: standard output cannot be written.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    try:
        where = None if conf is None else file.absolute()
        report = _reported(conf or DEFAULTS, where, question, reactor)
    except TLSSetupError as error:
        click.echo(one_line(f"bascule: {error}"), err=True)
        return Exit.CONFIG
    except KeyringError as error:
        click.echo(one_line(f"bascule: {error}"), err=True)
        return Exit.UNAVAILABLE
    if report is None:
        return Exit.INTERRUPTED
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # letters that an old locale lacks
    if as_json:
        print(json.dumps(structure(report), indent=2))  # noqa: T201 - the output of the command
    else:
        print_report(report)
    return NOT_CARRIED if report.outcome.carried is Carried.NOT else Exit.OK


def _reported(conf: Conf, file: Path | None, question: Question, reactor: Any) -> Report | None:
    """Run the reactor until there is a report; None if Ctrl-C comes first.

    Raises:
        KeyringError: there is no place for a copy of what the keyring says.
        TLSSetupError: the roots of a policy, the certificate of the domain that asks, or a
            revocation list, cannot be read.
    """
    # Private keys are for the service alone to read; of them at most the one that is shown is.
    remote = Remote(attrs.evolve(conf, domains=()), reactor)
    reports: list[Report | Failure] = []
    stopping: list[bool] = []

    def probe() -> None:
        Deferred.fromCoroutine(examine(conf, file, remote, question, reactor)).addBoth(done)

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
