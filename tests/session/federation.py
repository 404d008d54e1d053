"""Sessions between servers, in both directions."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import attrs

from proxy.session.chain import Chain
from proxy.session.commands import (
    Abort,
    Arm,
    AwaitTLS,
    Command,
    Connect,
    Deadline,
    Disarm,
    Hold,
    Resume,
    Send,
    StartServerTLS,
    StartTLS,
)
from proxy.session.dialback import Ledger
from proxy.session.hooks import Address, Plugin, TLSRule
from proxy.session.inbound import Inbound
from proxy.session.kinds import Kind
from proxy.session.outbound import Outbound
from proxy.session.securing import STARTTLS
from proxy.session.session import Session
from proxy.trust.dane.claims import Claims
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback, Pattern, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import PROCEED
from proxy.xmpp.features import STARTTLS_REQUIRED
from proxy.xmpp.headers import opening
from tests.session import forward
from tests.session.federation_words import (
    ELSEWHERE,
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    SUCCESS,
    WITH_EXTERNAL,
    anew,
    answer,
    answered,
    auth,
    evidence,
    message,
    opened,
    own,
    own_result,
    proves,
    result,
)
from tests.session.forward import FACTS, ForwardPlaybook
from tests.session.playbook import (
    CLIENT,
    CLIENT_HELLO,
    SERVER,
    TLS_UP,
    CountedIds,
    client_hello,
    facts,
)
from tests.session.sessions import to_server


@attrs.define
class Peers(forward.Rules):
    """The rules of a listener for servers, in either direction.

    Attributes:
        policies: those that are not the usual one.
        judged: stands in for the judgement of a server that has connected.
        locals: how many of our domains there are.
        asked: the domains that certificates were judged for.
    """

    ledger: Ledger = attrs.field(factory=Ledger)
    offers_external: bool = True
    policies: dict[str, Policy] = attrs.field(factory=dict)
    judged: Callable[[], Any] | None = None
    locals: tuple[str, ...] = (LOCAL, LOCAL_2, ELSEWHERE)
    unreachable: tuple[str, ...] = ()
    outgoing: bool = False
    asked: list[str] = attrs.field(factory=list)

    def serves(self, domain: str) -> bool:
        return self.reaches(domain) if self.outgoing else domain in (LOCAL, LOCAL_2)

    def default(self) -> str:
        return LOCAL

    def is_local(self, domain: str) -> bool:
        return domain in self.locals

    def only_local(self) -> str | None:
        return self.locals[0] if len(self.locals) == 1 else None

    def together(self, domain: str, other: str) -> bool:
        return domain in (LOCAL, LOCAL_2) and other in (LOCAL, LOCAL_2)

    def reaches(self, domain: str) -> bool:
        return domain not in self.unreachable

    def policy(self, domain: str) -> Policy:
        return self.policies.get(domain) or Policy(Pattern("*"), self.level)

    def judge_client(self, domain: str, chain: Sequence[bytes]) -> Verdict:
        self.asked.append(domain)
        if self.judged is not None:
            return self.judged()  # type: ignore[no-any-return]
        return _judged(domain, chain)

    def judge(
        self, domain: str, policy: Policy, evidence: Evidence, claims: Claims | None
    ) -> Verdict:
        self.claims = claims
        self.asked.append(domain)
        if self.verdict is not None:
            return self.verdict()  # type: ignore[no-any-return]
        return _judged(domain, evidence.chain)


def _judged(domain: str, chain: Sequence[bytes]) -> Verdict:
    if not chain:
        raise UntrustedError(f"{domain} showed no certificate", Status.ANONYMOUS)
    if domain not in chain[0].decode().split(","):
        raise UntrustedError(f"the certificate is not for {domain}", Status.TRUSTED)
    return Verdict(Status.VERIFIED, f"DNS-ID {domain}", "")


def never(*domains: str) -> dict[str, Policy]:
    """Policies that rule dialback out."""
    return {each: Policy(Pattern(each), dialback=Dialback.NEVER) for each in domains}


def inbound_session(
    rules: Peers, rule: TLSRule = TLSRule.REQUIRED, plugins: Iterable[Plugin] = ()
) -> Session:
    """A session in which a server of the network reaches one of ours."""
    return Session(
        session_id="session",
        listener="s2s-in",
        kind=Kind.S2S,
        rule=rule,
        client=Address("192.0.2.1", 5000),
        domains=rules,
        chain=Chain(plugins),
        ids=CountedIds(),
        passage=lambda view, chain, out: Inbound(view, chain, out, rules),
    )


def outbound_session(rules: Peers, plugins: Iterable[Plugin] = ()) -> Session:
    """A session in which a server of ours reaches one of the network."""
    rules.outgoing = True
    return Session(
        session_id="session",
        listener="s2s-out",
        kind=Kind.S2S,
        rule=TLSRule.NONE,
        client=Address("127.0.0.1", 5000),
        domains=rules,
        chain=Chain(plugins),
        ids=CountedIds(),
        passage=lambda view, chain, out: Outbound(view, chain, out, rules),
        outward=rules,
    )


class FederationPlaybook(ForwardPlaybook):
    """A playbook of a session between servers."""

    def __init__(self, rules: Peers | None = None) -> None:
        super().__init__()
        self.rules = rules or Peers()

    def gave(self) -> list[Command]:
        """Return what came of the last event, which is asked for in another way."""
        gave, self._pending = self._pending, []
        return gave

    def told(self, part: str) -> bool:
        """Whether the log was told of something."""
        return any(part in f"{each.message} {each.fields}" for each in self.reports)

    @property
    def issued(self) -> int:
        """How many keys of the proxy's own are still good."""
        return len(self.rules.ledger)


