"""Between the keyring's values and the rows of its file."""

import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from proxy.trust.keyring.entry import Entry, Held, How, Revocation, Seen, State
from proxy.trust.keyring.facts import Facts, colons, digest
from proxy.trust.policy import Pin

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""The characters of ids: none that looks like another one."""

ID_LENGTH: Final = 8

_MISTAKEN: Final = str.maketrans("oil", "011")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_CERTIFICATE: Final = slice(2, 10)


def seconds(moment: datetime) -> int:
    """Return a time as the file has it: whole seconds since 1970, fractions cut off.

    Raises:
        ValueError: It has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    return (moment - _EPOCH) // _SECOND


def moment(count: int) -> datetime:
    """Return the time that `seconds` has made that number of, in UTC."""
    return _EPOCH + count * _SECOND


def new_id(secret: bytes, domain: str, stream: str, fingerprint: bytes, attempt: int) -> str:
    """Derive the id of a certificate that is held.

    Args:
        secret: The keyring's own, without which nobody can aim at an id that another one has.
        domain: The domain.
        stream: The kind of stream.
        fingerprint: The octets of the certificate's fingerprint.
        attempt: How many ids of this certificate were those of others already.
    """
    text = b"\0".join((domain.encode(), stream.encode(), str(attempt).encode(), fingerprint))
    number = int.from_bytes(hmac.digest(secret, text, "sha256"), "big")
    letters = []
    for _ in range(ID_LENGTH):
        number, letter = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[letter])
    return "".join(letters)


def read_id(text: str) -> str:
    """Return the id that somebody has typed: capitals, and letters like digits, do no harm."""
    return text.strip().lower().translate(_MISTAKEN)


def certificate_row(certificate: bytes, facts: Facts) -> tuple[Any, ...]:
    """Return a certificate's row, from ``fingerprint`` on."""
    return (
        digest(certificate),
        certificate,
        facts.pin,
        facts.subject,
        facts.issuer,
        json.dumps(facts.names),
        seconds(facts.not_before),
        seconds(facts.not_after),
    )


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry that a row of ``known`` is.

    Raises:
        ValueError: None that Bascule has written is so.
    """
    domain, stream = row[:2]
    certificate, facts = _certificate_of(row[_CERTIFICATE])
    how, permitted_by, permitted_at, first_seen, last_seen, revoked_at, revoked_by = row[10:]
    return Entry(
        domain=domain,
        stream=stream,
        certificate=certificate,
        facts=facts,
        how=How(how),
        permitted_by=permitted_by,
        permitted_at=moment(permitted_at),
        first_seen=moment(first_seen),
        last_seen=moment(last_seen),
        revocation=None if revoked_at is None else Revocation(moment(revoked_at), revoked_by),
    )


def held_of(row: Sequence[Any]) -> Held:
    """Return what a row of ``doubted`` is; errors as for `entry_of`."""
    domain, stream = row[:2]
    certificate, facts = _certificate_of(row[_CERTIFICATE])
    held_id, reason, change, first_seen, last_seen, count, state, since, by = row[10:]
    return Held(
        id=held_id,
        domain=domain,
        stream=stream,
        certificate=certificate,
        facts=facts,
        reason=reason,
        change=bool(change),
        first_seen=moment(first_seen),
        last_seen=moment(last_seen),
        count=count,
        state=State(state),
        since=moment(since),
        by=by,
    )


def seen_of(row: Sequence[Any]) -> Seen:
    """Return what a domain was seen with, from the two times of its row."""
    tls_since, dane_since = (None if count is None else moment(count) for count in row)
    return Seen(tls_since, dane_since)


def _certificate_of(columns: Sequence[Any]) -> tuple[bytes, Facts]:
    der, fingerprint, pin, subject, issuer, names, not_before, not_after = columns
    if der is None or digest(der) != fingerprint:
        raise ValueError("a certificate is not the one it was")
    facts = Facts(
        fingerprint=colons(fingerprint),
        pin=Pin.parse(pin),
        subject=subject,
        issuer=issuer,
        names=tuple(map(str, json.loads(names))),
        not_before=moment(not_before),
        not_after=moment(not_after),
    )
    return der, facts
