"""What monitoring and operators are told of a running service."""

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import Final

import attrs

from proxy.daemon.alerting.events import Met
from proxy.daemon.certificates import key_name
from proxy.daemon.control.facts import AlertRow, CertificateRow
from proxy.daemon.generation import Generation
from proxy.daemon.metrics.sources import Expiring, Live, Source
from proxy.daemon.model import Conf
from proxy.daemon.pem import read_chain
from proxy.daemon.trusting.trust import Trust
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.session.commands import Side

MOST_REMEMBERED: Final = 5_000
"""How many certificates of the keyring are told of: those that end first."""


LONGEST_ALERT: Final = 2_048
"""How many octets an alert's text has at most, in JSON: all there are must fit one answer."""


@attrs.frozen
class Monitored:
    """A service, for metrics (`proxy.daemon.metrics.sources.Sources`) and for ``bascule status``.

    Attributes:
        now: returns what comes of the conf that holds now.
        live: its sessions.
        told: returns the alerts that were told last, in order.
        counted: how often each leg has not taken all at once.
        unready: why it is not ready, in words; nothing if it is.
    """

    now: Callable[[], Generation]
    live: Collection[Bridge | Divider]
    told: Callable[[], Sequence[Met]]
    counted: Callable[[], Mapping[Side, int]]
    unready: Callable[[], Sequence[str]]

    @property
    def conf(self) -> Conf:
        """The conf that holds now."""
        return self.now().conf

    @property
    def trust(self) -> Trust:
        """Whom is believed now."""
        return self.now().trust

    # For metrics

    def sessions(self) -> tuple[Live, ...]:
        """Return the sessions that there are."""
        return tuple(self.live)

    def certificates(self) -> Iterator[Expiring]:
        """Return the certificates that are served, and of the keyring those that end first."""
        for domain in self.conf.domains:
            for files in domain.certificates:
                end = read_chain(files.certificate)[0].not_valid_after_utc.timestamp()
                yield Expiring(Source.SERVED, domain.name, end)
        if self.trust.keyring is not None:
            for name, seconds in self.trust.keyring.ends(MOST_REMEMBERED):
                yield Expiring(Source.REMEMBERED, name, float(seconds))

    def pending(self) -> int:
        """Return how many certificates wait for an operator's decision."""
        return 0 if self.trust.keyring is None else self.trust.keyring.count_pending()

    def stalls(self) -> Mapping[Side, int]:
        """Return how often each leg has not taken all at once, since the start."""
        return self.counted()

    def troubles(self) -> Sequence[str]:
        """Return why the service is not ready, in words; nothing if it is."""
        return self.unready()

    # For operators

    def presented(self) -> tuple[CertificateRow, ...]:
        """Return the certificates that are presented; what cannot be read is left out."""
        now = datetime.now(UTC)
        rows = []
        for domain in self.conf.domains:
            for files in domain.certificates:
                try:
                    leaf = read_chain(files.certificate)[0]
                    kind = key_name(leaf)
                except ValueError:
                    continue
                end = leaf.not_valid_after_utc
                left = (end.date() - now.date()).days if end >= now else None
                at = end.isoformat(timespec="seconds")
                rows.append(CertificateRow(domain.name, str(files.certificate), kind, at, left))
        return tuple(rows)

    def waiting(self) -> int | None:
        """Return how many certificates wait for a decision; None without a keyring."""
        return None if self.trust.keyring is None else self.pending()

    def alerts(self) -> tuple[AlertRow, ...]:
        """Return the alerts of late, newest first."""
        iso = partial(datetime.isoformat, timespec="seconds")
        return tuple(
            AlertRow(iso(met.last), met.alert.severity.value, _cut(met.alert.text), met.count)
            for met in reversed(self.told())
        )


def _cut(text: str) -> str:
    """Cut a text at `LONGEST_ALERT`; what it is about comes first in it."""
    sizes = accumulate(len(json.dumps(character)) - len('""') for character in text)
    most = bisect_right(list(sizes), LONGEST_ALERT)
    return text if most == len(text) else text[:most] + "…"