class InboundPlaybook(FederationPlaybook):
    """A playbook of a session on a reverse listener."""

    def __init__(
        self,
        rules: Peers | None = None,
        rule: TLSRule = TLSRule.REQUIRED,
        plugins: Iterable[Plugin] = (),
    ) -> None:
        super().__init__(rules)
        self.session = inbound_session(self.rules, rule, plugins)

    def shown(self, chain: Sequence[bytes] = (), *, direct: bool = False) -> Self:
        return self._event(
            f"secured: {chain}", lambda: self.session.secured(facts(direct=direct), chain)
        )

    # The way to where a test begins, every command checked

    def to_tls(self, *domains: str, sender: str | None = REMOTE) -> Self:
        """TLS up by STARTTLS, the other server's certificate proving ``domains``."""
        self.connected().then(Arm(Deadline.NEGOTIATION))
        offer = own(1, sender=LOCAL, to=sender) + STARTTLS_REQUIRED
        self.client(opened(sender, LOCAL)).then(Send(CLIENT, offer))
        self.client(STARTTLS).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
        self.hello().then(StartTLS(LOCAL))
        return self.shown(proves(*domains) if domains else ()).then(*TLS_UP)

    def to_direct_tls(self, *domains: str) -> Self:
        self.connected().then(Arm(Deadline.NEGOTIATION))
        self.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
        self.hello(client_hello(LOCAL, (b"xmpp-server",), direct=True)).then(StartTLS(LOCAL))
        return self.shown(proves(*domains) if domains else (), direct=True).then(*TLS_UP)

    def to_stream(
        self,
        opening: bytes | None = None,
        *,
        features: bytes = FEATURES,
        stream_id: str = "L1",
    ) -> Self:
        """A stream open under TLS, to our server and back, whatever is offered on it."""
        opening = opening or opened(REMOTE, LOCAL)
        self.client(opening).then(Arm(Deadline.CONNECT), Connect(LOCAL), Hold())
        self.server_connected().then(Send(SERVER, opening))
        self.server(answered(stream_id, LOCAL) + features)
        assert self.gave()[-1] == Resume()
        return self

    def to_streams(self, *domains: str) -> Self:
        return self.to_tls(*domains).to_stream()

    def to_external(self) -> Self:
        """Authenticated by EXTERNAL, and told so; our server has been left."""
        self.to_streams(REMOTE).client(auth())
        return self.then(
            Send(CLIENT, SUCCESS),
            Disarm(Deadline.AUTHENTICATION),
            Arm(Deadline.AUTHENTICATION),
            Disarm(Deadline.CONNECT),
            Abort(SERVER),
        )

    def to_authenticated(self) -> Self:
        """Authenticated by EXTERNAL, both streams begun anew."""
        return self.to_external().to_stream(stream_id="L2")

    def to_convincing(
        self, stanza: bytes | None = None, pair: tuple[str, str] | None = None
    ) -> Self:
        """A stanza waits until our server is convinced."""
        self.client(stanza or message())
        key = key_of(self._pending)
        return self.then(
            Arm(Deadline.CONNECT),
            Send(SERVER, own_result(*(pair or (REMOTE, LOCAL)), key)),
            Hold(),
        )

    def to_convinced(self) -> Self:
        self.to_authenticated().to_convincing()
        return self.server(answer(LOCAL, REMOTE, "valid")).then(
            Disarm(Deadline.CONNECT),
            Send(SERVER, message()),
            Disarm(Deadline.AUTHENTICATION),
            Resume(),
        )

    def to_dialled(self, *domains: str) -> Self:
        """The pair of the header proved by dialback."""
        asked = result(REMOTE, LOCAL)
        self.to_streams(*domains).client(asked).then(Send(SERVER, anew(asked)))
        said = answer(LOCAL, REMOTE, "valid")
        return self.server(said).then(Send(CLIENT, anew(said)), Disarm(Deadline.AUTHENTICATION))


