"""Whether a server proves itself by its TLSA records (RFC 6698, RFC 7671, RFC 7673 section 4.2).

That the records are secure is for the caller to see to: insecure ones must not come here at all.
OpenSSL's own verifier for DANE cannot be reached from Python, so that its work is done here; what
verifies the path to an authority of a record is given by the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from proxy.trust.certificate import EXTENDED_KEY_USAGE, Certificate, is_for_servers
from proxy.trust.dane.records import TLSA, Matching, Selector, Usage, effective
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Policy, pin_of_key
from proxy.trust.reasons import NOT_FOR_SERVERS
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.strength import key_weakness, signature_weakness
from proxy.trust.verdict import LARGEST_CERTIFICATE, LONGEST_CHAIN, RevokedError, UntrustedError
from proxy.xmpp.text import printable

MOST_RECORDS: Final = 100
"""How many TLSA records are looked at: a server with more proves nothing."""

MOST_PATHS: Final = 10
"""How many paths to authorities are verified for one server."""

_DAY: Final = timedelta(days=1)

VerifyPath = Callable[[bytes, tuple[bytes, ...], datetime], Evidence]
"""What verifies the path from a server's certificate to one authority, and to no other.

It gets the authority's certificate, the chain as the server sent it, both in DER, and the time to
verify by. What it returns has that chain, and, without an error, the path in ``verified``, from the
server's certificate to the authority's.
"""


@attrs.frozen
class Proved:
    """The server has proven itself.

    Attributes:
        identity: By what, for people to read: ``DANE-EE 3 1 1 0123456789abcdef…``, after the
            identity of the certificate where that counted.
        record: The record.
    """

    identity: str
    record: TLSA


@attrs.frozen
class Failed:
    """There are usable records, and the server does not prove itself by any.

    Attributes:
        problem: Why, as one clause fit to be shown.
        revoked: Whether it would, if a certificate were not revoked, or could be said not to be.
    """

    problem: str
    revoked: bool = False


@attrs.frozen
class Unusable:
    """There are records, but none that can be used.

    It is as if there were none, but for TLS, which they demand all the same.
    """


@attrs.frozen
class Absent:
    """There are no records."""


Outcome = Proved | Failed | Unusable | Absent


@attrs.frozen
class Server:
    """A server that is to prove itself.

    Attributes:
        references: The identities by which it may.
        evidence: What its handshake showed, verified against the policy's roots.
        policy: Whose pins hold besides all records, and whose roots count for PKIX-TA and PKIX-EE.
            Its level does not matter.
        initiating: Whether it has connected to us, not we to it.
        revocation: The revocation lists, those of the policy among them.
    """

    references: References
    evidence: Evidence
    policy: Policy
    initiating: bool = False
    revocation: RevocationLists = NO_LISTS

    @property
    def shown(self) -> str:
        """The domain, fit to be shown."""
        return printable(self.references.domain)


class _NoProofError(Exception):
    """A server does not prove itself: why, as a clause."""


def match(records: Sequence[TLSA], server: Server, now: datetime, verify: VerifyPath) -> Outcome:
    """Return what a server's secure TLSA records say of it.

    Any record will do. With DANE-EE it is the record alone that counts, whatever names, dates and
    issuers say; keys must be strong all the same. With all others the certificate must also be
    valid and prove one of the reference identities.

    Args:
        records: All that there are.
        server: The server.
        now: The time to judge validity by, with a time zone.
        verify: What verifies paths to authorities that only the records vouch for.
    """
    try:
        if not records:
            return Absent()
        if len(records) > MOST_RECORDS:
            return Failed(f"{server.shown} has more than {MOST_RECORDS} TLSA records")
        usable = effective(records)
        if not usable:
            return Unusable()
        return _Matching(server, now, verify).outcome(usable)
    except (KeyboardInterrupt, SystemExit):
        raise
    except _NoProofError as error:
        return Failed(str(error))
    except BaseException as error:  # noqa: BLE001 - a panic of cryptography is no Exception
        return Failed(f"the TLSA records could not be checked ({type(error).__name__})")


class _Matching:
    """One server's certificates against its records."""

    def __init__(self, server: Server, now: datetime, verify: VerifyPath) -> None:
        self._server = server
        self._now = now
        self._verify = verify
        self._sent = server.evidence.chain
        if not self._sent:
            raise _NoProofError(f"{server.shown} showed no certificate")
        if len(self._sent) > LONGEST_CHAIN or max(map(len, self._sent)) > LARGEST_CERTIFICATE:
            raise _NoProofError(f"the certificates of {server.shown} are too many or too large")
        self._leaf = Certificate.read(self._sent[0])

    def outcome(self, records: Sequence[TLSA]) -> Outcome:
        """Try one usage after the other, those that take least work first."""
        self._check_pins()
        problem = ""
        for usage, attempt in (
            (Usage.DANE_EE, self._by_dane_ee),
            (Usage.PKIX_EE, self._by_pkix_ee),
            (Usage.PKIX_TA, self._by_pkix_ta),
            (Usage.DANE_TA, self._by_dane_ta),
        ):
            try:
                proved = attempt([record for record in records if record.usage == usage])
            except RevokedError as error:
                return Failed(str(error), revoked=True)
            except (_NoProofError, UntrustedError) as error:
                problem = problem or str(error)
            else:
                if proved is not None:
                    return proved
        return Failed(problem or self._no_match(len(records)))

    def _check_pins(self) -> None:
        pins = self._server.policy.pins
        if pins and (pin := pin_of_key(self._leaf.key)) not in pins:
            raise _NoProofError(f"the key of {self._server.shown}, {pin}, is not one of its pins")

    def _no_match(self, count: int) -> str:
        which = "its TLSA record" if count == 1 else f"any of its {count} TLSA records"
        return f"the certificate of {self._server.shown} does not match {which}"

    def _by_dane_ee(self, records: Sequence[TLSA]) -> Proved | None:
        record = _first(records, [self._leaf])
        if record is None:
            return None
        self._check_key(self._leaf)
        return Proved(str(record), record)

    def _by_pkix_ee(self, records: Sequence[TLSA]) -> Proved | None:
        record = _first(records, [self._leaf])
        return None if record is None else self._with_names(record, self._server.evidence)

    def _by_pkix_ta(self, records: Sequence[TLSA]) -> Proved | None:
        evidence = self._server.evidence
        # Without a verified path it is only for the words of the refusal what was sent.
        path = evidence.verified if evidence.error == 0 else evidence.chain
        record = _first(records, map(Certificate.read, path[1:])) if records else None
        return None if record is None else self._with_names(record, evidence)

    def _by_dane_ta(self, records: Sequence[TLSA]) -> Proved | None:
        problem: Exception | None = None
        for record, anchor in islice(self._anchors(records), MOST_PATHS):
            verified = self._verify(anchor, self._sent, self._now)
            evidence = attrs.evolve(verified, staple=self._server.evidence.staple)
            try:
                self._check_path(evidence, anchor)
                proved = self._with_names(record, evidence)
                if not self._server.initiating:
                    self._check_use(list(map(Certificate.read, evidence.verified)))
            except RevokedError:
                raise
            except (_NoProofError, UntrustedError) as error:
                problem = problem or _NoProofError(f"{error} ({record})")
            else:
                return proved
        if problem is not None:
            raise problem
        return None

    def _with_names(self, record: TLSA, evidence: Evidence) -> Proved:
        """Return the proof by a record, if the certificate is good for one of the names as well.

        Raises:
            UntrustedError: It is not.
        """
        server = self._server
        policy = attrs.evolve(server.policy, level=Level.SECURE)
        verdict = server.references.judge(
            policy,
            evidence,
            self._now,
            initiating=server.initiating,
            revocation=server.revocation,
        )
        return Proved(f"{verdict.identity}, {record}", record)

    def _anchors(self, records: Sequence[TLSA]) -> Iterator[tuple[TLSA, bytes]]:
        """Give authorities that records vouch for, as certificates: first those that were sent."""
        if not records:
            return
        above = [Certificate.read(each) for each in dict.fromkeys(self._sent[1:])]
        for certificate in above:
            record = _first(records, [certificate])
            if record is not None:
                yield record, certificate.whole
        for record in records:
            if record.matching != Matching.FULL or _first([record], above) is not None:
                continue
            if record.selector == Selector.CERT:
                yield record, record.data
            elif (made := self._made_up(record.data, above)) is not None:
                yield record, made

    def _made_up(self, key: bytes, above: Sequence[Certificate]) -> bytes | None:
        """Return a certificate for a key, as if of whoever has issued the topmost one sent.

        What the record lacks of a trust anchor is its name (RFC 7671, section 5.2.3). None if the
        key cannot be used.
        """
        path = [self._leaf]
        while (issuer := _issuer(path[-1], above)) is not None and issuer not in path:
            path.append(issuer)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a TLSA record")])
        try:
            builder = (
                x509.CertificateBuilder()
                .subject_name(x509.load_der_x509_certificate(path[-1].whole).issuer)
                .issuer_name(name)
                .public_key(load_der_public_key(key))  # type: ignore[arg-type]
                .serial_number(1)
                .not_valid_before(self._now - _DAY)
                .not_valid_after(self._now + _DAY)
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            )
        except (TypeError, ValueError, UnsupportedAlgorithm):
            return None
        # Who has signed a trust anchor does not matter.
        return builder.sign(Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)

    def _check_path(self, evidence: Evidence, anchor: bytes) -> None:
        """Check that a path, if there is one, leads from the server's certificate to the anchor."""
        ends = evidence.verified[:1] + evidence.verified[1:][-1:]
        if evidence.error == 0 and ends != (self._leaf.whole, anchor):
            raise _NoProofError(f"the certificates of {self._server.shown} lead elsewhere")

    def _check_use(self, path: Sequence[Certificate]) -> None:
        """Check the uses and the strength of a path, as TLS does for paths to trusted roots."""
        for certificate in path:
            usage = certificate.extensions().get(EXTENDED_KEY_USAGE)
            if usage is not None and not is_for_servers(usage):
                raise _NoProofError(NOT_FOR_SERVERS.format(self._server.shown))
            self._check_key(certificate)
        for certificate in path[:-1]:
            if weakness := signature_weakness(certificate.signature):
                raise _NoProofError(
                    f"a certificate of {self._server.shown} is signed too weakly ({weakness})"
                )

    def _check_key(self, certificate: Certificate) -> None:
        if weakness := key_weakness(certificate.key):
            whose = "the certificate" if certificate is self._leaf else "a certificate"
            raise _NoProofError(
                f"{whose} of {self._server.shown} has a key that is too weak ({weakness})"
            )


def _first(records: Iterable[TLSA], certificates: Iterable[Certificate]) -> TLSA | None:
    """Return the first record that is about any of the certificates."""
    about = list(certificates)
    return next((record for record in records if any(map(record.matches, about))), None)


def _issuer(certificate: Certificate, above: Sequence[Certificate]) -> Certificate | None:
    return next((each for each in above if each.subject == certificate.issuer), None)
