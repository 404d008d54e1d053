"""The public interface of plugins.

A plugin is a class with a ``name``, a ``Config`` (an attrs class made of `option` fields) and a
method ``on_<hook>`` for each hook it wants; the docstrings of `Plugin` say when each is called and
which verdicts it may give. A plugin may only tighten: what the core refuses stays refused.

A hook returns a verdict. The first `Reject` ends the session. An exception, or anything that is no
verdict of that hook, counts as ``Reject(internal-server-error)``: a plugin that fails ends its
session and never the daemon.

Everything a plugin is shown is frozen. It never sees transports, keys or the reactor.
"""

from enum import Enum
from typing import Any, ClassVar

import attrs

from proxy.session.counts import Counts, LocalCounts
from proxy.session.kinds import Kind
from proxy.session.options import option
from proxy.session.rules import TLSRule
from proxy.xmpp.errors import Condition
from proxy.xmpp.events import Element
from proxy.xmpp.headers import StreamHeader
from proxy.xmpp.names import UNKNOWN, know

__all__ = [
    "UNKNOWN",
    "Address",
    "Bounds",
    "ClientHello",
    "Condition",
    "Continue",
    "Counts",
    "Direction",
    "Element",
    "Kind",
    "LocalCounts",
    "Plugin",
    "Reject",
    "Replace",
    "Reply",
    "Stanzas",
    "StreamHeader",
    "TLSFacts",
    "TLSRule",
    "Verdict",
    "View",
    "know",
    "option",
]


class Direction(Enum):
    """Which way something goes through a session."""

    TO_SERVER = "client to server"
    TO_CLIENT = "server to client"


