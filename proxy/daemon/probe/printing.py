"""The report of a probe for people, who may read it at 80 columns and without colours."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proxy.daemon.printed import printed
from proxy.daemon.probe.certificates import Identities, Link, Shown
from proxy.daemon.probe.outcome import (
    LONGEST_REASON,
    Carried,
    Judged,
    JudgedTarget,
    Report,
    Wanted,
)
from proxy.daemon.probe.rehearsal import Decision
from proxy.daemon.probe.vouching import (
    BAD,
    FAIR,
    GOOD,
    Line,
    of_decision,
    of_key,
    of_policy,
    of_report,
    of_target,
)
from proxy.net.probed import Attempt
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.session.welcome import Proofs
from proxy.trust.policy import Level
from proxy.trust.verdict import Status
from proxy.xmpp.text import printable

WIDTH: Final = 80
"""Columns of output that goes to no terminal."""

NAMES_SHOWN: Final = 8
"""How many identities of each kind are listed."""

_LABEL: Final = 11


def print_report(report: Report) -> None:
    """Print a report on standard output; the outcome comes last, on a line of its own.

    Raises:
        OSError: it cannot be written.
    """
    with printed(WIDTH) as console:
        console.print(Text(report.wanted.domain, "bold"))
        console.print(_grid(_judged_by(report)))
        for number, target in enumerate(report.targets, start=1):
            _print_target(console, number, target, report)
        console.print()
        outcome = report.outcome
        style = GOOD
        if outcome.carried is Carried.NOT:
            by_report = any(each.carried is not Carried.NOT for each in report.listeners)
            style = FAIR if by_report else BAD
        console.print(Text(f"{outcome.text[0].upper()}{outcome.text[1:]}.", style), soft_wrap=True)


def _judged_by(report: Report) -> Iterator[Line]:
    if report.conf is None:
        yield "judged by", Text("the defaults, as there is no configuration")
    else:
        yield "judged by", Text(printable(str(report.conf)))
    yield from _policy(report.wanted)
    yield from of_report(report)
    if report.wanted.kind is Kind.S2S:
        yield "from", _sender(report.wanted)
    for listener in report.listeners:
        enforces = "nothing" if listener.rule is TLSRule.REPORT else "the policy"
        text = f'{printable(listener.name)}, tls = "{listener.rule.value}": enforces {enforces}'
        yield "listener", Text(text, FAIR if listener.rule is TLSRule.REPORT else "")
    if report.conf is not None and not report.listeners:
        peers = report.wanted.kind.peers
        yield "listener", Text(f"no forward listener for {peers} allows this domain", BAD)


def _sender(wanted: Wanted) -> Text:
    if wanted.sender:
        return Text(f"{wanted.sender}, whose certificate is shown")
    return Text("no domain of ours, as there is no [[domain]]; no certificate is shown", FAIR)


def _policy(wanted: Wanted) -> Iterator[Line]:
    policy = wanted.policy
    name = "default" if wanted.default else f'"{policy.domain}"'
    text = f"{name}: {policy.level.value}"
    if policy.level is not Level.NONE:
        text += f", {policy.min_version.value} or later"
    if policy.pins:
        text += f", {len(policy.pins)} pins" if len(policy.pins) > 1 else ", 1 pin"
    if policy.private_addresses:
        text += ", private addresses allowed"
    text += of_policy(policy)
    if wanted.kind is Kind.S2S and policy.level is not Level.NONE:
        text += f', dialback = "{policy.dialback.value}"'
    yield "policy", Text(text)
    if policy.anchors is not None:
        yield "authorities", Text(printable(str(policy.anchors)))


def _print_target(console: Console, number: int, judged: JudgedTarget, report: Report) -> None:
    target, heeded = judged.target, report.wanted.policy.level.heeds_dane
    origin = {
        "srv": f"SRV, priority {target.priority}, weight {target.weight}",
        "fallback": "the domain itself, as it has no SRV records",
        "policy": "set by the policy",
    }[report.source(target)]
    way = "direct TLS" if target.direct else "STARTTLS"
    console.print()
    console.print(Text.assemble((f"{number}. {target}", "bold"), f"  {way} ({origin})"))
    if judged.problem:
        problem = Text(printable(judged.problem, LONGEST_REASON), BAD)
        console.print(Padding(_grid([("problem", problem)]), (0, 0, 0, 3)))
    if lines := list(of_target(judged)):
        console.print(Padding(_grid(lines), (0, 0, 0, 3)))
    for address in judged.addresses:
        console.print(Padding(Text(address.attempt.address, "bold"), (0, 0, 0, 3)))
        lines = list(_address(address, direct=target.direct, heeded=heeded))
        console.print(Padding(_grid(lines), (0, 0, 0, 5)))


def _grid(lines: "Iterator[Line] | list[Line]") -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for label, text in lines:
        table.add_row("" if label == last else label, text)
        last = label
    return table


def _address(judged: Judged, *, direct: bool, heeded: bool) -> Iterator[Line]:
    attempt = judged.attempt
    if attempt.forbidden:
        yield "forbidden", Text(printable(attempt.forbidden), BAD)
        yield from _accepted(judged)
        return
    if attempt.connected is not None:
        yield "connected", Text(f"in {_milliseconds(attempt.connected)}")
        if not direct:
            yield "STARTTLS", _starttls(attempt)
    if attempt.redirection:
        yield "redirects", Text(f"to {printable(attempt.redirection)}, not followed", BAD)
    if attempt.problem:
        detail = f" ({attempt.detail})" if attempt.detail else ""
        yield "problem", Text(printable(attempt.problem + detail, LONGEST_REASON), BAD)
    if attempt.handshake is not None:
        facts = attempt.handshake.facts
        yield "TLS", Text(f"{facts.version}, {facts.cipher}, {facts.group or 'group unknown'}")
        yield "TLS", Text(f"up after {_milliseconds(attempt.handshake.seconds)}")
        yield "ALPN", Text(printable(facts.protocol) or "none")
    if attempt.proofs is not None:
        yield from _proofs(attempt.proofs)
    if judged.shown is not None and judged.decision is not None:
        yield from _shown(judged.shown)
        yield from _decided(judged.shown, judged.decision, heeded=heeded)
    yield from _accepted(judged)


def _proofs(proofs: Proofs) -> Iterator[Line]:
    yield "EXTERNAL", Text("offered") if proofs.external else Text("not offered", FAIR)
    yield "dialback", Text("announced") if proofs.dialback else Text("not announced", FAIR)


def _accepted(judged: Judged) -> Iterator[Line]:
    if judged.carried is not Carried.NOT:
        way = "by TLS" if judged.carried is Carried.BY_TLS else "in plaintext"
        yield "policy", Text(f"accepts it, {way}", GOOD)
    elif judged.attempt.connected is not None:
        yield "policy", Text("does not accept it", BAD)
    if judged.remedy:
        yield "remedy", Text(printable(judged.remedy))


def _starttls(attempt: Attempt) -> Text:
    if attempt.offered is None:
        said = Text("no features came", FAIR)
    else:
        said = Text("offered") if attempt.offered else Text("not offered", FAIR)
    return said.append(", proceeded" if attempt.proceeded else ", did not proceed")


def _shown(shown: Shown) -> Iterator[Line]:
    for number, link in enumerate(shown.chain, start=1):
        label = "certificate" if number == 1 else f"above it {number - 1}"
        yield from ((label, line) for line in _link(link))
    if shown.length > len(shown.chain):
        yield "chain", Text(f"{shown.length} certificates", FAIR)
    if shown.chain:
        yield from (("identities", line) for line in _identities(shown.identities))


def _decided(shown: Shown, decision: Decision, *, heeded: bool) -> Iterator[Line]:
    verdict = decision.verdict
    yield "matched", Text(verdict.identity or "none")
    yield "pin", Text(shown.pin or "none")
    yield from of_key(shown)
    yield from of_decision(shown, decision, heeded=heeded)
    style = {Status.VERIFIED: GOOD, Status.TRUSTED: FAIR}.get(verdict.status, BAD)
    text = Text(verdict.status.value, style)
    yield "verdict", text.append(f": {verdict.problem}") if verdict.problem else text


def _link(link: Link) -> Iterator[Text]:
    unreadable = "(cannot be read)"
    subject = unreadable if link.subject is None else link.subject or "(no subject)"
    issuer = unreadable if link.issuer is None else link.issuer or "(nobody)"
    yield Text(f"{subject}, issued by {issuer}")
    if link.not_before is None or link.not_after is None:
        yield Text("its dates cannot be read", BAD)
        return
    dates = Text(f"{link.not_before:%Y-%m-%d} to {link.not_after:%Y-%m-%d}, ")
    if link.days_until_valid:
        yield dates.append(f"not yet valid: {_days(link.days_until_valid)} to go", BAD)
    elif link.days_left is None or link.days_left < 0:
        yield dates.append("expired", BAD)
    else:
        yield dates.append(f"{_days(link.days_left)} left")


def _days(number: int) -> str:
    return f"{number} day{'s' * (number != 1)}"


def _identities(identities: Identities) -> Iterator[Text]:
    kinds = (
        ("DNS-ID", identities.dns),
        ("SRV-ID", identities.srv),
        ("XmppAddr", identities.xmpp),
    )
    shown = 0
    for kind, names in kinds:
        for name in names[:NAMES_SHOWN]:
            shown += 1
            yield Text(f"{kind} {name}")
    if identities.count > shown:
        yield Text(f"and {identities.count - shown} more")
    if identities.problem or not identities.count:
        yield Text(identities.problem or "none that can be understood", BAD)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
