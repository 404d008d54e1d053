"""A bridge: one session's legs and its negotiation, joined.

It tells the negotiation what happens on the legs and does what the negotiation commands. When that
says `Join`, the sockets go to a relay and all else of the negotiation is dropped.
"""

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from OpenSSL import SSL
from twisted.python.failure import Failure

from proxy.net import client_hello
from proxy.net.bridge_end import BridgeEnd
from proxy.net.closing import BRIEF_LINGER, LINGER
from proxy.net.deadlines import Armed
from proxy.net.joined import Joined, Sockets
from proxy.net.leg import Leg
from proxy.net.plain_relay import PlainRelay
from proxy.net.reach import Reach
from proxy.net.relay import Relay
from proxy.net.summary import Standing, Summary
from proxy.net.surroundings import Parted, Surroundings
from proxy.net.targets import unmapped
from proxy.net.tls import describe
from proxy.net.watching import Watching
from proxy.session.commands import (
    Abort,
    Alert,
    Arm,
    Await,
    AwaitTLS,
    Close,
    Command,
    Connect,
    ConnectNext,
    Deadline,
    Disarm,
    Divide,
    Finish,
    Hold,
    Join,
    Reconnect,
    Redirect,
    Report,
    Resume,
    Send,
    Severity,
    Side,
    StartServerTLS,
    StartTLS,
)
from proxy.session.faults import located
from proxy.session.hooks import Address, ClientHello, TLSFacts, View
from proxy.session.kinds import Kind
from proxy.session.session import Session
from proxy.session.ways import Reached, Trouble
from proxy.xmpp.errors import Condition, StreamError

_NONE_RUN: Final[dict[Deadline, Armed]] = {}
"""The deadlines of all sessions that are joined, of which there may be very many."""


