"""Whether a certificate is let in, by what vouches for it and by what the keyring says.

RFC 3261 section 23.2, for domains: what is proved is let in and remembered; of the rest an operator
is told, and asked; a certificate that differs from those before is told of as a possible breach.
It is whole certificates that are compared, as there, and not their keys: a permission is for what
the operator has looked at.
"""

from datetime import datetime
from enum import Enum
from typing import Final

import attrs

from proxy.trust.evidence import Evidence
from proxy.trust.keyring import alerts
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.entry import Entry, Held, How, State
from proxy.trust.keyring.reading import Others
from proxy.trust.keyring.store import TOUCHED_AFTER, Keyring
from proxy.trust.policy import OnChange
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp.text import printable

_PIN: Final = "pin "
_CHANGED: Final = "it is proved, but it is not one of those that were permitted before"
_NOT_READ: Final = Others((), 0, by_operators=False)


@attrs.frozen
class Accepted:
    """The certificate is let in: its entry, and what is to be told of it."""

    entry: Entry
    alert: Alert | None = None


@attrs.frozen
class Waiting:
    """The certificate is not let in before an operator has approved it."""

    held: Held
    alert: Alert | None = None


@attrs.frozen
class Refused:
    """The certificate is refused: what it is held as, if it is, and what is to be told of it."""

    held: Held | None
    alert: Alert | None = None


Consulted = Accepted | Waiting | Refused


@attrs.frozen
class _Case:
    """A certificate that was shown; ``how`` is ``None`` if nothing proves it."""

    keyring: Keyring
    domain: str
    stream: str
    certificate: bytes
    how: How | None
    problem: str
    on_change: OnChange
    now: datetime
    initiating: bool


class _Ruling(Enum):
    KNOWN = "it is let in, as before"
    NEW = "it is let in, and added"
    HELD = "an operator decides"
    PASSED_OVER = "it is refused, for anybody can show such a one"
    BARRED = "it is refused, as an operator has decided"


@attrs.frozen
class _Found:
    """What the keyring says of the certificate, and of the others of its domain.

    Those are read only where they count: nobody can make meeting a known certificate dear.
    """

    entry: Entry | None
    held: Held | None
    others: Others


def consult(
    keyring: Keyring,
    domain: str,
    stream: str,
    evidence: Evidence,
    verdict: Verdict | UntrustedError,
    *,
    on_change: OnChange,
    now: datetime,
    how: How | None = None,
    initiating: bool = False,
) -> Consulted:
    """Decide whether a certificate is let in, and remember it or hold it.

    In this order: what was revoked or rejected is refused, even if it is proved. What is proved
    and known, or the first of its domain, is let in. What is proved but new beside others waits if
    ``on_change`` says so or any of the others came by a pin or an operator, unless a pin of the
    policy proves it, which is an operator's word; else it is let in and told of. What is not proved
    is let in if an operator has permitted this very certificate and its life has not ended since;
    everything else waits.

    Args:
        keyring: The keyring.
        domain: The domain that was to be proved, in A-labels.
        stream: The kind of stream.
        evidence: What the handshake showed.
        verdict: What was made of that: that it is verified, or why not.
        on_change: What becomes of proved certificates that differ from those before.
        now: The present, with a time zone.
        how: What has proved it, where that is neither an authority nor a pin.
        initiating: Whether the server has connected to us, not we to it. Then what nothing proves
            is neither held nor told of, or anybody could fill the keyring in others' names; it is
            met again, and held, where we connect to the domain's own server.

    Returns:
        What comes of it. Whatever goes wrong is `Refused`, with an alert that says what.
    """
    try:
        if not evidence.chain and initiating:
            return Refused(None)
        if not evidence.chain:
            known = keyring.others(domain, stream, None)
            alert = alerts.without_certificate(domain, stream, known.latest, known.more)
            return Refused(None, alert)
        proved, problem = _proof(verdict, how)
        certificate = evidence.chain[0]
        case = _Case(
            keyring, domain, stream, certificate, proved, problem, on_change, now, initiating
        )
        return _consulted(case)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of cryptography is no Exception
        return Refused(None, alerts.fault(_words(error), domain, stream))


