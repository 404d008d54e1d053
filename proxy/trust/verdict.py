"""The verdict on a server's certificate: whether it proves a domain as far as a policy demands.

OpenSSL verifies the chain, service_identity compares names; what follows from both is decided here,
and whatever goes wrong on the way is a refusal.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Final

import attrs

from proxy.trust.certificate import (
    BASIC_CONSTRAINTS,
    CLIENT_AUTH,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    NAME_CONSTRAINTS,
    SERVER_AUTH,
    SUBJECT_ALT_NAME,
    Certificate,
    is_authority,
    is_for_servers,
    is_for_signatures,
    purposes,
)
from proxy.trust.constraints import permits
from proxy.trust.evidence import Evidence
from proxy.trust.identities import DNS_NAME, Presented, presented
from proxy.trust.ocsp import staple_problem
from proxy.trust.policy import Level, Policy, pin_of_key
from proxy.trust.reasons import NOT_FOR_SERVERS, chain_problem, dates_problem
from proxy.trust.revocation import (
    NO_LISTS,
    RevocationList,
    RevocationLists,
    listed_problem,
)
from proxy.trust.strength import key_weakness, signature_weakness
from proxy.xmpp.text import printable

LONGEST_CHAIN: Final = 10
"""How many certificates of a chain are read."""

LARGEST_CERTIFICATE: Final = 64 * 1024
"""How many octets a certificate may have."""

_FOR_NEITHER: Final = "{} is meant neither for servers nor for their clients (extended key usage)"
_NAMES_SHOWN: Final = 2
_LONGEST_NAME: Final = 80


class Status(Enum):
    """How far a server has proven itself, in Postfix's words."""

    VERIFIED = "Verified"
    """It has proven the domain."""
    TRUSTED = "Trusted"
    """Somebody trusted vouches for it, but not for this domain or not by this key."""
    UNTRUSTED = "Untrusted"
    """Nobody trusted vouches for its certificate."""
    ANONYMOUS = "Anonymous"
    """It showed no certificate."""


@attrs.frozen
class Verdict:
    """What came of judging a server's certificate.

    Attributes:
        status: How far the server has proven itself.
        identity: What matched: ``DNS-ID *.example.net``, ``SRV-ID _xmpp-client.example.net``,
            ``XmppAddr example.net`` or ``pin sha256:…``; empty unless it is verified.
        problem: Why it is not verified, as one clause fit to be shown; empty if it is.
    """

    status: Status
    identity: str
    problem: str


class UntrustedError(Exception):
    """A server did not prove its domain as its policy demands.

    ``str()`` is one clause for the operator of a legacy system, fit to be shown.

    Attributes:
        status: How far it has proven itself nevertheless.
    """

    def __init__(self, problem: str, status: Status = Status.UNTRUSTED) -> None:
        super().__init__(problem)
        self.status = status


class RevokedError(UntrustedError):
    """Whoever vouched for a server's certificate has taken that back, or may have.

    Nothing else makes up for that.
    """


class _UnprovenError(Exception):
    """A server is not verified: how far it has come, and why no further."""

    refusal = UntrustedError

    def __init__(self, status: Status, problem: str) -> None:
        super().__init__(problem)
        self.verdict = Verdict(status, "", problem)


class _TakenBackError(_UnprovenError):
    """It is not verified because of what its authority says now, or fails to say."""

    refusal = RevokedError