class Bridge:
    """One session.

    Args:
        around: what it shares with others.
        session: its negotiation.
        client: the socket that was accepted.
        peek: whether TLS may follow plaintext on it.
        original: where the client wanted to go, if its connection was redirected or has come
            through a proxy.
    """

    __slots__ = (
        "__weakref__",
        "_around",
        "_busy",
        "_client",
        "_direct",
        "_down",
        "_finished",
        "_kind",
        "_original",
        "_queue",
        "_reach",
        "_relay",
        "_server",
        "_server_address",
        "_session",
        "_severity",
        "_shown",
        "_started",
        "_timers",
        "_up",
        "_view",
        "_waiting",
        "_way_ended",
        "watch",
    )

    def __init__(
        self,
        around: Surroundings,
        session: Session,
        client: socket.socket,
        *,
        peek: bool,
        original: Address | None = None,
    ) -> None:
        self._around = around
        self._session: Session | None = session
        self._kind = session.kind
        self._client: Leg | None = Leg(
            around.hub,
            client,
            BridgeEnd(self, Side.CLIENT),
            peek=peek,
            kind=self._kind,
            answered=self._kind is Kind.S2S,
        )
        self._server: Leg | None = None
        self._original = original
        self._reach: Reach | None = None
        self._way_ended: Callable[[], None] | None = None
        self._relay: Joined | None = None
        self._timers: dict[Deadline, Armed] = {}
        self._waiting: Callable[[], None] | None = None  # gives up waiting for a decision
        self._queue: list[Command] = []
        self._busy = False
        self._direct = False
        self._finished: str | None = None
        self._severity = Severity.INFO
        self._shown: Sequence[bytes] = ()  # the certificates of a client that is a server
        self._server_address: Address | None = None
        self._view: View = session.view
        self._started = time.monotonic()
        self._up = 0
        self._down = 0
        self.watch: Watching | None = None
        """Who is told of the negotiation; None if nobody is."""

    @property
    def joined(self) -> bool:
        """Whether negotiation is over and the legs are joined."""
        return self._relay is not None

    @property
    def standing(self) -> Standing:
        """How far it has come."""
        return Standing(
            over=self._relay is None and self._session is None,
            server=self._server_address,
            seconds=time.monotonic() - self._started,
            passed=self.passed,
            waiting=self._waiting is not None,
        )

    @property
    def passed(self) -> tuple[int, int]:
        """How many bytes have come from the client and from the server."""
        up, down = (0, 0) if self._relay is None else self._relay.passed
        return self._up + up, self._down + down

    @property
    def stalled(self) -> bool:
        """Whether bytes wait that a peer of joined legs does not take."""
        return self._relay is not None and self._relay.stalled

    @property
    def view(self) -> View:
        """The session as it stands."""
        return self._view if self._session is None else self._session.view

    def start(self) -> None:
        """Begin."""
        if self._session is not None and self._client is not None:
            self._perform(self._session.connected())
            if self._client is not None:
                self._client.start()

    def shut_down(self) -> None:
        """End the session because the daemon ends."""
        self.end(StreamError(Condition.SYSTEM_SHUTDOWN, "the proxy is shutting down"))

    def end(self, error: StreamError) -> None:
        """End the session, telling the client why."""
        if self._relay is not None:
            self._relay.refuse(error)
        elif self._session is not None:
            self._perform(self._session.end(error))

    # What the legs tell

    def received(self, side: Side, data: bytes) -> None:
        """Take bytes."""
        if side is Side.CLIENT:
            self._up += len(data)
        else:
            self._down += len(data)
        if self._session is not None:
            self._perform(self._session.received(side, data))

    def peeked(self, data: bytes) -> int:
        """Take plaintext from the client; return how much of it was taken."""
        if self._session is None:
            return len(data)
        self._queue.extend(self._session.received(Side.CLIENT, data))
        taken = len(data) - self._session.unread
        self._up += taken
        return taken

    def taken(self) -> None:
        """Go on after `peeked`, the bytes having been taken off the socket."""
        self._perform(())

    def hello(self, hello: client_hello.Hello) -> None:
        """Take the ClientHello."""
        if self._session is not None:
            asked = ClientHello(hello.server_name, hello.protocols, direct=self._direct)
            if self.watch is not None:
                self.watch.hello(asked)
            self._perform(self._session.hello(asked))

    def secured(self, side: Side, facts: TLSFacts) -> None:
        """Take note that TLS is up."""
        if self._session is None:
            return
        if self._around.measured is not None:
            self._around.measured.handshake(side, facts)
        if side is Side.CLIENT:
            if self._kind is Kind.S2S and self._client is not None:
                # What cannot be read proves nothing.
                with suppress(SSL.Error, OSError):
                    self._shown = self._client.shown()
            self._perform(self._session.secured(facts, self._shown))
        elif self._server is not None:
            try:
                evidence = self._server.evidence()
            except BaseException as error:  # noqa: BLE001 - what cannot be read proves nothing
                reason = f"its certificate cannot be read: {located(error)}"
                self._perform(self._session.server_tls_failed(reason, agreed=True))
            else:
                self._perform(self._session.server_secured(facts, evidence))

    def tls_failed(self, side: Side, reason: str) -> None:
        """Take note that TLS has failed."""
        if self._session is None:
            return
        if self._around.measured is not None:
            self._around.measured.handshake_failed(side)
        if side is Side.CLIENT:
            self._perform(self._session.tls_failed(reason))
        else:
            self._perform(self._session.server_tls_failed(reason))

    def half_closed(self, side: Side) -> None:
        """Take note that a peer has closed its direction."""
        if self._session is not None:
            self._perform(self._session.lost(side, "connection closed"))

    def lost(self, side: Side, reason: Failure) -> None:
        """Take note that a leg is gone."""
        if side is Side.CLIENT:
            self._client = None
        else:
            self._server = None
        if self._session is not None:
            self._perform(self._session.lost(side, describe(reason.value)))
        self._settle()

    # What the negotiation commands

    def _perform(self, commands: Iterable[Command]) -> None:
        """Carry commands out in order, those that come of doing so after the rest."""
        self._queue.extend(commands)
        if self._busy:
            return
        self._busy = True
        try:
            # The list grows while it is worked through.
            for command in self._queue:
                if self.watch is not None:
                    self.watch.commanded(command)
                self._doing[command.__class__](self, command)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._queue.clear()
            self._busy = False
            self._settle()

    def _abandon(self) -> None:
        """End everything at once, our own code having failed."""
        self._finished = self._finished or "fault in the proxy; see the log"
        self._severity = Severity.ERROR
        if self._session is not None:
            self._session.abandon()
            self._session = None
        self._disarm_all()
        self._end(Abort(Side.SERVER))
        if self._client is not None:
            self._client.abortConnection()
        if self._relay is not None:
            self._relay.end(self._finished)

    def _send(self, command: Send) -> None:
        leg = self._leg(command.side)
        if leg is not None:
            leg.write(command.data)

    def _hold(self, _command: Hold) -> None:
        if self._client is not None:
            self._client.hold()

    def _resume(self, _command: Resume) -> None:
        if self._client is not None:
            self._client.release()

    def _await_tls(self, command: AwaitTLS) -> None:
        if self._client is not None:
            self._direct = command.direct
            self._client.await_hello(direct=command.direct)

    def _start_tls(self, command: StartTLS) -> None:
        if self._client is not None:
            self._client.start_tls(self._around.contexts[command.domain])

    def _alert(self, command: Alert) -> None:
        if self._client is not None:
            self._client.send_alert(command.description)

    def _leg(self, side: Side) -> Leg | None:
        return self._client if side is Side.CLIENT else self._server

    def _end(self, command: Close | Abort) -> None:
        side = command.side
        if side is Side.SERVER and self._reach is not None:
            self._reach.cancel()
        leg = self._leg(side)
        if leg is None:
            return
        if isinstance(command, Close):
            leg.close(BRIEF_LINGER if command.brief else LINGER)
        elif side is Side.CLIENT:
            leg.abortConnection()
        else:
            # Another server leg may follow at once; of this one nobody wants to hear any more.
            self._server = None
            leg.forget()

    def _do_to_server(
        self, command: Connect | ConnectNext | Reconnect | Redirect | StartServerTLS
    ) -> None:
        if isinstance(command, Connect):
            self._settle_reach()
            self._reach = self._around.reach(
                command.domain, self._original, self._connected, self._unreachable
            )
        reach = self._reach
        if reach is None:
            return
        match command:
            case Connect() | ConnectNext():
                reach.next()
            case Reconnect():
                reach.again()
            case Redirect(host, port, proved):
                reach.redirect(host, port, keep=not proved)
            case StartServerTLS(domain, direct, sender):
                if self._server is not None:
                    context = self._around.server_context(domain, sender)
                    self._server.start_client_tls(context, domain, direct=direct)

    def _connected(self, connection: socket.socket, reached: Reached) -> None:
        self._server_address = reached.address
        if self.watch is not None:
            self.watch.connected(reached.address)
        if self._session is None or self._client is None:
            connection.close()
            return
        self._server = Leg(
            self._around.hub, connection, BridgeEnd(self, Side.SERVER), peek=False, kind=self._kind
        )
        self._client.registerProducer(self._server, streaming=True)
        self._server.registerProducer(self._client, streaming=True)
        if self._around.preface is not None:
            try:
                here = self._client.getHost()
                place = self._original or Address(unmapped(here.host), here.port)
                self._server.write(self._around.preface(self.view, place, self._shown))
            except BaseException:
                self._abandon()
                raise
        self._server.start()
        self._perform(self._session.server_connected(reached))

    def _unreachable(self, trouble: Trouble, reason: str) -> None:
        if self.watch is not None:
            self.watch.unreachable(reason)
        if self._session is not None:
            self._perform(self._session.server_unreachable(reason, trouble))

    def _settle_reach(self) -> None:
        """Drop what looks for ways; keep what is left to do at the end."""
        reach, self._reach = self._reach, None
        if reach is not None:
            self._forget_way()
            self._way_ended = reach.settle()

    def _forget_way(self) -> None:
        ended, self._way_ended = self._way_ended, None
        if ended is not None:
            ended()

    def _report(self, command: Report) -> None:
        self._around.report(self.view.id, command)

    def _finish(self, command: Finish) -> None:
        self._view, self._finished = command.view, command.reason
        self._severity = command.severity
        self._session = None  # what it holds need not wait until the peer has closed
        self._disarm_all()

    def _arm(self, command: Arm) -> None:
        deadline = command.deadline
        self._disarm(deadline)
        self._timers[deadline] = self._around.deadlines.arm(deadline, self._expired)

    def _cancel(self, command: Disarm) -> None:
        self._disarm(command.deadline)

    def _await(self, command: Await) -> None:
        self._waiting = command.decision.wait(self._decided)

    def _disarm(self, deadline: Deadline) -> None:
        timer = self._timers.pop(deadline, None)
        if timer is not None:
            timer.disarm()

    def _decided(self, in_time: bool) -> None:
        self._waiting = None
        if self._session is not None:
            self._perform(self._session.decided(in_time))

    def _disarm_all(self) -> None:
        if self._waiting is not None:
            self._waiting()
            self._waiting = None
        for timer in self._timers.values():
            timer.disarm()
        self._timers.clear()

    def _expired(self, deadline: Deadline) -> None:
        del self._timers[deadline]
        if self._session is not None:
            self._perform(self._session.expired(deadline))

    def _join(self, command: Join) -> None:
        """Give the sockets to a relay and drop everything else."""
        if self._session is None or self._client is None or self._server is None:
            return
        self._view = self._session.view
        self._settle_reach()
        client, tls, to_client = self._client.detach()
        server, server_tls, to_server = self._server.detach()
        self._session = self._client = self._server = self.watch = None
        self._disarm_all()
        self._timers = _NONE_RUN
        if server_tls is None:
            sockets = Sockets(client, tls, server)
            waiting = (to_client, to_server)
        else:
            sockets = Sockets(server, server_tls, client, client_on_wire=False)
            waiting = (to_server, to_client)
        kind: type[Joined] = PlainRelay if sockets.tls is None else Relay
        relay = kind(self._around.hub, sockets, command.meter, self._relay_ended)
        self._relay = relay
        relay.wait(*waiting)
        relay.begin(command.to_server, command.to_client)

    def _divide(self, command: Divide) -> None:
        """Give the client up to a division."""
        if self._client is None or self._around.divided is None:
            raise RuntimeError("there is nobody to divide the stream")
        view = self.view
        connection, _, waiting = self._client.detach()
        self._client = self._session = None
        self._disarm_all()
        self._around.divided(
            self,
            Parted(
                connection,
                waiting,
                command.header,
                command.rest,
                view,
                self._started,
                self._original,
            ),
        )

    def _relay_ended(self, reason: str) -> None:
        if self._relay is not None:
            up, down = self._relay.passed
            self._up += up
            self._down += down
            self._relay = None
        self._finished = reason
        self._settle()

    def _settle(self) -> None:
        """Tell that the session is over, once nothing is left of it."""
        if (
            self._finished is None
            or self._client is not None
            or self._server is not None
            or self._relay is not None
            or self._busy
        ):
            return
        reason, self._finished = self._finished, None
        self._session = None
        if self.watch is not None:
            self.watch.ended()
            self.watch = None
        self._settle_reach()
        self._forget_way()
        self._around.chain.session_closed(self._view)
        summary = Summary(
            view=self._view,
            seconds=time.monotonic() - self._started,
            from_client=self._up,
            from_server=self._down,
            reason=reason,
            severity=self._severity,
            server=self._server_address,
        )
        self._around.closed(self, summary)

    _doing: Final[Mapping[type[Command], Callable[["Bridge", Any], None]]] = {
        Send: _send,
        Hold: _hold,
        Resume: _resume,
        AwaitTLS: _await_tls,
        StartTLS: _start_tls,
        Alert: _alert,
        Connect: _do_to_server,
        ConnectNext: _do_to_server,
        Reconnect: _do_to_server,
        Redirect: _do_to_server,
        StartServerTLS: _do_to_server,
        Close: _end,
        Abort: _end,
        Arm: _arm,
        Disarm: _cancel,
        Await: _await,
        Join: _join,
        Divide: _divide,
        Report: _report,
        Finish: _finish,
    }
    """What carries out each command: to try one kind after another would take longer than that."""
