"""The server's side of a session: its leg, and on a forward listener the way to it.

What comes from the server is handed to the session, which lets it pass; what the leg and the way
out want done goes among the session's commands.
"""

from collections.abc import Callable
from typing import Protocol
from weakref import proxy

from proxy.session import ceilings, initiating
from proxy.session.commands import Abort, Arm, Command, Connect, Deadline, Disarm, Send, Side
from proxy.session.hooks import TLSFacts
from proxy.session.ids import StreamIds
from proxy.session.initiating import Initiating
from proxy.session.kinds import Kind
from proxy.session.outward import Outward
from proxy.session.passage import Passage
from proxy.session.presenting import Next, Presenting
from proxy.session.securing import RedirectedError, redirected
from proxy.session.ways import Reached, Rules
from proxy.trust.evidence import Evidence
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element, Footer, Header, WhiteSpace
from proxy.xmpp.framing import Framer


class Surroundings(Protocol):
    """What the server's side needs of the session it is part of."""

    ids: StreamIds
    kind: Kind
    passage: Passage

    def command(self, *commands: Command) -> None:
        """Have something done."""

    def answered(self, header: Header) -> None:
        """Pass the server's header to the client."""

    def server_sent(self, event: Element | WhiteSpace) -> None:
        """Pass on something that came from the server in an open stream."""

    def server_ended(self, footer: Footer) -> None:
        """Pass on the end of the server's stream."""

    def refuse(self, error: StreamError) -> None:
        """End the session with a stream error."""


