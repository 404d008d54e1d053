"""What a policy makes of servers that were probed, and of the domain as a whole."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.probe.certificates import Shown, read
from proxy.net.probe import Attempt, Probed
from proxy.net.targets import Target
from proxy.session.rules import TLSRule
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from proxy.xmpp.text import printable

LONGEST_REASON: Final = 400
"""How many characters of one reason are shown."""

MOST_REASONS: Final = 5
"""How many reasons the sentence about the whole domain names."""


@attrs.frozen
class Wanted:
    """A domain, and how it must prove itself; ``str()`` names the policy.

    Attributes:
        domain: the domain, as A-labels.
        policy: how it must prove itself.
        default: whether that is what holds where the conf has no policy for the domain.
    """

    domain: str
    policy: Policy
    default: bool = False

    def __str__(self) -> str:
        name = "default policy" if self.default else f'policy "{self.policy.domain}"'
        return f"the {name}, {self.policy.level.value}"


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
        remedy: what in the conf might help, if that is known; not yet fit to be shown.
        by_report: how a listener with ``tls = "report"`` would carry it there.
    """

    attempt: Attempt
    shown: Shown | None
    verdict: Verdict | None
    carried: Carried
    reason: str
    remedy: str
    by_report: Carried


@attrs.frozen
class JudgedTarget:
    """One target with its addresses; without any, the problem says why, not yet fit to be shown."""

    target: Target
    addresses: tuple[Judged, ...]
    problem: str


