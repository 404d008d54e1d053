"""What a policy makes of one target that was probed, and of each of its addresses."""

from datetime import datetime
from typing import Final

import attrs

from proxy.daemon.probe.certificates import read
from proxy.daemon.probe.outcome import Carried, Judged, JudgedTarget, Wanted
from proxy.daemon.remote import DIRECT, FIXED
from proxy.net.probed import Attempt, Probed
from proxy.net.targets import Target
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback, Level
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge


def judged(wanted: Wanted, probed: Probed, now: datetime) -> JudgedTarget:
    """Judge the addresses of one target.

    Args:
        wanted: the domain, and how it must prove itself.
        probed: what came of the target.
        now: the time to judge validity by, with a time zone.
    """
    target = probed.target
    addresses = [_judged(wanted, target, attempt, now) for attempt in probed.attempts]
    return JudgedTarget(target, tuple(addresses), probed.problem)


def _judged(wanted: Wanted, target: Target, attempt: Attempt, now: datetime) -> Judged:
    shown = verdict = None
    refusal = ""
    if attempt.handshake is not None:
        shown = read(attempt.handshake.evidence, now)
        verdict, refusal = _verdict(wanted, attempt.handshake.evidence, now)
    carried, reason = _carried(wanted, target, attempt, refusal)
    remedy = _remedy(wanted, target, attempt) if carried is Carried.NOT else ""
    by_report = _by_report(wanted, target, attempt, carried)
    return Judged(attempt, shown, verdict, carried, reason, remedy, by_report)


def _verdict(wanted: Wanted, evidence: Evidence, now: datetime) -> tuple[Verdict, str]:
    """Return the verdict, and why it is a refusal; that is empty if it is none."""
    domain, policy, service = wanted.domain, wanted.policy, f"_{wanted.kind.service}"
    try:
        return judge(domain, service, policy, evidence, now), ""
    except UntrustedError as error:
        text = str(error)
    if policy.level is Level.SECURE:
        # A level that demands no proof tells how far the same server has come.
        lenient = attrs.evolve(policy, level=Level.ENCRYPT)
        return attrs.evolve(judge(domain, service, lenient, evidence, now), problem=text), text
    status = Status.UNTRUSTED if evidence.chain else Status.ANONYMOUS
    return Verdict(status, "", text), text


def _carried(wanted: Wanted, target: Target, attempt: Attempt, refusal: str) -> tuple[Carried, str]:
    """Return how one would be carried there, and why one would not."""
    level = wanted.policy.level
    detail = f" ({attempt.detail})" if attempt.detail else ""
    reason = f"{target} {attempt.problem}{detail}"
    if attempt.connected is None:
        reason = attempt.forbidden or f"{target}: {attempt.problem}"
    elif level is Level.NONE:
        if not target.direct:
            return Carried.IN_PLAINTEXT, ""
        reason = f"{target} speaks TLS only, which the policy rules out"
    elif refusal:
        reason = refusal
    elif attempt.redirection:
        peers = wanted.kind.peers
        reason = f"{target} sends {peers} to {attempt.redirection}, which is not followed here"
    elif attempt.handshake is not None and not attempt.problem:
        if not _lacks_proof(wanted, attempt):
            return Carried.BY_TLS, ""
        reason = f"{target} {_UNPROVED}"
    elif attempt.without_tls and level is Level.MAY and not target.direct:
        if not _lacks_proof(wanted, attempt):
            return Carried.IN_PLAINTEXT, ""
        reason = f"{target} {attempt.problem}{detail}, and so takes no certificate"
    return Carried.NOT, reason


_UNPROVED: Final = "does not take a certificate (SASL EXTERNAL), and dialback is ruled out"


def _lacks_proof(wanted: Wanted, attempt: Attempt) -> bool:
    """Whether a server of ours could not prove its domain there as the policy demands."""
    if wanted.kind is not Kind.S2S or wanted.policy.dialback is Dialback.ALLOW:
        return False
    return attempt.proofs is None or not attempt.proofs.external


def _by_report(wanted: Wanted, target: Target, attempt: Attempt, carried: Carried) -> Carried:
    """Return how a listener would carry one there that refuses nobody for want of TLS."""
    if attempt.connected is None or wanted.policy.level is Level.NONE:
        return carried
    if _lacks_proof(wanted, attempt):
        return Carried.NOT  # which such a listener demands all the same
    # Such a listener does not ask for what is not offered.
    if not target.direct and (attempt.offered is False or attempt.without_tls):
        return Carried.IN_PLAINTEXT
    if attempt.handshake is None or attempt.problem or attempt.redirection:
        return carried
    return Carried.BY_TLS


_SPEECHLESS: Final = ("closed the connection", "does not speak XMPP", "did not get to TLS")
"""How a problem begins that a server may have which waits for a ClientHello."""


def _remedy(wanted: Wanted, target: Target, attempt: Attempt) -> str:
    """Return what in the conf might help; empty if that is not known."""
    fixed = wanted.server is not None
    server, direct = FIXED[wanted.kind], DIRECT[wanted.kind]
    if attempt.own:
        return "" if fixed else f"{_policy_with(wanted, server)} says where it is instead"
    if attempt.forbidden:
        return f"{_policy_with(wanted, 'private_addresses = true')} allows it"
    if not fixed or attempt.connected is None or attempt.handshake is not None:
        return ""
    if target.direct:
        return f"take {direct} out of its policy if the server expects STARTTLS"
    if attempt.offered is None and attempt.problem.startswith(_SPEECHLESS):
        return f"set {direct} = true in its policy if the server expects TLS from the first byte"
    return ""


def _policy_with(wanted: Wanted, option: str) -> str:
    if wanted.policy.domain.text == wanted.domain:
        return f"{option} in its policy"
    return f"a [[policy]] for {wanted.domain} with {option}"
