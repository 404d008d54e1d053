"""All that decides whom to believe, put together as a conf says."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, Self

import attrs

from proxy.daemon.alerting.table import account_jid
from proxy.daemon.crl_files import read_revocation
from proxy.daemon.expiry import ExpiryWatch
from proxy.daemon.federating import Peers
from proxy.daemon.forwarding import Contexts, Remote, contexts_abroad
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.telling import way
from proxy.daemon.trusting.judge import Judge
from proxy.daemon.trusting.opening import open_keyring
from proxy.daemon.trusting.sites import Sites
from proxy.net.outgoing import Outgoing
from proxy.net.posh import Posh
from proxy.net.tls import TLSSetupError
from proxy.session.kinds import Kind
from proxy.trust.keyring.alerts import Alert
from proxy.trust.policy import Policy
from proxy.trust.proof import Case
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.verdict import UntrustedError, Verdict


@attrs.frozen
class Prepared:
    """What takes long to read or make, and can be in a thread.

    Attributes:
        revocation: the revocation lists that policies name.
        contexts: TLS contexts for servers of others; None if none are connected to.
    """

    revocation: RevocationLists
    contexts: Contexts | None

    @classmethod
    def of(cls, conf: Conf) -> Self:
        """Prepare a conf.

        Raises:
            TLSSetupError: roots, certificates or revocation lists cannot be read.
        """
        contexts = contexts_abroad(conf)[0] if _leads_out(conf) else None
        return cls(revocation_of(conf.policies), contexts)


def _leads_out(conf: Conf) -> bool:
    """Whether servers of others are connected to: by sessions, or to tell of alerts."""
    if account_jid(conf.alerts.account) is not None and way(conf) is None:
        return True
    return any(listener.direction == FORWARD for listener in conf.listeners)


class Trust:
    """The judge, the keyring, and what is asked of the network.

    Args:
        conf: the conf, without mistakes.
        reactor: the reactor.
        tell: gets what operators should know.
        outgoing: knows our own connections.
        prepared: what takes long to read.

    Raises:
        KeyringError: the keyring cannot be opened.
        TLSSetupError: roots cannot be read.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        tell: Callable[[Alert], None],
        outgoing: Outgoing,
        prepared: Prepared,
    ) -> None:
        revocation = prepared.revocation
        self._revocation = revocation
        self.keyring = open_keyring(conf)
        self._posh: Posh | None = None
        self._sites: Sites | None = None
        self.peers: Peers | None = None
        self.remote: Remote | None = None
        self.judge = Judge(
            reactor,
            keyring=self.keyring,
            tell=tell,
            ask_site=self._ask_site,
            revocation=revocation,
        )
        self._expiry = ExpiryWatch(conf, self.keyring, reactor, tell)
        try:
            self._reach_out(conf, reactor, outgoing, prepared)
        except BaseException:
            self.close()
            raise

    def _reach_out(self, conf: Conf, reactor: Any, outgoing: Outgoing, prepared: Prepared) -> None:
        if any(listener.stream is Kind.S2S for listener in conf.listeners):
            self.peers = Peers(conf, self.judge)
        if prepared.contexts is not None:
            self.remote = Remote(conf, reactor, outgoing, prepared.contexts)
            self._posh = Posh(
                reactor,
                self.remote.resolver,
                context=self.remote.context,
                policy=self.remote.ladder.find,
                revocation=lambda: self._revocation,
            )
            self._sites = Sites(reactor, self._posh)

    def start(self) -> None:
        """Begin to watch for certificates that end."""
        self._expiry.start()

    def rest(self) -> None:
        """Watch no more for certificates that end: another conf holds, but sessions are left."""
        self._expiry.stop()

    def show(self, domains: Collection[str]) -> list[TLSSetupError]:
        """Show to servers of others what now are the certificates of some domains of ours.

        Returns:
            What could not be read.
        """
        try:
            if self.remote is not None:
                self.remote.renew(domains)
        except TLSSetupError as error:
            return [error]
        return []

    def renew(self, revocation: RevocationLists | None) -> list[TLSSetupError]:
        """Take roots and certificates as they now are; what cannot be read stays as it was.

        Args:
            revocation: revocation lists as they now are, of which those of our own files are taken;
                None leaves all as they were.

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
        if revocation is not None:
            self._revocation = self._revocation.updated(revocation)
        self.judge.renew(self._revocation)
        return failed

    def close(self) -> None:
        """Ask and tell nobody any more."""
        self._expiry.stop()
        self.judge.close()
        self.judge.renew(NO_LISTS)  # which may be very long
        self._revocation = NO_LISTS
        if self._posh is not None:
            self._posh.close()
        if self.remote is not None:
            self.remote.close()
        if self.keyring is not None:
            self.keyring.close()
            self.keyring = None

    def _ask_site(self, case: Case, now: datetime) -> Verdict:
        if self._sites is None:
            raise UntrustedError("no web site is asked here, for there is no forward listener")
        return self._sites.ask(case, now)


def revocation_of(policies: Iterable[Policy]) -> RevocationLists:
    """Read the revocation lists that policies name.

    Raises:
        TLSSetupError: a file cannot be used.
    """
    try:
        return read_revocation(policies)
    except ValueError as error:
        raise TLSSetupError(str(error)) from error
