"""One session: its two legs, what passes between them, and how it ends.

Events in, commands out: each public method takes one event and returns the commands that follow
from it, to be carried out in that order. Nothing here does I/O.

The invariant on which the rest stands: before the client leg is secured, on a listener that
requires TLS, no `Connect` and no `Send` to the server is ever returned.
"""

from collections.abc import Callable, Sequence
from typing import Final

from proxy.session import ceilings, receiving
from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.clients import ClientPassage
from proxy.session.commands import (
    Abort,
    Alert,
    Arm,
    AwaitTLS,
    Close,
    Command,
    Deadline,
    Disarm,
    Divide,
    Finish,
    Hold,
    Join,
    Report,
    Resume,
    Send,
    Severity,
    Side,
    StartTLS,
)
from proxy.session.faults import located
from proxy.session.hooks import (
    Address,
    ClientHello,
    Condition,
    TLSFacts,
    TLSRule,
    View,
)
from proxy.session.ids import StreamIds
from proxy.session.kinds import Kind
from proxy.session.passage import MakePassage, RefusalError
from proxy.session.receiving import Domains, Receiving
from proxy.session.server_side import ServerSide
from proxy.session.ways import Reached, Rules, Trouble
from proxy.trust.evidence import Evidence
from proxy.xmpp import errors
from proxy.xmpp import namespaces as ns
from proxy.xmpp.domains import domain
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.events import Element, Footer, Header, WhiteSpace

_SEVERITIES: Final = {
    Condition.REMOTE_CONNECTION_FAILED: Severity.WARNING,
    Condition.INVALID_FROM: Severity.WARNING,
    Condition.INTERNAL_SERVER_ERROR: Severity.ERROR,
}
"""Of ends that are ours to mend, or of somebody who claims to be another."""


