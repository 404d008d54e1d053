"""What a policy makes of one target that was probed, and of each of its addresses."""

from typing import Final

import attrs

from proxy.daemon.probe.certificates import read
from proxy.daemon.probe.outcome import Carried, Judged, JudgedTarget, Wanted
from proxy.daemon.probe.rehearsal import Decision, Rehearsal
from proxy.daemon.remote import DIRECT, FIXED, USES
from proxy.net.dane_path import verify_path
from proxy.net.probed import Attempt, Probed
from proxy.net.targets import Target
from proxy.session.kinds import Kind
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.matching import Server, match
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback, Level
from proxy.trust.proof import Case
from proxy.trust.verdict import Status, Verdict


def judged(wanted: Wanted, probed: Probed, rehearsal: Rehearsal) -> JudgedTarget:
    """Judge the addresses of one target.

    Args:
        wanted: the domain, and how it must prove itself.
        probed: what came of the target.
        rehearsal: what decides.
    """
    vouched, barred = probed.vouched, ""
    if wanted.policy.level.heeds_dane and vouched.problem:
        barred = f"its TLSA records cannot be known: {vouched.problem}"
    judging = _Judging(wanted, probed.target, vouched.claims, barred, rehearsal)
    addresses = tuple(map(judging.judged, probed.attempts))
    return JudgedTarget(probed.target, addresses, probed.problem, vouched, barred)


@attrs.frozen
class _Judging:
    """Judges the addresses of one target, which sessions pass over for what ``barred`` says."""

    wanted: Wanted
    target: Target
    claims: Claims | None
    barred: str
    rehearsal: Rehearsal

    def judged(self, attempt: Attempt) -> Judged:
        """Judge one address."""
        wanted, target = self.wanted, self.target
        shown = decision = None
        if attempt.handshake is not None:
            shown = read(attempt.handshake.evidence, self.rehearsal.now)
            decision = self._decision(attempt.handshake.evidence)
        if self.barred and not attempt.forbidden:
            refused = f"{target}: {self.barred}"
            return Judged(attempt, shown, decision, Carried.NOT, refused, "", Carried.NOT)
        refusal, remedy = self._objection(attempt, decision)
        carried, reason = _carried(wanted, target, attempt, refusal)
        if carried is not Carried.NOT:
            remedy = ""
        elif not refusal:
            remedy = _remedy(wanted, target, attempt)
        by_report = _by_report(wanted, target, attempt, carried)
        return Judged(attempt, shown, decision, carried, reason, remedy, by_report)

    def _decision(self, evidence: Evidence) -> Decision:
        wanted, rehearsal = self.wanted, self.rehearsal
        policy, service = wanted.policy, f"_{wanted.kind.service}"
        claims = self.claims if policy.level.heeds_dane else None
        case = Case(wanted.domain, service, policy, evidence, claims)
        if self.barred:
            decision = Decision(Verdict(Status.UNTRUSTED, "", self.barred), self.barred)
        else:
            decision = rehearsal.decide(case)
        records = None
        if self.claims is not None and self.claims.records:
            server = Server(
                self.claims.references, evidence, policy, revocation=rehearsal.revocation
            )
            records = match(self.claims.records, server, rehearsal.now, verify_path)
        return attrs.evolve(decision, records=records, site=rehearsal.by_site(case))

    def _objection(self, attempt: Attempt, decision: Decision | None) -> tuple[str, str]:
        """Return what speaks against a server that TLS, or its lack, is settled with.

        With it comes what might help; both are empty if nothing does.
        """
        if decision is not None:
            return decision.refusal, decision.remedy or self._without_records(decision)
        optional = self.wanted.policy.level is Level.MAY and not self.target.direct
        if optional and attempt.without_tls:
            return self.rehearsal.plaintext(self.wanted.domain, self.wanted.kind)
        return "", ""

    def _without_records(self, decision: Decision) -> str:
        """Return what helps where TLSA records are demanded, and none can ever be believed."""
        wanted = self.wanted
        lacking = wanted.policy.level is Level.DANE_ONLY and decision.records is None
        return BELIEVE if lacking and decision.refusal and not wanted.believed else ""


BELIEVE: Final = "have a DNS server that validates run on this machine, or see validating in [dns]"
"""What helps where nobody is believed about DNSSEC."""


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
        settable = not fixed and wanted.policy.level in USES[server]
        return f"{_policy_with(wanted, server)} says where it is instead" if settable else ""
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