def _proof(verdict: Verdict | UntrustedError, how: How | None) -> tuple[How | None, str]:
    """Return how a certificate is proved, or ``None`` and why it is not."""
    if isinstance(verdict, UntrustedError):
        return None, str(verdict)
    if verdict.status is not Status.VERIFIED:
        return None, verdict.problem
    return how or (How.PIN if verdict.identity.startswith(_PIN) else How.PKIX), ""


def _words(error: BaseException) -> str:
    if isinstance(error, KeyringError):
        return str(error)
    return printable(f"{type(error).__name__}: {error}")


def _consulted(case: _Case) -> Consulted:
    found = _found(case)
    ruling = _ruling(case, found)
    entry = found.entry
    fresh = entry is not None and case.now - entry.last_seen < TOUCHED_AFTER
    if ruling is _Ruling.KNOWN and entry is not None and fresh:
        return Accepted(entry)
    if ruling is _Ruling.PASSED_OVER:
        return Refused(None)
    return _settled(case, durable=_lasts(ruling, found))


def _settled(case: _Case, *, durable: bool) -> Consulted:
    """Do what is to be done, while nobody else changes what that depends on."""
    with case.keyring.changing(durable=durable):
        found = _found(case)
        ruling = _ruling(case, found)
        if durable or not _lasts(ruling, found):
            return _done(case, found, ruling)
    return _settled(case, durable=True)


def _found(case: _Case) -> _Found:
    keyring, shown = case.keyring, (case.domain, case.stream, case.certificate)
    entry, held = keyring.entry_for(*shown), keyring.held_for(*shown)
    is_known = entry is not None and (case.how is not None or entry.authorised(case.now))
    passed_over = case.how is None and case.initiating
    others = _NOT_READ if is_known or passed_over else keyring.others(*shown)
    return _Found(entry, held, others)


def _ruling(case: _Case, found: _Found) -> _Ruling:
    entry = found.entry
    if entry is not None and entry.revoked:
        return _Ruling.BARRED
    if found.held is not None and found.held.state is State.REJECTED:
        return _Ruling.BARRED
    if case.how is None:
        if entry is not None and entry.authorised(case.now):
            return _Ruling.KNOWN
        return _Ruling.PASSED_OVER if case.initiating else _Ruling.HELD
    if entry is not None:
        return _Ruling.KNOWN
    return _Ruling.HELD if _must_wait(case, found.others) else _Ruling.NEW


def _must_wait(case: _Case, others: Others) -> bool:
    """Whether a proved certificate that is new waits nevertheless.

    Others that were revoked count as well: what an operator once decided about a domain is not
    undone by an authority's word.
    """
    if not others.count or case.how is How.PIN:
        return False
    if others.by_operators:
        return True
    return case.on_change is not OnChange.NOTIFY


def _lasts(ruling: _Ruling, found: _Found) -> bool:
    """Whether anything but a time or a count is written."""
    if ruling is _Ruling.HELD:
        return found.held is None or found.held.state is State.APPROVED
    return ruling is _Ruling.NEW


def _done(case: _Case, found: _Found, ruling: _Ruling) -> Consulted:
    keyring, shown = case.keyring, (case.domain, case.stream, case.certificate)
    others = found.others
    if ruling in {_Ruling.KNOWN, _Ruling.NEW}:
        entry = keyring.remember(*shown, case.now, how=case.how or How.OPERATOR)
        if ruling is _Ruling.KNOWN or not others.count:
            return Accepted(entry)
        return Accepted(entry, alerts.renewal(entry, others.latest, others.more))
    if ruling is _Ruling.PASSED_OVER:
        return Refused(None)
    held = keyring.hold(*shown, case.problem or _CHANGED, case.now)
    entry_before = found.entry
    if ruling is _Ruling.BARRED:
        revoked = entry_before is not None and entry_before.revoked
        return Refused(held, alerts.refused(held, revoked=revoked))
    if entry_before is not None and entry_before.how is How.OPERATOR:
        return Waiting(held, alerts.ended(held, entry_before))
    is_change = bool(others.count)
    alert = alerts.change(held, others.latest, others.more) if is_change else alerts.unknown(held)
    return Waiting(held, alert)
