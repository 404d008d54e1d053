"""Sessions of a forward listener, and what its server says."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import attrs

from proxy.session.chain import Chain
from proxy.session.commands import (
    Abort,
    Arm,
    Command,
    Connect,
    ConnectNext,
    Deadline,
    Disarm,
    Hold,
    Report,
    Resume,
    Send,
    StartServerTLS,
)
from proxy.session.hooks import Address, Plugin, TLSFacts, TLSRule
from proxy.session.securing import STARTTLS
from proxy.session.session import Session
from proxy.session.ways import Reached, Trouble
from proxy.trust.dane.claims import Claims
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.headers import opening
from tests.session.playbook import (
    CLIENT,
    DOMAIN,
    MECHANISMS,
    OTHER_DOMAIN,
    SERVER,
    CountedIds,
    Playbook,
    answer,
    header,
)

OPENING = opening(DOMAIN)
PROCEED = f"<proceed xmlns='{ns.TLS}'/>".encode()
OFFER = f"<stream:features><starttls xmlns='{ns.TLS}'/></stream:features>".encode()
NO_OFFER = b"<stream:features/>"
TRUSTED = Evidence((b"certificate",), 0, "ok")
DISTRUSTED = Evidence((b"another",), 18, "self-signed certificate")
FACTS = TLSFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", DOMAIN, False, False)
WHY = f"the certificate of {DOMAIN} is self-signed"


@attrs.define
class Rules:
    """A policy for every domain, and a judge that knows two certificates."""

    level: Level = Level.SECURE
    report: bool = False
    verdict: Callable[[], Any] | None = None
    objection: Callable[[], str] = str
    claims: Claims | None = None

    def serves(self, domain: str) -> bool:
        return domain in (DOMAIN, OTHER_DOMAIN)

    def default(self) -> str:
        return ""

    def policy(self, _domain: str) -> Policy:
        return Policy(Pattern("*"), self.level)

    def judge(
        self, domain: str, policy: Policy, evidence: Evidence, claims: Claims | None
    ) -> Verdict:
        self.claims = claims
        if self.verdict is not None:
            return self.verdict()  # type: ignore[no-any-return]
        if evidence == TRUSTED:
            return Verdict(Status.VERIFIED, f"DNS-ID {domain}", "")
        if policy.level.demands_proof:
            raise UntrustedError(WHY)
        return Verdict(Status.UNTRUSTED, "", WHY)

    def judge_aside(self, domain: str, policy: Policy, evidence: Evidence) -> Verdict:
        return self.judge(domain, policy, evidence, None)

    def lacks_tls(self, _domain: str) -> str:
        return self.objection()


def forward_session(
    rules: Rules | None = None, plugins: Iterable[Plugin] = (), ids: CountedIds | None = None
) -> Session:
    """A session on a forward listener."""
    rules = rules or Rules()
    return Session(
        session_id="session",
        listener="legacy",
        rule=TLSRule.NONE,
        client=Address("127.0.0.1", 5000),
        domains=rules,
        chain=Chain(plugins),
        ids=ids or CountedIds(),
        outward=rules,
    )


def reached(*, direct: bool = False, more: bool = False, host: str = "xmpp.example.com") -> Reached:
    return Reached(host, Address("192.0.2.1", 5223 if direct else 5222), direct, more)


class ForwardPlaybook(Playbook):
    """A playbook of a session on a forward listener; what goes to the log is kept aside."""

    def __init__(self, rules: Rules | None = None, plugins: Iterable[Plugin] = ()) -> None:
        super().__init__(TLSRule.NONE, plugins)
        self.session = forward_session(rules, plugins)
        self.reports: list[Report] = []

    def _event(self, told: str, event: Callable[[], list[Command]]) -> Self:
        super()._event(told, event)
        self.reports += [each for each in self._pending if isinstance(each, Report)]
        self._pending = [each for each in self._pending if not isinstance(each, Report)]
        return self

    # Events

    def reached(self, *, direct: bool = False, more: bool = False) -> Self:
        where = reached(direct=direct, more=more)
        return self._event(f"reached: {where}", lambda: self.session.server_connected(where))

    def server_secured(self, evidence: Evidence = TRUSTED) -> Self:
        return self._event(
            f"server secured: {evidence}", lambda: self.session.server_secured(FACTS, evidence)
        )

    def server_tls_failed(self, reason: str = "wrong version number") -> Self:
        return self._event("server TLS failed", lambda: self.session.server_tls_failed(reason))

    def decided(self, *, in_time: bool) -> Self:
        return self._event(f"decided: {in_time}", lambda: self.session.decided(in_time))

    def stranded(self, trouble: Trouble, reason: str) -> Self:
        return self._event(
            f"{trouble}: {reason}", lambda: self.session.server_unreachable(reason, trouble)
        )

    # The way to where a test begins, every command checked

    def to_connecting_abroad(self) -> Self:
        self.connected().then(Arm(Deadline.NEGOTIATION))
        return self.client(header()).then(
            Disarm(Deadline.NEGOTIATION),
            Arm(Deadline.AUTHENTICATION),
            Arm(Deadline.CONNECT),
            Connect(DOMAIN),
            Hold(),
        )

    def to_opening(self, *, more: bool = False) -> Self:
        self.to_connecting_abroad().reached(more=more)
        return self.then(*([Arm(Deadline.WAY)] if more else []), Send(SERVER, OPENING))

    def to_asked(self, *, more: bool = False) -> Self:
        self.to_opening(more=more)
        return self.server(answer("remote-1") + OFFER).then(Send(SERVER, STARTTLS))

    def to_handshaking(self, *, more: bool = False) -> Self:
        return self.to_asked(more=more).server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))

    def to_server_secured(self, *, more: bool = False) -> Self:
        return self.to_handshaking(more=more).server_secured().then(Send(SERVER, header()))

    def to_server_open(self) -> Self:
        self.to_server_secured()
        return self.server(answer("remote-2") + MECHANISMS).then(
            Disarm(Deadline.CONNECT),
            Disarm(Deadline.WAY),
            Send(CLIENT, answer("remote-2")),
            Send(CLIENT, MECHANISMS),
            Resume(),
        )


GIVEN_UP = (Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
"""What comes of a way that leads nowhere."""
