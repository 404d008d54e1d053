"""What an operator is told of a certificate: what has happened, and what to do now.

RFC 3261 section 23.2: of a certificate that cannot be vouched for its subject, its signer and its
fingerprint; of one that differs from those in the keyring that it may be a breach.

What operators compare and type comes first, and in quotation marks, at the end, what a stranger may
have chosen: no name can pass for a fingerprint, or push one out of the text.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Final

import attrs

from proxy.trust.keyring.entry import Entry, Held, Seen
from proxy.trust.keyring.facts import Facts, cut
from proxy.trust.keyring.store import LONGEST_REASON
from proxy.xmpp.text import printable

KNOWN_SHOWN: Final = 3
"""How many of a domain's certificates the text of an alert names."""

KNOWN_IN_FIELDS: Final = 10
"""How many its fields name."""

NAMES_SHOWN: Final = 5
"""How many of a certificate's identities the text names."""

LONGEST_QUOTED: Final = 120
"""How many characters of a name the text has, as it is shown."""


class Kind(Enum):
    """What an alert is about."""

    UNKNOWN = "unknown"
    """A certificate that nothing vouches for, of a domain without any in the keyring."""
    CHANGE = "change"
    """Another certificate than those in the keyring, which is not let in: a possible breach."""
    RENEWAL = "renewal"
    """Another certificate than those in the keyring, which is proved, and let in."""
    REJECTED = "rejected"
    """A certificate that an operator has rejected."""
    REVOKED = "revoked"
    """One that an operator has revoked."""
    DOWNGRADE = "downgrade"
    """A domain has less security than it once had."""
    EXPIRY = "expiry"
    """The life of a certificate ends, or that of a permitted one has ended."""
    FAULT = "fault"
    """The keyring could not be asked, so the answer was no."""


class Severity(Enum):
    """How soon somebody should look, in syslog's words."""

    NOTICE = "notice"
    """Nothing is refused."""
    WARNING = "warning"
    """Something is refused, or soon will be, until somebody decides."""
    CRITICAL = "critical"
    """An attack may be in progress."""


@attrs.frozen
class Alert:
    """Something that an operator should know.

    Attributes:
        kind: What it is about.
        severity: How soon somebody should look.
        domain: The domain, in A-labels; empty if it is about all.
        stream: The kind of stream; likewise.
        text: What has happened and what to do now, on one line and fit to be shown.
        fields: The same for programs, by name.
        key: The same for what is one event, however often it is met.
    """

    kind: Kind
    severity: Severity
    domain: str
    stream: str
    text: str
    fields: Mapping[str, str] = attrs.field(repr=False)
    key: str = attrs.field(repr=False)


def unknown(held: Held) -> Alert:
    """Tell of a certificate that nothing vouches for."""
    text = (
        f"{_who(held)} shows a certificate that is not believed. {_marked(held)}. "
        f"{_to_decide(held)}. {_described(held.facts)}. {_because(held)}"
    )
    return _of_held(Kind.UNKNOWN, Severity.WARNING, held, text)


def change(held: Held, known: Sequence[Entry], more: int = 0) -> Alert:
    """Tell of a certificate that is held, though the domain has others in the keyring.

    Args:
        held: The certificate.
        known: Others of its domain, the latest at least.
        more: How many others there are besides.
    """
    text = (
        f"possible security breach: {_who(held)} shows another certificate than those in the "
        f"keyring, which may be an attacker's. New: {_marked(held)}. {_to_decide(held)}. "
        f"{_listed(known, more)}. New: {_described(held.facts)}. {_because(held)}"
    )
    return _of_held(Kind.CHANGE, Severity.CRITICAL, held, text, known)


def renewal(entry: Entry, known: Sequence[Entry], more: int = 0) -> Alert:
    """Tell of a certificate that is new, proved, and let in; arguments as for `change`."""
    text = (
        f"{_who(entry)} shows another certificate than those in the keyring. It is proved "
        f"({entry.how.value}) and was let in; that is what a renewal looks like, but also a "
        f"security breach by an authority that was deceived. If it should not be, "
        f'"bascule keyring revoke {entry.facts.fingerprint}". {_listed(known, more)}. '
        f"New: {_described(entry.facts)}"
    )
    fields = _fields(entry.domain, entry.stream, entry.facts, known)
    key = _key(Kind.RENEWAL, entry.domain, entry.stream, entry.facts.fingerprint)
    return Alert(Kind.RENEWAL, Severity.NOTICE, entry.domain, entry.stream, text, fields, key)


