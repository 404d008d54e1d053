"""The initiating entity: the server leg, from its connection to an open stream.

The client's own header goes out once the client leg may pass anything at all, and the server's own
answer comes back, so that stream ids, prefixes and ``xml:lang`` are end to end.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import proxy

from proxy.session.hooks import Condition
from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.table import Singletons, Table, step
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.framing import SPACE, Framer, Limits


class State(Singletons):
    """Where the server leg stands."""

    ABSENT = "not connected"
    CONNECTING = "connecting"
    HEADER = "waiting for the server's stream header"
    OPEN = "stream open"
    RESTART = "authenticated; a new stream from the client must follow"
    CLOSED = "closed"


class Input(Singletons):
    """What can come from the server, or happen to its leg."""

    CONNECT = "connect"
    CONNECTED = "connected"
    REOPEN = "a new stream from the client"
    HEADER = "stream header"
    ELEMENT = "element"
    WHITE_SPACE = "white space"
    FOOTER = "end of stream"
    AUTHENTICATED = "authenticated; a new stream must follow"


class Surroundings(Protocol):
    """What the server leg needs of the session it is part of."""

    ids: StreamIds
    kind: Kind

    def connect(self) -> None:
        """Open the connection."""

    def send_server(self, data: bytes) -> None:
        """Write to the server."""

    def server_opened(self, header: Header) -> None:
        """Go on with the server's header."""

    def server_sent(self, event: Element | WhiteSpace) -> None:
        """Go on with something that came in an open stream."""

    def server_ended(self, footer: Footer) -> None:
        """Go on with the end of the server's stream."""


class Initiating:
    """The server leg of one session."""

    __slots__ = ("_around", "_limits", "_opening", "framer", "state")

    def __init__(self, around: Surroundings, limits: Limits) -> None:
        # The session owns its legs; a reference back would keep both alive.
        self._around: Surroundings = proxy(around)
        self._limits = limits
        self._opening = b""  # the client's header, to be sent
        self.state = State.ABSENT
        self.framer: Framer | None = None

    @property
    def ready(self) -> bool:
        """Whether what the client sends can be passed on."""
        return self.state in (State.OPEN, State.RESTART)

    def open(self, header: bytes) -> None:
        """Open a stream with the client's own header, connecting first if need be."""
        self._opening = header
        self.take(Input.REOPEN if self.state is State.RESTART else Input.CONNECT)

    def await_connection(self, header: bytes) -> None:
        """Open a stream with the client's own header as soon as there is a connection."""
        self._opening = header
        self.state = State.CONNECTING

    def feed(self, data: bytes) -> None:
        """Take in bytes of the server's stream."""
        if self.framer is None:
            self.framer = Framer(self._limits)
        self.framer.feed(data)

    def event(self, event: Event) -> None:
        """Take what the framer has found."""
        match event:
            case Header():
                self.take(Input.HEADER, event)
            case Element():
                self.take(Input.ELEMENT, event)
            case WhiteSpace():
                self.take(Input.WHITE_SPACE, event)
            case Footer():
                self.take(Input.FOOTER, event)

    def take(self, what: Input, value: Any = None) -> None:
        """Take an input as the table says; what it does not name is no XMPP server's doing."""
        self.state, action = step(TABLE, self.state, what)
        action(self, value)

    # Actions

    def _connect(self, _value: object) -> None:
        self._around.connect()

    def _send_header(self, _value: object) -> None:
        opening, self._opening = self._opening, b""
        self._around.send_server(opening)

    def _take_header(self, header: Header) -> None:
        # The prefix, too: what the proxy itself adds is written with it.
        if (header.name, header.prefix) != (ns.STREAM, "stream") or (
            header.namespaces.get("") != self._around.kind.content
        ):
            text = f"not an XMPP stream for {self._around.kind.peers}"
            raise StreamError(Condition.INVALID_NAMESPACE, text)
        if self._around.ids.issued(header.attributes.get("id", "")):
            raise StreamError(Condition.CONFLICT, "the proxy is connected to itself")
        self._around.server_opened(header)

    def _pass(self, event: Element | WhiteSpace) -> None:
        self._around.server_sent(event)

    def _end(self, footer: Footer) -> None:
        self._around.server_ended(footer)

    def _restart(self, _value: object) -> None:
        unread = b"" if self.framer is None else self.framer.rest
        self.framer = Framer(self._limits)
        self.framer.feed(unread.lstrip(SPACE))  # white space belongs to the old stream


Action = Callable[[Initiating, Any], None]

TABLE: Final[Table[State, Input, tuple[State, Action]]] = {
    State.ABSENT: {
        Input.CONNECT: (State.CONNECTING, Initiating._connect),
    },
    State.CONNECTING: {
        Input.CONNECTED: (State.HEADER, Initiating._send_header),
    },
    State.HEADER: {
        Input.HEADER: (State.OPEN, Initiating._take_header),
    },
    State.OPEN: {
        Input.ELEMENT: (State.OPEN, Initiating._pass),
        Input.WHITE_SPACE: (State.OPEN, Initiating._pass),
        Input.FOOTER: (State.CLOSED, Initiating._end),
        Input.AUTHENTICATED: (State.RESTART, Initiating._restart),
    },
    State.RESTART: {
        Input.REOPEN: (State.HEADER, Initiating._send_header),
    },
    State.CLOSED: {},
}
"""What may come when: for each state and input the next state and what is done."""
