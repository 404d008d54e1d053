"""What a policy makes of servers that were probed, and of the domain as a whole."""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Final

import attrs

from proxy.daemon.forwarding import SERVICE
from proxy.daemon.probe.certificates import Shown, read
from proxy.net.probe import Attempt, Probed
from proxy.net.targets import Target
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from proxy.xmpp.text import printable

LONGEST_REASON: Final = 400
"""How many characters of one reason are shown."""

MOST_REASONS: Final = 5
"""How many reasons the sentence about the whole domain names."""


class Carried(Enum):
    """How a client would be carried to a server."""

    BY_TLS = "tls"
    IN_PLAINTEXT = "plaintext"
    NOT = "no"


@attrs.frozen
class Judged:
    """One address, judged.

    Attributes:
        attempt: what came of it.
        shown: what the server showed of itself; None without TLS.
        verdict: what the verifier makes of that; None without TLS.
        carried: how a client would be carried there.
        reason: why it would not, not yet fit to be shown; empty if it would.
    """

    attempt: Attempt
    shown: Shown | None
    verdict: Verdict | None
    carried: Carried
    reason: str


@attrs.frozen
class JudgedTarget:
    """One target with its addresses; without any, the problem says why, not yet fit to be shown."""

    target: Target
    addresses: tuple[Judged, ...]
    problem: str


@attrs.frozen
class Outcome:
    """Whether a client of a forward listener would be carried to the domain's server.

    Attributes:
        carried: how.
        target: the target that it would be carried to; None if to none.
        address: its IP address; empty if none.
        text: the same in one sentence, with what speaks against it if it would not.
    """

    carried: Carried
    target: Target | None
    address: str
    text: str


@attrs.frozen
class Report:
    """What came of a probe.

    Attributes:
        domain: the domain, as A-labels.
        policy: how it must prove itself.
        listeners: the forward listeners that let clients reach it, by name.
        excluded: whether there are forward listeners, and none does.
        targets: its targets, in the order in which a session would try them.
        outcome: what a session would come to.
    """

    domain: str
    policy: Policy
    listeners: tuple[str, ...]
    excluded: bool
    targets: tuple[JudgedTarget, ...]
    outcome: Outcome

    def source(self, target: Target) -> str:
        """Return what named a target: ``srv``, ``fallback`` (the domain itself) or ``policy``."""
        if self.policy.server is not None:
            return "policy"
        return "fallback" if target.fallback else "srv"


def judged(domain: str, policy: Policy, probed: Probed, now: datetime) -> JudgedTarget:
    """Judge the addresses of one target.

    Args:
        domain: the domain, as A-labels.
        policy: how it must prove itself.
        probed: what came of the target.
        now: the time to judge validity by, with a time zone.
    """
    target = probed.target
    addresses = [_judged(domain, policy, target, attempt, now) for attempt in probed.attempts]
    return JudgedTarget(target, tuple(addresses), probed.problem)


def _judged(domain: str, policy: Policy, target: Target, attempt: Attempt, now: datetime) -> Judged:
    shown = verdict = None
    refusal = ""
    if attempt.handshake is not None:
        shown = read(attempt.handshake.evidence, now)
        verdict, refusal = _verdict(domain, policy, attempt.handshake.evidence, now)
    carried, reason = _carried(policy, target, attempt, refusal)
    return Judged(attempt, shown, verdict, carried, reason)


def _verdict(domain: str, policy: Policy, evidence: Evidence, now: datetime) -> tuple[Verdict, str]:
    """Return the verdict, and why it is a refusal; that is empty if it is none."""
    try:
        return judge(domain, SERVICE, policy, evidence, now), ""
    except UntrustedError as error:
        text = str(error)
    if policy.level is Level.SECURE:
        # A level that demands no proof tells how far the same server has come.
        lenient = attrs.evolve(policy, level=Level.ENCRYPT)
        return attrs.evolve(judge(domain, SERVICE, lenient, evidence, now), problem=text), text
    status = Status.UNTRUSTED if evidence.chain else Status.ANONYMOUS
    return Verdict(status, "", text), text


def _carried(policy: Policy, target: Target, attempt: Attempt, refusal: str) -> tuple[Carried, str]:
    """Return how a client would be carried there, and why it would not."""
    detail = f" ({attempt.detail})" if attempt.detail else ""
    reason = f"{target} {attempt.problem}{detail}"
    if attempt.connected is None:
        reason = attempt.forbidden or f"{target}: {attempt.problem}"
    elif policy.level is Level.NONE:
        if not target.direct:
            return Carried.IN_PLAINTEXT, ""
        reason = f"{target} speaks TLS only, which the policy rules out"
    elif attempt.handshake is not None:
        if not refusal:
            return Carried.BY_TLS, ""
        reason = refusal
    elif attempt.redirection:
        reason = f"{target} sends clients to {attempt.redirection}, which is not followed here"
    elif attempt.without_tls and policy.level is Level.MAY and not target.direct:
        return Carried.IN_PLAINTEXT, ""
    return Carried.NOT, reason


def outcome(domain: str, policy: Policy, targets: Iterable[JudgedTarget]) -> Outcome:
    """Go the way of a session: to each target in turn, to the first of its addresses that answers.

    Args:
        domain: the domain, as A-labels.
        policy: how it must prove itself.
        targets: its targets, judged, in order.
    """
    reasons: dict[str, None] = {}
    for each in targets:
        answering = next((at for at in each.addresses if at.attempt.connected is not None), None)
        if answering is None:
            found = [at.reason for at in each.addresses]
            reasons.update(dict.fromkeys(found or [f"{each.target}: {each.problem}"]))
        elif answering.carried is not Carried.NOT:
            return _arrived(domain, policy, each.target, answering)
        else:
            reasons[answering.reason] = None
            if answering.attempt.redirection:
                break  # a session follows, and forgets the targets that are left
    return refused(domain, policy, *reasons)


def refused(domain: str, policy: Policy, *reasons: str) -> Outcome:
    """Return that nobody would be carried, and why."""
    shown = [printable(reason, LONGEST_REASON) for reason in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        shown.append(f"and {len(reasons) - MOST_REASONS} more")
    why = "; ".join(shown)
    text = f"a client would not be carried to {domain} {_under(policy)}: {why}"
    return Outcome(Carried.NOT, None, "", text)


def _arrived(domain: str, policy: Policy, target: Target, at: Judged) -> Outcome:
    place = f"{target.host}[{at.attempt.address}]:{target.port}"
    text = f"a client would be carried to {domain} at {place} {_under(policy)}"
    if at.carried is Carried.IN_PLAINTEXT:
        text += ", in plaintext"
    elif at.verdict is not None and at.attempt.handshake is not None:
        text += f", by {at.attempt.handshake.facts.version}"
        text += (
            f", proved by {at.verdict.identity}"
            if at.verdict.status is Status.VERIFIED
            else f", which proves nothing: {at.verdict.problem}"
        )
    return Outcome(at.carried, target, at.attempt.address, text)


def _under(policy: Policy) -> str:
    return f'under the policy "{policy.domain}", {policy.level.value}'
