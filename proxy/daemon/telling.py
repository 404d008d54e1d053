"""Telling of alerts, whichever conf holds: a reload tells of nothing twice."""

from collections.abc import Callable
from typing import Any

from proxy.daemon.alerting.alerting import Alerting
from proxy.daemon.alerting.events import Met
from proxy.daemon.alerting.table import AlertsTable, account_jid
from proxy.daemon.alerting.ways import Connect, Direct, connecting, direct
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.trust.keyring.alerts import Alert


class Telling:
    """Tells of alerts as the conf says that holds now.

    Args:
        reactor: the reactor.
        log: where to write; None keeps quiet.
        abroad: finds the way to the server of an account of another domain.
        met: gets every alert, those too that are only counted.
    """

    def __init__(
        self, reactor: Any, log: Log | None, abroad: Connect, met: Callable[[Alert], None]
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._abroad = abroad
        self._met = met
        self._by: tuple[AlertsTable, Direct | None] | None = None
        self._alerting: Alerting | None = None

    def adopt(self, conf: Conf) -> None:
        """Tell as a conf says; what was told of stays known unless the conf tells otherwise."""
        by = (conf.alerts, way(conf))
        if by == self._by:
            return
        self.stop()
        connect = connecting(conf.alerts, conf.domains, self._reactor, self._abroad)
        self._by = by
        self._alerting = Alerting(conf.alerts, self._log, self._reactor, connect)
        self._alerting.listen(self._met)

    def tell(self, alert: Alert) -> None:
        """Tell of an alert, or count it if its event has been told of; nothing is ever raised."""
        if self._alerting is not None:
            self._alerting.tell(alert)

    def recent(self) -> list[Met]:
        """Return the events that were told last, in order."""
        return [] if self._alerting is None else self._alerting.recent()

    def stop(self) -> None:
        """End what is under way; the log gets what has not been told."""
        if self._alerting is not None:
            self._alerting.stop()
            self._alerting = None
            self._by = None


def way(conf: Conf) -> Direct | None:
    """Return the server to which the account for alerts has a direct way; None if there is none."""
    account = account_jid(conf.alerts.account)
    return None if account is None else direct(conf.alerts, account.domain, conf.domains)
