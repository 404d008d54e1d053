"""A server of ours reaches one of the network: for which of its domains, and by what proof.

The other server is known by its certificate. Ours is made known to it by the certificate of its
domain, where it takes that by SASL EXTERNAL: our server's own dialback is then answered here.
Otherwise dialback passes from end to end.

Some old servers do not say to which domain they open a stream, and need an id from us before they
do, by asking for a pair. Their keys hash that id, which no other server knows; so the proxy does
dialback itself, with a key of its own, about which the other server asks on its way in.
"""

from typing import Protocol

import attrs

from proxy.session import dialback
from proxy.session.addresses import demand_plain
from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.commands import Command, Send, Severity, Side
from proxy.session.dialback import Dialback, Pair
from proxy.session.faults import located
from proxy.session.federation import MOST_PAIRS, Federation, FederationRules, cut_features
from proxy.session.hooks import Condition, Element, StreamHeader, TLSFacts, View
from proxy.session.ways import Rules
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback as DialbackRule
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Header
from proxy.xmpp.features import edit
from proxy.xmpp.headers import completed


class OutboundRules(FederationRules, Rules, Protocol):
    """What a forward listener for servers allows and demands."""


class Outbound(Federation):
    """The way from a server of ours to one of the network.

    Args:
        view: the session as it begins.
        chain: the plugins.
        out: takes the commands.
        rules: the listener's.
    """

    __slots__ = (
        "_accepted",
        "_entitled",
        "_evidence",
        "_outbound",
        "_stream_id",
        "_unaddressed",
        "_versioned",
        "_vouched",
        "_waiting",
    )

    def __init__(self, view: View, chain: Chain, out: list[Command], rules: OutboundRules) -> None:
        super().__init__(view, chain, out, rules)
        self._outbound = rules
        self._accepted: Pair | None = None  # which EXTERNAL has proved to the other server
        self._entitled: dict[str, bool] = {}  # domains besides the stream's own: whether they are
        self._evidence: Evidence | None = None
        self._stream_id = ""  # the other server's
        self._unaddressed = False  # whether our server's header did not say to whom it is
        self._versioned = True
        self._vouched: dict[Pair, Dialback] = {}  # what was asked of us, and is of the other server
        self._waiting: Element | None = None  # what says to whom an unaddressed stream is

    @property
    def awaits_address(self) -> bool:
        """Whether our server has still to say to whom its stream is."""
        return self._unaddressed and self.view.domain is None

    def ended(self) -> None:
        """Withdraw the keys that nobody can ask about any more."""
        self._withdraw()

    def begin_anew(self) -> None:
        """Forget the other server, and what was proved to it."""
        super().begin_anew()
        self._accepted = self._evidence = None
        self._entitled.clear()
        self._withdraw()

    def server_secured(self, facts: TLSFacts, identity: str, evidence: Evidence) -> None:
        """Take note of TLS on the server leg, and of what has proved the server."""
        super().server_secured(facts, identity, evidence)
        self._evidence = evidence

    def accepted(self) -> None:
        """Take note that the other server has let our certificate prove the stream's domains."""
        if self.view.origin is not None and self.view.domain is not None:
            self._accepted = Pair(self.view.origin, self.view.domain)

    # Headers and features

    def stream_opened(self, header: StreamHeader, domain: str) -> None:
        """Judge for which domain of ours a stream is opened; raises StreamError."""
        self._name(domain)
        origin = self._origin(header) or self._rules.only_local()
        if origin is None:
            raise StreamError(
                Condition.INVALID_FROM, "the stream does not say from which domain it is"
            )
        if not self._rules.is_local(origin):
            raise StreamError(Condition.INVALID_FROM, f"{origin} is not served here")
        self._versioned = header.has_features
        self.view = self.view.but(origin=origin)
        super().stream_opened(header, domain)

    def open_unaddressed(self, header: StreamHeader) -> bool:
        """Whether the header of our server does not say to whom its stream is."""
        self._unaddressed = header.to is None
        self._versioned = header.has_features
        return self._unaddressed

    def opening(self, header: Header) -> bytes:
        """Return the header that the other server gets: our server's, with what it may lack.

        RFC 6120 and XEP-0220 want the version, both domains and dialback announced.
        """
        return completed(
            header,
            **{"from": self.view.origin or ""},
            to=self.view.domain or "",
            version="1.0",
            xmlns_db=ns.DIALBACK,
        )

    def answer(self, header: Header) -> bytes:
        """Return the other server's header, unless ours has got one already.

        Raises:
            StreamError: ours might read something in it that is not there.
        """
        demand_plain(header.attributes)
        self._stream_id = header.attributes.get("id", "")
        return b"" if self._unaddressed else header.raw

    def resume(self) -> Step:
        """Go on with what an unaddressed stream was opened for; raises StreamError."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return Step.NONE
        return self._dialback_from_client(waiting, dialback.read(waiting))

    def _offer(self, features: Element) -> None:
        """Pass on what is left of the features; none to a server that knows none."""
        if not self._versioned or self._unaddressed:
            return
        raw = self._asked_of_plugins(features)
        if raw:
            raw = edit(attrs.evolve(features, raw=raw), cut_features)
            self._out.append(Send(Side.CLIENT, raw))

    # What our server sends

    def from_client(self, element: Element) -> Step:
        """Pass on an element of our server's; raises StreamError."""
        return self._address(element) if self.awaits_address else super().from_client(element)

    def _address(self, element: Element) -> Step:
        """Learn to whom an unaddressed stream is; raises StreamError."""
        self._count_element()
        namespace, _ = ns.split(element.name)
        if namespace != ns.DIALBACK:
            raise StreamError(
                Condition.IMPROPER_ADDRESSING, "the stream does not say to which domain it is"
            )
        asked = dialback.read(element)
        if asked.kind is not None:
            self._drop("an answer of dialback that nobody has asked for")
            return Step.NONE
        if not self._rules.is_local(asked.pair.sender):
            raise StreamError(Condition.INVALID_FROM, f"{asked.pair.sender} is not served here")
        if not self._rules.reaches(asked.pair.to):
            text = f"{asked.pair.to} is not among the domains of this listener"
            raise StreamError(Condition.HOST_UNKNOWN, text)
        self._waiting = element
        self.view = self.view.but(origin=asked.pair.sender, domain=asked.pair.to)
        return Step.ADDRESSED

    def _dialback_from_client(self, element: Element, asked: Dialback) -> Step:
        if asked.kind is not None:
            self._drop("an answer of dialback that nobody has asked for")
            return Step.NONE
        pair = asked.pair
        if not self._rules.is_local(pair.sender):
            raise StreamError(Condition.INVALID_FROM, f"{pair.sender} is not served here")
        if asked.name == dialback.VERIFY:
            self._verify(element, asked)
            return Step.NONE
        if pair == self._accepted:
            self._answer(asked, dialback.VALID)
            return self._prove(pair, "external")
        problem = self._problem(pair.to)
        if not problem:
            problem = self._ruled_out(pair)
            if problem and self._outbound.report:
                self._spare(pair, problem)
                problem = ""
        if problem:
            self._decline(asked, "not-authorized", problem)
        elif self._unaddressed:
            self._vouch(asked)
        else:
            self._ask(element, asked)
        return Step.NONE

    def _ruled_out(self, pair: Pair) -> str:
        """Say why a pair may not be proved by dialback; nothing if it may."""
        if self._rules.policy(pair.to).dialback is not DialbackRule.NEVER:
            return ""
        return (
            f"the server of {pair.to} has not taken the certificate of {pair.sender} "
            f"(SASL EXTERNAL), and the policy of {pair.to} rules dialback out"
        )

    def _vouch(self, asked: Dialback) -> None:
        """Ask the other server to let a pair pass, with a key of the proxy's own."""
        if not self._stream_id or len(self._vouched) + len(self._proven) >= MOST_PAIRS:
            problem = "too many pairs of domains, or no stream id"
            self._decline(asked, "resource-constraint", problem)
            return
        self._vouched[asked.pair] = asked
        key = self._rules.ledger.issue(asked.pair, self._stream_id)
        self._out.append(Send(Side.SERVER, dialback.request(asked.sender, asked.to, key)))

    def _dialback_from_server(self, element: Element, answer: Dialback) -> Step:
        pair = answer.pair.turned
        if answer.kind is None or answer.name != dialback.RESULT or pair not in self._vouched:
            return super()._dialback_from_server(element, answer)
        asked = self._vouched.pop(pair)
        self._rules.ledger.withdraw(pair, self._stream_id)
        self._answer(asked, answer.kind, answer.condition)
        return self._heed_result(pair, answer.kind)

    def _withdraw(self) -> None:
        for pair in self._vouched:
            self._rules.ledger.withdraw(pair, self._stream_id)
        self._vouched.clear()

    def _verify(self, element: Element, asked: Dialback) -> None:
        """Answer whether a key is good that is the proxy's own; pass other questions on."""
        good = self._rules.ledger.check(asked.pair.turned, asked.id, asked.key)
        if good is not None:
            self._answer(asked, dialback.VALID if good else dialback.INVALID)
            return
        # The answer must come from the domain asked, and from nobody else.
        problem = self._problem(asked.pair.to)
        if problem:
            self._decline(asked, "not-authorized", problem)
        else:
            self._ask(element, asked)

    def _problem(self, domain: str) -> str:
        """Say why the other server may not be taken for that of a domain; nothing if it may."""
        if domain == self.view.domain:
            return ""
        if not self._rules.reaches(domain):
            return f"{domain} may not be reached"
        if domain not in self._entitled:
            self._entitled[domain] = self._is_entitled(domain)
        if not self._entitled[domain]:
            return f"the server of {self.view.domain} has not proved that it is that of {domain}"
        return ""

    def _is_entitled(self, domain: str) -> bool:
        """Whether the other server has proved a second domain, as that one's policy demands."""
        if self._evidence is None or self.view.domain is None:
            return False
        policy = self._outbound.policy(domain)
        first = self._outbound.policy(self.view.domain)
        if (policy.anchors, policy.min_version) != (first.anchors, first.min_version):
            return False  # TLS was set up by the first one's
        if policy.s2s_server != first.s2s_server:
            return False
        try:
            verdict = self._outbound.judge_aside(domain, policy, self._evidence)
        except (UntrustedError, UndecidedError):
            return False
        except BaseException as error:  # noqa: BLE001 - whatever it was, nothing is proved
            pair = Pair(self.view.origin or "", domain)
            self._report(Severity.ERROR, "fault in a certificate check", pair, error=located(error))
            return False
        return verdict.status is Status.VERIFIED