@attrs.frozen
class Course:
    """Where a session would come to.

    Attributes:
        carried: how a client would be carried to a server.
        target: the target that it would be carried to; None if to none.
        at: the address; None if to none.
        reasons: why it would not be carried, not yet fit to be shown.
        remedies: what might help, likewise.
    """

    carried: Carried
    target: Target | None = None
    at: Judged | None = None
    reasons: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The server that is come to; empty if none."""
        if self.target is None or self.at is None:
            return ""
        return f"{self.target.host}[{self.at.attempt.address}]:{self.target.port}"

    @property
    def why(self) -> str:
        """Why a client would not be carried, and what might help."""
        shown = [printable(reason, LONGEST_REASON) for reason in self.reasons[:MOST_REASONS]]
        if len(self.reasons) > MOST_REASONS:
            shown.append(f"and {len(self.reasons) - MOST_REASONS} more")
        remedies = "; ".join(printable(remedy, LONGEST_REASON) for remedy in self.remedies)
        return "; ".join(shown) + (f" ({remedies})" if remedies else "")


@attrs.frozen
class Serving:
    """A forward listener that lets its clients reach the domain.

    Attributes:
        name: its name.
        rule: what becomes of servers that do not meet the policy.
        carried: how its clients would be carried.
    """

    name: str
    rule: TLSRule
    carried: Carried


@attrs.frozen
class Outcome:
    """Whether a client of a forward listener would be carried to the domain's server.

    Attributes:
        carried: how, if the policy is met and a listener allows the domain.
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
        wanted: the domain, and how it must prove itself.
        conf: the file by which that was judged; None if there is none and the defaults hold.
        listeners: the forward listeners that let clients reach the domain.
        targets: its targets, in the order in which a session would try them.
        outcome: what a session would come to.
    """

    wanted: Wanted
    conf: Path | None
    listeners: tuple[Serving, ...]
    targets: tuple[JudgedTarget, ...]
    outcome: Outcome

    def source(self, target: Target) -> str:
        """Return what named a target: ``srv``, ``fallback`` (the domain itself) or ``policy``."""
        if self.wanted.policy.server is not None:
            return "policy"
        return "fallback" if target.fallback else "srv"


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
    policy = wanted.policy
    shown = verdict = None
    refusal = ""
    if attempt.handshake is not None:
        shown = read(attempt.handshake.evidence, now)
        verdict, refusal = _verdict(wanted.domain, policy, attempt.handshake.evidence, now)
    carried, reason = _carried(policy, target, attempt, refusal)
    remedy = _remedy(wanted, target, attempt) if carried is Carried.NOT else ""
    by_report = _by_report(policy, target, attempt, carried)
    return Judged(attempt, shown, verdict, carried, reason, remedy, by_report)


def _verdict(domain: str, policy: Policy, evidence: Evidence, now: datetime) -> tuple[Verdict, str]:
    """Return the verdict, and why it is a refusal; that is empty if it is none."""
    try:
        return judge(domain, CLIENT_SERVICE, policy, evidence, now), ""
    except UntrustedError as error:
        text = str(error)
    if policy.level is Level.SECURE:
        # A level that demands no proof tells how far the same server has come.
        lenient = attrs.evolve(policy, level=Level.ENCRYPT)
        return attrs.evolve(
            judge(domain, CLIENT_SERVICE, lenient, evidence, now), problem=text
        ), text
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


def _by_report(policy: Policy, target: Target, attempt: Attempt, carried: Carried) -> Carried:
    """Return how a listener would carry a client there that refuses nobody for want of TLS."""
    if attempt.connected is None or policy.level is Level.NONE:
        return carried
    # Such a listener does not ask for what is not offered.
    if not target.direct and (attempt.offered is False or attempt.without_tls):
        return Carried.IN_PLAINTEXT
    return carried if attempt.handshake is None else Carried.BY_TLS


_SPEECHLESS: Final = ("closed the connection", "does not speak XMPP", "did not get to TLS")
"""How a problem begins that a server may have which waits for a ClientHello."""


def _remedy(wanted: Wanted, target: Target, attempt: Attempt) -> str:
    """Return what in the conf might help; empty if that is not known."""
    fixed = wanted.policy.server is not None
    if attempt.own:
        return "" if fixed else f"{_policy_with(wanted, 'server')} says where it is instead"
    if attempt.forbidden:
        return f"{_policy_with(wanted, 'private_addresses = true')} allows it"
    if not fixed or attempt.connected is None or attempt.handshake is not None:
        return ""
    if target.direct:
        return "take direct_tls out of its policy if the server expects STARTTLS"
    if attempt.offered is None and attempt.problem.startswith(_SPEECHLESS):
        return "set direct_tls = true in its policy if the server expects TLS from the first byte"
    return ""


def _policy_with(wanted: Wanted, option: str) -> str:
    if wanted.policy.domain.text == wanted.domain:
        return f"{option} in its policy"
    return f"a [[policy]] for {wanted.domain} with {option}"


def course(targets: Iterable[JudgedTarget], *, report: bool = False) -> Course:
    """Go the way of a session: to each target in turn, to the first of its addresses that answers.

    Args:
        targets: the domain's targets, judged, in order.
        report: whether it is the way of a listener that refuses nobody for want of TLS.
    """
    reasons: dict[str, None] = {}
    remedies: dict[str, None] = {}
    for each in targets:
        answering = next((at for at in each.addresses if at.attempt.connected is not None), None)
        if answering is None:
            found = [at.reason for at in each.addresses]
            reasons.update(dict.fromkeys(found or [f"{each.target}: {each.problem}"]))
            remedies.update(dict.fromkeys(at.remedy for at in each.addresses))
            continue
        carried = answering.by_report if report else answering.carried
        if carried is not Carried.NOT:
            return Course(carried, each.target, answering)
        reasons[answering.reason] = None
        remedies[answering.remedy] = None
        if answering.attempt.redirection:
            break  # a session follows, and forgets the targets that are left
    return Course(Carried.NOT, reasons=tuple(reasons), remedies=tuple(filter(None, remedies)))


def outcome(
    wanted: Wanted,
    strict: Course,
    lenient: Course,
    listeners: Sequence[Serving],
    *,
    forbidden: str = "",
) -> Outcome:
    """Say what becomes of clients.

    Args:
        wanted: the domain, and how it must prove itself.
        strict: where a session comes to that the policy holds for.
        lenient: where one comes to by a listener with ``tls = "report"``.
        listeners: those that let clients reach the domain.
        forbidden: why none does; empty if one does, or if there is no conf.
    """
    if forbidden:
        text = f"a client would not be carried to {wanted.domain}: {forbidden}; "
        if strict.carried is Carried.NOT:
            text += f"nor would it be under {wanted}: {strict.why}"
        else:
            text += f"the server at {strict.place} would do under {wanted}"
        return Outcome(Carried.NOT, None, "", text)
    reporting = [each for each in listeners if each.rule is TLSRule.REPORT]
    enforcing = len(listeners) - len(reporting)
    there = f"{lenient.place}{', in plaintext' * (lenient.carried is Carried.IN_PLAINTEXT)}"
    if strict.carried is not Carried.NOT:
        text = _arrived(wanted, strict)
        if reporting and (strict.place, strict.carried) != (lenient.place, lenient.carried):
            text += f'; but with tls = "report" ({_named(reporting)}) at {there}'
    elif not reporting or lenient.carried is Carried.NOT:
        text = f"a client would not be carried to {wanted.domain} under {wanted}: {strict.why}"
    elif enforcing:
        text = f"a client would not be carried to {wanted.domain} under {wanted}: {strict.why}; "
        text += f'but with tls = "report" ({_named(reporting)}) it would be, at {there}'
    else:
        text = (
            f"a client would be carried to {wanted.domain} at {there}, but only because of "
            f'tls = "report" ({_named(reporting)}): it would not be under {wanted}: {strict.why}'
        )
    address = "" if strict.at is None else strict.at.attempt.address
    return Outcome(strict.carried, strict.target, address, text)


def _named(listeners: Sequence[Serving]) -> str:
    names = ", ".join(f'"{printable(each.name)}"' for each in listeners)
    return f"listener{'s' * (len(listeners) > 1)} {names}"


def _arrived(wanted: Wanted, strict: Course) -> str:
    text = f"a client would be carried to {wanted.domain} at {strict.place} under {wanted}"
    if strict.carried is Carried.IN_PLAINTEXT:
        return f"{text}, in plaintext"
    at = strict.at
    if at is not None and at.verdict is not None and at.attempt.handshake is not None:
        text += f", by {at.attempt.handshake.facts.version}"
        text += (
            f", proved by {at.verdict.identity}"
            if at.verdict.status is Status.VERIFIED
            else f", which proves nothing: {at.verdict.problem}"
        )
    return text
