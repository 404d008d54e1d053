"""What passes in a stream between servers: every pair of domains counts (XEP-0220, RFC 6120).

A stream carries stanzas one way, for one pair of domains or for several. A pair is proved by server
dialback, the answer to which passes here, or by SASL EXTERNAL, of which the proxy itself is one
party. A stanza whose pair is not proved does not pass, and an answer that nobody has asked for does
not either (CVE-2012-3525).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, Protocol

import attrs
from lxml import etree

from proxy.session import dialback
from proxy.session.addresses import Spellings, addresses, demand_plain
from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.commands import Command, Report, Send, Severity, Side
from proxy.session.dialback import Dialback, Ledger, Pair
from proxy.session.hooks import Condition, Direction, Element, View
from proxy.session.passage import Passage
from proxy.trust.policy import Policy
from proxy.trust.verdict import Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import unambiguous
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import replaced
from proxy.xmpp.features import Rewrite, cut
from proxy.xmpp.framing import Framer
from proxy.xmpp.headers import StreamHeader

MOST_PAIRS: Final = 1_000
"""How many pairs of domains one stream may carry, and as many requests may wait on it."""

_STANZA_NAMES: Final = frozenset(("iq", "message", "presence"))

STANZAS: Final = frozenset(ns.qualified(ns.SERVER, name) for name in _STANZA_NAMES)
"""The stanzas of a stream between servers."""

DIALBACK_FEATURE: Final = f"<dialback xmlns='{ns.DIALBACK_FEATURE}'/>".encode()
"""Says that dialback is spoken, without errors, in features that are ours."""

MOST_REFUSALS: Final = 20
"""How many requests of dialback may be refused on one stream, or reported where none is refused."""

MOST_DROPPED: Final = 100
"""How many elements that are out of place may be let drop on one stream."""

_MOST_REPORTED: Final = 5

_CUT: Final = frozenset(
    (
        ns.STARTTLS,
        # Both are the proxy's own business, for it is what has the certificate.
        ns.qualified(ns.SASL, "mechanisms"),
        ns.qualified(ns.SASL2, "authentication"),
        # One stream would carry stanzas both ways, of which each way has to be proved (XEP-0288).
        ns.qualified(ns.BIDIRECTIONAL_FEATURE, "bidi"),
    )
)
_STREAM_ERRORS: Final = frozenset(condition.value for condition in Condition)
_STREAM_MANAGEMENT: Final = frozenset(
    ns.qualified(namespace, name)
    for namespace in (ns.STREAM_MANAGEMENT, "urn:xmpp:sm:2")
    for name in ("a", "enable", "enabled", "failed", "r", "resume", "resumed")
)
_NEVER: Final = frozenset((ns.TLS, ns.COMPRESSION, ns.SASL, ns.SASL2, ns.BIDIRECTIONAL))


class FederationRules(Protocol):
    """What a listener for servers allows and demands.

    Attributes:
        ledger: the dialback keys of ours.
        offers_external: whether our own servers verify keys through us, so that SASL EXTERNAL can
            be offered to those that connect to them.
    """

    ledger: Ledger
    offers_external: bool

    def is_local(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) is one of ours."""

    def only_local(self) -> str | None:
        """Return the domain of ours, if there is just one."""

    def together(self, domain: str, other: str) -> bool:
        """Whether both domains are ours, and behind the same server."""

    def reaches(self, domain: str) -> bool:
        """Whether streams may go to ``domain`` (A-labels)."""

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` (A-labels) must prove itself."""

    def judge_client(self, domain: str, chain: Sequence[bytes]) -> Verdict:
        """Judge the certificates that a server which has connected to us has shown.

        The verdict says whether they prove ``domain``, whatever its policy demands.

        Raises:
            UntrustedError: they do not do.
        """


class Federation(Passage):
    """The way between two servers.

    Args:
        view: the session as it begins.
        chain: the plugins.
        out: takes the commands.
        rules: the listener's.
    """

    __slots__ = (
        "_dropped",
        "_managed",
        "_proven",
        "_refusals",
        "_rules",
        "_spared",
        "_spellings",
        "_unanswered",
        "_watched",
    )

    def __init__(
        self, view: View, chain: Chain, out: list[Command], rules: FederationRules
    ) -> None:
        super().__init__(view, chain, out)
        self._rules = rules
        self._proven: set[Pair] = set()
        self._dropped = 0
        self._managed = False  # whether who opened the stream has asked for stream management
        self._refusals = 0
        self._spared: set[Pair] = set()  # which would be refused if that were not only reported
        self._unanswered: dict[tuple[str, Pair, str], list[Dialback]] = {}
        self._spellings = Spellings(self._proven)
        self._watched = chain.wants_stanzas(Direction.TO_SERVER)

    @property
    def holds(self) -> bool:
        """Whether what the client sends next must wait."""
        return False

    def begin_anew(self) -> None:
        """Forget the server, and what was proved to it."""
        super().begin_anew()
        self._unanswered.clear()
        self._forget_proofs()

    def is_watched(self) -> bool:
        """True: nothing passes that nobody has looked at."""
        return True

    def skim(self, framer: Framer) -> bytes:
        """Take stanzas of proved pairs from the front of the input."""
        if not self._proven or self._watched or self.holds:
            return b""
        return framer.skim(self._spellings.__getitem__)

    def from_client(self, element: Element) -> Step:
        """Pass on an element of the client's; raises StreamError."""
        self._count_element()
        demand_plain(element.attributes)
        namespace, _ = ns.split(element.name)
        if namespace == ns.DIALBACK:
            return self._dialback_from_client(element, dialback.read(element))
        if namespace in _NEVER:
            return self._layer_from_client(element)
        if element.name == ns.ERROR:
            self._pass(_in_our_words(element), Direction.TO_SERVER)
        elif element.name in STANZAS:
            self._stanza_from_client(element, addresses(element))
        elif _manages(element):
            self._other_from_client(element)
        else:
            # To a server that does not mind namespaces it might be a stanza, from anybody.
            self._layer_from_client(element)
        return Step.NONE

    def from_server(self, element: Element) -> Step:
        """Pass on an element of the server's, and say what it brings about; raises StreamError."""
        demand_plain(element.attributes)
        namespace, _ = ns.split(element.name)
        if namespace == ns.DIALBACK:
            return self._dialback_from_server(element, dialback.read(element))
        if element.name == ns.FEATURES:
            self._offer(element)
        elif element.name in STANZAS:
            raise StreamError(
                Condition.NOT_AUTHORIZED, "a stanza on a stream for those of the other direction"
            )
        elif element.name == ns.ERROR:
            self._pass(_in_our_words(element), Direction.TO_CLIENT)
        elif self._managed and _manages(element):
            self._pass(element, Direction.TO_CLIENT)
        else:
            # Not only what no feature has been left for: see `from_client`.
            self._drop(f"<{ns.split(element.name)[1]}/>")
        return Step.NONE

    # What each direction has of its own

    @abstractmethod
    def _dialback_from_client(self, element: Element, asked: Dialback) -> Step:
        """Take a request or an answer of dialback; raises StreamError."""

    def _layer_from_client(self, element: Element) -> Step:
        raise StreamError(
            Condition.UNSUPPORTED_STANZA_TYPE,
            f"<{ns.split(element.name)[1]}/> was not on offer and is not supported",
        )

    def _stanza_from_client(self, element: Element, pair: Pair) -> None:
        self._demand_proof(pair)
        self._pass(element, Direction.TO_SERVER)

    def _other_from_client(self, element: Element) -> None:
        """Pass on what belongs to the stream as a whole: stream management (XEP-0198)."""
        if not self._proven:
            raise StreamError(Condition.NOT_AUTHORIZED, "no domain is proved on this stream yet")
        self._managed = True
        self._pass(element, Direction.TO_SERVER)

    # Dialback

    def _ask(self, element: Element, asked: Dialback) -> None:
        """Pass a request on, and wait for its answer."""
        waiting = sum(map(len, self._unanswered.values()))
        if waiting + len(self._proven) >= MOST_PAIRS:
            self._decline(asked, "resource-constraint", "too many pairs of domains")
            return
        if self._pass(replaced(element, dialback.question(asked)), Direction.TO_SERVER):
            self._unanswered.setdefault(_question(asked), []).append(asked)

    def _dialback_from_server(self, element: Element, answer: Dialback) -> Step:
        """Pass on an answer that was waited for; let others drop."""
        if answer.kind is None:
            self._drop("a request of dialback from the wrong side")
            return Step.NONE
        question = _question(attrs.evolve(answer, pair=answer.pair.turned))
        asked = self._unanswered.get(question)
        if asked is None:
            self._drop("an answer of dialback that nobody has asked for")
            return Step.NONE
        first = asked.pop(0)
        if not asked:
            del self._unanswered[question]
        step = Step.NONE
        if answer.name == dialback.RESULT:
            step = self._heed_result(first.pair, answer.kind)
        told = dialback.answer(first, answer.kind, answer.condition)
        self._pass(replaced(element, told), Direction.TO_CLIENT)
        return step

    def _heed_result(self, pair: Pair, kind: str) -> Step:
        """Take note of what the server says about a pair: it may also take back what it said."""
        if kind == dialback.VALID:
            return self._prove(pair, "dialback")
        self._proven.discard(pair)
        self._spellings.clear()
        return Step.NONE

    def _prove(self, pair: Pair, proof: str) -> Step:
        """Take note of a pair that is proved."""
        first = not self._proven
        if pair not in self._proven:
            self._report(Severity.INFO, "a pair of domains is proved", pair, by=proof)
        self._proven.add(pair)
        self._spellings.clear()
        self.established = True
        self.view = self.view.but(proof=self.view.proof or proof)
        return Step.AUTHENTICATED if first else Step.NONE

    def _answer(self, asked: Dialback, kind: str, condition: str = "") -> None:
        """Answer a request of the client's."""
        self._out.append(Send(Side.CLIENT, dialback.answer(asked, kind, condition)))

    def _decline(self, asked: Dialback, condition: str, problem: str) -> None:
        """Answer a request with an error, and say why; one who goes on asking is let go.

        Raises:
            StreamError: it is one too many.
        """
        self._refusals += 1
        if self._refusals > MOST_REFUSALS:
            raise StreamError(
                Condition.POLICY_VIOLATION, f"more than {MOST_REFUSALS} requests were refused"
            )
        self._answer(asked, dialback.ERROR, condition)
        self._report(Severity.WARNING, f"dialback refused: {problem}", asked.pair)

    def _spare(self, pair: Pair, problem: str) -> None:
        """Report why a pair would be refused where nobody is: each pair once, and not too many."""
        if pair not in self._spared and len(self._spared) < MOST_REFUSALS:
            self._spared.add(pair)
            self._report(Severity.WARNING, f"would be refused: {problem}", pair)

    def _drop(self, what: str) -> None:
        """Let something drop; one who goes on sending such is let go.

        Raises:
            StreamError: it is one too many.
        """
        self._dropped += 1
        if self._dropped > MOST_DROPPED:
            raise StreamError(
                Condition.POLICY_VIOLATION, f"more than {MOST_DROPPED} elements were out of place"
            )
        if self._dropped <= _MOST_REPORTED:
            fields = {"domain": self.view.domain, "origin": self.view.origin}
            self._out.append(Report(Severity.WARNING, f"dropped: {what}", fields))

    def _report(self, severity: Severity, text: str, pair: Pair, **more: object) -> None:
        fields = {"sender": pair.sender, "to": pair.to, **more}
        self._out.append(Report(severity, text, fields))

    # Pairs

    def _forget_proofs(self) -> None:
        self._proven.clear()
        self._spellings.clear()
        self.established = False

    def _demand_proof(self, pair: Pair) -> None:
        """Let only proved pairs pass (RFC 6120, sections 4.9.3.9 and 8.1.2.2).

        Raises:
            StreamError: this one is not proved.
        """
        if pair in self._proven:
            return
        if any(each.sender == pair.sender for each in self._proven):
            text = f"{pair.sender} is not proved towards {pair.to} on this stream"
            raise StreamError(Condition.NOT_AUTHORIZED, text)
        if self._proven:
            raise StreamError(Condition.INVALID_FROM, f"{pair.sender} is not proved on this stream")
        raise StreamError(Condition.NOT_AUTHORIZED, "no domain is proved on this stream yet")

    def _origin(self, header: StreamHeader) -> str | None:
        """Return which domain a header says it is from; raises StreamError."""
        if header.sender is None:
            return None
        try:
            return unambiguous(header.sender)
        except ValueError as error:
            raise StreamError(Condition.INVALID_FROM, f"'from' names no domain: {error}") from error


def _in_our_words(error: Element) -> Element:
    """Return a stream error with its condition and its text, and nothing else in it."""
    conditions = [
        local
        for namespace, local in (ns.split(str(node.tag)) for node in error.tree)
        if namespace == ns.STREAM_ERRORS and local in _STREAM_ERRORS
    ]
    condition = Condition(conditions[0]) if conditions else Condition.UNDEFINED_CONDITION
    text = error.tree.findtext(ns.qualified(ns.STREAM_ERRORS, "text")) or ""
    return replaced(error, StreamError(condition, text).serialise())


def _manages(element: Element) -> bool:
    """Whether an element is one of stream management, and nothing but an error is in it."""
    attributes = element.attributes
    return (
        element.name in _STREAM_MANAGEMENT
        and "from" not in attributes
        and "to" not in attributes
        and (
            not element.child
            or all(
                ns.split(str(each.tag))[0] == ns.STANZA_ERRORS
                for each in element.tree.iterdescendants()
            )
        )
    )


def _question(asked: Dialback) -> tuple[str, Pair, str]:
    """Return what tells a request from others."""
    return asked.name, asked.pair, asked.id


def cut_features(element: etree._Element) -> Rewrite | None:
    """Cut out of the other side's features what must not come about through the proxy."""
    return cut if element.tag in _CUT else None
