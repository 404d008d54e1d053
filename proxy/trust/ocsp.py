"""Stapled OCSP responses (RFC 6960, RFC 6066 section 8): what an issuer says of a certificate.

Certificates may demand one (RFC 7633). Then only one counts that says that all is well, and that
holds in every respect; one that nobody has demanded counts only if it holds and says the contrary.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.ocsp import (
    OCSPCertStatus,
    OCSPResponse,
    OCSPResponseStatus,
    load_der_ocsp_response,
)
from cryptography.x509.oid import SignatureAlgorithmOID

from proxy.trust import der
from proxy.trust.certificate import (
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    Certificate,
    is_for_signatures,
)
from proxy.trust.revocation import revoked_problem, serial_number
from proxy.trust.strength import key_weakness, signature_weakness

LARGEST_RESPONSE: Final = 64 * 1024
"""How many octets a response may have."""

MOST_RESPONDERS: Final = 4
"""How many certificates that come with a response are tried."""

TLS_FEATURE: Final = bytes.fromhex("2b06010505070118")
"""The extension of RFC 7633, by the contents of its object identifier."""

OCSP_SIGNING: Final = bytes.fromhex("2b06010505070309")
"""The extended key usage of responders (RFC 6960, section 4.2.2.2), likewise."""

_STATUS_REQUEST: Final = 5
_DIGESTS: Final = frozenset({"sha1", "sha256", "sha384", "sha512"})
_STRONG_DIGESTS: Final = _DIGESTS - {"sha1"}
_CANNOT_BE_READ: Final = "cannot be read"


class _UnusableError(Exception):
    """A response says nothing that counts; why, as a clause that begins with its verb."""


def demands_staple(certificate: Certificate) -> bool:
    """Whether a certificate, or those that it may issue, must come with a response (RFC 7633).

    Raises:
        ValueError: The extension that says so is malformed.
    """
    value = certificate.extensions().get(TLS_FEATURE)
    if value is None:
        return False
    features = list(der.elements(der.only(value, der.SEQUENCE)))
    if any(tag != der.INTEGER for tag, _ in features):
        raise ValueError("its TLS features are malformed")
    return any(int.from_bytes(number, "big") == _STATUS_REQUEST for _, number in features)


def staple_problem(domain: str, path: Sequence[Certificate], staple: bytes, now: datetime) -> str:
    """Return what a stapled response, or the want of one, has against a server; "" if nothing.

    Args:
        domain: The domain, fit to be shown.
        path: Its certificates as verified, its own first, the trust anchor last.
        staple: The response in DER; empty if there was none.
        now: The time to judge by, with a time zone.

    Raises:
        ValueError: A certificate is malformed.
    """
    demanded = any(map(demands_staple, path))
    if not staple:
        if not demanded:
            return ""
        return f"the certificate of {domain} demands a stapled OCSP response, and none came"
    # Who trusts a server's own certificate has nobody else to ask about it.
    leaf, issuer = path[0], path[1] if len(path) > 1 else path[0]
    try:
        revoked = _revoked(_response(staple, leaf, issuer, now))
    except _UnusableError as why:
        if not demanded:
            return ""
        return (
            f"the certificate of {domain} demands a stapled OCSP response, and the one "
            f"that came {why}"
        )
    return "" if revoked is None else revoked_problem(f"the certificate of {domain}", *revoked)


def _revoked(response: OCSPResponse) -> tuple[datetime, x509.ReasonFlags | None] | None:
    """Return when and why a certificate was revoked, by a response that holds; None if all is well.

    Raises:
        _UnusableError: It says neither.
    """
    status, moment = response.certificate_status, response.revocation_time_utc
    if status is OCSPCertStatus.GOOD:
        return None
    if status is not OCSPCertStatus.REVOKED or moment is None:
        raise _UnusableError("says that its issuer does not know it")
    return moment, response.revocation_reason


def _response(staple: bytes, leaf: Certificate, issuer: Certificate, now: datetime) -> OCSPResponse:
    """Return a response that is about a certificate and holds, whatever it says.

    Raises:
        _UnusableError: It does not.
    """
    if len(staple) > LARGEST_RESPONSE:
        raise _UnusableError("is too large")
    try:
        response = load_der_ocsp_response(staple)
        if response.response_status is not OCSPResponseStatus.SUCCESSFUL:
            raise _UnusableError(f"is only an error ({response.response_status.name.lower()})")
        _check_form(response)
        _check_subject(response, leaf, issuer)
        _check_signature(response, issuer, now)
        _check_dates(response, now)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _UnusableError(_CANNOT_BE_READ) from error
    return response


def _check_form(response: OCSPResponse) -> None:
    # Of several answers in one, the extensions could not be looked at.
    if sum(1 for _ in response.responses) != 1:
        raise _UnusableError("is about several certificates")
    if any(each.critical for each in (*response.extensions, *response.single_extensions)):
        raise _UnusableError("has a critical extension that is unknown here")


def _check_subject(response: OCSPResponse, leaf: Certificate, issuer: Certificate) -> None:
    """Check that the response is about the certificate (CertID, RFC 6960, section 4.1.1)."""
    digest = response.hash_algorithm.name
    if digest not in _DIGESTS:
        raise _UnusableError(_CANNOT_BE_READ)
    key = dict(der.elements(der.only(issuer.key, der.SEQUENCE)))[der.BIT_STRING]
    expected = (
        hashlib.new(digest, der.encoded(der.SEQUENCE, leaf.issuer)).digest(),
        hashlib.new(digest, key[1:]).digest(),
        serial_number(leaf),
    )
    found = (response.issuer_name_hash, response.issuer_key_hash, response.serial_number)
    if expected != found:
        raise _UnusableError("is about another certificate")


def _check_dates(response: OCSPResponse, now: datetime) -> None:
    begin, end = response.this_update_utc, response.next_update_utc
    if end is None:
        raise _UnusableError("does not say how long it holds (nextUpdate)")
    if now > end:
        raise _UnusableError(f"ended on {end:%Y-%m-%d}")
    if now < begin:
        raise _UnusableError(f"begins on {begin:%Y-%m-%d}")


def _check_signature(response: OCSPResponse, issuer: Certificate, now: datetime) -> None:
    """Check that the issuer has signed it, or whom it has charged with that."""
    digest = response.signature_hash_algorithm
    if digest is not None and digest.name not in _STRONG_DIGESTS:
        raise _UnusableError(f"is signed too weakly ({digest.name.upper()})")
    if not any(_is_signed_by(response, key) for key in _keys(response, issuer, now)):
        raise _UnusableError("is not signed by its issuer, nor by a responder of that")


def _keys(response: OCSPResponse, issuer: Certificate, now: datetime) -> Iterator[bytes]:
    """Give the keys that may sign responses for an issuer, its own first."""
    yield issuer.key
    above = x509.load_der_x509_certificate(issuer.whole)
    for each in response.certificates[:MOST_RESPONDERS]:
        responder = Certificate.read(each.public_bytes(Encoding.DER))
        if responder.key != issuer.key and _is_responder(responder, each, above, now):
            yield responder.key


def _is_responder(
    responder: Certificate, parsed: x509.Certificate, issuer: x509.Certificate, now: datetime
) -> bool:
    """Whether an issuer has, for now, made the holder of a certificate its responder."""
    try:
        parsed.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    extensions = responder.extensions()
    usage, extended = extensions.get(KEY_USAGE), extensions.get(EXTENDED_KEY_USAGE)
    begin, end = responder.validity()
    return (
        begin <= now <= end
        and extended is not None
        # That it may be for anything is not enough (section 4.2.2.2).
        and (der.OBJECT_IDENTIFIER, OCSP_SIGNING)
        in list(der.elements(der.only(extended, der.SEQUENCE)))
        and (usage is None or is_for_signatures(usage))
        and not key_weakness(responder.key)
        and not signature_weakness(responder.signature)
        and not any(
            each.critical and isinstance(each.value, x509.UnrecognizedExtension)
            for each in parsed.extensions
        )
    )


def _is_signed_by(response: OCSPResponse, key: bytes) -> bool:
    public, digest = load_der_public_key(key), response.signature_hash_algorithm
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        match public:
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() if digest is None:
                public.verify(signature, signed)
            case ec.EllipticCurvePublicKey() if digest is not None:
                public.verify(signature, signed, ec.ECDSA(digest))
            case rsa.RSAPublicKey() if digest is not None and _is_pkcs_1(response):
                public.verify(signature, signed, padding.PKCS1v15(), digest)
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _is_pkcs_1(response: OCSPResponse) -> bool:
    """Whether RSA is padded the usual way; the parameters of the other one cannot be seen here."""
    return response.signature_algorithm_oid != SignatureAlgorithmOID.RSASSA_PSS
