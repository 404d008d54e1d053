"""A keyring as text, to be backed up, looked at, or taken over by another keyring.

It is JSON (RFC 8259), one object::

    {
      "format": "bascule keyring",
      "version": 1,
      "entries": [
        {
          "domain": "example.net",                  in A-labels
          "stream": "s2s",                          or c2s
          "how": "operator",                        or pkix, dane, posh, pin
          "permitted_by": "alice",                  or policy
          "permitted_at": "2026-01-02T03:04:05+00:00",
          "first_seen": "2026-01-02T03:04:05+00:00",
          "last_seen": "2026-01-02T03:04:05+00:00",
          "revoked_by": "bob",                      both or neither
          "revoked_at": "2026-01-02T03:04:05+00:00",
          "certificate": "-----BEGIN CERTIFICATE-----..."
        }
      ],
      "rejected": [
        {
          "domain": "example.net",
          "stream": "s2s",
          "reason": "it is self-signed",            why it was not believed
          "rejected_by": "bob",
          "rejected_at": "2026-01-02T03:04:05+00:00",
          "certificate": "-----BEGIN CERTIFICATE-----..."
        }
      ],
      "seen": [
        {
          "domain": "example.net",
          "stream": "s2s",
          "tls_since": "2026-01-02T03:04:05+00:00", what it was once reached with, if it was
          "dane_since": "2026-01-02T03:04:05+00:00"
        }
      ]
    }

What waits for an operator is not in it, and what was revoked is among the entries only.
"""

import base64
import binascii
import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs

from proxy.trust.keyring.entry import STREAMS, Entry, Held, How, Revocation, Seen, State
from proxy.trust.keyring.facts import facts_of
from proxy.trust.keyring.rows import moment, seconds
from proxy.trust.keyring.store import LONGEST_REASON, Keyring
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

FORMAT: Final = "bascule keyring"
VERSION: Final = 1

_BEGIN: Final = "-----BEGIN CERTIFICATE-----\n"
_END: Final = "\n-----END CERTIFICATE-----\n"
_PEM: Final = re.compile(
    r"\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*"
)
_LINE: Final = 64

T = TypeVar("T")


@attrs.frozen
class Imported:
    """How many entries, rejections and memories of domains an import has changed, of how many."""

    changed: int
    total: int