@attrs.frozen
class Address:
    """Where a peer is: an IPv4 or IPv6 address as text, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class ClientHello:
    """What a client asks for as it begins TLS.

    Attributes:
        server_name: the domain of server name indication, as A-labels; None if there is none.
        protocols: the protocols of ALPN, in the client's order.
        direct: whether TLS began with the first byte (XEP-0368) and not after STARTTLS.
    """

    server_name: str | None
    protocols: tuple[bytes, ...]
    direct: bool


@attrs.frozen
class TLSFacts:
    """What a TLS handshake agreed on.

    Attributes:
        version: such as ``TLSv1.3``.
        cipher: OpenSSL's name of the cipher suite.
        group: of the key exchange, such as ``X25519MLKEM768``; empty if unknown.
        protocol: what ALPN chose; empty if nothing.
        server_name: the name the client indicated, as A-labels; None if none.
        resumed: whether an earlier session was taken up again.
        direct: whether TLS began with the first byte.
    """

    version: str
    cipher: str
    group: str
    protocol: str
    server_name: str | None
    resumed: bool
    direct: bool


@attrs.frozen
class View:
    """What a plugin may know of a session, as it stands when a hook is called.

    Attributes:
        id: the session's id, as in the log.
        listener: the name of the listener that accepted it.
        rule: what that listener demands of TLS.
        client: where the client is.
        kind: the kind of stream, as the listener has it.
        outward: whether the session leads from our side to the network (a forward listener).
        domain: the domain it speaks to, as A-labels; None until that is known.
        tls: what TLS on the client leg agreed on; None while the leg is plaintext.
        authenticated: whether the server has accepted the client's credentials; of a stream
            between servers, whether a pair of domains is proved on it.
        elements: how many first-level elements the client has sent.
        failed_logins: how often the server has refused to log the client in.
        server_tls: what TLS on the server leg agreed on; None while that leg is plaintext, as
            behind a reverse listener it always is.
        server_identity: which identity of the server's certificate has proved the domain, such as
            ``DNS-ID example.net``; empty if none has.
        origin: of a stream between servers, the domain that the server that opened it says it is,
            as A-labels; None until it says so.
        client_identity: which identity of that server's certificate has proved ``origin``; empty
            if none has.
        proof: what proved the first pair of domains: ``external`` or ``dialback``; empty until
            then.
    """

    id: str
    listener: str
    rule: TLSRule
    client: Address
    kind: Kind = Kind.C2S
    outward: bool = False
    domain: str | None = None
    tls: TLSFacts | None = None
    authenticated: bool = False
    elements: int = 0
    failed_logins: int = 0
    server_tls: TLSFacts | None = None
    server_identity: str = ""
    origin: str | None = None
    client_identity: str = ""
    proof: str = ""

    def but(
        self,
        *,
        domain: str | None = None,
        tls: TLSFacts | None = None,
        authenticated: bool = False,
        elements: int = 0,
        failed_logins: int = 0,
        server_tls: TLSFacts | None = None,
        server_identity: str = "",
        origin: str | None = None,
        client_identity: str = "",
        proof: str = "",
    ) -> "View":
        """Return this view with what has come to be known since; what is left out stays."""
        return View(
            self.id,
            self.listener,
            self.rule,
            self.client,
            self.kind,
            self.outward,
            domain or self.domain,
            tls or self.tls,
            authenticated or self.authenticated,
            elements or self.elements,
            failed_logins or self.failed_logins,
            server_tls or self.server_tls,
            server_identity or self.server_identity,
            origin or self.origin,
            client_identity or self.client_identity,
            proof or self.proof,
        )

    def without_server(self) -> "View":
        """Return this view with nothing known of the server leg, which has been given up."""
        return attrs.evolve(self, server_tls=None, server_identity="")

    @property
    def secured(self) -> bool:
        """Whether the client leg is under TLS."""
        return self.tls is not None

    @property
    def exempt(self) -> bool:
        """Whether the listener lets a client pass without TLS."""
        return self.rule in (TLSRule.REPORT, TLSRule.NONE)


@attrs.frozen
class Continue:
    """Nothing against it."""


@attrs.frozen
class Reject:
    """End the session, with a stream error that says why."""

    condition: Condition = attrs.field(validator=attrs.validators.instance_of(Condition))
    text: str = attrs.field(validator=attrs.validators.instance_of(str))


@attrs.frozen
class Replace:
    """Pass ``raw`` on instead: the exact bytes of one element, or none at all."""

    raw: bytes = attrs.field(validator=attrs.validators.instance_of(bytes))


@attrs.frozen
class Reply:
    """Pass nothing on and answer the sender with ``raw``, the exact bytes of one element."""

    raw: bytes = attrs.field(validator=attrs.validators.instance_of(bytes))


Verdict = Continue | Reject | Replace | Reply


@attrs.frozen
class Bounds:
    """How much a client may send; None sets no bound beyond the core's own.

    Attributes:
        stanza_bytes: bytes of one first-level element. A bound here has every byte of a session
            counted to its end.
        unauthenticated_bytes: bytes in all, before the client is authenticated.
        unauthenticated_elements: first-level elements, before the client is authenticated.
    """

    stanza_bytes: int | None = None
    unauthenticated_bytes: int | None = None
    unauthenticated_elements: int | None = None


@attrs.frozen
class Stanzas:
    """Which stanzas ``on_stanza`` wants to see.

    Attributes:
        direction: which way they go.
        names: their qualified names (``{jabber:client}message``); None means all.
    """

    direction: Direction
    names: frozenset[str] | None = None


class Plugin:
    """A plugin that has nothing against anything; derive from it and override what you need.

    Attributes:
        name: what ``[plugins] chain`` calls it.
        Config: an attrs class of `option` fields, filled from ``[plugins.<name>]``.
        elements: the qualified names of the elements that `on_element` wants; None means all.
        stanzas: what `on_stanza` wants. Asking for stanzas costs speed, so ask for few.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    elements: ClassVar[frozenset[str] | None] = None
    stanzas: ClassVar[tuple[Stanzas, ...]] = ()

    def share(self, _counts: Counts) -> None:
        """Take the counts that the plugin's instances in all processes keep together.

        Called once, before the first hook. Another instance that follows this one with another
        configuration is given the same.
        """

    def bounds(self) -> Bounds:
        """Return what a client may send; the least of all plugins holds."""
        return Bounds()

    def on_client_connected(self, _view: View) -> Verdict:
        """A client has connected and nothing has been read. `Continue` or `Reject`."""
        return Continue()

    def on_stream_opened(self, _view: View, _header: StreamHeader) -> Verdict:
        """A client opens a stream (before TLS, after it, after SASL). `Continue` or `Reject`."""
        return Continue()

    def on_element(self, _view: View, _direction: Direction, _element: Element) -> Verdict:
        """An element passes before the session is established. Any verdict."""
        return Continue()

    def on_client_hello(self, _view: View, _hello: ClientHello) -> Verdict:
        """A client begins TLS, which has cost nothing yet. `Continue` or `Reject`."""
        return Continue()

    def on_features(self, _view: View, _features: Element) -> Verdict:
        """The server offers features to the client. `Continue`, `Reject` or `Replace`."""
        return Continue()

    def on_tls_established(self, _view: View) -> Verdict:
        """TLS on the client leg is up. `Continue` or `Reject`."""
        return Continue()

    def on_authenticated(self, _view: View) -> Verdict:
        """The server has accepted the client's credentials. `Continue` or `Reject`."""
        return Continue()

    def on_stanza(self, _view: View, _direction: Direction, _stanza: Element) -> Verdict:
        """A stanza that `stanzas` asks for passes in an established session. Any verdict."""
        return Continue()

    def on_session_closed(self, _view: View) -> None:
        """A session that `on_client_connected` has seen is over."""
