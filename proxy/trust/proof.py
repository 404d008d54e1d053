"""How a server proves a domain: by TLSA records, a pin, an authority, or the domain's web site.

This is the whole ladder of `proxy.trust.policy` but for what an operator permits, of which the
keyring knows.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import attrs

from proxy.trust.certificate import Certificate
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.matching import Failed, Proved, Server, VerifyPath, match
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.entry import How
from proxy.trust.policy import Level, Policy
from proxy.trust.revocation import NO_LISTS, RevocationLists, named_problem
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import RevokedError, Status, UntrustedError, Verdict, judge
from proxy.xmpp.text import printable

_NO_RECORDS: Final = "{} has no TLSA records that DNSSEC vouches for and that can be used"

_NOT_ASKED: Final = "TLSA records are to prove {}, and are asked for only on the way to its server"


@attrs.frozen
class Case:
    """A server that is to prove a domain.

    Attributes:
        domain: The domain, in A-labels: never the name of an SRV target.
        service: The SRV service name that counts, with its underscore: ``_xmpp-client``.
        policy: What is demanded.
        evidence: What the handshake showed.
        claims: What DNSSEC vouches for about the target; ``None`` where DNS was not asked, which
            proves nothing with `Level.DANE`.
        initiating: Whether the server has connected to us, not we to it.
        aside: Whether it is asked about another domain than the one that it was connected to for:
            nothing is remembered, held or told of then, for it is no server of that domain's.
        revocation: The revocation lists, those of the policy among them.
    """

    domain: str
    service: str
    policy: Policy
    evidence: Evidence
    claims: Claims | None = None
    initiating: bool = False
    aside: bool = False
    revocation: RevocationLists = attrs.field(default=NO_LISTS, eq=False, repr=False)


@attrs.frozen
class Proof:
    """What a server has proven, if the policy demands that it does.

    Attributes:
        verdict: The verdict; with a level that demands no proof it may be any.
        how: What it was proved by; ``None`` unless it was.
    """

    verdict: Verdict
    how: How | None


AskSite = Callable[[Case, datetime], Verdict]
"""What judges a certificate by what the domain's web site says (RFC 7711).

Raises `UntrustedError` unless that proves it, and `proxy.trust.undecided.UndecidedError` if the
site has not been asked yet.
"""


def prove(case: Case, now: datetime, verify: VerifyPath, ask_site: AskSite) -> Proof:
    """Judge what a server showed of itself.

    Args:
        case: The server, the domain, and what is demanded.
        now: The time to judge validity by, with a time zone.
        verify: What verifies paths to authorities that only TLSA records vouch for.
        ask_site: What asks the domain's web site, where the policy lets that count.

    Raises:
        RevokedError: The policy demands more, and a certificate is revoked.
        UntrustedError: The policy demands more, or something went wrong while it was judged.
        UndecidedError: It cannot be said yet.
    """
    try:
        return _proved(case, now, verify, ask_site)
    except RevokedError:
        raise
    except UntrustedError:
        _check_lists(case)
        raise


def _proved(case: Case, now: datetime, verify: VerifyPath, ask_site: AskSite) -> Proof:
    policy, level = case.policy, case.policy.level
    if level.heeds_dane and (proof := _by_dane(case, now, verify)) is not None:
        return proof
    if level is Level.DANE_ONLY:
        raise UntrustedError(_NO_RECORDS.format(printable(case.domain)))
    if level is Level.DANE and case.claims is None:
        raise UntrustedError(_NOT_ASKED.format(printable(case.domain)))
    if level is Level.KEYRING and policy.pins:
        # A pin is an operator's word: what has another key is for operators to look at.
        return Proof(_judged(case, attrs.evolve(policy, level=Level.PIN), now), How.PIN)
    try:
        verdict = _judged(case, policy, now)
    except RevokedError:
        raise
    except UntrustedError as error:
        if level is Level.PIN or not policy.posh:
            raise
        _check_lists(case)
        return Proof(_by_site(case, now, ask_site, error), How.POSH)
    if verdict.status is not Status.VERIFIED:
        return Proof(verdict, None)
    return Proof(verdict, How.PIN if level is Level.PIN else How.PKIX)


def _check_lists(case: Case) -> None:
    """Hold a certificate that is not proved against the policy's lists, by its issuer's name alone.

    Else whoever has the key of one that was revoked could have it fail for another reason, such as
    a chain that cannot be verified, and an operator's permission or a web site make up for that.

    Raises:
        RevokedError: It is on one of them, or that cannot be found out.
    """
    if not case.policy.crl_files or case.policy.level is Level.PIN or not case.evidence.chain:
        return
    whose = f"the certificate of {printable(case.domain)}"
    try:
        lists = case.revocation.lists(case.policy)
        problem = named_problem(whose, Certificate.read(case.evidence.chain[0]), lists)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RevokedError(f"{whose} could not be held against revocation lists") from error
    if problem:
        raise RevokedError(problem)


def _judged(case: Case, policy: Policy, now: datetime) -> Verdict:
    return judge(
        case.domain,
        case.service,
        policy,
        case.evidence,
        now,
        initiating=case.initiating,
        revocation=case.revocation,
    )


def _by_dane(case: Case, now: datetime, verify: VerifyPath) -> Proof | None:
    """Return the proof by TLSA records; ``None`` where there are none that count.

    Raises:
        UntrustedError: There are, and they do not prove it.
    """
    if case.claims is None:
        return None
    server = Server(
        case.claims.references, case.evidence, case.policy, case.initiating, case.revocation
    )
    outcome = match(case.claims.records, server, now, verify)
    if isinstance(outcome, Proved):
        return Proof(Verdict(Status.VERIFIED, printable(outcome.identity), ""), How.DANE)
    if isinstance(outcome, Failed):
        refusal = RevokedError if outcome.revoked else UntrustedError
        raise refusal(outcome.problem)
    return None


def _by_site(case: Case, now: datetime, ask_site: AskSite, error: UntrustedError) -> Verdict:
    """Return the verdict by the domain's web site, where an authority's word is wanting.

    Raises:
        UntrustedError: It proves nothing.
        UndecidedError: It has to be asked first.
    """
    try:
        verdict = ask_site(case, now)
    except UntrustedError as without:
        text = f"{error}; nor does its web site prove it (POSH): {without}"
        raise UntrustedError(text, error.status) from without
    except UndecidedError as wait:
        text = f"{error}; nor has its web site proved it (POSH): {wait}"
        raise UndecidedError(text, wait.decision) from wait
    if verdict.status is not Status.VERIFIED:
        raise UntrustedError(str(error), error.status)
    return verdict
