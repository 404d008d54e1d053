"""The initiating entity before TLS: from a connection to a remote server to its TLS handshake.

RFC 6120 section 5 in the initiating role. Nothing of the client's is said here: the header is the
proxy's own, with none of our domains in it but one that the conf names, where a server asks. After
it comes ``<starttls/>`` and nothing else, whether the server offers it or not (RFC 7590, section
3.2), for an offer can be stripped on the way. What the server says is unauthenticated; it decides
how this goes on and is forgotten when TLS is up.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any, Final, Protocol
from weakref import proxy

from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.table import Singletons, Table, step
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.headers import opening, read_answer

STARTTLS: Final = f"<starttls xmlns='{ns.TLS}'/>".encode()
"""The request to begin TLS (RFC 6120, section 5.4.2.1)."""

CEILING: Final = Limits(element=65_536)
"""What a server may cost before it has proved anything."""

SEE_OTHER_HOST: Final = ns.qualified(ns.STREAM_ERRORS, "see-other-host")

_OTHER_HOST: Final = re.compile(rb"<(?:[^\s<>/:]*:)?see-other-host[^<>]*>\s*([^\s<>&]{1,300})\s*<")
_PLACE: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")
_PROCEED: Final = ns.qualified(ns.TLS, "proceed")
_FAILURE: Final = ns.qualified(ns.TLS, "failure")
_LAST_PORT: Final = 65_535


class WayError(Exception):
    """This way to the server leads nowhere.

    The message is a clause about the server and has nothing in it that the server has said, for
    the client is told.

    Attributes:
        no_tls: whether the server does no TLS here, as far as can be seen.
        certain: whether it has said so itself, and not only ended what would have led to TLS.
        detail: more, for the log.
    """

    def __init__(
        self, text: str, *, no_tls: bool = False, certain: bool = False, detail: str = ""
    ) -> None:
        super().__init__(text)
        self.no_tls = no_tls
        self.certain = certain
        self.detail = detail


class CircleError(Exception):
    """The server is the proxy itself: whichever way it goes, the session runs in a circle."""

    def __init__(self) -> None:
        super().__init__("the server is this proxy itself")


class RedirectedError(Exception):
    """The server says that another one is to be asked (RFC 6120, section 4.9.3.19).

    Attributes:
        host: a host name or an IP address, as the server wrote it.
        port: the port; None if the server names none.
    """

    def __init__(self, host: str, port: int | None) -> None:
        super().__init__(host, port)
        self.host = host
        self.port = port


class State(Singletons):
    """Where the way to TLS stands."""

    CONNECTED = "connected"
    HEADER = "waiting for the server's stream header"
    FEATURES = "waiting for the server's features"
    ANSWER = "waiting for the answer to <starttls/>"
    HANDSHAKE = "TLS handshake under way"
    SECURED = "TLS up"


class Input(Singletons):
    """What can come from the server, or happen to its leg."""

    DIRECT = "direct TLS"
    PLAINTEXT = "STARTTLS"
    HEADER = "stream header"
    OLD_HEADER = "stream header without a version"
    FEATURES = "features"
    PROCEED = "proceed"
    FAILURE = "failure"
    ERROR = "stream error"
    ELEMENT = "element"
    WHITE_SPACE = "white space"
    FOOTER = "end of stream"
    SECURED = "TLS up"


_INPUTS: Final = {
    ns.FEATURES: Input.FEATURES,
    _PROCEED: Input.PROCEED,
    _FAILURE: Input.FAILURE,
    ns.ERROR: Input.ERROR,
}


class Surroundings(Protocol):
    """What is needed of whoever wants the connection secured."""

    ids: StreamIds
    kind: Kind

    def send_server(self, data: bytes) -> None:
        """Write to the server."""

    def start_server_tls(self) -> None:
        """Begin the handshake as the client."""


class Securing:
    """The way of one connection to TLS.

    Args:
        around: carries out what is to be done.
        domain: the domain that is asked for, as A-labels.
        optional: whether a server that does not offer TLS need not be asked for it.
        sender: the domain that asks, where a server does.
    """

    __slots__ = (
        "_around",
        "_domain",
        "_framer",
        "_offered",
        "_optional",
        "_sender",
        "direct",
        "state",
    )

    def __init__(
        self, around: Surroundings, domain: str, *, optional: bool, sender: str = ""
    ) -> None:
        # The session owns this; a reference back would keep both alive.
        self._around: Surroundings = proxy(around)
        self._domain = domain
        self._sender = sender
        self._optional = optional
        self._offered = False
        self._framer = Framer(CEILING)
        self.direct = False
        """Whether TLS begins with the first byte (XEP-0368)."""
        self.state = State.CONNECTED

    def begin(self, *, direct: bool) -> None:
        """Begin on a connection that has just been made.

        Raises:
            WayError: the server will not do.
        """
        self.direct = direct
        self._take(Input.DIRECT if direct else Input.PLAINTEXT)

    def feed(self, data: bytes) -> None:
        """Take bytes of the server's.

        Raises:
            WayError: the server will not do.
            RedirectedError: it wants another one to be asked.
            CircleError: it is the proxy itself.
        """
        if self._under_tls():
            raise WayError("sent plaintext where TLS was to begin")
        try:
            self._framer.feed(data)
            while (event := self._framer.next_event()) is not None:
                self._event(event)
                if self._under_tls():
                    return
        except StreamError as error:
            text = f"does not speak XMPP for {self._around.kind.peers}"
            raise WayError(text, detail=str(error)) from error

    def _under_tls(self) -> bool:
        return self.state in (State.HANDSHAKE, State.SECURED)

    def secured(self) -> None:
        """Take note that TLS is up."""
        self._take(Input.SECURED)

    def _event(self, event: Event) -> None:
        match event:
            case Header():
                found = read_answer(event, self._around.kind.content)
                if found.id is not None and self._around.ids.issued(found.id):
                    raise CircleError
                self._take(Input.HEADER if found.has_features else Input.OLD_HEADER)
            case Element():
                self._take(_INPUTS.get(event.name, Input.ELEMENT), event)
            case WhiteSpace():
                self._take(Input.WHITE_SPACE)
            case Footer():
                self._take(Input.FOOTER)

    def _take(self, what: Input, value: Any = None) -> None:
        """Take an input as the table says."""
        self.state, action = step(TABLE, self.state, what)
        action(self, value)

    # Actions

    def _open(self, _value: object) -> None:
        content = self._around.kind.content
        self._around.send_server(opening(self._domain, content, self._sender))

    def _go_on(self, _value: object) -> None:
        """Nothing to do."""

    def _ask(self, features: Element) -> None:
        # A server that names TLS nowhere may take no notice of what it does not know.
        self._offered = ns.TLS.encode() in features.raw
        if self._optional and not self._offered:
            raise WayError("offers no TLS", no_tls=True, certain=True)
        self._around.send_server(STARTTLS)

    def _ask_old(self, _value: object) -> None:
        """A header without a version promises no features: there is nothing to wait for."""
        if self._optional:
            raise WayError("knows no XMPP 1.0, and so no TLS", no_tls=True, certain=True)
        self._around.send_server(STARTTLS)

    def _proceed(self, _element: Element) -> None:
        """Begin TLS, unless something came with the answer.

        What follows in plaintext must not be taken for what comes under TLS (CVE-2011-0411).
        """
        if self._framer.rest:
            raise WayError("sent plaintext after its consent to TLS")
        self._handshake(None)

    def _handshake(self, _value: object) -> None:
        self._around.start_server_tls()

    def _refused(self, _element: Element) -> None:
        raise WayError("refused to begin TLS", no_tls=True, certain=True)

    def _failed(self, error: Element) -> None:
        """The server ends its stream: it redirects, or it does not know ``<starttls/>``."""
        redirected(error)
        asked = self.state is State.ANSWER
        text = "ended the stream before TLS"
        if asked and not self._offered:
            text = "offers no TLS, and ended the stream when asked for it"
        certain = asked and not self._offered
        raise WayError(text, no_tls=asked, certain=certain, detail=ns.split(error.child)[1])

    def _ended(self, _footer: Footer) -> None:
        asked = self.state is State.ANSWER
        certain = asked and not self._offered
        raise WayError("ended the stream before TLS", no_tls=asked, certain=certain)


def redirected(error: Element) -> None:
    """Look at a stream error for ``<see-other-host/>``.

    Raises:
        RedirectedError: there is one, and it says where to.
    """
    if error.child != SEE_OTHER_HOST:
        return
    found = _OTHER_HOST.search(error.raw)
    if found is None or not found[1].isascii():
        return
    text = found[1].decode("ascii")
    with suppress(ValueError):
        raise RedirectedError(str(IPv6Address(text)), None)
    place = _PLACE.fullmatch(text)
    if place is None:
        return
    port = None if place[3] is None else int(place[3])
    if port is None or 0 < port <= _LAST_PORT:
        raise RedirectedError(place[1] or place[2], port)


Action = Callable[[Securing, Any], None]

TABLE: Final[Table[State, Input, tuple[State, Action]]] = {
    State.CONNECTED: {
        Input.DIRECT: (State.HANDSHAKE, Securing._handshake),
        Input.PLAINTEXT: (State.HEADER, Securing._open),
    },
    State.HEADER: {
        Input.HEADER: (State.FEATURES, Securing._go_on),
        Input.OLD_HEADER: (State.ANSWER, Securing._ask_old),
    },
    State.FEATURES: {
        Input.FEATURES: (State.ANSWER, Securing._ask),
        Input.WHITE_SPACE: (State.FEATURES, Securing._go_on),
        Input.ERROR: (State.FEATURES, Securing._failed),
        Input.FOOTER: (State.FEATURES, Securing._ended),
    },
    State.ANSWER: {
        Input.PROCEED: (State.HANDSHAKE, Securing._proceed),
        Input.FAILURE: (State.ANSWER, Securing._refused),
        Input.WHITE_SPACE: (State.ANSWER, Securing._go_on),
        Input.ERROR: (State.ANSWER, Securing._failed),
        Input.FOOTER: (State.ANSWER, Securing._ended),
    },
    State.HANDSHAKE: {
        Input.SECURED: (State.SECURED, Securing._go_on),
    },
    State.SECURED: {},
}
"""What may come when: for each state and input the next state and what is done."""
