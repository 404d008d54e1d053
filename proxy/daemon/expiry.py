"""Warnings before certificates end: those that are served, and those that the keyring remembers."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from proxy.daemon.certificates import end_of_life, place_in_chain
from proxy.daemon.model import Conf
from proxy.daemon.pem import read_chain
from proxy.session.options import one_line
from proxy.trust.keyring import watch
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from proxy.trust.keyring.facts import Facts, facts_of
from proxy.trust.keyring.store import Keyring
from proxy.trust.keyring.watch import FARTHEST, NOW, WARNED_AT

INTERVAL: Final = 6 * 3600.0
"""Seconds after which certificates are looked at again."""

STEP: Final = timedelta(minutes=30)
"""The ends of how long a time the keyring is asked for at once."""

SLICE: Final = 0.002
"""Seconds of work after which others get their turn."""

ENDED: Final = 0
"""Stands among the days of `WARNED_AT` for the warning that a served certificate has ended."""

_SECOND: Final = timedelta(seconds=1)


def served(name: str, path: Path, now: datetime) -> tuple[Alert, ...]:
    """Warn of the certificates of a file whose life ends soon or has ended.

    One event is one of the numbers of days in `WARNED_AT`, or the end.

    Args:
        name: The domain that they are shown for.
        path: The file, which is read.
        now: The present.

    Returns:
        An alert for each; one as well if the file cannot be read, for nobody else says so until it
        is needed again.
    """
    alerts = []
    try:
        for number, certificate in enumerate(read_chain(path), start=1):
            facts = facts_of(certificate.public_bytes(Encoding.DER))
            days = _warning(facts.not_after - now)
            if days is not None:
                which = place_in_chain(path, number)
                alerts.append(_ending(name, which, facts, days, now))
    except ValueError as error:
        return (_unread(name, path, str(error)),)
    return tuple(alerts)


def each(conf: Conf, keyring: Keyring | None, now: datetime) -> Iterator[tuple[Alert, ...]]:
    """Look at all certificates, a few at each step, and yield the warnings of each step.

    Args:
        conf: The conf, whose domains' certificates are served.
        keyring: The keyring; ``None`` where nothing is remembered.
        now: The present.
    """
    for domain in conf.domains:
        for files in domain.certificates:
            yield served(domain.name, files.certificate, now)
    if keyring is not None:
        yield from _remembered(keyring, now)


def _remembered(keyring: Keyring, now: datetime) -> Iterator[tuple[Alert, ...]]:
    after = NOW
    while after <= FARTHEST:
        # The keyring counts whole seconds, and both ends of a span belong to it.
        before = min(after + STEP - _SECOND, FARTHEST)
        told = watch.endings(keyring, now, after=after, before=before)
        yield told
        if any(alert.kind is Kind.FAULT for alert in told):
            return
        after += STEP


class ExpiryWatch:
    """Warns of certificates that end, at once and every `INTERVAL`, and leaves time for others.

    Args:
        conf: The conf, whose domains' certificates are served.
        keyring: The keyring, open; ``None`` where nothing is remembered.
        reactor: The reactor.
        tell: What gets each alert, as often as it is found; those of one event have one key.
        present: Returns the present.
    """

    def __init__(
        self,
        conf: Conf,
        keyring: Keyring | None,
        reactor: Any,
        tell: Callable[[Alert], None],
        present: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._conf = conf
        self._keyring = keyring
        self._reactor = reactor
        self._tell = tell
        self._present = present
        self._steps: Iterator[tuple[Alert, ...]] = iter(())
        self._next: Any = None

    def start(self) -> None:
        """Begin to look, as soon as the reactor has time."""
        self._steps = each(self._conf, self._keyring, self._present())
        self._next = self._reactor.callLater(0, self._look)

    def stop(self) -> None:
        """Look no more; the keyring may be closed then."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        """Work for `SLICE`, and go on later; begin anew after `INTERVAL` when all was seen."""
        # Arranged first: whatever goes wrong, there is a next time.
        self._next = self._reactor.callLater(INTERVAL, self.start)
        until = time.monotonic() + SLICE
        for told in self._steps:
            if told or time.monotonic() >= until:
                self._next.cancel()
                self._next = self._reactor.callLater(0, self._look)
                for alert in told:
                    self._tell(alert)
                return


def _warning(left: timedelta) -> int | None:
    """Return which warning is due when so much of a life is left; ``None`` for none."""
    if left < NOW:
        return ENDED
    return next((days for days in WARNED_AT if left <= timedelta(days=days)), None)


def _ending(name: str, which: str, facts: Facts, days: int, now: datetime) -> Alert:
    text = (
        f"the certificate of {name} that is served, {which}, {end_of_life(facts.not_after, now)}. "
        f"Subject: {facts.subject}; issuer: {facts.issuer}; SHA-256: {facts.fingerprint}. Put a "
        "new one in its place; partners who hold the old one's pin must know the new one before"
    )
    fields = {
        "domain": name,
        "file": which,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "fingerprint": facts.fingerprint,
        "pin": facts.pin,
        "names": ", ".join(facts.names),
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
        "days": str(days),
    }
    return _alert(name, one_line(text), fields, facts.fingerprint, str(days))


def _unread(name: str, path: Path, problem: str) -> Alert:
    text = f"nobody can tell when the certificate of {name} that is served will end: {problem}"
    return _alert(name, one_line(text), {"domain": name, "file": str(path)}, str(path))


def _alert(name: str, text: str, fields: dict[str, str], *event: str) -> Alert:
    key = "/".join((Kind.EXPIRY.value, name, "served", *event))
    return Alert(Kind.EXPIRY, Severity.WARNING, name, "", text, fields, key)
