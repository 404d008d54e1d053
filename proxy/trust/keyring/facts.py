"""What people compare and are told of a certificate, each part fit to be shown."""

import hashlib
import re
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Final

import attrs
from cryptography import x509

from proxy.trust.certificate import SUBJECT_ALT_NAME, Certificate
from proxy.trust.identities import presented
from proxy.trust.policy import Pin, pin_of_key
from proxy.trust.verdict import LARGEST_CERTIFICATE
from proxy.xmpp.text import printable

LONGEST_NAME: Final = 200
"""How many characters of a name are kept, as it is shown."""

MOST_NAMES: Final = 100
"""How many identities of a certificate are kept."""

UNREADABLE: Final = "(a name that cannot be read)"
"""Stands for a subject or an issuer that is malformed."""

NAMELESS: Final = "(no name)"
"""Stands for an empty one, as a subject may be where a subjectAltName says it all."""

_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")


@attrs.frozen
class Facts:
    """What is told of a certificate.

    Attributes:
        fingerprint: SHA-256 of its DER, as hexadecimal octets with colons between them.
        pin: The pin of its key.
        subject: Its subject's distinguished name (RFC 4514), `NAMELESS` or `UNREADABLE`.
        issuer: Its issuer's, likewise.
        names: The identities it presents, an XmppAddr as ``xmpp:`` and its text; at most
            `MOST_NAMES`, and none if they cannot be read.
        not_before: The first moment of its life, in UTC.
        not_after: The last one.
    """

    fingerprint: str
    pin: Pin
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def facts_of(certificate_der: bytes) -> Facts:
    """Read what is told of a certificate.

    Raises:
        ValueError: It is too large, or is not made as certificates are; the message is a clause
            about it.
    """
    if len(certificate_der) > LARGEST_CERTIFICATE:
        raise ValueError(
            f"it has {len(certificate_der)} octets; at most {LARGEST_CERTIFICATE} are kept"
        )
    certificate = Certificate.read(certificate_der)
    not_before, not_after = certificate.validity()
    return Facts(
        fingerprint=colons(digest(certificate_der)),
        pin=pin_of_key(certificate.key),
        subject=_name(certificate_der, lambda parsed: parsed.subject),
        issuer=_name(certificate_der, lambda parsed: parsed.issuer),
        names=_names(certificate),
        not_before=not_before,
        not_after=not_after,
    )


def digest(certificate_der: bytes) -> bytes:
    """Return the 32 octets of a certificate's fingerprint."""
    return hashlib.sha256(certificate_der).digest()


def colons(octets: bytes) -> str:
    """Write a fingerprint as operators compare them: ``AB:01:…``."""
    return octets.hex(":").upper()


def fingerprint_octets(text: str) -> bytes | None:
    """Return the octets of a fingerprint, with or without colons; ``None`` if it is none."""
    if not _FINGERPRINT.fullmatch(text):
        return None
    return bytes.fromhex(text.replace(":", ""))


def cut(shown: str, most: int) -> str:
    """Cut a text that is fit to be shown; what is cut ends in an ellipsis."""
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _names(certificate: Certificate) -> tuple[str, ...]:
    try:
        found = presented(certificate.extensions().get(SUBJECT_ALT_NAME)).names()
    except ValueError:
        return ()
    return tuple(map(_kept, list(dict.fromkeys(found))[:MOST_NAMES]))


def _name(certificate_der: bytes, part: Callable[[x509.Certificate], x509.Name]) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography warns of what the verdict is about
            text = part(x509.load_der_x509_certificate(certificate_der)).rfc4514_string()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic of cryptography is no Exception
        return UNREADABLE
    return _kept(text) or NAMELESS


def _kept(name: str) -> str:
    """Make a name fit to be shown, and cut it then: one character may be shown as ten."""
    return cut(printable(name, LONGEST_NAME), LONGEST_NAME)
