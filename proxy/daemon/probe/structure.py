"""The report of a probe as JSON: the manual page says what stands where."""

from datetime import datetime
from typing import Any

from proxy.daemon.probe.certificates import Identities, Link, Shown
from proxy.daemon.probe.outcome import (
    LONGEST_REASON,
    Carried,
    Judged,
    JudgedTarget,
    Outcome,
    Report,
    Serving,
    Wanted,
)
from proxy.net.probed import Handshake
from proxy.session.kinds import Kind
from proxy.trust.policy import Level
from proxy.trust.verdict import Verdict
from proxy.xmpp.text import printable


def structure(report: Report) -> dict[str, Any]:
    """Return a report as what JSON knows. Text of peers is escaped, absent values are None.

    Some keys are there only where servers ask: ``from``, the policy's ``dialback``, and what an
    address says of proofs.
    """
    made = {
        "domain": report.wanted.domain,
        "configuration": None if report.conf is None else str(report.conf),
        "policy": _policy(report.wanted),
        "listeners": [_listener(listener) for listener in report.listeners],
        "targets": [_target(report, target) for target in report.targets],
        "outcome": _outcome(report.outcome),
    }
    if report.wanted.kind is Kind.S2S:
        made["from"] = report.wanted.sender or None
    return made


def _listener(listener: Serving) -> dict[str, Any]:
    return {
        "name": listener.name,
        "tls": listener.rule.value,
        "carried": listener.carried is not Carried.NOT,
    }


def _policy(wanted: Wanted) -> dict[str, Any]:
    policy = wanted.policy
    server = None
    if wanted.server is not None:
        server = {"host": wanted.server.host, "port": wanted.server.port}
    made = {
        "domain": policy.domain.text,
        "default": wanted.default,
        "level": policy.level.value,
        "server": server,
        "ca_file": None if policy.anchors is None else str(policy.anchors),
        "pins": sorted(policy.pins),
        "min_version": None if policy.level is Level.NONE else policy.min_version.value,
        "private_addresses": policy.private_addresses,
    }
    if wanted.kind is Kind.S2S:
        made["dialback"] = policy.dialback.value
    return made


def _target(report: Report, judged: JudgedTarget) -> dict[str, Any]:
    target = judged.target
    source = report.source(target)
    return {
        "host": target.host,
        "port": target.port,
        "direct_tls": target.direct,
        "source": source,
        "priority": target.priority if source == "srv" else None,
        "weight": target.weight if source == "srv" else None,
        "problem": _text(judged.problem),
        "addresses": [_address(report.wanted.kind, each) for each in judged.addresses],
    }


def _address(kind: Kind, judged: Judged) -> dict[str, Any]:
    attempt = judged.attempt
    tls = None
    if attempt.handshake is not None and judged.shown is not None and judged.verdict is not None:
        tls = _tls(attempt.handshake, judged.shown, judged.verdict)
    made = {
        "address": attempt.address,
        "forbidden": _text(attempt.forbidden),
        "connect_seconds": _seconds(attempt.connected),
        "starttls_offered": attempt.offered,
        "starttls_proceeded": attempt.proceeded,
        "see_other_host": _text(attempt.redirection),
        "problem": _text(attempt.problem),
        "detail": _text(attempt.detail),
        "tls": tls,
        "accepted": None if judged.carried is Carried.NOT else judged.carried.value,
        "reason": _text(judged.reason),
        "remedy": _text(judged.remedy),
    }
    if kind is Kind.S2S:
        proofs = attempt.proofs
        made["external_offered"] = None if proofs is None else proofs.external
        made["dialback_announced"] = None if proofs is None else proofs.dialback
    return made


def _tls(handshake: Handshake, shown: Shown, verdict: Verdict) -> dict[str, Any]:
    facts = handshake.facts
    return {
        "seconds": _seconds(handshake.seconds),
        "version": facts.version,
        "cipher": facts.cipher,
        "group": _text(facts.group),
        "alpn": _text(facts.protocol),
        "chain_length": shown.length,
        "chain": [_link(link) for link in shown.chain],
        "identities": _identities(shown.identities),
        "pin": shown.pin,
        "status": verdict.status.value,
        "matched": _text(verdict.identity),
        "problem": _text(verdict.problem),
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "subject": link.subject,
        "issuer": link.issuer,
        "days_until_valid": link.days_until_valid,
        "not_before": _moment(link.not_before),
        "not_after": _moment(link.not_after),
        "days_left": link.days_left,
    }


def _identities(identities: Identities) -> dict[str, Any]:
    return {
        "dns": list(identities.dns),
        "srv": list(identities.srv),
        "xmpp": list(identities.xmpp),
        "count": identities.count,
        "problem": _text(identities.problem),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    target = outcome.target
    return {
        "carried": outcome.carried is not Carried.NOT,
        "by": None if outcome.carried is Carried.NOT else outcome.carried.value,
        "host": None if target is None else target.host,
        "port": None if target is None else target.port,
        "address": outcome.address or None,
        "text": outcome.text,
    }


def _text(text: str) -> str | None:
    return printable(text, LONGEST_REASON) if text else None


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
