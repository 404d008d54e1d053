"""What was found of a domain's servers, and what becomes of who wants to reach the domain."""

from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.probe.certificates import Shown
from proxy.daemon.probe.memory import Memory
from proxy.daemon.probe.rehearsal import Decision, Site
from proxy.net.probed import Attempt, Vouched
from proxy.net.targets import Target
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.policy import Policy
from proxy.trust.verdict import Status, Verdict
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
        kind: what is wanted of it: streams of clients, or of servers.
        sender: the domain of ours on whose behalf a server asks; empty for none.
        believed: whether anybody who is asked for DNS records is believed about DNSSEC.
    """

    domain: str
    policy: Policy
    default: bool = False
    kind: Kind = Kind.C2S
    sender: str = ""
    believed: bool = True

    @property
    def server(self) -> Target | None:
        """The server that the policy sets; None if DNS is to name it."""
        policy = self.policy
        place, direct = policy.server, policy.direct_tls
        if self.kind is Kind.S2S:
            place, direct = policy.s2s_server, policy.s2s_direct_tls
        return None if place is None else Target(*place, direct=direct)

    @property
    def who(self) -> str:
        """Who would be carried to the domain's server."""
        if self.kind is Kind.C2S:
            return "a client"
        return f"the server of {self.sender}" if self.sender else "a server"

    def __str__(self) -> str:
        name = "default policy" if self.default else f'policy "{self.policy.domain}"'
        return f"the {name}, {self.policy.level.value}"


class Carried(Enum):
    """How a client, or a server of ours, would be carried to a server."""

    BY_TLS = "tls"
    IN_PLAINTEXT = "plaintext"
    NOT = "no"


@attrs.frozen
class Judged:
    """One address, judged.

    Attributes:
        attempt: what came of it.
        shown: what the server showed of itself; None without TLS.
        decision: what would become of that; None without TLS.
        carried: how one would be carried there.
        reason: why it would not, not yet fit to be shown; empty if it would.
        remedy: what in the conf might help, if that is known; not yet fit to be shown.
        by_report: how a listener with ``tls = "report"`` would carry it there.
    """

    attempt: Attempt
    shown: Shown | None
    decision: Decision | None
    carried: Carried
    reason: str
    remedy: str
    by_report: Carried

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on what the server showed; None without TLS."""
        return None if self.decision is None else self.decision.verdict


@attrs.frozen
class JudgedTarget:
    """One target with its addresses.

    Attributes:
        target: the target.
        addresses: its addresses, judged.
        problem: why there are none, not yet fit to be shown; empty if there are.
        vouched: what DNSSEC says of it.
        barred: why sessions pass it over though it has addresses, likewise; empty if they do not.
    """

    target: Target
    addresses: tuple[Judged, ...]
    problem: str
    vouched: Vouched
    barred: str


@attrs.frozen
class Course:
    """Where a session would come to.

    Attributes:
        carried: how one would be carried to a server.
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
        """Why one would not be carried, and what might help."""
        shown = [printable(reason, LONGEST_REASON) for reason in self.reasons[:MOST_REASONS]]
        if len(self.reasons) > MOST_REASONS:
            shown.append(f"and {len(self.reasons) - MOST_REASONS} more")
        remedies = "; ".join(printable(remedy, LONGEST_REASON) for remedy in self.remedies)
        return "; ".join(shown) + (f" ({remedies})" if remedies else "")


@attrs.frozen
class Serving:
    """A forward listener that lets those who connect reach the domain.

    Attributes:
        name: its name.
        rule: what becomes of servers that do not meet the policy.
        carried: how they would be carried.
    """

    name: str
    rule: TLSRule
    carried: Carried


@attrs.frozen
class Outcome:
    """Whether who connects to a forward listener would be carried to the domain's server.

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
        listeners: the forward listeners through which the domain may be reached.
        targets: its targets, in the order in which a session would try them.
        outcome: what a session would come to.
        memory: what the keyring says of the domain; None if that does not matter.
        site: what the domain's web site says; None if it was not asked.
    """

    wanted: Wanted
    conf: Path | None
    listeners: tuple[Serving, ...]
    targets: tuple[JudgedTarget, ...]
    outcome: Outcome
    memory: Memory | None = None
    site: Site | None = None

    def source(self, target: Target) -> str:
        """Return what named a target: ``srv``, ``fallback`` (the domain itself) or ``policy``."""
        if self.wanted.server is not None:
            return "policy"
        return "fallback" if target.fallback else "srv"


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
        if each.barred:
            answering = None
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
    """Say what becomes of clients, or of servers of ours.

    Args:
        wanted: the domain, and how it must prove itself.
        strict: where a session comes to that the policy holds for.
        lenient: where one comes to by a listener with ``tls = "report"``.
        listeners: those through which the domain may be reached.
        forbidden: why none does; empty if one does, or if there is no conf.
    """
    if forbidden:
        text = f"{wanted.who} would not be carried to {wanted.domain}: {forbidden}; "
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
        text = f"{wanted.who} would not be carried to {wanted.domain} under {wanted}: {strict.why}"
    elif enforcing:
        text = (
            f"{wanted.who} would not be carried to {wanted.domain} under {wanted}: {strict.why}; "
        )
        text += f'but with tls = "report" ({_named(reporting)}) it would be, at {there}'
    else:
        text = (
            f"{wanted.who} would be carried to {wanted.domain} at {there}, but only because of "
            f'tls = "report" ({_named(reporting)}): it would not be under {wanted}: {strict.why}'
        )
    address = "" if strict.at is None else strict.at.attempt.address
    return Outcome(strict.carried, strict.target, address, text)


def _named(listeners: Sequence[Serving]) -> str:
    names = ", ".join(f'"{printable(each.name)}"' for each in listeners)
    return f"listener{'s' * (len(listeners) > 1)} {names}"


def _arrived(wanted: Wanted, strict: Course) -> str:
    text = f"{wanted.who} would be carried to {wanted.domain} at {strict.place} under {wanted}"
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
    return text + _way_of_ours(wanted, strict)


def _way_of_ours(wanted: Wanted, strict: Course) -> str:
    """Say how a server of ours may prove itself; nothing of clients."""
    proofs = None if strict.at is None else strict.at.attempt.proofs
    if wanted.kind is not Kind.S2S or proofs is None:
        return ""
    if proofs.external:
        return ", and may prove itself by its certificate (SASL EXTERNAL)"
    return f", and may prove itself by dialback{', which is not announced' * (not proofs.dialback)}"
