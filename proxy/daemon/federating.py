"""What listeners for servers allow and demand, as their conf says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import attrs

from proxy.daemon.forwarding import ForwardRules
from proxy.daemon.model import FORWARD, Conf, Listener
from proxy.daemon.own import OwnDomains
from proxy.daemon.trusting.judge import MOST_REMEMBERED, REMEMBERED, Judge
from proxy.net.peer import Verifier
from proxy.session.dialback import Ledger
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence
from proxy.trust.identities import SERVER_SERVICE
from proxy.trust.policy import Ladder, Pattern, Policy
from proxy.trust.proof import Case
from proxy.trust.verdict import Verdict


class Peers:
    """Servers of domains that are not ours, as they connect to us: their policies and proofs.

    Args:
        conf: the conf.
        judge: whom servers are judged by.

    Raises:
        TLSSetupError: the roots of a policy cannot be read.
    """

    def __init__(self, conf: Conf, judge: Judge) -> None:
        self.decider = judge
        self.ladder = Ladder(conf.policies)
        # The last one holds where none is named.
        self._policies = (*conf.policies, Policy(Pattern.parse("*")))
        self.renew()

    def renew(self) -> None:
        """Take the roots as they now are.

        Raises:
            TLSSetupError: the roots of a policy cannot be read; all stays as it was.
        """
        self._verifier = Verifier(self._policies)
        self._verified: dict[tuple[Path | None, bytes], tuple[datetime, Evidence]] = {}

    def judge(self, domain: str, chain: Sequence[bytes]) -> Verdict:
        """Judge the certificates that a server has shown which says it is that of ``domain``.

        Raises:
            UntrustedError: they do not do.
        """
        policy = self.ladder.find(domain)
        now = datetime.now(UTC)
        evidence = self._evidence(policy, tuple(chain), now)
        return self.decider.judge(Case(domain, SERVER_SERVICE, policy, evidence, initiating=True))

    def _evidence(self, policy: Policy, chain: tuple[bytes, ...], now: datetime) -> Evidence:
        """Verify a chain, unless the very same was verified a moment ago, by the same roots.

        A server opens many streams, each with the same chain, and verifying one takes long. What
        was found wrong with one is remembered as well: on one connection ever other domains can be
        claimed. Another connection may show another chain; the handshake had to read that as well,
        and `limits` counts handshakes.
        """
        key = (policy.anchors, sha256(b"".join(sha256(each).digest() for each in chain)).digest())
        at, evidence = self._verified.pop(key, (now, None))
        if evidence is None or not at <= now < at + REMEMBERED:
            # Without what was shown: anybody can show much.
            at, evidence = now, attrs.evolve(self._verifier.evidence(policy, chain), chain=())
        while len(self._verified) >= MOST_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[key] = (at, evidence)
        return attrs.evolve(evidence, chain=chain)


class InboundRules:
    """The rules of a reverse listener for servers.

    Args:
        conf: the conf.
        peers: who judges servers that connect.
        ledger: the dialback keys of ours.
    """

    def __init__(self, conf: Conf, peers: Peers, ledger: Ledger) -> None:
        self.ledger = ledger
        self.offers_external = any(
            listener.direction == FORWARD and listener.stream is Kind.S2S
            for listener in conf.listeners
        )
        self._names = frozenset(domain.name for domain in conf.domains)
        self._own = OwnDomains(conf, Kind.S2S)
        self._peers = peers

    def is_local(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) is one of ours."""
        return domain in self._names

    def only_local(self) -> str | None:
        """Return the domain of ours, if there is just one."""
        return next(iter(self._names)) if len(self._names) == 1 else None

    def together(self, domain: str, other: str) -> bool:
        """Whether both domains are ours, and behind the same server."""
        return self._own.together(domain, other)

    def reaches(self, domain: str) -> bool:
        """Whether streams may go to ``domain`` (A-labels): to ours."""
        return self._own.serves(domain)

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` must prove itself."""
        return self._peers.ladder.find(domain)

    def judge_client(self, domain: str, chain: Sequence[bytes]) -> Verdict:
        """Judge the certificates that a server which has connected to us has shown.

        Raises:
            UntrustedError: they do not do.
        """
        return self._peers.judge(domain, chain)


class OutboundRules(ForwardRules, InboundRules):
    """The rules of a forward listener for servers.

    Args:
        listener: its conf.
        conf: the whole conf.
        peers: who judges servers that connect.
        ledger: the dialback keys of ours.
    """

    def __init__(self, listener: Listener, conf: Conf, peers: Peers, ledger: Ledger) -> None:
        ForwardRules.__init__(self, listener, peers.ladder, peers.decider)
        InboundRules.__init__(self, conf, peers, ledger)

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` must prove itself."""
        return ForwardRules.policy(self, domain)

    def reaches(self, domain: str) -> bool:
        """Whether streams may go to ``domain`` (A-labels)."""
        return self.serves(domain)