def refused(held: Held, *, revoked: bool) -> Alert:
    """Tell of a certificate that was refused because an operator has said so."""
    done = "revoked" if revoked else "rejected"
    by = f" by {printable(held.by)} on {held.since:%Y-%m-%d}" if held.by else ""
    text = (
        f"{_who(held)} shows a certificate that was {done}{by}, and was refused. "
        f"{_marked(held)}. Ask the domain's operator, by another way, whether its server has a "
        f'new certificate; "bascule keyring approve {held.id}" lets this one in, if that was a '
        f"mistake. {_described(held.facts)}"
    )
    kind = Kind.REVOKED if revoked else Kind.REJECTED
    severity = Severity.CRITICAL if revoked else Severity.WARNING
    return _of_held(kind, severity, held, text)


def ended(held: Held, entry: Entry) -> Alert:
    """Tell of a permitted certificate whose life, and with it the permission, has ended."""
    text = (
        f"{_who(held)} still shows the certificate that {printable(entry.permitted_by)} permitted, "
        f"but it expired on {entry.facts.not_after:%Y-%m-%d}, and the permission with it. "
        f"{_marked(held)}. {_to_decide(held)}. {_described(held.facts)}"
    )
    return _of_held(Kind.EXPIRY, Severity.WARNING, held, text)


def ending(entry: Entry, days: int, now: datetime) -> Alert:
    """Tell that a certificate's life ends soon.

    Args:
        entry: The certificate.
        days: The number of days of which this is the warning.
        now: The present.
    """
    left = (entry.facts.not_after - now).days
    when = "in less than a day" if left < 1 else f"in {left} day{'s' * (left > 1)}"
    text = (
        f"the certificate of {_who(entry)} in the keyring ends {when}, on "
        f"{entry.facts.not_after:%Y-%m-%d}, and no newer one has been seen. "
        f"SHA-256: {entry.facts.fingerprint}. Its next one is compared with it; one that nothing "
        f"vouches for will be held. {_described(entry.facts)}"
    )
    fields = _fields(entry.domain, entry.stream, entry.facts) | {"days": str(days)}
    key = _key(Kind.EXPIRY, entry.domain, entry.stream, entry.facts.fingerprint, str(days))
    return Alert(Kind.EXPIRY, Severity.WARNING, entry.domain, entry.stream, text, fields, key)


def without_certificate(domain: str, stream: str, known: Sequence[Entry], more: int = 0) -> Alert:
    """Tell of a domain that shows no certificate at all; ``known`` and ``more`` as in `change`."""
    who = f"the server of {printable(domain)} ({stream})"
    kind, severity = Kind.UNKNOWN, Severity.WARNING
    text = f"{who} shows no certificate, so there is none to permit, and was refused"
    if known:
        kind, severity = Kind.DOWNGRADE, Severity.CRITICAL
        text = (
            f"possible security breach: {who} shows no certificate, though the keyring has some "
            f"of it, and was refused. Ask the domain's operator by another way. "
            f"{_listed(known, more)}"
        )
    fields = {"domain": domain, "stream": stream} | _known_fields(known)
    return Alert(kind, severity, domain, stream, text, fields, _key(kind, domain, stream, "none"))


def downgrade(domain: str, stream: str, seen: Seen, missing: str) -> Alert:
    """Tell of a domain that was once reached with more.

    Args:
        domain: The domain.
        stream: The kind of stream.
        seen: What it was reached with.
        missing: What it has no more: ``TLS`` or ``DANE``.
    """
    since = seen.tls_since if missing == "TLS" else seen.dane_since
    known = "once" if since is None else f"on {since:%Y-%m-%d}"
    text = (
        f"possible security breach: the server of {printable(domain)} ({stream}) was reached with "
        f"{missing} {known} and has none now; an attacker may be keeping it from being used. It "
        f"is not reached with less. If the domain's operator confirms that it has given up "
        f'{missing}, "bascule keyring forget {domain}"'
    )
    fields = {"domain": domain, "stream": stream, "missing": missing}
    if since is not None:
        fields["since"] = since.isoformat()
    key = _key(Kind.DOWNGRADE, domain, stream, missing)
    return Alert(Kind.DOWNGRADE, Severity.CRITICAL, domain, stream, text, fields, key)


