"""Words for what OpenSSL found wrong with a chain, so that an operator knows what to do."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509

from proxy.trust.certificate import EXTENDED_KEY_USAGE, Certificate, is_for_servers
from proxy.trust.evidence import Evidence
from proxy.xmpp.text import printable

NOT_FOR_SERVERS: Final = "the certificate of {} is not meant for servers (extended key usage)"

_LONGEST_NAME: Final = 120


def dates_problem(who: str, certificate: Certificate, now: datetime) -> str:
    """Return what is wrong with a certificate's dates, beginning with its verb; "" if nothing."""
    begin, end = certificate.validity()
    if now > end:
        return f"{who} expired on {end:%Y-%m-%d}"
    if now < begin:
        return f"{who} is not valid before {begin:%Y-%m-%d}"
    return ""


def chain_problem(
    domain: str, evidence: Evidence, chain: Sequence[Certificate], now: datetime
) -> str:
    """Return why OpenSSL refused a chain.

    Args:
        domain: The domain, fit to be shown.
        evidence: What the handshake showed, with an error.
        chain: Its certificates, taken apart; at least one.
        now: The time to judge validity by, with a time zone.

    Raises:
        ValueError: A certificate is malformed where the reason was looked for.
    """
    explain = _REASONS.get(evidence.error)
    reason = explain(domain, chain, now) if explain else ""
    if reason:
        return reason
    words = printable(evidence.error_text) or f"error {evidence.error}"
    return f"the certificate of {domain} was refused: {words}"


def _dates(domain: str, chain: Sequence[Certificate], now: datetime) -> str:
    problem = dates_problem(f"the certificate of {domain}", chain[0], now)
    for certificate in chain[1:]:
        who = f"the certificate of the authority {_subject(certificate)}, above that of {domain},"
        problem = problem or dates_problem(who, certificate, now)
    return problem


def _unknown_issuer(domain: str, chain: Sequence[Certificate], _now: datetime) -> str:
    path = [chain[0]]
    while (above := _issuer_of(path[-1], chain)) is not None and above not in path:
        path.append(above)
    last = path[-1]
    if len(path) == 1 and last.issuer == last.subject:
        return f"the certificate of {domain} is self-signed, and not among the trusted ones"
    name = _issuer(last)
    if len(path) == 1:
        return (
            f"the certificate of {domain} was issued by {name}, which is not a trusted root "
            "and whose certificate the server did not send"
        )
    return f"the certificates of {domain} lead to {name}, which is not a trusted root"


def _purpose(domain: str, chain: Sequence[Certificate], _now: datetime) -> str:
    usage = chain[0].extensions().get(EXTENDED_KEY_USAGE)
    if usage is None or is_for_servers(usage):
        return ""
    return NOT_FOR_SERVERS.format(domain)


_Reason = Callable[[str, Sequence[Certificate], datetime], str]

_REASONS: Final[dict[int, _Reason]] = {
    2: _unknown_issuer,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
    9: _dates,  # X509_V_ERR_CERT_NOT_YET_VALID
    10: _dates,  # X509_V_ERR_CERT_HAS_EXPIRED
    18: _unknown_issuer,  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
    19: _unknown_issuer,  # X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
    20: _unknown_issuer,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _unknown_issuer,  # X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
    26: _purpose,  # X509_V_ERR_INVALID_PURPOSE
}
"""OpenSSL's codes (``x509_vfy.h``) that can be told better than in its own words."""


def _issuer_of(certificate: Certificate, chain: Sequence[Certificate]) -> Certificate | None:
    return next((each for each in chain if each.subject == certificate.issuer), None)


def _subject(certificate: Certificate) -> str:
    return _name(certificate, lambda parsed: parsed.subject)


def _issuer(certificate: Certificate) -> str:
    return _name(certificate, lambda parsed: parsed.issuer)


def _name(certificate: Certificate, part: Callable[[x509.Certificate], x509.Name]) -> str:
    try:
        text = part(x509.load_der_x509_certificate(certificate.whole)).rfc4514_string()
    except ValueError:
        return "(a name that cannot be read)"
    return f'"{printable(text, _LONGEST_NAME)}"' if text else "(an authority without a name)"