def judge(
    domain: str,
    service: str,
    policy: Policy,
    evidence: Evidence,
    now: datetime,
    *,
    initiating: bool = False,
    revocation: RevocationLists = NO_LISTS,
) -> Verdict:
    """Judge what a server showed of itself.

    One that connects to us may show a certificate for servers as well as one for clients: public
    authorities issue the former only. OpenSSL has held neither use nor strength against its chain,
    so both are judged here.

    No certificate of the path may have been revoked: the lists of the policy are asked, and with
    servers that we connect to the response that they have stapled. Where nobody vouches for them
    (`Level.PIN`) there is nothing that could be revoked.

    Args:
        domain: The domain that it must prove, in A-labels: never the name of an SRV target.
        service: The SRV service name that counts, with its underscore: ``_xmpp-client``.
        policy: What is demanded.
        evidence: What the handshake showed.
        now: The time to judge validity by, with a time zone.
        initiating: Whether it has connected to us, not we to it. Then no stapled response is
            demanded, for it was not asked for one.
        revocation: The revocation lists, those of the policy among them.

    Raises:
        RevokedError: The policy demands more, and a certificate of the path is revoked, or cannot
            be said not to be.
        UntrustedError: The policy demands more, or something went wrong while it was judged.
    """
    tolerant = False
    refusal = UntrustedError
    cause: BaseException | None = None
    try:
        tolerant = not policy.level.demands_proof
        identity = _proof(
            domain,
            service,
            policy,
            evidence,
            now,
            initiating=initiating,
            revocation=revocation,
        )
        return Verdict(Status.VERIFIED, identity, "")
    except (KeyboardInterrupt, SystemExit):
        raise
    except _UnprovenError as unproven:
        verdict, refusal = unproven.verdict, unproven.refusal
    except BaseException as error:  # noqa: BLE001 - a panic of cryptography is no Exception
        verdict = Verdict(Status.UNTRUSTED, "", _unchecked(domain, error))
        cause = error
    if tolerant:
        return verdict
    raise refusal(verdict.problem, verdict.status) from cause


def _unchecked(domain: str, error: BaseException) -> str:
    try:
        words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return f"the certificate of {printable(domain)} could not be checked: {printable(words)}"
    except Exception:  # noqa: BLE001 - no memory for words, or an error without any
        return "the certificate could not be checked"


def _proof(
    domain: str,
    service: str,
    policy: Policy,
    evidence: Evidence,
    now: datetime,
    *,
    initiating: bool,
    revocation: RevocationLists,
) -> str:
    """Return the identity that proves the domain; whatever is raised means that none does."""
    shown = printable(domain)
    if not evidence.chain:
        raise _UnprovenError(Status.ANONYMOUS, f"{shown} showed no certificate")
    _check_sizes(evidence)
    leaf = Certificate.read(evidence.chain[0])
    if policy.level is Level.PIN:
        _check_pins(shown, policy, leaf, Status.UNTRUSTED)
        return f"pin {pin_of_key(leaf.key)}"
    chain = [leaf, *map(Certificate.read, evidence.chain[1:])]
    if evidence.error != 0:
        raise _UnprovenError(Status.UNTRUSTED, chain_problem(shown, evidence, chain, now))
    if evidence.verified[:1] != evidence.chain[:1]:
        raise ValueError("OpenSSL shows no chain that it has verified")
    path = [leaf, *map(Certificate.read, evidence.verified[1:])]
    extensions = leaf.extensions()
    # Without an authority above it, OpenSSL has found it among those of the policy's file.
    is_anchor = policy.anchors is not None and len(path) == 1 and leaf.issuer == leaf.subject
    _check_use(shown, leaf, extensions, now, is_anchor=is_anchor, initiating=initiating)
    if initiating:
        _check_purposes(shown, path)
        _check_strength(shown, path)
    else:
        _check_staple(shown, path, evidence.staple, now)
    _check_lists(shown, path, revocation.lists(policy), now)
    names = presented(extensions.get(SUBJECT_ALT_NAME))
    match = names.match(domain, service)
    if match is None:
        raise _UnprovenError(Status.TRUSTED, _names_problem(shown, names))
    if match.kind != DNS_NAME:
        _check_constraints(shown, domain, path)
    if policy.pins:
        _check_pins(shown, policy, leaf, Status.TRUSTED)
    return printable(str(match))


def _check_sizes(evidence: Evidence) -> None:
    count = max(len(evidence.chain), len(evidence.verified))
    largest = max(map(len, (*evidence.chain, *evidence.verified)))
    if count > LONGEST_CHAIN:
        raise ValueError(f"it came in a chain of {count}; at most {LONGEST_CHAIN} are read")
    if largest > LARGEST_CERTIFICATE:
        raise ValueError(
            f"it or one above it has {largest} octets; at most {LARGEST_CERTIFICATE} are read"
        )


def _check_pins(shown: str, policy: Policy, leaf: Certificate, otherwise: Status) -> None:
    pin = pin_of_key(leaf.key)
    if pin not in policy.pins:
        raise _UnprovenError(otherwise, f"the key of {shown}, {pin}, is not one of its pins")


