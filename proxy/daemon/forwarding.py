"""What a forward listener allows and demands, as its conf says."""

import socket
from collections.abc import Callable, Collection, Sequence

from OpenSSL import SSL

from proxy.daemon.model import FORWARD, ORIGINAL, Conf, Listener
from proxy.daemon.served import CertificateFiles
from proxy.daemon.trusting.judge import Judge
from proxy.net.outgoing import Ends, Outgoing
from proxy.net.reach import Abroad, Connected, Failed
from proxy.net.redirected import NotRedirectedError, first_destination, original_destination
from proxy.net.resolver import Resolver
from proxy.net.route import Request
from proxy.net.targets import Target
from proxy.net.tls import TLSSetupError, client_context
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.dane.claims import Claims
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Ladder, Pattern, Policy
from proxy.trust.proof import Case
from proxy.trust.verdict import Verdict

Contexts = dict[tuple[Policy, str], SSL.Context]
"""TLS contexts for servers of others, by their policy and the domain of ours that is shown."""


def contexts_abroad(
    conf: Conf, before: Contexts | None = None, senders: Collection[str] | None = None
) -> tuple[Contexts, TLSSetupError | None]:
    """Make the contexts in which the servers of others are spoken to; each takes some milliseconds.

    Args:
        conf: the conf.
        before: those that there were, of which what cannot be made anew stays.
        senders: make only those in which these domains of ours are shown; None for all.

    Returns:
        The contexts, and why some of them stayed as they were.

    Raises:
        TLSSetupError: the roots of a policy, or a certificate, cannot be read, and nothing was made
            of them before.
    """
    own: dict[str, Sequence[CertificateFiles]] = {"": ()}
    if any(each.direction == FORWARD and each.stream is Kind.S2S for each in conf.listeners):
        own |= {domain.name: domain.certificates for domain in conf.domains}
    made = dict(before or {})
    problem: TLSSetupError | None = None
    # The last one holds where none is named.
    for policy in (*conf.policies, Policy(Pattern.parse("*"))):
        for sender in own if senders is None else own.keys() & set(senders):
            pairs = [(files.certificate, files.private_key) for files in own[sender]]
            try:
                made[policy, sender] = client_context(policy, pairs)
            except TLSSetupError as error:
                if (policy, sender) not in made:
                    raise
                problem = error
    return made, problem


class Remote:
    """The servers of domains that are not ours: which policy holds for each, and how it is met.

    Args:
        conf: the conf.
        reactor: the reactor.
        outgoing: knows our own connections, those under other confs among them.
        contexts: the TLS contexts; None has them made here.

    Raises:
        TLSSetupError: the roots of a policy cannot be read.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: object,
        outgoing: Outgoing | None = None,
        contexts: Contexts | None = None,
    ) -> None:
        self.ladder = Ladder(conf.policies)
        self.resolver = Resolver(reactor, conf.dns.servers, validating=conf.dns.validating)
        self.outgoing = Outgoing() if outgoing is None else outgoing
        self._reactor = reactor
        self._conf = conf
        self._contexts = contexts_abroad(conf)[0] if contexts is None else contexts

    def renew(self, senders: Collection[str] | None = None) -> None:
        """Make the TLS contexts anew, with roots and certificates as they now are.

        Args:
            senders: make only those in which these domains of ours are shown; None for all.

        Raises:
            TLSSetupError: the roots of a policy, or a certificate, cannot be read; what needs them
                stays as it was.
        """
        self._contexts, problem = contexts_abroad(self._conf, self._contexts, senders)
        if problem is not None:
            raise problem

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
        """Stop asking DNS, and give up the TLS contexts, which are large."""
        self.resolver.close()
        self._contexts.clear()


class ForwardRules:
    """The rules of one forward listener.

    Args:
        listener: its conf.
        ladder: the policies.
        judge: whom servers are judged by.
    """

    def __init__(self, listener: Listener, ladder: Ladder, judge: Judge) -> None:
        self.report = listener.tls is TLSRule.REPORT
        self._listener = listener
        self._kind = listener.stream
        self._ladder = ladder
        self._judge = judge

    def serves(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) may be reached."""
        return self._listener.leads_to(domain)

    def default(self) -> str:
        """Return the domain shown to clients that name none: there is no such domain."""
        return ""

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` must prove itself."""
        return self._ladder.find(domain)

    def judge(
        self, domain: str, policy: Policy, evidence: Evidence, claims: Claims | None
    ) -> Verdict:
        """Judge a server.

        Raises:
            UntrustedError: it does not do.
            UndecidedError: somebody has to be asked first.
        """
        return self._judge.judge(Case(domain, f"_{self._kind.service}", policy, evidence, claims))

    def judge_aside(self, domain: str, policy: Policy, evidence: Evidence) -> Verdict:
        """Judge whether a server is also that of another domain than it was connected to for.

        Raises:
            UntrustedError: it is not.
            UndecidedError: somebody would have to be asked first.
        """
        service = f"_{self._kind.service}"
        return self._judge.judge(Case(domain, service, policy, evidence, aside=True))

    def lacks_tls(self, domain: str) -> str:
        """Return why ``domain`` may not be reached without TLS; empty if nothing is against it."""
        return self._judge.lacks_tls(domain, self._kind)


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
        dane=policy.level.heeds_dane,
    )
