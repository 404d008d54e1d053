"""The receiving entity: the client leg, from its first byte to an open stream.

RFC 6120 section 5 in the receiving role, with direct TLS (XEP-0368) on the same port. The table at
the end says what may come when; all else is refused. Whatever was learnt before TLS is forgotten
when TLS is up, but for the domain whose certificate was shown, to which the client stays bound.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import proxy

from proxy.session.hooks import ClientHello, Condition, TLSRule
from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.passage import Passage
from proxy.session.table import Singletons, Table, step
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED, STARTTLS_FAILURE, StreamError
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.features import STARTTLS_REQUIRED
from proxy.xmpp.framing import SPACE, Framer
from proxy.xmpp.headers import StreamHeader, read, response

TLS_RECORD: Final = 0x16
"""The first byte of a TLS connection: a record of the handshake (RFC 8446, section 5.1)."""

# An element without anything inside.
_EMPTY: Final = re.compile(rb"<[^<>]*(?:/|>[ \t\r\n]*</[^<>]*)>")

ACCESS_DENIED: Final = 49
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120


class State(Singletons):
    """Where the client leg stands."""

    WAITING = "waiting for the first byte"
    HEADER = "waiting for a stream header in plaintext"
    OFFERED = "STARTTLS offered"
    HELLO = "waiting for a ClientHello"
    HANDSHAKE = "TLS handshake under way"
    SECURE_HEADER = "waiting for a stream header under TLS"
    OPEN = "stream open"
    RESTART_HEADER = "waiting for a stream header after authentication"
    ENDING = "stream ended by the client"
    CLOSED = "closed"


class Input(Singletons):
    """What can come from the client, or happen to its leg."""

    TLS_RECORD = "first byte of TLS"
    TEXT = "first byte of anything else"
    HEADER = "stream header"
    EXEMPT_HEADER = "stream header where TLS is not enforced"
    STARTTLS = "starttls"
    ELEMENT = "element"
    WHITE_SPACE = "white space"
    FOOTER = "end of stream"
    HELLO = "ClientHello"
    SECURED = "TLS up"
    AUTHENTICATED = "authenticated; a new stream must follow"


class Domains(Protocol):
    """The domains that are served."""

    def serves(self, domain: str) -> bool:
        """Whether ``domain`` (A-labels) is one of ours."""

    def default(self) -> str:
        """Return the domain shown to clients that name none."""


class Surroundings(Protocol):
    """What the client leg needs of the session it is part of."""

    kind: Kind
    rule: TLSRule
    domains: Domains
    ids: StreamIds
    passage: Passage

    def send_client(self, data: bytes) -> None:
        """Write to the client."""

    def await_tls(self, ahead: bytes, *, direct: bool) -> None:
        """Stop reading plaintext; ``ahead`` has been read and belongs to TLS."""

    def start_tls(self, domain: str) -> None:
        """Begin the handshake with the certificate of ``domain``."""

    def alert(self, description: int, reason: str) -> None:
        """Refuse TLS."""

    def refuse(self, error: StreamError) -> None:
        """End the session with a stream error."""

    def close_client(self, reason: str) -> None:
        """End the session in good order, everything having been said."""

    def client_opened(self, header: Header) -> None:
        """Go on with a stream that may pass."""

    def client_unaddressed(self, header: Header) -> None:
        """Go on with a stream that does not say to which domain it is."""

    def client_sent(self, event: Element | WhiteSpace) -> None:
        """Go on with something that came in an open stream."""

    def client_ended(self, footer: Footer) -> None:
        """Go on with the end of an open stream."""

    def leave_server(self) -> None:
        """Give up the server leg, for TLS makes a new start."""


class Receiving:
    """The client leg of one session."""

    __slots__ = (
        "_around",
        "_direct",
        "_peer",
        "_versioned",
        "answered",
        "bound",
        "domain",
        "framer",
        "header",
        "secured",
        "state",
    )

    def __init__(self, around: Surroundings) -> None:
        # The session owns its legs; a reference back would keep both alive.
        self._around: Surroundings = proxy(around)
        self._direct = False
        self._peer: str | None = None  # the bare JID to which our own header is addressed
        self._versioned = True
        self.state = State.WAITING
        self.answered = False
        """Whether the client's present stream has had a header in answer."""
        self.secured = False
        self.bound = False
        """Whether ``domain`` can no longer change: its certificate was shown."""
        self.domain: str | None = None
        self.framer: Framer | None = None
        self.header: Header | None = None
        """The header of the client's present stream, once it has come."""

    def begin(self, data: bytes) -> None:
        """Take the first bytes of the connection."""
        if self._around.rule is not TLSRule.NONE and data[0] == TLS_RECORD:
            self.take(Input.TLS_RECORD, data)
        else:
            self.take(Input.TEXT, data)

    def event(self, event: Event) -> None:
        """Take what the framer has found."""
        match event:
            case Header():
                exempt = self.state is State.HEADER and self._around.rule in (
                    TLSRule.REPORT,
                    TLSRule.NONE,
                )
                self.take(Input.EXEMPT_HEADER if exempt else Input.HEADER, event)
            case Element(name=ns.STARTTLS):
                self.take(Input.STARTTLS, event)
            case Element():
                self.take(Input.ELEMENT, event)
            case WhiteSpace():
                self.take(Input.WHITE_SPACE, event)
            case Footer():
                self.take(Input.FOOTER, event)

    def take(self, what: Input, value: Any = None) -> None:
        """Take an input as the table says; refuse what it does not name."""
        self.state, action = step(TABLE, self.state, what)
        action(self, value)

    def own_header(self) -> bytes:
        """Return the header with which the proxy itself answers the present stream."""
        self.answered = True
        known = self.domain is not None and self._around.domains.serves(self.domain)
        return response(
            stream_id=self._around.ids.new(),
            sender=(self.domain or "") if known else "",
            to=self._peer,
            version=self._versioned,
            content=self._around.kind.content,
        )

    @property
    def is_open(self) -> bool:
        """Whether elements of an open stream are what comes."""
        return self.state is State.OPEN

    @property
    def unread(self) -> bytes:
        """The bytes of the present stream from which no event has been taken."""
        return self.framer.rest if self.framer is not None else b""

    def feed(self, data: bytes) -> None:
        """Take in bytes of the client's stream; where TLS is to begin there are none to take."""
        if self.framer is None and self.state is State.SECURE_HEADER:
            self.renew()
        if self.framer is not None:
            self.framer.feed(data)

    def renew(self) -> Framer:
        """Begin a new stream: nothing of the old one is kept but its unread bytes.

        White space at their start belongs to the old stream; an XML declaration may follow it.
        """
        framer = Framer(self._around.passage.client_limits())
        framer.feed(self.unread.lstrip(SPACE))
        self.framer = framer
        self._forget()
        return framer

    def addressed(self, domain: str) -> None:
        """Go on with an open stream, now that it is known to which domain (A-labels) it is."""
        assert self.header is not None  # noqa: S101 - a stream that is open has one
        self.domain = domain
        self._around.client_opened(self.header)

    def _forget(self) -> None:
        self.answered = False
        self._peer = None
        self._versioned = True
        self.header = None

    # Actions

    def _begin_text(self, data: bytes) -> None:
        framer = self.renew()
        if self._around.rule is TLSRule.DIRECT:
            raise StreamError(
                Condition.POLICY_VIOLATION, "TLS must begin with the first byte here (direct TLS)"
            )
        framer.feed(data)

    def _begin_direct(self, data: bytes) -> None:
        self._direct = True
        self._around.await_tls(data, direct=True)

    def _judge(self, found: StreamHeader) -> None:
        """Judge a header by all that binds the client."""
        if self.bound and found.to != self.domain:
            raise StreamError(
                Condition.POLICY_VIOLATION,
                f"the stream must be to {self.domain}, for which TLS was set up",
            )
        if found.to is None:
            raise StreamError(Condition.HOST_UNKNOWN, "the stream does not say to which domain")
        if not self._around.domains.serves(found.to):
            where = "served here"
            if self._around.passage.view.outward:
                where = "among the domains of this listener"
            raise StreamError(Condition.HOST_UNKNOWN, f"{found.to} is not {where}")
        self.domain = found.to
        self._around.passage.stream_opened(found, found.to)

    def _note_header(self, header: Header) -> StreamHeader:
        """Read a header; take note of who it is from, and of what our own answer needs."""
        self.header = header
        found = read(header, self._around.kind.content)
        self._peer = found.sender.partition("/")[0] if found.sender else None
        self._versioned = found.has_features
        self._around.passage.note_origin(found)
        return found

    def _offer(self, header: Header) -> None:
        found = self._note_header(header)
        self._judge(found)
        if not found.has_features:
            raise StreamError(
                Condition.POLICY_VIOLATION, "TLS is required here, and STARTTLS takes XMPP 1.0"
            )
        self._around.send_client(self.own_header() + STARTTLS_REQUIRED)

    def _open(self, header: Header) -> None:
        found = self._note_header(header)
        if self._around.passage.open_unaddressed(found):
            self._around.client_unaddressed(header)
            return
        self._judge(found)
        if not found.has_features and self.secured and not self._direct:
            raise StreamError(Condition.POLICY_VIOLATION, "version 1.0 is required after STARTTLS")
        self._around.client_opened(header)

    def _reopen(self, header: Header) -> None:
        found = self._note_header(header)
        if found.to is None or found.to != self.domain:
            raise StreamError(
                Condition.NOT_AUTHORIZED,
                f"the stream must be to {self.domain}, where the client was authenticated",
            )
        self._around.passage.stream_opened(found, found.to)
        self._around.client_opened(header)

    def _proceed(self, element: Element) -> None:
        """Answer ``<starttls/>``, unless something that is not TLS came with it.

        CVE-2011-0411: what follows in plaintext must not be taken for what comes under TLS.
        """
        if element.attributes or not _EMPTY.fullmatch(element.raw):
            self._fail_starttls(element)
            return
        ahead = self.unread.lstrip(SPACE)
        if ahead and ahead[0] != TLS_RECORD:
            self._fail_starttls(element)
            return
        self.framer = None
        self._around.leave_server()
        self._around.send_client(PROCEED)
        self._around.await_tls(ahead, direct=False)

    def _fail_starttls(self, _element: Element) -> None:
        self.state = State.CLOSED
        self._around.send_client(STARTTLS_FAILURE + FOOTER)
        self._around.close_client("<starttls/> malformed, not on offer, or not the last word")

    def _starttls_when_open(self, element: Element) -> None:
        if self._around.passage.offers_starttls:
            self.state = State.HELLO
            self._proceed(element)
        else:
            self._fail_starttls(element)

    def _decline(self, element: Element) -> None:
        self._around.passage.decline(element)

    def _choose(self, hello: ClientHello) -> None:
        """Choose the certificate: by SNI, which must agree with the stream's ``to``."""
        domain = hello.server_name
        if domain is None:
            domain = self.domain or self._around.domains.default()
        protocol = self._around.kind.protocol
        if hello.protocols and (not protocol or protocol not in hello.protocols):
            self._around.alert(NO_APPLICATION_PROTOCOL, "ALPN asks for another protocol")
        elif not self._around.domains.serves(domain) or (self.domain or domain) != domain:
            self._around.alert(UNRECOGNIZED_NAME, f"SNI names another domain: {domain}")
        else:
            try:
                self._around.passage.client_hello(hello, domain)
            except StreamError as error:
                self._around.alert(ACCESS_DENIED, str(error))
                return
            self.domain = domain
            self.bound = True
            self._around.start_tls(domain)

    def _secure(self, _value: object) -> None:
        self.secured = True
        self.framer = None
        self._forget()

    def _restart(self, _value: object) -> None:
        self.renew()

    def _pass(self, event: Element | WhiteSpace) -> None:
        self._around.client_sent(event)

    def _end(self, footer: Footer) -> None:
        self._around.client_ended(footer)

    def _leave(self, _footer: Footer) -> None:
        self._around.send_client((b"" if self.answered else self.own_header()) + FOOTER)
        self._around.close_client("the client closed the stream")

    def _ignore(self, _event: object) -> None:
        """Take no notice."""


