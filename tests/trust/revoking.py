"""What authorities say of certificates that they have issued: revocation lists, OCSP responses."""

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.revocation import RevocationList, RevocationLists
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from tests.authority import Authority
from tests.trust.showing import DAY, NAME, NOW, issued

FILE = Path("/etc/bascule/lists.pem")
POLICY = Policy(Pattern.parse("*"), crl_files=(FILE,))

MUST_STAPLE = x509.TLSFeature([x509.TLSFeatureType.status_request])
RESPONDER = ExtendedKeyUsageOID.OCSP_SIGNING

GOOD = ocsp.OCSPCertStatus.GOOD
REVOKED = ocsp.OCSPCertStatus.REVOKED
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN

Extension = tuple[x509.ExtensionType, bool]


def number(certificate: bytes) -> int:
    return x509.load_der_x509_certificate(certificate).serial_number


def entry(
    serial: int,
    reason: x509.ReasonFlags | None = None,
    *,
    at: dt.datetime = NOW - DAY,
    extensions: Iterable[Extension] = (),
) -> x509.RevokedCertificate:
    """A certificate on a list."""
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build()


def crl(
    by: Authority,
    *entries: x509.RevokedCertificate,
    life: tuple[dt.datetime, dt.datetime] = (NOW - DAY, NOW + DAY),
    extensions: Iterable[Extension] = (),
    name: x509.Name | None = None,
) -> bytes:
    """A list in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or by.certificate.subject)
        .last_update(life[0])
        .next_update(life[1])
    )
    for each in entries:
        builder = builder.add_revoked_certificate(each)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by._key, _digest(by._key)).public_bytes(Encoding.DER)


def _digest(key: Any) -> hashes.SHA256 | None:
    hashless = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return None if hashless else hashes.SHA256()


def issuing_point(**kinds: Any) -> Extension:
    """The extension that says what a list is about."""
    none: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**none | kinds), True


def revocation(*lists: bytes) -> RevocationLists:
    return RevocationLists({FILE: tuple(map(RevocationList, lists))})


def held_against(
    shown: Evidence,
    *lists: bytes,
    level: Level = Level.SECURE,
    initiating: bool = False,
    now: dt.datetime = NOW,
) -> Verdict:
    """The verdict on what a server showed, by a policy that names these lists."""
    policy = attrs.evolve(POLICY, level=level)
    found = revocation(*lists)
    return judge(NAME, CLIENT_SERVICE, policy, shown, now, initiating=initiating, revocation=found)


def refusal(shown: Evidence, *lists: bytes, **how: Any) -> str:
    """Why a server is refused; where nothing is demanded, it is as untrusted as that."""
    with pytest.raises(UntrustedError) as refused:
        held_against(shown, *lists, **how)
    assert refused.value.status is Status.UNTRUSTED
    text = str(refused.value)
    assert held_against(shown, *lists, level=Level.ENCRYPT, **how) == Verdict(
        Status.UNTRUSTED, "", text
    )
    return text


def passes(shown: Evidence, *lists: bytes, **how: Any) -> bool:
    return held_against(shown, *lists, **how).status is Status.VERIFIED


class Responder:
    """Who answers for an authority: itself, or whom it has charged with that.

    Args:
        authority: The authority.
        by: Who has issued the responder's certificate; the authority, if there are identities.
        identities: What `Authority.issue` may be asked for; without any the authority answers.
    """

    def __init__(
        self, authority: Authority, by: Authority | None = None, **identities: Any
    ) -> None:
        self._authority = authority
        self._key: Any = authority._key
        self._certificates: list[x509.Certificate] = []
        self._own = authority.certificate
        if by is not None or identities:
            files = (by or authority).issue("responder", **identities)
            self._own = x509.load_pem_x509_certificates(files[0].read_bytes())[0]
            self._certificates = [self._own]
            self._key = load_pem_private_key(files[1].read_bytes(), None)

    def response(
        self,
        certificate: bytes,
        status: ocsp.OCSPCertStatus = GOOD,
        *,
        life: tuple[dt.datetime, dt.datetime | None] = (NOW - DAY, NOW + DAY),
        at: dt.datetime | None = None,
        reason: x509.ReasonFlags | None = None,
        digest: hashes.HashAlgorithm | None = None,
        sends: Sequence[x509.Certificate] | None = None,
        extensions: Iterable[Extension] = (),
        signed: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """What it says of a certificate, in DER."""
        if status is REVOKED:
            at = at or NOW - DAY
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                x509.load_der_x509_certificate(certificate),
                self._authority.certificate,
                digest or hashes.SHA1(),
                status,
                *life,
                at,
                reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self._own)
        )
        with_it = self._certificates if sends is None else sends
        if with_it:
            builder = builder.certificates(with_it)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        algorithm = signed or _digest(self._key)
        return builder.sign(self._key, algorithm).public_bytes(Encoding.DER)


def stapling(by: Authority, **identities: Any) -> tuple[bytes, ...]:
    """A chain whose first certificate demands a stapled response."""
    return issued(by, extensions=[MUST_STAPLE], **identities)