class ServerSide:
    """The server leg of one session, and what stands before it.

    Args:
        around: the session.
        rules: what a forward listener demands of servers; None on a reverse one.
    """

    __slots__ = (
        "__weakref__",
        "_around",
        "_header",
        "_kept",
        "_leg",
        "_limits",
        "_presenting",
        "_unauthenticated",
        "_way",
        "ids",
        "kind",
    )

    def __init__(self, around: Surroundings, rules: Rules | None) -> None:
        # The session owns this; a reference back would keep both alive.
        self._around: Surroundings = proxy(around)
        self.ids = around.ids
        self.kind = around.kind
        self._limits = ceilings.SERVER if rules is None else ceilings.STRANGER
        self._leg = Initiating(self, self._limits)
        self._way = None if rules is None else Outward(self, rules)
        self._header = b""  # the client's
        self._kept: Header | None = None  # the server's, that waits for what follows it
        self._presenting = Presenting()
        self._unauthenticated = 0  # bytes

    @property
    def absent(self) -> bool:
        """Whether there is no leg, nor one on the way."""
        return self._leg.state is initiating.State.ABSENT

    @property
    def restarting(self) -> bool:
        """Whether the client must open a new stream, being authenticated."""
        return self._leg.state is initiating.State.RESTART

    @property
    def ready(self) -> bool:
        """Whether what the client sends can be passed on: not while another way may follow."""
        return self._leg.ready and self._kept is None

    @property
    def framer(self) -> Framer | None:
        """What cuts the server's present stream."""
        return self._leg.framer

    @property
    def way(self) -> Outward | None:
        """The way out, while no server has yet answered the client's first header."""
        return self._way if self._way is not None and self._way.sought else None

    @property
    def name(self) -> str:
        """What a server that fails is called."""
        if self._way is None:
            return "the server behind this proxy"
        return f"the server of {self._around.passage.view.domain}"

    # What the session asks for

    def open(self, header: bytes) -> None:
        """Open a stream with the client's own header, connecting first if need be."""
        self._header = header
        self._leg.open(header)

    def leave(self) -> None:
        """Give up the leg: the client begins anew."""
        self._around.command(Disarm(Deadline.CONNECT), Abort(Side.SERVER))
        self._leg = Initiating(self, self._limits)

    def connected(self, reached: Reached | None) -> None:
        """Take note that the leg is connected; on a forward listener, to what."""
        if self._way is None:
            self.server_ready()
        elif self.way is not None and reached is not None:
            self.way.connected(reached)
        else:
            raise RuntimeError("a server was reached that nobody asked for")

    def authenticated(self) -> None:
        """Take note that the server has accepted the client: a new stream must follow."""
        self._leg.take(initiating.Input.AUTHENTICATED)

    def received(self, data: bytes, goes_on: Callable[[], bool]) -> None:
        """Take bytes of the server's.

        Args:
            data: the bytes.
            goes_on: asked after each event; false if the next one is not to be taken.
        """
        if self._way is not None:
            self._count(data)
            if self._way.under_way:
                self._way.received(data)
                return
        self._leg.feed(data)
        while (framer := self._leg.framer) is not None:
            event = framer.next_event()
            if event is None:
                return
            self._leg.event(event)
            if not goes_on():
                return

    def _count(self, data: bytes) -> None:
        """Bound what a server that is a stranger may have looked at before the client logs in."""
        if not self._around.passage.view.authenticated:
            self._unauthenticated += len(data)
            if self._unauthenticated > ceilings.STRANGER_BYTES:
                bound = ceilings.STRANGER_BYTES
                raise StreamError(
                    Condition.POLICY_VIOLATION, f"more than {bound} bytes before authentication"
                )

    # What the leg asks for

    def connect(self) -> None:
        """Open the connection to the server."""
        view = self._around.passage.view
        if not (view.secured or view.exempt) or view.domain is None:
            raise RuntimeError("the client leg is not secured")
        self._around.command(Arm(Deadline.CONNECT))
        if self._way is None:
            self._around.command(Connect(view.domain))
        else:
            self._way.connect(view.domain, view.origin or "")

    def send_server(self, data: bytes) -> None:
        """Write to the server."""
        self._around.command(Send(Side.SERVER, data))

    def server_opened(self, header: Header) -> None:
        """Pass the server's header to the client.

        While the server may still point to another one, its header waits for what follows it: a
        client takes one header only.
        """
        if self.way is not None and header.attributes.get("version") is not None:
            self._kept = header
        else:
            self._answer(header)

    def server_sent(self, event: Element | WhiteSpace) -> None:
        """Pass on something that came from the server in an open stream."""
        if self._kept is not None:
            if isinstance(event, WhiteSpace):
                return  # nothing has come that says how this goes on
            if self._redirects(event) or self._presents(event):
                return
            self._answer(self._kept)
        self._around.server_sent(event)

    def server_ended(self, footer: Footer) -> None:
        """Pass on the end of the server's stream."""
        if self._kept is not None:
            if self._presenting.awaits_answer:
                self._turned_down("it ended the stream")
                return
            self._answer(self._kept)
        self._around.server_ended(footer)

    def lost(self) -> None:
        """Take note that the leg is gone, while the way is still sought."""
        if self._presenting.awaits_answer:
            self._turned_down("it closed the connection")
        elif self.way is not None:
            self.way.lost()

    def _answer(self, header: Header) -> None:
        self._kept = None
        self._around.command(Disarm(Deadline.CONNECT))
        if self.way is not None:
            self.way.arrived = True
            self._around.command(Disarm(Deadline.WAY))
        self._around.answered(header)

    def _redirects(self, event: Element) -> bool:
        """Whether the server points to another one, to which the session goes."""
        if self.way is None or event.name != ns.ERROR:
            return False
        try:
            redirected(event)
        except RedirectedError as error:
            return self.way.redirect(error.host, error.port)
        return False

    # SASL EXTERNAL, with the certificate of the domain of ours that the stream is from

    def _presents(self, event: Element) -> bool:
        """Whether something is about our own authentication, and not for our server."""
        if self.way is None:
            return False
        follows = self._presenting.take(event, self._around.passage.view)
        match follows:
            case Next.PASS:
                return False
            case Next.ASK:
                self.send_server(self._presenting.request)
            case Next.RESTART:
                self._kept = None
                self._around.passage.accepted()
                self._leg.take(initiating.Input.AUTHENTICATED)
                self._leg.open(self._header)
            case Next.REFUSED:
                self._turned_down("it refused SASL EXTERNAL")
        return True

    def _turned_down(self, why: str) -> None:
        """The server does not take our certificate: go on without it, on a new connection.

        What our server may do there without it is for the policy to say, when it asks.
        """
        self._presenting.give_up()
        if self.way is not None:
            self.way.again(why)

    # What the way out asks for

    def command(self, *commands: Command) -> None:
        """Have something done."""
        self._around.command(*commands)

    def leave_way(self) -> None:
        """Give up the leg; another one may follow."""
        self._around.command(Disarm(Deadline.WAY), Abort(Side.SERVER))
        self._leg = Initiating(self, self._limits)
        self._leg.await_connection(self._header)
        self._kept = None
        self._presenting.begin_anew()
        self._around.passage.begin_anew()

    def server_ready(self) -> None:
        """Open the stream with the server, which is connected and as secure as it has to be."""
        self._leg.take(initiating.Input.CONNECTED)

    def server_secured_by(self, facts: TLSFacts, identity: str, evidence: Evidence) -> None:
        """Take note of what TLS on the leg agreed on, and of what has proved the server."""
        self._around.passage.server_secured(facts, identity, evidence)

    def refuse(self, error: StreamError) -> None:
        """End the session with a stream error."""
        self._around.refuse(error)