class Session:
    """A session of a client, or of whatever else opens a stream.

    Args:
        session_id: names the session in the log.
        listener: the name of the listener.
        kind: the kind of stream that it accepts.
        rule: what the listener demands of TLS.
        client: where the client is.
        domains: the domains that are served.
        chain: the plugins.
        ids: makes the ids of the proxy's own streams.
        passage: makes the way between the legs, which is what the kind of stream makes it.
        outward: what a forward listener demands of servers; None on a reverse one.
        divides: whether a stream that does not say to which domain it is may be for several.
    """

    def __init__(
        self,
        *,
        session_id: str,
        listener: str,
        kind: Kind = Kind.C2S,
        rule: TLSRule,
        client: Address,
        domains: Domains,
        chain: Chain,
        ids: StreamIds,
        passage: MakePassage = ClientPassage,
        outward: Rules | None = None,
        divides: bool = False,
    ) -> None:
        self._divides = divides
        self.kind = kind
        self.rule = rule
        self.unread = 0
        """How many of the last bytes received from the client belong to TLS and stay unread."""
        self.domains = domains
        self._bounds = chain.bounds
        self.ids = ids
        self._out: list[Command] = []
        view = View(
            id=session_id,
            listener=listener,
            rule=rule,
            client=client,
            kind=kind,
            outward=outward is not None,
        )
        self.passage = passage(view, chain, self._out)
        self._client = Receiving(self)
        self._server = ServerSide(self, outward)
        self._unauthenticated = 0  # bytes
        self._held = False
        self._last_words = ""  # a stream error of the server's
        self._over = False

    @property
    def view(self) -> View:
        """The session as plugins see it."""
        return self.passage.view

    # Events

    def connected(self) -> list[Command]:
        """Take note that the client has connected.

        One that may not stay is told and left soon, for there may be many of them.
        """
        self._out.append(Arm(Deadline.NEGOTIATION))
        self._guarded(self._admit)
        return self._flush()

    def received(self, side: Side, data: bytes) -> list[Command]:
        """Take bytes from a leg.

        In plaintext, `unread` says how many at their end have not been taken, for they are TLS's.
        """
        self.unread = 0
        if self._over or not data:
            return []
        if side is Side.CLIENT:
            self._guarded(self._client_received, data)
        else:
            self._guarded_server(self._server.received, data, self._goes_on)
        return self._flush()

    def hello(self, hello: ClientHello) -> list[Command]:
        """Take the ClientHello that follows `AwaitTLS`, its server name as sent."""
        if hello.server_name is not None:
            name = _domain_or_none_of_ours(hello.server_name)
            hello = ClientHello(name, hello.protocols, direct=hello.direct)
        self._guarded(self._client.take, receiving.Input.HELLO, hello)
        return self._flush()

    def secured(self, facts: TLSFacts, shown: Sequence[bytes] = ()) -> list[Command]:
        """Take note that TLS on the client leg is up.

        Args:
            facts: what it agreed on.
            shown: the chain of certificates that the client has shown, in DER, its own first.
        """
        self._guarded(self._secured, facts, shown)
        return self._flush()

    def tls_failed(self, reason: str) -> list[Command]:
        """Take note that TLS on the client leg has failed: no XML is sent any more."""
        self._finish(f"TLS failed: {reason}", abort=(Side.CLIENT, Side.SERVER))
        return self._flush()

    def server_connected(self, reached: Reached | None = None) -> list[Command]:
        """Take note that the server leg is connected; on a forward listener, to what."""
        self._guarded_server(self._server.connected, reached)
        return self._flush()

    def server_unreachable(
        self, reason: str, trouble: Trouble = Trouble.UNREACHABLE
    ) -> list[Command]:
        """Take note that the server leg cannot be connected."""
        if self._server.way is not None:
            self._guarded(self._server.way.unreachable, trouble, reason)
        else:
            self._upstream_failed(f"cannot be reached: {reason}")
        return self._flush()

    def server_secured(self, facts: TLSFacts, evidence: Evidence) -> list[Command]:
        """Take note that TLS on the server leg is up, and of what the server has shown."""
        if self._server.way is not None:
            self._guarded_server(self._server.way.secured, facts, evidence)
        return self._flush()

    def decided(self, in_time: bool) -> list[Command]:
        """Take note that a verdict about the server can be had now, or not in time."""
        if self._server.way is not None:
            self._guarded_server(self._server.way.decided, in_time)
        return self._flush()

    def server_tls_failed(self, reason: str, *, agreed: bool = False) -> list[Command]:
        """Take note that TLS on the server leg has failed.

        Args:
            reason: why.
            agreed: whether the handshake itself had succeeded.
        """
        if self._server.way is not None:
            self._guarded_server(self._server.way.tls_failed, reason, not agreed)
        return self._flush()

    def lost(self, side: Side, reason: str) -> list[Command]:
        """Take note that a leg has ended at the peer's side."""
        gone = side is Side.SERVER and self._server.absent
        if not self._over and not gone:
            if self._client.state is receiving.State.ENDING:
                self._finish("the client closed the stream", close=(Side.CLIENT, Side.SERVER))
            elif side is Side.CLIENT:
                self._finish(f"the client went away: {reason}", close=(Side.CLIENT, Side.SERVER))
            elif self._server.way is not None:
                self._guarded_server(self._server.lost)
            elif self.view.authenticated:
                # No end of stream is invented: it would forbid the client to resume (XEP-0198).
                self._finish(f"the server went away: {reason}", close=(Side.CLIENT, Side.SERVER))
            else:
                self._upstream_failed(f"closed the connection: {reason}")
        return self._flush()

    def expired(self, deadline: Deadline) -> list[Command]:
        """Take note that a deadline has passed."""
        match deadline:
            case Deadline.CONNECT:
                self._upstream_failed(self.passage.overdue)
            case Deadline.WAY:
                if self._server.way is not None:
                    self._guarded_server(self._server.way.expired)
            case Deadline.ENDING:
                self._finish("the server did not end its stream", close=(Side.CLIENT, Side.SERVER))
            case Deadline.NEGOTIATION:
                late = "TLS was not established in time"
                if self.rule is TLSRule.NONE:
                    late = "no stream was opened in time"
                self.refuse(StreamError(Condition.CONNECTION_TIMEOUT, late))
            case Deadline.AUTHENTICATION:
                self.refuse(StreamError(Condition.CONNECTION_TIMEOUT, "not authenticated in time"))
        return self._flush()

    def shut_down(self) -> list[Command]:
        """End the session because the daemon ends."""
        return self.end(StreamError(Condition.SYSTEM_SHUTDOWN, "the proxy is shutting down"))

    def end(self, error: StreamError) -> list[Command]:
        """End the session from outside, telling the client why."""
        self.refuse(error)
        return self._flush()

    # The client's side

    def _admit(self) -> None:
        try:
            self.passage.client_connected()
        except StreamError as error:
            if self.rule is not TLSRule.DIRECT:
                self.send_client(self._client.own_header() + error.serialise() + FOOTER)
            self._out.append(Close(Side.CLIENT, brief=True))
            self._finish(str(error))

    def _client_received(self, data: bytes) -> None:
        client = self._client
        if not self.view.authenticated:
            self._unauthenticated += len(data)
            bound = ceilings.unauthenticated_bytes(self._bounds)
            if self._unauthenticated > bound:
                raise StreamError(
                    Condition.POLICY_VIOLATION, f"more than {bound} bytes before authentication"
                )
        if client.state is receiving.State.ENDING:
            return  # nothing can follow the end of a stream
        if client.state is receiving.State.WAITING:
            client.begin(data)
        else:
            client.feed(data)
        self._pump_client()

    def _pump_client(self) -> None:
        """Take events from the client for as long as they may be taken."""
        while (framer := self._client.framer) is not None and not self._over:
            if not self._may_read():
                if not self._held:
                    self._held = True
                    self._out.append(Hold())
                return
            skimmed = self.passage.skim(framer) if self._client.is_open else b""
            if skimmed:
                self._out.append(Send(Side.SERVER, skimmed))
            event = framer.next_event()
            if event is None:
                return
            self._client.event(event)
            if self._client.state is receiving.State.ENDING:
                return

    def _may_read(self) -> bool:
        """Whether what the client sends now can be passed on or answered at once."""
        if self._client.state is not receiving.State.OPEN:
            return True
        ready = self._server.ready or self.passage.awaits_address
        return ready and not self.passage.holds

    def _release_client(self) -> None:
        """Read from the client again, if it is held without need."""
        if self._held and not self._over and self._may_read():
            self._held = False
            self._out.append(Resume())
            self._guarded(self._pump_client)

    def _secured(self, facts: TLSFacts, shown: Sequence[bytes]) -> None:
        self._out += (Disarm(Deadline.NEGOTIATION), Arm(Deadline.AUTHENTICATION))
        self._client.take(receiving.Input.SECURED)
        self.passage.tls_established(facts, shown)

    # What the client leg asks for

    def send_client(self, data: bytes) -> None:
        """Write to the client."""
        self._out.append(Send(Side.CLIENT, data))

    def await_tls(self, ahead: bytes, *, direct: bool) -> None:
        """Stop reading plaintext; ``ahead`` has been read and belongs to TLS."""
        self.unread = len(ahead)
        self._out.append(AwaitTLS(direct=direct))

    def start_tls(self, domain: str) -> None:
        """Begin the handshake with the certificate of ``domain``."""
        self._out.append(StartTLS(domain))

    def alert(self, description: int, reason: str) -> None:
        """Refuse TLS."""
        self._client.state = receiving.State.CLOSED
        self._out.append(Alert(description))
        self._finish(f"TLS refused: {reason}", close=(Side.SERVER,))

    def client_opened(self, header: Header) -> None:
        """Pass the client's header on, connecting to the server first if need be."""
        self._begin_server(self.passage.opening(header))

    def _begin_server(self, header: bytes) -> None:
        if self._server.absent and not self.view.secured:
            self._out += (Disarm(Deadline.NEGOTIATION), Arm(Deadline.AUTHENTICATION))
        elif self._server.restarting:
            self._out.append(Arm(Deadline.CONNECT))
        self._server.open(header)

    def leave_server(self) -> None:
        """Give up the server leg, for TLS makes a new start."""
        if not self._server.absent:
            self._server.leave()
            self.passage.begin_anew()
            self._held = False

    def client_unaddressed(self, header: Header) -> None:
        """Answer with a header of the proxy's own, and wait for what says to whom the stream is."""
        self.send_client(self._client.own_header())
        framer = self._client.framer
        if self._divides and framer is not None:
            self._out.append(Divide(header.raw, framer.release()))
            self._over = True

    def client_sent(self, event: Element | WhiteSpace) -> None:
        """Pass on something that came from the client in an open stream."""
        if isinstance(event, WhiteSpace):
            if not self._server.absent:
                self._server.send_server(event.raw)
            return
        self._advance(self.passage.from_client(event))

    def client_ended(self, footer: Footer) -> None:
        """Pass on the end of the client's stream and wait for the server's."""
        if self._server.absent:
            self.send_client(FOOTER)
            self.close_client("the client closed the stream")
            return
        self._server.send_server(footer.raw)
        self._out.append(Arm(Deadline.ENDING))

    # The server's side

    def _goes_on(self) -> bool:
        """Whether the server's next event is to be taken: not after the end, or the join."""
        return not (self._over or (self.passage.established and self._join()))

    def command(self, *commands: Command) -> None:
        """Have something done."""
        self._out += commands

    def answered(self, header: Header) -> None:
        """Pass the server's header to the client."""
        self._client.answered = True
        answer = self.passage.answer(header)
        if answer:
            self.send_client(answer)
        self._advance(self.passage.resume())

    def server_sent(self, event: Element | WhiteSpace) -> None:
        """Pass on something that came from the server in an open stream."""
        if isinstance(event, WhiteSpace):
            self.send_client(event.raw)
            return
        if event.name == ns.ERROR:
            self._last_words = f": {errors.describe(event.tree)}"
        self._advance(self.passage.from_server(event))

    def server_ended(self, footer: Footer) -> None:
        """Pass on the end of the server's stream, and end the session."""
        self.send_client(footer.raw)
        reason = "the server closed the stream" + self._last_words
        self._finish(reason, close=(Side.CLIENT, Side.SERVER))

    def _advance(self, step: Step) -> None:
        if step is Step.NONE:
            return
        if step is Step.ADDRESSED:
            self._client.addressed(self.view.domain or "")
            return
        if not self.view.authenticated or step is Step.AUTHENTICATED:
            self._out.append(Disarm(Deadline.AUTHENTICATION))
        if not self.view.authenticated:
            self.passage.authenticated()
            if self._client.framer is not None:
                self._client.framer.limits = self.passage.client_limits()
        if step is Step.RESTART:
            self._client.take(receiving.Input.AUTHENTICATED)
            self._server.authenticated()
        elif step is Step.ANEW:
            # The server knows nothing of it yet, and has to learn it before long.
            self._out.append(Arm(Deadline.AUTHENTICATION))
            self._client.take(receiving.Input.AUTHENTICATED)
            self.leave_server()
        elif step is Step.ESTABLISHED and self._server.framer is not None:
            self._server.framer.limits = ceilings.ESTABLISHED_SERVER

    def _join(self) -> bool:
        """Leave the rest to the relay, unless a plugin wants to see stanzas."""
        client, server = self._client.framer, self._server.framer
        if self.passage.is_watched() or client is None or server is None:
            return False
        if self._client.state is not receiving.State.OPEN:
            return False  # the client has ended its stream, and `Deadline.ENDING` runs
        if self._held:
            self._held = False
            self._out.append(Resume())
        self._out.append(Join(client.release(), server.release(), self.passage.meter()))
        self._over = True
        return True

    # How it ends

    def _guarded(self, action: Callable[..., None], *arguments: object) -> None:
        """Do something; a stream error, or a fault of our own, ends the session."""
        if self._over:
            return
        try:
            action(*arguments)
        except StreamError as error:
            self.refuse(error)
        except BaseException as error:  # noqa: BLE001 - whatever it was, it must not pass
            self._fault(error)

    def _guarded_server(self, action: Callable[..., None], *arguments: object) -> None:
        """As `_guarded`, for what the server sends: its errors are not the client's."""
        if self._over:
            return
        try:
            action(*arguments)
        except RefusalError as error:
            self.refuse(error)
        except StreamError as error:
            self._upstream_failed(f"does not speak XMPP for {self.kind.peers}: {error}")
        except BaseException as error:  # noqa: BLE001 - whatever it was, it must not pass
            self._fault(error)

    def abandon(self) -> None:
        """Let go of everything: the code around this has failed."""
        self._over = True
        self.passage.ended()

    def _fault(self, error: BaseException) -> None:
        self._out.append(Report(Severity.ERROR, "fault in the proxy", {"error": located(error)}))
        self.refuse(StreamError(Condition.INTERNAL_SERVER_ERROR, "the proxy has failed"))

    def _upstream_failed(self, text: str) -> None:
        self.refuse(StreamError(Condition.REMOTE_CONNECTION_FAILED, f"{self._server.name} {text}"))

    def refuse(self, error: StreamError) -> None:
        """End the session with a stream error, always under a header (RFC 6120, 4.9.1.2)."""
        if self._over:
            return
        client = self._client
        if client.state in (receiving.State.HELLO, receiving.State.HANDSHAKE):
            self._finish(str(error), abort=(Side.CLIENT, Side.SERVER))
            return
        header = b"" if client.answered else client.own_header()
        self.send_client(header + error.serialise() + FOOTER)
        severity = _SEVERITIES.get(error.condition, Severity.INFO)
        self._finish(str(error), severity, close=(Side.CLIENT,), abort=(Side.SERVER,))

    def close_client(self, reason: str) -> None:
        """End the session in good order, everything having been said."""
        self._finish(reason, close=(Side.CLIENT, Side.SERVER))

    def _finish(
        self,
        reason: str,
        severity: Severity = Severity.INFO,
        *,
        close: tuple[Side, ...] = (),
        abort: tuple[Side, ...] = (),
    ) -> None:
        if self._over:
            return
        self._over = True
        self.passage.ended()
        self._out += map(Close, close)
        self._out += map(Abort, abort)
        self._out.append(Finish(self.view, reason, severity))

    def _flush(self) -> list[Command]:
        self._release_client()
        out = self._out.copy()
        self._out.clear()
        return out


def _domain_or_none_of_ours(name: str) -> str:
    """Return the domain that ``name`` is; the empty one, which nobody serves, if it is none."""
    try:
        return domain(name)
    except ValueError:
        return ""
