"""What passes in a stream between servers: every pair of domains counts (XEP-0220, RFC 6120).

A stream carries stanzas one way, for one pair of domains or for several. A pair is proved by server
dialback, the answer to which passes here, or by SASL EXTERNAL, of which the proxy itself is one
party. A stanza whose pair is not proved does not pass, and an answer that nobody has asked for does
not either (CVE-2012-3525).
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from lxml import etree

from proxy.session import dialback
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
from proxy.xmpp.features import Rewrite, cut
from proxy.xmpp.framing import Framer
from proxy.xmpp.headers import StreamHeader

MOST_PAIRS: Final = 1_000
"""How many pairs of domains one stream may carry, and as many requests may wait on it."""

STANZAS: Final = frozenset(ns.qualified(ns.SERVER, name) for name in ("iq", "message", "presence"))
"""The stanzas of a stream between servers."""

DIALBACK_FEATURE: Final = f"<dialback xmlns='{ns.DIALBACK_FEATURE}'/>".encode()
"""Says that dialback is spoken, without errors, in features that are ours."""

_MOST_SPELLINGS: Final = 4_096

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

    __slots__ = ("_proven", "_rules", "_spellings", "_unanswered", "_watched")

    def __init__(
        self, view: View, chain: Chain, out: list[Command], rules: FederationRules
    ) -> None:
        super().__init__(view, chain, out)
        self._rules = rules
        self._proven: set[Pair] = set()
        self._unanswered: Counter[tuple[str, Pair, str]] = Counter()
        self._spellings: dict[tuple[bytes, bytes], bool] = {}  # of addresses: proved or not
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
        return framer.skim(self._is_proved)

    def from_client(self, element: Element) -> Step:
        """Pass on an element of the client's; raises StreamError."""
        self._count_element()
        namespace, _ = ns.split(element.name)
        if namespace == ns.DIALBACK:
            return self._dialback_from_client(element, dialback.read(element))
        if namespace in _NEVER:
            return self._layer_from_client(element)
        if element.name == ns.ERROR:
            self._pass(element, Direction.TO_SERVER)
        elif element.name in STANZAS:
            self._stanza_from_client(element, addresses(element))
        elif element.name in _STREAM_MANAGEMENT:
            self._other_from_client(element)
        else:
            # To a server that does not mind namespaces it might be a stanza, from anybody.
            self._layer_from_client(element)
        return Step.NONE

    def from_server(self, element: Element) -> Step:
        """Pass on an element of the server's, and say what it brings about; raises StreamError."""
        namespace, _ = ns.split(element.name)
        if namespace == ns.DIALBACK:
            return self._dialback_from_server(element, dialback.read(element))
        if element.name == ns.FEATURES:
            self._offer(element)
        elif element.name in STANZAS:
            raise StreamError(
                Condition.NOT_AUTHORIZED, "a stanza on a stream for those of the other direction"
            )
        elif element.name == ns.ERROR or element.name in _STREAM_MANAGEMENT:
            self._pass(element, Direction.TO_CLIENT)
        else:
            # Not only what no feature has been left for: see `from_client`.
            self._drop(f"<{ns.split(element.name)[1]}/>")
        return Step.NONE

    # What each direction has of its own

    def _dialback_from_client(self, element: Element, asked: Dialback) -> Step:
        raise NotImplementedError

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
        self._pass(element, Direction.TO_SERVER)

    # Dialback

    def _ask(self, element: Element, asked: Dialback) -> None:
        """Pass a request on, and wait for its answer."""
        if self._unanswered.total() + len(self._proven) >= MOST_PAIRS:
            self._answer(asked, dialback.ERROR, "resource-constraint", "too many pairs of domains")
            return
        if self._pass(element, Direction.TO_SERVER):
            self._unanswered[asked.name, asked.pair, asked.id] += 1

    def _dialback_from_server(self, element: Element, answer: Dialback) -> Step:
        """Pass on an answer that was waited for; let others drop."""
        pair = answer.pair.turned
        if answer.kind is None:
            self._drop("a request of dialback from the wrong side")
            return Step.NONE
        question = (answer.name, pair, answer.id)
        if question not in self._unanswered:
            self._drop("an answer of dialback that nobody has asked for")
            return Step.NONE
        self._unanswered[question] -= 1
        if not self._unanswered[question]:
            del self._unanswered[question]
        step = Step.NONE
        if answer.name == dialback.RESULT:
            step = self._heed_result(pair, answer.kind)
        self._pass(element, Direction.TO_CLIENT)
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
        self._proven.add(pair)
        self._spellings.clear()
        self.established = True
        self.view = self.view.but(proof=proof)
        self._report(Severity.INFO, "a pair of domains is proved", pair, by=proof)
        return Step.AUTHENTICATED if first else Step.NONE

    def _answer(self, asked: Dialback, kind: str, condition: str = "", problem: str = "") -> None:
        """Answer a request of the client's in the server's stead."""
        self._out.append(Send(Side.CLIENT, dialback.answer(asked, kind, condition)))
        if problem:
            self._report(Severity.WARNING, f"dialback refused: {problem}", asked.pair)

    def _drop(self, what: str) -> None:
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

    def _is_proved(self, sender: bytes, to: bytes) -> bool:
        """Whether a stanza with these addresses may pass, as they stand in its start tag."""
        spelling = (sender, to)
        known = self._spellings.get(spelling)
        if known is None:
            known = False
            with suppress(ValueError):
                pair = Pair(domain_of(sender.decode()), domain_of(to.decode()))
                known = pair in self._proven
            if len(self._spellings) >= _MOST_SPELLINGS:
                self._spellings.clear()
            self._spellings[spelling] = known
        return known

    def _origin(self, header: StreamHeader) -> str | None:
        """Return which domain a header says it is from; raises StreamError."""
        if header.sender is None:
            return None
        try:
            return unambiguous(header.sender)
        except ValueError as error:
            raise StreamError(Condition.INVALID_FROM, f"'from' names no domain: {error}") from error


def addresses(stanza: Element) -> Pair:
    """Return the domains of a stanza's addresses.

    Raises:
        StreamError: it lacks an address, or one has no domain (RFC 6120, section 8.1).
    """
    sender, to = stanza.attributes.get("from"), stanza.attributes.get("to")
    if sender is None or to is None:
        raise StreamError(
            Condition.IMPROPER_ADDRESSING, "between servers a stanza needs both 'from' and 'to'"
        )
    try:
        return Pair(domain_of(sender), domain_of(to))
    except ValueError as error:
        raise StreamError(
            Condition.IMPROPER_ADDRESSING, f"an address of a stanza has no domain: {error}"
        ) from error


def domain_of(address: str) -> str:
    """Return the domain of an address (RFC 7622, section 3.2), as A-labels; raises ValueError."""
    bare = address.partition("/")[0]
    return unambiguous(bare.partition("@")[2] if "@" in bare else bare)


def cut_features(element: etree._Element) -> Rewrite | None:
    """Cut out of the other side's features what must not come about through the proxy."""
    return cut if element.tag in _CUT else None
