"""What stands in the certificates that a server showed, each part fit to be shown."""

import warnings
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeVar

import attrs
from cryptography import x509

from proxy.trust.certificate import SUBJECT_ALT_NAME, Certificate
from proxy.trust.evidence import Evidence
from proxy.trust.identities import presented
from proxy.trust.keyring.facts import colons, digest
from proxy.trust.policy import Pin, pin_of_key
from proxy.trust.verdict import LARGEST_CERTIFICATE, LONGEST_CHAIN
from proxy.xmpp.text import printable

LONGEST_NAME: Final = 200
"""How many characters of a name are kept."""

MOST_NAMES: Final = 100
"""How many identities of each kind are kept."""

T = TypeVar("T")


@attrs.frozen
class Link:
    """One certificate of a chain; None stands for what cannot be read.

    Attributes:
        subject: its subject's distinguished name (RFC 4514).
        issuer: its issuer's.
        not_before: the first moment of its life, in UTC.
        not_after: the last one.
        days_left: whole days until then; negative when they are over.
        days_until_valid: days until the first moment, begun ones included; 0 when it has come.
    """

    subject: str | None
    issuer: str | None
    not_before: datetime | None
    not_after: datetime | None
    days_left: int | None
    days_until_valid: int | None


@attrs.frozen
class Identities:
    """The identities that a certificate presents.

    Attributes:
        dns: DNS-IDs, at most `MOST_NAMES`.
        srv: SRV-IDs, likewise.
        xmpp: XmppAddrs, likewise.
        count: how many there are in all, those left out included.
        problem: why they cannot be read; empty if they can.
    """

    dns: tuple[str, ...] = ()
    srv: tuple[str, ...] = ()
    xmpp: tuple[str, ...] = ()
    count: int = 0
    problem: str = ""


@attrs.frozen
class Shown:
    """What a server showed: its chain, and of its own certificate the identities and the pin.

    Attributes:
        chain: the certificates as they came, its own first; at most `LONGEST_CHAIN`.
        length: how many came.
        identities: those of its own certificate.
        fingerprint: SHA-256 of its own certificate, as `proxy.trust.keyring.facts.colons` writes
            it; None without any.
        pin: that of its own key; None if it cannot be read.
        tlsa: a TLSA record for its own key, DANE-EE by SHA-256, as in a zone file (``3 1 1 …``);
            likewise.
    """

    chain: tuple[Link, ...]
    length: int
    identities: Identities
    fingerprint: str | None
    pin: Pin | None
    tlsa: str | None


def read(evidence: Evidence, now: datetime) -> Shown:
    """Read what a handshake showed, as far as it can be read.

    Args:
        evidence: what it showed.
        now: the time from which days are counted, with a time zone.
    """
    ders = [der for der in evidence.chain[:LONGEST_CHAIN] if len(der) <= LARGEST_CERTIFICATE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography warns of what the verdict is about
        chain = tuple(_link(der, now) for der in ders)
    leaf = evidence.chain[0] if evidence.chain else b""
    if len(leaf) > LARGEST_CERTIFICATE:
        leaf = b""
    key = _if_readable(lambda: Certificate.read(leaf).key)
    return Shown(
        chain,
        len(evidence.chain),
        _identities(leaf),
        fingerprint=colons(digest(leaf)) if leaf else None,
        pin=None if key is None else pin_of_key(key),
        tlsa=None if key is None else f"3 1 1 {sha256(key).hexdigest()}",
    )


def _link(der: bytes, now: datetime) -> Link:
    dates = _if_readable(lambda: Certificate.read(der).validity())
    begin, end = dates or (None, None)
    return Link(
        subject=_if_readable(lambda: _name(x509.load_der_x509_certificate(der).subject)),
        issuer=_if_readable(lambda: _name(x509.load_der_x509_certificate(der).issuer)),
        not_before=begin,
        not_after=end,
        days_left=None if end is None else (end - now).days,
        days_until_valid=None if begin is None else max(0, -((now - begin).days)),
    )


def _name(name: x509.Name) -> str:
    return printable(name.rfc4514_string(), LONGEST_NAME)


def _if_readable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a panic of cryptography is no Exception
        return None


def _identities(leaf: bytes) -> Identities:
    try:
        found = presented(Certificate.read(leaf).extensions().get(SUBJECT_ALT_NAME))
    except ValueError as error:
        return Identities(problem=printable(str(error)))
    if not found.stated:
        return Identities(problem="it has no subjectAltName")
    return Identities(
        dns=_kept(found.dns),
        srv=_kept(found.srv),
        xmpp=_kept(found.xmpp),
        count=len(found.names()),
    )


def _kept(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(printable(name, LONGEST_NAME) for name in names[:MOST_NAMES])
