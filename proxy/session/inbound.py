"""A server of the network reaches one of ours: who it is, and how ours is convinced of that.

Its certificate may prove its domain. Then it is offered SASL EXTERNAL, which our server does not
know, and the proxy convinces our server in its stead, by dialback with a key of its own: our server
asks on its way out, which leads through the proxy, whether the key is good. Otherwise the server
does dialback itself, and that passes from end to end.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from proxy.session import dialback, external
from proxy.session.addresses import demand_plain, spelling_of
from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.commands import Arm, Command, Deadline, Disarm, Report, Send, Severity, Side
from proxy.session.dialback import Dialback, Pair
from proxy.session.faults import located
from proxy.session.federation import (
    DIALBACK_FEATURE,
    MOST_PAIRS,
    Federation,
    FederationRules,
    cut_features,
)
from proxy.session.hooks import (
    Condition,
    Direction,
    Element,
    StreamHeader,
    TLSFacts,
    TLSRule,
    View,
)
from proxy.session.passage import NO_FEATURES, STARTTLS_OFFER, RefusalError
from proxy.trust.policy import Dialback as DialbackRule
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError, sasl_failure
from proxy.xmpp.events import Header
from proxy.xmpp.features import edit, insert
from proxy.xmpp.headers import completed

MOST_ATTEMPTS: Final = 3
"""How often EXTERNAL may fail on one stream (RFC 6120, section 6.4.5)."""


class Inbound(Federation):
    """The way from a server of the network to one of ours; arguments as for `Federation`."""

    __slots__ = (
        "_attempts",
        "_chain_shown",
        "_external",
        "_issued",
        "_offers",
        "_spelling",
        "_stream_id",
        "_verdicts",
        "_versioned",
        "_waiting",
    )

    def __init__(
        self, view: View, chain: Chain, out: list[Command], rules: FederationRules
    ) -> None:
        super().__init__(view, chain, out, rules)
        self._attempts = 0
        self._chain_shown: Sequence[bytes] = ()
        self._external = False  # whether EXTERNAL has authenticated the origin
        self._issued: Pair | None = None  # for which our server has a key of the proxy's
        self._offers = False  # whether EXTERNAL is on offer
        self._spelling = ""  # of the origin, as its header has it
        self._stream_id = ""  # our server's
        self._verdicts: dict[str, Verdict] = {}  # on what was shown, by domain
        self._versioned = True
        self._waiting: Element | None = None  # what has to wait for its pair to be proved

    @property
    def holds(self) -> bool:
        """Whether our server has still to be convinced before anything else may pass."""
        return self._waiting is not None

    def begin_anew(self) -> None:
        """Forget our server, and what was proved to it; who has connected to us stays proved."""
        super().begin_anew()
        self._withdraw()
        self._waiting = None

    def ended(self) -> None:
        """Withdraw the key that nobody can ask about any more."""
        self._withdraw()

    def tls_established(self, facts: TLSFacts, shown: Sequence[bytes]) -> None:
        """Take note of TLS, and of the certificates; raises StreamError."""
        self._chain_shown = shown
        self._verdicts.clear()
        self._spared.clear()
        super().tls_established(facts, shown)

    # Headers and features

    def note_origin(self, header: StreamHeader) -> None:
        """Take note of who opens a stream; raises StreamError if it is one of ours."""
        origin = self._origin(header)
        self._spelling = header.sender or ""
        if origin is not None and not self._external:
            self.view = self.view.but(origin=origin)
        if origin is not None and self._rules.is_local(origin):
            raise StreamError(Condition.INVALID_FROM, f"{origin} is served here, not out there")

    @property
    def overdue(self) -> str:
        """What our server is late with."""
        if self._issued is None:
            return super().overdue
        return (
            f"has not said in time whether it believes that {self._issued.sender} has proved "
            "itself; its own connections to other servers must come through this proxy"
        )

    def stream_opened(self, header: StreamHeader, domain: str) -> None:
        """Judge who opens a stream; raises StreamError."""
        origin = self._origin(header)
        if self._external and origin != self.view.origin:
            raise StreamError(
                Condition.NOT_AUTHORIZED,
                f"the stream must be from {self.view.origin}, which was authenticated",
            )
        self._versioned = header.has_features
        # None, too: who said it before TLS, and says nothing now, has not said it.
        self.view = attrs.evolve(self.view, origin=origin)
        super().stream_opened(header, domain)
        if self.view.secured and not self._external:
            self._weigh(origin, domain)

    def _weigh(self, origin: str | None, domain: str) -> None:
        """Find out whether the certificate proves the origin, and what follows from that."""
        verdict = Verdict(Status.ANONYMOUS, "", "it does not say which domain it is")
        if origin is not None:
            verdict = self._judged(origin)
            self._tell(origin, verdict)
        proved = verdict.status is Status.VERIFIED
        if proved:
            self.view = self.view.but(client_identity=verdict.identity)
        if not proved and origin is not None and self._rules_dialback_out(origin):
            if not self.view.exempt:
                raise StreamError(Condition.NOT_AUTHORIZED, verdict.problem)
            self._spare(Pair(origin, domain), verdict.problem)
        self._offers = proved and self._versioned and self._rules.offers_external

    def _judged(self, origin: str) -> Verdict:
        """Judge the certificates shown; whatever goes wrong, they prove nothing then."""
        verdict = self._verdicts.get(origin)
        if verdict is None:
            verdict = self._verdicts[origin] = self._judged_now(origin)
            if len(self._verdicts) > MOST_PAIRS:
                self._verdicts.clear()
        return verdict

    def _judged_now(self, origin: str) -> Verdict:
        try:
            return _checked(self._rules.judge_client(origin, self._chain_shown))
        except UntrustedError as error:
            return Verdict(error.status, "", str(error))
        except BaseException as error:  # noqa: BLE001 - whatever it was, nothing is proved
            fields = {"error": located(error), "origin": origin}
            self._out.append(Report(Severity.ERROR, "fault in a certificate check", fields))
            text = f"the certificate of {origin} could not be checked"
            return Verdict(Status.UNTRUSTED, "", text)

    def _rules_dialback_out(self, origin: str) -> bool:
        return (
            self.view.rule is not TLSRule.NONE
            and self._rules.policy(origin).dialback is DialbackRule.NEVER
        )

    def opening(self, header: Header) -> bytes:
        """Return the header that our server gets: the other one's, dialback announced in it.

        Raises:
            StreamError: our server might take it for that of another domain.
        """
        demand_plain(header.attributes)
        return completed(header, xmlns_db=ns.DIALBACK)

    def answer(self, header: Header) -> bytes:
        """Return what the other server gets for our server's header.

        Features must follow where EXTERNAL is on offer or has been used, and our server may know
        none.
        """
        self._stream_id = header.attributes.get("id", "")
        knows_features = header.attributes.get("version") is not None
        if knows_features or not (self._offers or self._external):
            return header.raw
        offer = external.OFFER if self._offers else b""
        features = b"<stream:features>" + offer + DIALBACK_FEATURE + b"</stream:features>"
        return completed(header, version="1.0") + features

    def _offer(self, features: Element) -> None:
        """Pass on what is left of our server's features, with EXTERNAL where it may be used."""
        raw = self._asked_of_plugins(features) or NO_FEATURES
        raw = edit(attrs.evolve(features, raw=raw), cut_features)
        if self._offers:
            raw = insert(raw, external.OFFER)
        if self.offers_starttls:
            raw = insert(raw, STARTTLS_OFFER)
        self._out.append(Send(Side.CLIENT, raw))

    # EXTERNAL

    def _layer_from_client(self, element: Element) -> Step:
        namespace, _ = ns.split(element.name)
        if namespace != ns.SASL or self._external:
            return super()._layer_from_client(element)
        condition = "invalid-mechanism"
        if self._offers and self.view.origin is not None:
            condition = external.attempt(element, self.view.origin)
        if not condition:
            self._external = True
            self._offers = False
            self._out.append(Send(Side.CLIENT, external.SUCCESS))
            return Step.ANEW
        self._attempts += 1
        self.view = self.view.but(failed_logins=self._attempts)
        if self._attempts >= MOST_ATTEMPTS:
            raise StreamError(Condition.POLICY_VIOLATION, "SASL EXTERNAL has failed too often")
        text = "this server's certificate does not allow that"
        self._out.append(Send(Side.CLIENT, sasl_failure(condition, text)))
        return Step.NONE

    # What the other server sends

    def _dialback_from_client(self, element: Element, asked: Dialback) -> Step:
        if asked.kind is not None:
            self._drop("an answer of dialback that nobody has asked for")
            return Step.NONE
        pair = asked.pair
        if self._rules.is_local(pair.sender):
            raise StreamError(
                Condition.INVALID_FROM, f"{pair.sender} is served here, not out there"
            )
        if asked.name == dialback.VERIFY and self._rules.is_local(pair.to):
            good = self._rules.ledger.check(pair.turned, asked.id, asked.key)
            if good is not None:
                self._answer(asked, dialback.VALID if good else dialback.INVALID)
                return Step.NONE
        if self.view.domain is None or not self._rules.together(pair.to, self.view.domain):
            self._decline(asked, "item-not-found", f"{pair.to} is not served here")
        elif asked.name == dialback.RESULT and self._is_refused(pair):
            problem = f"the certificate does not prove {pair.sender}"
            self._decline(asked, "not-authorized", problem)
        else:
            self._ask(element, asked)
        return Step.NONE

    def _is_refused(self, pair: Pair) -> bool:
        """Whether a pair may not be proved by dialback alone; reports it where all may pass."""
        if not self._rules_dialback_out(pair.sender):
            return False
        verdict = self._judged(pair.sender)
        if verdict.status is Status.VERIFIED:
            return False
        if self.view.exempt:
            self._spare(pair, verdict.problem)
        return not self.view.exempt

    def _stanza_from_client(self, element: Element, pair: Pair) -> None:
        if pair not in self._proven and self._may_convince(pair):
            self._convince(element, pair)
        else:
            super()._stanza_from_client(element, pair)

    def _other_from_client(self, element: Element) -> None:
        origin, domain = self.view.origin, self.view.domain
        if self._external and not self._proven and origin is not None and domain is not None:
            self._convince(element, Pair(origin, domain))
        else:
            super()._other_from_client(element)

    # Our server is convinced of what EXTERNAL has proved

    def _may_convince(self, pair: Pair) -> bool:
        """Whether EXTERNAL has proved what our server is still to be convinced of."""
        domain = self.view.domain
        return (
            self._external
            and pair.sender == self.view.origin
            and domain is not None
            and self._rules.together(pair.to, domain)
        )

    def _convince(self, element: Element, pair: Pair) -> None:
        """Do dialback with our server, in the other one's stead."""
        if not self._stream_id:
            raise _unconvinced("gives its stream no id, without which there is no dialback")
        self._waiting = element
        self._issued = pair
        key = self._rules.ledger.issue(pair, self._stream_id)
        to = element.attributes.get("to", pair.to)
        self._out += (
            Arm(Deadline.CONNECT),
            Send(Side.SERVER, dialback.request(self._spelling, spelling_of(to), key)),
        )

    def _dialback_from_server(self, element: Element, answer: Dialback) -> Step:
        pair = answer.pair.turned
        if answer.kind is None or answer.name != dialback.RESULT or pair != self._issued:
            return super()._dialback_from_server(element, answer)
        self._withdraw()
        self._out.append(Disarm(Deadline.CONNECT))
        if answer.kind != dialback.VALID:
            raise _unconvinced(
                f"does not believe that {pair.sender} has proved itself ({answer.kind}); its own "
                "connections to other servers must come through this proxy"
            )
        step = self._prove(pair, "external")
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._pass(waiting, Direction.TO_SERVER)
        return step

    def _withdraw(self) -> None:
        if self._issued is not None:
            self._rules.ledger.withdraw(self._issued, self._stream_id)
            self._issued = None

    def _tell(self, origin: str, verdict: Verdict) -> None:
        """Write the line that Postfix would write."""
        facts = self.view.tls
        if facts is None:
            return
        text = (
            f"{verdict.status.value} TLS connection established from {origin}"
            f"[{self.view.client.host}]:{self.view.client.port}: "
            f"{facts.version} with cipher {facts.cipher} key-exchange {facts.group or 'unknown'}"
        )
        fields = {
            "policy": self._rules.policy(origin).level.value,
            "matched": verdict.identity,
            "problem": verdict.problem,
            "start": "direct" if facts.direct else "starttls",
        }
        self._out.append(Report(Severity.INFO, text, fields))


def _checked(verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"no verdict: {verdict!r}")
    return verdict


def _unconvinced(text: str) -> RefusalError:
    return RefusalError(Condition.REMOTE_CONNECTION_FAILED, f"the server behind this proxy {text}")