def fault(problem: str, domain: str = "", stream: str = "") -> Alert:
    """Tell that the keyring could not be asked; one problem is one event for all domains."""
    about = f"{printable(domain)} ({printable(stream)})" if domain else "its certificates"
    text = f"the keyring could not be asked about {about}, so the answer was no: {problem}"
    fields = {"domain": domain, "stream": stream, "reason": problem}
    return Alert(
        Kind.FAULT, Severity.CRITICAL, domain, stream, text, fields, _key(Kind.FAULT, problem)
    )


def _of_held(
    kind: Kind, severity: Severity, held: Held, text: str, known: Sequence[Entry] = ()
) -> Alert:
    fields = {"id": held.id, "reason": held.reason}
    fields |= _fields(held.domain, held.stream, held.facts, known)
    # Held anew after a decision, it is a new event.
    key = _key(kind, held.id, str(int(held.since.timestamp())))
    return Alert(kind, severity, held.domain, held.stream, text, fields, key)


def _key(kind: Kind, *parts: str) -> str:
    return "/".join((kind.value, *parts))


def _who(of: Entry | Held) -> str:
    return f"the server of {of.domain} ({of.stream})"


def _marked(held: Held) -> str:
    return f"SHA-256: {held.facts.fingerprint}; id: {held.id}"


def _described(facts: Facts) -> str:
    names = _few(list(map(_quoted, facts.names)), NAMES_SHOWN)
    return (
        f"Valid from {facts.not_before:%Y-%m-%d} to {facts.not_after:%Y-%m-%d}; "
        f"subject: {_quoted(facts.subject)}; issuer: {_quoted(facts.issuer)}; "
        f"names: {names or 'none'}"
    )


def _because(held: Held) -> str:
    return f"Why: {_quoted(held.reason, LONGEST_REASON)}"


def _quoted(shown: str, most: int = LONGEST_QUOTED) -> str:
    """Put what is fit to be shown, but not to be believed, in quotation marks.

    It has no backslashes but those of escapes, so the marks within it cannot end the quotation.
    """
    escaped = shown.replace('"', '\\"')
    return f'"{cut(escaped, most)}"'


def _listed(known: Sequence[Entry], more: int) -> str:
    latest = sorted(known, key=lambda entry: entry.last_seen, reverse=True)
    described = [
        f"SHA-256 {entry.facts.fingerprint}, last seen on {entry.last_seen:%Y-%m-%d}"
        f"{', revoked' * entry.revoked}, issued by {_quoted(entry.facts.issuer)}"
        for entry in latest
    ]
    return f"In the keyring: {_few(described, KNOWN_SHOWN, '; ', more)}"


def _to_decide(held: Held) -> str:
    return (
        "Compare the fingerprint with what the domain's operator says by another way, then "
        f'"bascule keyring approve {held.id}", or "bascule keyring reject {held.id}"'
    )


def _few(texts: Sequence[str], most: int, separator: str = ", ", more: int = 0) -> str:
    more += max(len(texts) - most, 0)
    return separator.join(texts[:most]) + (f" (and {more} more)" if more > 0 else "")


def _fields(domain: str, stream: str, facts: Facts, known: Iterable[Entry] = ()) -> dict[str, str]:
    return {
        "domain": domain,
        "stream": stream,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "fingerprint": facts.fingerprint,
        "pin": facts.pin,
        "names": ", ".join(facts.names),
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
    } | _known_fields(known)


def _known_fields(known: Iterable[Entry]) -> dict[str, str]:
    latest = sorted(known, key=lambda entry: entry.last_seen, reverse=True)[:KNOWN_IN_FIELDS]
    fingerprints = ", ".join(entry.facts.fingerprint for entry in latest)
    return {"known": fingerprints} if fingerprints else {}