class OutboundPlaybook(FederationPlaybook):
    """A playbook of a session on a forward listener."""

    def __init__(self, rules: Peers | None = None, plugins: Iterable[Plugin] = ()) -> None:
        super().__init__(rules)
        self.session = outbound_session(self.rules, plugins)

    def proved(self, *domains: str) -> Self:
        shown = evidence(*domains)
        return self._event(f"{shown}", lambda: self.session.server_secured(FACTS, shown))

    # The way to where a test begins, every command checked

    def to_way(self, opening: bytes | None = None) -> Self:
        self.connected().then(Arm(Deadline.NEGOTIATION))
        return self.client(opening or opened(LOCAL, REMOTE)).then(*GOING_OUT)

    def to_handshake(self, *, more: bool = False) -> Self:
        """From a connection that is asked for to the handshake."""
        self.reached(more=more).then(
            *([Arm(Deadline.WAY)] if more else []), Send(SERVER, OPENING_ABROAD)
        )
        self.server(answered("r1", REMOTE) + forward.OFFER).then(Send(SERVER, STARTTLS))
        return self.server(PROCEED).then(StartServerTLS(REMOTE, direct=False, sender=LOCAL))

    def to_secured(self, *domains: str, expected: bytes | None = None, more: bool = False) -> Self:
        """TLS up and judged; the certificate proves ``domains`` besides the stream's own."""
        self.to_way().to_handshake(more=more).proved(REMOTE, *domains)
        return self.then(Send(SERVER, expected or opened(LOCAL, REMOTE)))

    def to_stream(self, stream_id: str = "r2", features: bytes = FEATURES) -> Self:
        """The other server's stream open, and shown to ours."""
        return self.server(answered(stream_id, REMOTE) + features).then(
            Disarm(Deadline.CONNECT),
            Disarm(Deadline.WAY),
            Send(CLIENT, answered(stream_id, REMOTE)),
            Send(CLIENT, features),
            Resume(),
        )

    def to_streams(self, *domains: str) -> Self:
        return self.to_secured(*domains).to_stream()

    def to_presented(self, *domains: str) -> Self:
        """EXTERNAL offered, and asked for."""
        self.to_secured(*domains).server(answered("r2", REMOTE) + WITH_EXTERNAL)
        return self.then(Send(SERVER, auth(LOCAL)))

    def to_accepted(self, *domains: str) -> Self:
        """EXTERNAL done; the second stream open and shown to our server."""
        self.to_presented(*domains).server(SUCCESS).then(Send(SERVER, opened(LOCAL, REMOTE)))
        return self.to_stream("r3")

    def to_dialled(self, *domains: str) -> Self:
        """The pair of the header proved by dialback."""
        asked, said = result(LOCAL, REMOTE), answer(REMOTE, LOCAL, "valid")
        self.to_streams(*domains).client(asked).then(Send(SERVER, anew(asked)))
        return self.server(said).then(Send(CLIENT, anew(said)), Disarm(Deadline.AUTHENTICATION))

    def to_unaddressed(self) -> Self:
        """A header that does not say to whom it is, as jabberd2 sends it."""
        self.connected().then(Arm(Deadline.NEGOTIATION))
        return self.client(UNADDRESSED).then(Send(CLIENT, own(1, version=False)))

    def to_vouching(self) -> Self:
        """Our key sent for an unaddressed stream, whose server asks for a pair."""
        self.to_unaddressed().client(result(LOCAL, REMOTE)).then(*GOING_OUT)
        self.to_handshake().proved(REMOTE).then(Send(SERVER, OPENING_FOR_UNADDRESSED))
        self.server(answered("r2", REMOTE) + FEATURES)
        key = key_of(self._pending)
        return self.then(
            Disarm(Deadline.CONNECT),
            Disarm(Deadline.WAY),
            Send(SERVER, own_result(LOCAL, REMOTE, key)),
            Resume(),
        )


def key_of(commands: Iterable[Command]) -> str:
    """Return the key of the proxy's own that goes to the server leg."""
    found = re.search(rb"<db:result [^>]*>([0-9a-f]{64})</db:result>", to_server(commands))
    assert found is not None
    return found[1].decode()


OPENING_ABROAD = opening(REMOTE, ns.SERVER, LOCAL)
"""The proxy's own header before TLS."""
UNADDRESSED = opened(None, None, None)
OPENING_FOR_UNADDRESSED = (
    UNADDRESSED[:-1] + f' from="{LOCAL}" to="{REMOTE}" version="1.0">'.encode()
)
GOING_OUT = (
    Disarm(Deadline.NEGOTIATION),
    Arm(Deadline.AUTHENTICATION),
    Arm(Deadline.CONNECT),
    Connect(REMOTE),
    Hold(),
)
