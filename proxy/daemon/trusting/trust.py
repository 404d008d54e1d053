"""All that decides whom to believe, put together as a conf says."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from proxy.daemon.alerting.alerting import Alerting
from proxy.daemon.alerting.table import account_jid
from proxy.daemon.alerting.ways import Connect, connecting, direct
from proxy.daemon.crl_files import read_revocation
from proxy.daemon.expiry import ExpiryWatch
from proxy.daemon.federating import Peers
from proxy.daemon.forwarding import Remote
from proxy.daemon.log import Log
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.trusting.judge import Judge
from proxy.daemon.trusting.opening import open_keyring
from proxy.daemon.trusting.sites import Sites
from proxy.net.posh import Posh
from proxy.net.tls import TLSSetupError
from proxy.session.kinds import Kind
from proxy.trust.policy import Policy
from proxy.trust.proof import Case
from proxy.trust.revocation import RevocationLists
from proxy.trust.verdict import UntrustedError, Verdict


class Trust:
    """The judge, the keyring, what is asked of the network, and who is told of what.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        abroad: finds the way to the server of an account of another domain.

    Raises:
        KeyringError: the keyring cannot be opened.
        TLSSetupError: roots, certificates or revocation lists cannot be read.
    """

    def __init__(self, conf: Conf, reactor: Any, log: Log | None, abroad: Connect) -> None:
        connect = connecting(conf.alerts, conf.domains, reactor, abroad)
        self.alerting = Alerting(conf.alerts, log, reactor, connect)
        self.keyring = open_keyring(conf)
        self._policies = conf.policies
        self.judge = Judge(
            reactor,
            keyring=self.keyring,
            tell=self.alerting.tell,
            ask_site=self._ask_site,
            revocation=_revocation(conf.policies),
        )
        self.peers: Peers | None = None
        if any(listener.stream is Kind.S2S for listener in conf.listeners):
            self.peers = Peers(conf, self.judge)
        self.remote: Remote | None = None
        if self._leads_out(conf):
            self.remote = Remote(conf, reactor)
        self._posh: Posh | None = None
        self._sites: Sites | None = None
        if self.remote is not None:
            self._posh = Posh(
                reactor,
                self.remote.resolver,
                context=self.remote.context,
                policy=self.remote.ladder.find,
            )
            self._sites = Sites(reactor, self._posh)
        self._expiry = ExpiryWatch(conf, self.keyring, reactor, self.alerting.tell)

    def start(self) -> None:
        """Begin to watch for certificates that end."""
        self._expiry.start()

    def renew(self) -> list[TLSSetupError]:
        """Take roots, certificates and revocation lists as they now are.

        What cannot be read stays as it was.


        Returns:
            What could not be read.
        """
        failed: list[TLSSetupError] = []
        # What one of them fails at must not keep the other from its new keys or roots.
        for renewed in (self.peers, self.remote):
            try:
                if renewed is not None:
                    renewed.renew()
            except TLSSetupError as error:
                failed.append(error)
        try:
            self.judge.renew(_revocation(self._policies))
        except TLSSetupError as error:
            failed.append(error)
        return failed

    def close(self) -> None:
        """Ask and tell nobody any more."""
        self._expiry.stop()
        self.judge.close()
        if self._posh is not None:
            self._posh.close()
        if self.remote is not None:
            self.remote.close()
        if self.keyring is not None:
            self.keyring.close()
            self.keyring = None
        self.alerting.stop()

    @staticmethod
    def _leads_out(conf: Conf) -> bool:
        """Whether servers of others are connected to: by sessions, or to tell of alerts."""
        account = account_jid(conf.alerts.account)
        if account is not None and direct(conf.alerts, account.domain, conf.domains) is None:
            return True
        return any(listener.direction == FORWARD for listener in conf.listeners)

    def _ask_site(self, case: Case, now: datetime) -> Verdict:
        if self._sites is None:
            raise UntrustedError("no web site is asked here, for there is no forward listener")
        return self._sites.ask(case, now)


def _revocation(policies: Iterable[Policy]) -> RevocationLists:
    try:
        return read_revocation(policies)
    except ValueError as error:
        raise TLSSetupError(str(error)) from error