def exported(keyring: Keyring, domains: Collection[str] | None = None) -> str:
    """Write a keyring as text.

    Args:
        keyring: The keyring.
        domains: The domains that are wanted, in A-labels; all when left out.

    Raises:
        KeyringError: It cannot be read.
    """

    def wanted(domain: str) -> bool:
        return domains is None or domain in domains

    entries = [entry for entry in keyring.entries() if wanted(entry.domain)]
    revoked = {
        (entry.domain, entry.stream, entry.certificate) for entry in entries if entry.revoked
    }
    rejected = [held for held in keyring.rejected() if wanted(held.domain)]
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "entries": [_entry(entry) for entry in entries],
        "rejected": [
            _rejected(held)
            for held in rejected
            if (held.domain, held.stream, held.certificate) not in revoked
        ],
        "seen": [
            _seen(domain, stream, seen)
            for domain, stream, seen in keyring.all_seen()
            if wanted(domain)
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def import_into(keyring: Keyring, text: str, now: datetime) -> Imported:
    """Add what another keyring has to what a keyring has: all of it, or nothing.

    What operators have permitted there is permitted here as well; what was rejected or revoked in
    either is so from now on.

    Args:
        keyring: The keyring.
        text: What `exported` has written.
        now: The present.

    Raises:
        KeyringError: The keyring cannot be changed.
        ValueError: The text is not as it should be; the message says where and why.
    """
    entries, rejected, seen = _parsed(text)
    with keyring.changing():
        changed = sum(keyring.merge(entry, now) for entry in entries)
        changed += sum(keyring.merge_rejected(held) for held in rejected)
        changed += sum(_merge_seen(keyring, *each) for each in seen)
    return Imported(changed, len(entries) + len(rejected) + len(seen))


def _merge_seen(keyring: Keyring, domain: str, stream: str, seen: Seen) -> bool:
    before = keyring.seen(domain, stream)
    if seen.tls_since is not None:
        keyring.note_seen(domain, stream, seen.tls_since, tls=True)
    if seen.dane_since is not None:
        keyring.note_seen(domain, stream, seen.dane_since, dane=True)
    return keyring.seen(domain, stream) != before


def _entry(entry: Entry) -> dict[str, str]:
    revocation = entry.revocation
    return {
        "domain": entry.domain,
        "stream": entry.stream,
        "how": entry.how.value,
        "permitted_by": entry.permitted_by,
        "permitted_at": entry.permitted_at.isoformat(),
        "first_seen": entry.first_seen.isoformat(),
        "last_seen": entry.last_seen.isoformat(),
        **({} if revocation is None else _revocation(revocation)),
        "certificate": pem(entry.certificate),
    }


def _revocation(revocation: Revocation) -> dict[str, str]:
    return {"revoked_by": revocation.by, "revoked_at": revocation.at.isoformat()}


def _rejected(held: Held) -> dict[str, str]:
    return {
        "domain": held.domain,
        "stream": held.stream,
        "reason": held.reason,
        "rejected_by": held.by,
        "rejected_at": held.since.isoformat(),
        "certificate": pem(held.certificate),
    }


def _seen(domain: str, stream: str, seen: Seen) -> dict[str, str]:
    since = {"tls_since": seen.tls_since, "dane_since": seen.dane_since}
    times = {name: time.isoformat() for name, time in since.items() if time is not None}
    return {"domain": domain, "stream": stream, **times}


def pem(certificate_der: bytes) -> str:
    """Write a certificate in DER as PEM (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(certificate_der).decode("ascii"), _LINE)
    return _BEGIN + "\n".join(lines) + _END


class _Fields:
    """An object of the text, whose members are taken out one by one."""

    def __init__(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'it'}: is not an object")  # noqa: TRY004 - of a text, not of a call
        self._prefix = f"{where}." if where else ""
        self._members: dict[str, Any] = dict(value)

    def take(self, name: str, read: Callable[[Any], T]) -> T:
        """Take a member that must be there."""
        if name not in self._members:
            raise ValueError(f"{self._prefix}{name}: is missing")
        try:
            return read(self._members.pop(name))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{self._prefix}{name}: {error}") from error

    def take_if_there(self, name: str, read: Callable[[Any], T]) -> T | None:
        """Take a member that need not be there."""
        return self.take(name, read) if name in self._members else None

    def items(self, name: str) -> Iterator["_Fields"]:
        """Take a list of objects, whose members must all be taken."""
        for number, value in enumerate(self.take(name, _list)):
            fields = _Fields(f"{self._prefix}{name}[{number}]", value)
            yield fields
            fields.finish()

    def finish(self) -> None:
        """Make sure that nothing is left, which nobody would have looked at."""
        if self._members:
            raise ValueError(f"{self._prefix}{printable(min(self._members))}: is not known")


def _parsed(text: str) -> tuple[list[Entry], list[Held], list[tuple[str, str, Seen]]]:
    try:
        whole = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    fields = _Fields("", whole)
    if (fields.take("format", _text), fields.take("version", repr)) != (FORMAT, repr(VERSION)):
        raise ValueError(f'it is not a "{FORMAT}" of version {VERSION}')
    entries = [_read_entry(each) for each in fields.items("entries")]
    rejected = [_read_rejected(each) for each in fields.items("rejected")]
    seen = [_read_seen(each) for each in fields.items("seen")]
    fields.finish()
    return entries, rejected, seen


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _read_entry(fields: _Fields) -> Entry:
    certificate = fields.take("certificate", _certificate)
    revoked_by = fields.take_if_there("revoked_by", _text)
    revoked_at = fields.take_if_there("revoked_at", _time)
    revocation = None
    if revoked_by is not None and revoked_at is not None:
        revocation = Revocation(revoked_at, revoked_by)
    elif revoked_by is not None or revoked_at is not None:
        raise ValueError("revoked_by and revoked_at: one is there without the other")
    return Entry(
        domain=fields.take("domain", _domain),
        stream=fields.take("stream", _stream),
        certificate=certificate,
        facts=facts_of(certificate),
        how=fields.take("how", _how),
        permitted_by=fields.take("permitted_by", _text),
        permitted_at=fields.take("permitted_at", _time),
        first_seen=fields.take("first_seen", _time),
        last_seen=fields.take("last_seen", _time),
        revocation=revocation,
    )


def _read_rejected(fields: _Fields) -> Held:
    certificate = fields.take("certificate", _certificate)
    since = fields.take("rejected_at", _time)
    return Held(
        id="",
        domain=fields.take("domain", _domain),
        stream=fields.take("stream", _stream),
        certificate=certificate,
        facts=facts_of(certificate),
        reason=fields.take("reason", _text),
        change=False,
        first_seen=since,
        last_seen=since,
        count=0,
        state=State.REJECTED,
        since=since,
        by=fields.take("rejected_by", _text),
    )


def _read_seen(fields: _Fields) -> tuple[str, str, Seen]:
    domain = fields.take("domain", _domain)
    stream = fields.take("stream", _stream)
    tls_since = fields.take_if_there("tls_since", _time)
    dane_since = fields.take_if_there("dane_since", _time)
    return domain, stream, Seen(tls_since, dane_since)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("is not a list")  # noqa: TRY004 - likewise
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("is not a text")
    if len(value) > LONGEST_REASON:
        raise ValueError(f"has more than {LONGEST_REASON} characters")
    # The backslash may stand there, as what shows a character that may not.
    plain = value.replace("\\", "")
    if printable(plain, LONGEST_REASON) != plain:
        raise ValueError("has characters that cannot be shown")
    return value


def _domain(value: object) -> str:
    text = _text(value)
    if a_labels(text) != text:
        raise ValueError("is not a domain in A-labels and lower case")
    return text


def _stream(value: object) -> str:
    if value not in STREAMS:
        raise ValueError(f"is not one of {', '.join(STREAMS)}")
    return str(value)


def _how(value: object) -> How:
    try:
        return How(value)
    except ValueError:
        words = ", ".join(how.value for how in How)
        raise ValueError(f"is not one of {words}") from None


def _time(value: object) -> datetime:
    try:
        return moment(seconds(datetime.fromisoformat(_text(value))))
    except (ValueError, OverflowError):
        raise ValueError("is not a time with a time zone, as 2026-01-02T03:04:05+00:00") from None


def _certificate(value: object) -> bytes:
    found = _PEM.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not one certificate in PEM")
    try:
        certificate = base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error:
        raise ValueError("is not one certificate in PEM") from None
    facts_of(certificate)
    return certificate