def _check_use(
    shown: str,
    leaf: Certificate,
    extensions: dict[bytes, bytes],
    now: datetime,
    *,
    is_anchor: bool,
    initiating: bool,
) -> None:
    """Check what OpenSSL should have found wrong with the server's own certificate.

    One that is a trust anchor itself may be an authority's: self-signed ones mostly say so.
    """
    problem = dates_problem(f"the certificate of {shown}", leaf, now)
    usage = extensions.get(EXTENDED_KEY_USAGE)
    basic = extensions.get(BASIC_CONSTRAINTS)
    if not problem and not initiating and usage is not None and not is_for_servers(usage):
        problem = NOT_FOR_SERVERS.format(shown)
    if not problem and basic is not None and is_authority(basic) and not is_anchor:
        problem = f"the certificate of {shown} is one of an authority, not of a server"
    if problem:
        raise _UnprovenError(Status.UNTRUSTED, problem)


def _check_purposes(shown: str, path: list[Certificate]) -> None:
    """Check that the whole path is for servers, or all of it for clients, and the leaf's key signs.

    An authority that is kept to other uses, such as mail, may have been given any names for those.
    """
    usage = path[0].extensions().get(KEY_USAGE)
    if usage is not None and not is_for_signatures(usage):
        problem = f"the key of {shown} is not meant for signatures (key usage)"
        raise _UnprovenError(Status.UNTRUSTED, problem)
    allowed = frozenset({SERVER_AUTH, CLIENT_AUTH})
    for certificate in path:
        extended = certificate.extensions().get(EXTENDED_KEY_USAGE)
        if extended is not None:
            allowed &= purposes(extended)
        if not allowed:
            raise _UnprovenError(
                Status.UNTRUSTED, _FOR_NEITHER.format(_whose(shown, certificate, path))
            )


def _check_strength(shown: str, path: list[Certificate]) -> None:
    """Check all keys of the path, and all signatures that anything depends on."""
    for certificate in path:
        weakness = key_weakness(certificate.key)
        problem = f"{_whose(shown, certificate, path)} has a key that is too weak ({weakness})"
        # The last one is trusted for itself; who has signed it, and how, does not matter.
        if weakness == "" and certificate is not path[-1]:
            weakness = signature_weakness(certificate.signature)
            problem = f"{_whose(shown, certificate, path)} is signed too weakly ({weakness})"
        if weakness != "":
            raise _UnprovenError(Status.UNTRUSTED, problem)


def _check_staple(shown: str, path: list[Certificate], staple: bytes, now: datetime) -> None:
    if problem := staple_problem(shown, path, staple, now):
        raise _TakenBackError(Status.UNTRUSTED, problem)


def _check_lists(
    shown: str, path: list[Certificate], lists: Sequence[RevocationList], now: datetime
) -> None:
    """Hold all of the path but the trust anchor against revocation lists."""
    if not lists:
        return
    for certificate, issuer in pairwise(path):
        whose = _whose(shown, certificate, path)
        if problem := listed_problem(whose, certificate, issuer, lists, now):
            raise _TakenBackError(Status.UNTRUSTED, problem)


def _whose(shown: str, certificate: Certificate, path: list[Certificate]) -> str:
    if certificate is path[0]:
        return f"the certificate of {shown}"
    return f"an authority's certificate above that of {shown}"


def _check_constraints(shown: str, domain: str, path: list[Certificate]) -> None:
    for authority in path[1:]:
        constraints = authority.extensions().get(NAME_CONSTRAINTS)
        if constraints is not None and not permits(constraints, domain):
            raise _UnprovenError(
                Status.TRUSTED,
                f"the certificate of {shown} is from an authority that may not vouch for it "
                "(name constraints)",
            )


def _names_problem(shown: str, names: Presented) -> str:
    if not names.stated:
        return (
            f"the certificate of {shown} has no subjectAltName, and the common name does not count"
        )
    found = list(dict.fromkeys(names.names()))
    if not found:
        return f"the certificate of {shown} names no domain that can be understood"
    listed = ", ".join(printable(name, _LONGEST_NAME) for name in found[:_NAMES_SHOWN])
    more = len(found) - _NAMES_SHOWN
    if more > 0:
        listed += f" (and {more} more)"
    return f"the certificate is for {listed}, not for {shown}"