Action = Callable[[Receiving, Any], None]

TABLE: Final[Table[State, Input, tuple[State, Action]]] = {
    State.WAITING: {
        Input.TLS_RECORD: (State.HELLO, Receiving._begin_direct),
        Input.TEXT: (State.HEADER, Receiving._begin_text),
    },
    State.HEADER: {
        Input.HEADER: (State.OFFERED, Receiving._offer),
        Input.EXEMPT_HEADER: (State.OPEN, Receiving._open),
    },
    State.OFFERED: {
        Input.STARTTLS: (State.HELLO, Receiving._proceed),
        Input.WHITE_SPACE: (State.OFFERED, Receiving._ignore),
        Input.ELEMENT: (State.OFFERED, Receiving._decline),
        Input.FOOTER: (State.CLOSED, Receiving._leave),
    },
    State.HELLO: {
        Input.HELLO: (State.HANDSHAKE, Receiving._choose),
    },
    State.HANDSHAKE: {
        Input.SECURED: (State.SECURE_HEADER, Receiving._secure),
    },
    State.SECURE_HEADER: {
        Input.HEADER: (State.OPEN, Receiving._open),
    },
    State.OPEN: {
        Input.STARTTLS: (State.OPEN, Receiving._starttls_when_open),
        Input.ELEMENT: (State.OPEN, Receiving._pass),
        Input.WHITE_SPACE: (State.OPEN, Receiving._pass),
        Input.FOOTER: (State.ENDING, Receiving._end),
        Input.AUTHENTICATED: (State.RESTART_HEADER, Receiving._restart),
    },
    State.RESTART_HEADER: {
        Input.HEADER: (State.OPEN, Receiving._reopen),
    },
    State.ENDING: {},
    State.CLOSED: {},
}
"""What may come when: for each state and input the next state and what is done."""
