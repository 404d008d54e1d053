"""What the keyring warns of by itself: domains that lose security, and certificates that end."""

from datetime import datetime, timedelta
from typing import Final

from proxy.trust.keyring import alerts
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.database import KeyringError
from proxy.trust.keyring.entry import Entry
from proxy.trust.keyring.store import Keyring
from proxy.xmpp.text import printable

WARNED_AT: Final = (1, 7, 21)
"""How many days before a certificate's end there is a warning, the last one first."""

NOW: Final = timedelta()
FARTHEST: Final = timedelta(days=max(WARNED_AT))
"""The times from now between which ends are warned of."""


def downgrade(
    keyring: Keyring, domain: str, stream: str, now: datetime, *, tls: bool, dane: bool
) -> Alert | None:
    """Compare what a domain is reached with to what it was once reached with, and remember it.

    To be asked with what is certain only: that there is no TLS, and not that nobody answered; that
    DNSSEC proves that there are no TLSA records, or proves nothing, and not that DNS failed.

    Args:
        keyring: The keyring.
        domain: The domain, in A-labels.
        stream: The kind of stream.
        now: The present.
        tls: Whether there is TLS.
        dane: Whether there are TLSA records that DNSSEC proves.

    Returns:
        ``None`` if it may be reached so; else why not, also if the keyring could not be asked.
    """
    try:
        seen = keyring.seen(domain, stream)
        if seen.tls and not tls:
            return alerts.downgrade(domain, stream, seen, "TLS")
        if seen.dane and not dane:
            return alerts.downgrade(domain, stream, seen, "DANE")
        keyring.note_seen(domain, stream, now, tls=tls, dane=dane)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever goes wrong, less security is not let in
        return alerts.fault(printable(str(error) or type(error).__name__), domain, stream)
    return None


def endings(
    keyring: Keyring,
    now: datetime,
    *,
    after: timedelta = NOW,
    before: timedelta = FARTHEST,
) -> tuple[Alert, ...]:
    """Warn of the certificates whose life ends soon and that no newer one has taken the place of.

    One event is one of the numbers of days in `WARNED_AT`, so the alerts of a certificate may come
    as often as this is asked.

    Args:
        keyring: The keyring.
        now: The present.
        after: How far from now the ends are at least; a large keyring may be asked bit by bit.
        before: How far they are at most, which is no more than without it.
    """
    try:
        soon = keyring.ending(now + after, now + before)
        return tuple(
            alerts.ending(entry, _warning(entry, now), now)
            for entry in soon
            if not keyring.is_replaced(entry)
        )
    except KeyringError as error:
        return (alerts.fault(str(error)),)


def _warning(entry: Entry, now: datetime) -> int:
    left = entry.facts.not_after - now
    return next(days for days in WARNED_AT if left <= timedelta(days=days))
