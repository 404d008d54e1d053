"""The report of a probe as JSON: the manual page says what stands where."""

from datetime import datetime
from typing import Any

from proxy.daemon.probe.certificates import Identities, Link, Shown
from proxy.daemon.probe.memory import Kept, Memory
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
from proxy.daemon.probe.rehearsal import Decision, Site
from proxy.net.posh import PoshError
from proxy.net.probed import Handshake
from proxy.session.kinds import Kind
from proxy.trust.dane.matching import Failed, Proved, Unusable
from proxy.trust.dane.matching import Outcome as RecordsOutcome
from proxy.trust.dane.records import TLSA
from proxy.trust.policy import Level
from proxy.trust.verdict import UntrustedError, Verdict
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
        "dnssec_believed": report.wanted.believed,
        "posh": None if report.site is None else _site(report.site),
        "keyring": None if report.memory is None else _memory(report.memory),
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
        "posh": policy.posh,
        "crl_files": [str(file) for file in policy.crl_files],
        "on_change": policy.on_change.value if policy.level is Level.KEYRING else None,
        "approval_timeout": policy.approval_timeout if policy.level is Level.KEYRING else None,
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
        **_vouched(judged),
        "addresses": [_address(report.wanted.kind, each) for each in judged.addresses],
    }


def _vouched(judged: JudgedTarget) -> dict[str, Any]:
    """Return what DNSSEC says of a target, as members of its object."""
    claims = judged.vouched.claims
    known = claims is not None and judged.vouched.secure
    return {
        "dnssec": None if claims is None else judged.target.secure,
        "tlsa": [_record(each) for each in claims.records] if known and claims else None,
        "tlsa_problem": _text(judged.vouched.problem),
        "passed_over": bool(judged.barred),
    }


def _record(record: TLSA) -> dict[str, Any]:
    return {
        "usage": record.usage,
        "selector": record.selector,
        "matching": record.matching,
        "data": record.data.hex(),
        "usable": record.usable,
    }


def _site(site: Site) -> dict[str, Any]:
    found = None if isinstance(site, PoshError) else site.document
    return {
        "fingerprints": None if found is None else len(found.fingerprints),
        "seconds": None if found is None else found.seconds,
        "problem": _text(str(site)) if isinstance(site, PoshError) else None,
    }


def _memory(memory: Memory) -> dict[str, Any]:
    known = not memory.problem
    return {
        "file": printable(str(memory.file)),
        "exists": memory.exists if known else None,
        "certificates": len(memory.entries) if known else None,
        "tls_since": _moment(memory.seen.tls_since),
        "dane_since": _moment(memory.seen.dane_since),
        "problem": _text(memory.problem),
    }


def _address(kind: Kind, judged: Judged) -> dict[str, Any]:
    attempt = judged.attempt
    tls = None
    if attempt.handshake is not None and judged.shown is not None and judged.decision is not None:
        tls = _tls(attempt.handshake, judged.shown, judged.decision)
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


def _tls(handshake: Handshake, shown: Shown, decision: Decision) -> dict[str, Any]:
    facts, verdict = handshake.facts, decision.verdict
    return {
        "seconds": _seconds(handshake.seconds),
        "version": facts.version,
        "cipher": facts.cipher,
        "group": _text(facts.group),
        "alpn": _text(facts.protocol),
        "chain_length": shown.length,
        "chain": [_link(link) for link in shown.chain],
        "identities": _identities(shown.identities),
        "fingerprint": shown.fingerprint,
        "pin": shown.pin,
        "tlsa_record": shown.tlsa,
        "by_tlsa": _by_tlsa(decision.records),
        "by_posh": _by_site(decision.site),
        "by_keyring": None if decision.kept is None else _kept(decision.kept),
        "status": verdict.status.value,
        "matched": _text(verdict.identity),
        "problem": _text(verdict.problem),
    }


def _by_tlsa(records: RecordsOutcome | None) -> dict[str, Any] | None:
    match records:
        case Proved(identity=identity):
            return {"proved": True, "matched": _text(identity), "problem": None}
        case Failed(problem=problem):
            return {"proved": False, "matched": None, "problem": _text(problem)}
        case Unusable():
            return {"proved": False, "matched": None, "problem": "no record can be used"}
    return None


def _by_site(site: Verdict | UntrustedError | None) -> dict[str, Any] | None:
    if site is None:
        return None
    if isinstance(site, Verdict):
        return {"proved": True, "matched": _text(site.identity), "problem": None}
    return {"proved": False, "matched": None, "problem": _text(str(site))}


def _kept(kept: Kept) -> dict[str, Any]:
    return {"standing": kept.standing.value, "id": kept.id or None, "text": _text(kept.text)}


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
