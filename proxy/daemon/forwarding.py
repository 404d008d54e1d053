"""What a forward listener allows and demands, as its conf says."""

import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from OpenSSL import SSL

from proxy.daemon.model import FORWARD, ORIGINAL, Conf, Listener
from proxy.daemon.served import CertificateFiles
from proxy.net.outgoing import Ends, Outgoing
from proxy.net.reach import Abroad, Connected, Failed
from proxy.net.redirected import NotRedirectedError, first_destination, original_destination
from proxy.net.resolver import Resolver
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.net.tls import client_context
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Ladder, Pattern, Policy
from proxy.trust.verdict import Verdict, judge

REMEMBERED: Final = timedelta(seconds=60)
"""How long a verdict holds for the very same certificates."""

MOST_REMEMBERED: Final = 256


class Remote:
    """The servers of domains that are not ours: which policy holds for each, and how it is met.

    Args:
        conf: the conf.
        reactor: the reactor.

    Raises:
        TLSSetupError: the roots of a policy cannot be read.
    """

    def __init__(self, conf: Conf, reactor: object) -> None:
        self.ladder = Ladder(conf.policies)
        self.resolver = Resolver(reactor, conf.dns.servers)
        self.outgoing = Outgoing()
        self._reactor = reactor
        # The last one holds where none is named.
        self._policies = (*conf.policies, Policy(Pattern.parse("*")))
        self._own: dict[str, Sequence[CertificateFiles]] = {"": ()}
        if any(
            listener.direction == FORWARD and listener.stream is Kind.S2S
            for listener in conf.listeners
        ):
            self._own |= {domain.name: domain.certificates for domain in conf.domains}
        self._contexts: dict[tuple[Policy, str], SSL.Context] = {}
        self.renew()

    def renew(self) -> None:
        """Make the TLS contexts anew, with the roots as they now are.

        Raises:
            TLSSetupError: the roots of a policy, or a certificate, cannot be read; all stays as
                it was.
        """
        self._contexts = {
            (policy, sender): client_context(
                policy, [(files.certificate, files.private_key) for files in own]
            )
            for policy in self._policies
            for sender, own in self._own.items()
        }

    def context(self, domain: str, sender: str = "") -> SSL.Context:
        """Return the TLS context in which the server of ``domain`` is spoken to.

        Args:
            domain: the domain, as A-labels.
            sender: the domain of ours whose certificate is shown; empty for none.
        """
        return self._contexts[self.ladder.find(domain), sender]

    def reach(
        self,
        request: Request,
        own: Callable[[str, int], bool],
        connected: Connected,
        failed: Failed,
    ) -> Abroad:
        """Return the ways to a server."""
        return Abroad(
            self._reactor,
            self.resolver,
            request,
            own=own,
            outgoing=self.outgoing,
            connected=connected,
            failed=failed,
        )

    def original(
        self, connection: socket.socket, client: Address, listener: Listener
    ) -> Address | None:
        """Return where the client of an accepted connection wanted to go, if that matters.

        Raises:
            NotRedirectedError: the connection must not be served.
            OSError: the kernel cannot say.
        """
        if self.outgoing.begins_at(client):
            remote = first_destination(connection, tproxy=listener.tproxy)
            if Ends(client, remote) in self.outgoing:
                raise NotRedirectedError("our own connection to a server was led back to us")
        if listener.destination != ORIGINAL:
            return None
        return original_destination(connection, tproxy=listener.tproxy)

    def close(self) -> None:
        """Stop asking DNS."""
        self.resolver.close()


class ForwardRules:
    """The rules of one forward listener.

    Args:
        listener: its conf.
        ladder: the policies.
    """

    def __init__(self, listener: Listener, ladder: Ladder) -> None:
        self.report = listener.tls is TLSRule.REPORT
        self._service = f"_{listener.stream.service}"
        self._patterns = listener.domains
        self._ladder = ladder
        self._accepted: dict[tuple[str, Policy, bytes], tuple[datetime, Verdict]] = {}

    def serves(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) may be reached."""
        return any(pattern.matches(domain) for pattern in self._patterns)

    def default(self) -> str:
        """Return the domain shown to clients that name none: there is no such domain."""
        return ""

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` must prove itself."""
        return self._ladder.find(domain)

    def judge(self, domain: str, policy: Policy, evidence: Evidence) -> Verdict:
        """Judge a server's certificate now, unless the very same was accepted a moment ago.

        That takes the same chain, of which OpenSSL, which looks at the dates each time, said the
        same.

        Raises:
            UntrustedError: it does not do.
        """
        now = datetime.now(UTC)
        key = (domain, policy, _digest(evidence))
        at, verdict = self._accepted.get(key, (None, None))
        if at is not None and verdict is not None and at <= now < at + REMEMBERED:
            return verdict
        verdict = judge(domain, self._service, policy, evidence, now)
        self._accepted.pop(key, None)
        while len(self._accepted) >= MOST_REMEMBERED:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[key] = (now, verdict)
        return verdict


def _digest(evidence: Evidence) -> bytes:
    """Return what no other evidence has."""
    digest = sha256(repr((evidence.error, evidence.error_text)).encode())
    for chain in (evidence.chain, evidence.verified):
        digest.update(len(chain).to_bytes(4))
        for certificate in chain:
            digest.update(sha256(certificate).digest())
    return digest.digest()


def request(domain: str, policy: Policy, listener: Listener, original: Address | None) -> Request:
    """Return whose server is wanted, and what limits the ways to it."""
    fixed, direct = policy.server, policy.direct_tls
    if listener.stream is Kind.S2S:
        fixed, direct = policy.s2s_server, policy.s2s_direct_tls
    server = None if fixed is None else Target(*fixed, direct=direct)
    return Request(
        domain=domain,
        service=listener.stream.service,
        server=server,
        original=None if original is None else (original.host, original.port),
        unlisted=listener.unlisted_destinations,
        private_addresses=policy.private_addresses,
    )
