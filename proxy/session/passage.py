"""What passes between the legs of a session, and who has a say in it.

First the core's own rules, which no plugin can loosen, then the chain. Here too is what plugins are
shown of the session, for both change together. What is here holds for every kind of stream; what
each kind has of its own is in the modules beside this one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from lxml import etree

from proxy.session import ceilings
from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.commands import Command, Report, Send, Severity, Side
from proxy.session.hooks import (
    ClientHello,
    Condition,
    Direction,
    Element,
    Reject,
    Replace,
    Reply,
    StreamHeader,
    TLSFacts,
    TLSRule,
    View,
)
from proxy.trust.evidence import Evidence
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Header
from proxy.xmpp.features import Rewrite, cut, edit, insert
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.meter import Meter

NO_FEATURES: Final = b"<stream:features/>"
"""What a server offers that offers nothing."""

STARTTLS_OFFER: Final = f"<starttls xmlns='{ns.TLS}'/>".encode()


class RefusalError(StreamError):
    """A plugin's verdict, whichever side it was about."""


class Passage(ABC):
    """The way between the legs of one session.

    Args:
        view: the session as it begins.
        chain: the plugins.
        out: takes the commands.

    Attributes:
        view: the session as it stands.
        established: whether negotiation is over.
    """

    __slots__ = ("_chain", "_out", "established", "view")

    def __init__(self, view: View, chain: Chain, out: list[Command]) -> None:
        self.view = view
        self.established = False
        self._chain = chain
        self._out = out

    # What each kind of stream has of its own

    @property
    @abstractmethod
    def holds(self) -> bool:
        """Whether what the client sends next must wait."""

    @abstractmethod
    def from_client(self, element: Element) -> Step:
        """Pass on an element of the client's, and say what it brings about; raises StreamError."""

    @abstractmethod
    def from_server(self, element: Element) -> Step:
        """Pass on an element of the server's, and say what it brings about; raises StreamError."""

    @property
    def offers_starttls(self) -> bool:
        """Whether STARTTLS is on offer in an open stream: before SASL (RFC 6120, 5.3.4)."""
        view = self.view
        return view.rule is TLSRule.REPORT and not view.secured and not view.authenticated

    def opening(self, header: Header) -> bytes:
        """Return the header that the server gets, for one of the client's."""
        return header.raw

    def answer(self, header: Header) -> bytes:
        """Return what the client gets for the server's header."""
        return header.raw

    def note_origin(self, _header: StreamHeader) -> None:  # noqa: B027 - clients say nothing
        """Take note of who a stream says it is from; raises StreamError if that cannot be."""

    @property
    def overdue(self) -> str:
        """What the server is late with, as a clause about it."""
        return "did not answer in time"

    def open_unaddressed(self, _header: StreamHeader) -> bool:
        """Whether a stream may be open though its header does not say to which domain."""
        return False

    @property
    def awaits_address(self) -> bool:
        """Whether the client must be read to learn to which domain its stream is."""
        return False

    def resume(self) -> Step:
        """Go on with what has waited for the server's stream; raises StreamError."""
        return Step.NONE

    def skim(self, _framer: Framer) -> bytes:
        """Take what may pass to the server without a closer look from the front of the input."""
        return b""

    def begin_anew(self) -> None:
        """Forget the server, for there is a new start."""
        self.view = self.view.without_server()

    def is_watched(self) -> bool:
        """Whether somebody looks at the elements of the established session."""
        return any(map(self._chain.wants_stanzas, Direction))

    def accepted(self) -> None:  # noqa: B027 - most show the server no certificate
        """Take note that the server has let a certificate of ours prove who the stream is from."""

    def ended(self) -> None:  # noqa: B027 - most keep nothing
        """Let go of what is kept outside the session, which is over."""

    # What all have in common

    def client_limits(self) -> Limits:
        """Return the limits for a stream of the client."""
        return ceilings.client_limits(self._chain.bounds, self.view.authenticated)

    def client_connected(self) -> None:
        """Ask whether the client may stay; raises StreamError."""
        self._heed(self._chain.client_connected(self.view))

    def stream_opened(self, header: StreamHeader, domain: str) -> None:
        """Ask about a stream that the client opens; raises StreamError."""
        self._name(domain)
        self._heed(self._chain.stream_opened(self.view, header))

    def client_hello(self, hello: ClientHello, domain: str) -> None:
        """Ask whether a handshake may begin; raises StreamError."""
        self._name(domain)
        self._heed(self._chain.client_hello(self.view, hello))

    def tls_established(self, facts: TLSFacts, _shown: Sequence[bytes]) -> None:
        """Take note of TLS, and ask about it; raises StreamError.

        Args:
            facts: what it agreed on.
            _shown: the chain of certificates that the client has shown, in DER, its own first.
        """
        self.view = self.view.but(tls=facts)
        self._heed(self._chain.tls_established(self.view))

    def server_secured(self, facts: TLSFacts, identity: str, _evidence: Evidence) -> None:
        """Take note of TLS on the server leg, and of what has proved the server."""
        self.view = self.view.but(server_tls=facts, server_identity=identity)

    def decline(self, element: Element) -> None:
        """Answer an element that came in plaintext though TLS is required.

        A plugin may choose the answer; none can let the element pass.

        Raises:
            StreamError: the answer is the end of the stream.
        """
        self._count_element()
        match self._chain.element(self.view, Direction.TO_SERVER, element):
            case Reject(condition, text):
                raise RefusalError(condition, text)
            case Reply(raw):
                self._out.append(Send(Side.CLIENT, raw))
            case _:
                raise StreamError(Condition.POLICY_VIOLATION, "TLS is required before this")

    def authenticated(self) -> None:
        """Take note that the client is authenticated, and ask about it."""
        self.view = self.view.but(authenticated=True)
        self._heed(self._chain.authenticated(self.view))
        if self.view.rule is TLSRule.REPORT and not self.view.secured:
            fields = {
                "listener": self.view.listener,
                "client": self.view.client,
                "origin": self.view.origin,
                "domain": self.view.domain,
            }
            text = "would be refused: authenticated without TLS"
            self._out.append(Report(Severity.WARNING, text, fields))

    def meter(self) -> Meter | None:
        """Return what counts the client's stanzas from now on; None if nobody counts."""
        bound = self._chain.bounds.stanza_bytes
        return None if bound is None else Meter(bound, ceilings.CLIENT.depth)

    def _name(self, domain: str) -> None:
        if domain != self.view.domain:
            self.view = self.view.but(domain=domain)

    def _count_element(self) -> None:
        self.view = self.view.but(elements=self.view.elements + 1)
        bound = ceilings.unauthenticated_elements(self._chain.bounds)
        if not self.view.authenticated and self.view.elements > bound:
            raise StreamError(
                Condition.POLICY_VIOLATION, f"more than {bound} elements before authentication"
            )

    def _offer(self, features: Element) -> None:
        """Pass on what the core and the plugins leave of the server's features."""
        raw = self._asked_of_plugins(features)
        if (self.view.secured or self.view.server_tls) and b"starttls" in raw:
            raw = edit(attrs.evolve(features, raw=raw), _cut_starttls)
        if self.offers_starttls:
            raw = insert(raw or NO_FEATURES, STARTTLS_OFFER)
        if raw:
            self._out.append(Send(Side.CLIENT, raw))

    def _asked_of_plugins(self, features: Element) -> bytes:
        """Return what the plugins leave of features; raises RefusalError."""
        match self._chain.features(self.view, features):
            case Reject(condition, text):
                raise RefusalError(condition, text)
            case Replace(replaced):
                return replaced
            case _:
                return features.raw

    def _pass(self, element: Element, direction: Direction) -> bool:
        """Pass on what the plugins leave of an element; return whether that is anything."""
        origin, target = Side.CLIENT, Side.SERVER
        if direction is Direction.TO_CLIENT:
            origin, target = target, origin
        raw = element.raw
        ask = self._chain.stanza if self.established else self._chain.element
        match ask(self.view, direction, element):
            case Reject(condition, text):
                raise RefusalError(condition, text)
            case Reply(answer):
                self._out.append(Send(origin, answer))
                return False
            case Replace(replaced):
                raw = replaced
            case _:
                pass
        if raw:
            self._out.append(Send(target, raw))
        return bool(raw)

    def _heed(self, verdict: object) -> None:
        if isinstance(verdict, Reject):
            raise RefusalError(verdict.condition, verdict.text)


def _cut_starttls(element: etree._Element) -> Rewrite | None:
    """Under TLS there is no STARTTLS (RFC 6120, section 5.4.3.3), whatever the server says."""
    return cut if element.tag == ns.STARTTLS else None


MakePassage = Callable[[View, Chain, list[Command]], Passage]
"""Makes the way between the legs of a session."""
