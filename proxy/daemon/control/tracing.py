"""Traces: what goes over the legs of a session until its negotiation is over.

A session that is traced has a `Watch`, which its bridge tells of the bytes and of what it does. The
watch reads the bytes as streams, one for each leg and direction, and passes on whole elements with
their credentials masked. Bytes that are no stream are not shown.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import attrs
from twisted.logger import Logger

from proxy.daemon.control.controlled import NotControllableError, Told, Wanted
from proxy.daemon.control.facts import Traced
from proxy.daemon.control.masking import LONGEST
from proxy.daemon.control.streams import Flow, opening, shown
from proxy.daemon.control.wording import agreed, asked, described, leg
from proxy.session.commands import (
    Command,
    Connect,
    ConnectNext,
    Divide,
    Join,
    Reconnect,
    Redirect,
    Send,
    Side,
)
from proxy.session.hooks import Address, ClientHello, TLSFacts, View
from proxy.session.kinds import Kind
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from proxy.xmpp.text import printable

MOST_LINES: Final = 2_000
"""What is told of one session at most: a stream between servers may be negotiating for long."""

_RESTARTS: Final = ns.qualified(ns.SASL, "success")
_CARRIED: Final = {
    Kind.C2S: frozenset((ns.MESSAGE, ns.PRESENCE)),
    Kind.S2S: frozenset(ns.qualified(ns.SERVER, each) for each in ("iq", "message", "presence")),
    Kind.COMPONENT: frozenset(
        ns.qualified(ns.COMPONENT, each) for each in ("iq", "message", "presence")
    ),
}
"""What is only passed on when negotiation is over."""

_RECEIVED: Final = "received"
_SENT: Final = "sent"
_log = Logger()


@attrs.define(eq=False)
class _Sink:
    """One who has asked for a trace.

    Attributes:
        wanted: what for.
        told: takes what happens.
        ended: called when there is no more.
        left: how many sessions may still begin.
        under_way: how many are being negotiated.
        over: whether it has ended.
    """

    wanted: Wanted
    told: Told
    ended: Callable[[], None]
    left: int
    under_way: int = 0
    over: bool = False

    def finished(self) -> None:
        """Take note that the negotiation of one session is over."""
        self.under_way -= 1
        if not self.over and not self.under_way and not self.left:
            self.over = True
            self.ended()


class Watch:
    """What a bridge tells of a session in negotiation. A fault here ends the trace alone.

    Args:
        view: the session.
        begun: whether its streams are under way already.
        forget: called once, when there is nothing more to be told.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        view: View,
        *,
        begun: bool,
        forget: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._view = view
        self._forget: Callable[[], None] | None = forget
        self._clock = clock
        self._sinks: list[_Sink] = []
        self._lines = 0
        self._carried = _CARRIED[view.kind]
        under_way = opening(view.kind) if begun else b""
        ways = (_RECEIVED, _SENT)
        self._flows = {(side, way): Flow(under_way) for side in Side for way in ways}

    def greet(self, sink: _Sink) -> None:
        """Tell one who has asked which session this is."""
        view = self._view
        about = f"session on listener {view.listener}, client {view.client}"
        self._guarded(lambda: sink.told(_traced(self._clock(), view.id, None, "", about)))

    def received(self, side: Side, data: bytes) -> None:
        """Take bytes that came from a leg, before anything is made of them."""
        self._guarded(lambda: self._passed(side, _RECEIVED, data))

    def commanded(self, command: Command) -> None:
        """Take a command of the negotiation, before it is carried out."""
        self._guarded(lambda: self._command(command))

    def hello(self, hello: ClientHello) -> None:
        """Take the ClientHello."""
        self._guarded(lambda: self._tell(Side.CLIENT, _RECEIVED, asked(hello)))

    def secured(self, side: Side, facts: TLSFacts) -> None:
        """Take note that TLS is up: on it, a new stream begins."""
        self._guarded(lambda: self._renewed(side, agreed(facts)))

    def tls_failed(self, side: Side, reason: str) -> None:
        """Take note that TLS has failed."""
        self._note(side, f"TLS failed: {reason}")

    def connected(self, address: Address) -> None:
        """Take note that the server leg is connected."""
        self._note(Side.SERVER, f"connected to {address}")

    def unreachable(self, reason: str) -> None:
        """Take note that a way to the server leads nowhere."""
        self._note(Side.SERVER, f"cannot be reached: {reason}")

    def lost(self, side: Side, reason: str) -> None:
        """Take note that a leg has ended."""
        self._note(side, f"connection lost: {reason}")

    def ended(self) -> None:
        """Take note that the session is over."""
        self._guarded(lambda: self._end("the session is over"))

    def add(self, sink: _Sink) -> None:
        """Tell one more, from now on."""
        self._sinks.append(sink)

    def remove(self, sink: _Sink) -> None:
        """Tell one less."""
        if sink in self._sinks:
            self._sinks.remove(sink)
        if not self._sinks:
            self._leave()

    # What is made of it

    def _note(self, side: Side, text: str) -> None:
        self._guarded(lambda: self._tell(side, "", printable(text, LONGEST)))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._forget is None:
            return
        try:
            action()
        except Exception:  # noqa: BLE001 - the session must not suffer from being watched
            _log.failure("fault in a trace")
            with suppress(Exception):
                self._say(None, "", "the trace has failed; the log says more", last=True)
            self._leave()

    def _command(self, command: Command) -> None:
        match command:
            case Send(side, data):
                self._passed(side, _SENT, data)
            case Join():
                self._end("negotiation is over; the legs are joined")
            case Divide():
                self._end("each domain of this stream has a session of its own from now on")
            case Connect() | ConnectNext() | Reconnect() | Redirect():
                self._renewed(Side.SERVER, described(command))
            case _:
                text = described(command)
                if text:
                    self._tell(leg(command), "", text)

    def _renewed(self, side: Side, text: str) -> None:
        for way in (_RECEIVED, _SENT):
            self._flows[side, way].renew()
        self._tell(side, "", text)

    def _passed(self, side: Side, way: str, data: bytes) -> None:
        flow = self._flows[side, way]
        flow.feed(data)
        while self._forget is not None and (event := flow.next()) is not None:
            if isinstance(event, Element) and way == _SENT and event.name in self._carried:
                self._end("stanzas pass; no more is shown")
                return
            if isinstance(event, Element) and event.name == _RESTARTS and _grants(side, way):
                for each in (_RECEIVED, _SENT):
                    self._flows[side, each].restart()
            text = shown(event)
            if text:
                self._tell(side, way, text)

    def _tell(self, side: Side | None, way: str, text: str) -> None:
        if self._lines == MOST_LINES:
            self._end("this takes too long; no more is shown")
            return
        self._lines += 1
        self._say(side, way, text)

    def _say(self, side: Side | None, way: str, text: str, *, last: bool = False) -> None:
        traced = _traced(self._clock(), self._view.id, side, way, text, last=last)
        for sink in tuple(self._sinks):
            sink.told(traced)

    def _end(self, text: str) -> None:
        self._say(None, "", text, last=True)
        self._leave()

    def _leave(self) -> None:
        forget, self._forget = self._forget, None
        sinks, self._sinks = self._sinks, []
        self._flows.clear()
        if forget is not None:
            forget()
        for sink in sinks:
            sink.finished()


class Tracing:
    """All traces of a daemon."""

    def __init__(self) -> None:
        self._waiting: list[_Sink] = []
        self._watches: dict[str, Watch] = {}

    def begun(self, view: View) -> Watch | None:
        """Return the watch of a session that begins; None if nobody has asked for it."""
        wanting = [sink for sink in self._waiting if _is_wanted(sink.wanted, view)]
        if not wanting:
            return None
        watch = self._watch(view, begun=False)
        for sink in wanting:
            sink.left -= 1
            if not sink.left:
                self._waiting.remove(sink)
            self._add(watch, sink)
        return watch

    def await_next(
        self, wanted: Wanted, told: Told, ended: Callable[[], None]
    ) -> Callable[[], None]:
        """Trace the next sessions that begin; return what ends the trace."""
        sink = _Sink(wanted, told, ended, max(1, wanted.count))
        self._waiting.append(sink)
        told(_traced(time.time(), "", None, "", "waiting for a session to begin"))
        return lambda: self._stop(sink)

    def follow(
        self,
        view: View,
        attach: Callable[[Watch], bool],
        told: Told,
        ended: Callable[[], None],
    ) -> Callable[[], None]:
        """Trace a session that is there; return what ends the trace.

        Args:
            view: the session.
            attach: gives the session a watch; whether it is still being negotiated.
            told: takes what happens.
            ended: called when its negotiation is over.

        Raises:
            NotControllableError: the negotiation is over.
        """
        watch = self._watches.get(view.id)
        if watch is None:
            watch = self._watch(view, begun=True)
            if not attach(watch):
                del self._watches[view.id]
                raise NotControllableError(f"the negotiation of session {view.id} is over")
        sink = _Sink(Wanted(view.id), told, ended, 0)
        self._add(watch, sink)
        return lambda: self._stop(sink)

    def _watch(self, view: View, *, begun: bool) -> Watch:
        watch = Watch(view, begun=begun, forget=lambda: self._forget(view.id))
        self._watches[view.id] = watch
        return watch

    def _forget(self, session_id: str) -> None:
        del self._watches[session_id]

    @staticmethod
    def _add(watch: Watch, sink: _Sink) -> None:
        sink.under_way += 1
        watch.add(sink)
        watch.greet(sink)

    def _stop(self, sink: _Sink) -> None:
        sink.over = True
        if sink in self._waiting:
            self._waiting.remove(sink)
        for watch in tuple(self._watches.values()):
            watch.remove(sink)


def _traced(
    clock: float, session_id: str, side: Side | None, way: str, text: str, *, last: bool = False
) -> Traced:
    now = datetime.fromtimestamp(clock, UTC).isoformat(timespec="milliseconds")
    return Traced(now, session_id, "" if side is None else side.value, way, text, last)


def _grants(side: Side, way: str) -> bool:
    """Whether what goes this way over this leg comes from who lets in, not from who asks."""
    return (way == _RECEIVED) is (side is Side.SERVER)


def _is_wanted(wanted: Wanted, view: View) -> bool:
    if wanted.listener and wanted.listener != view.listener:
        return False
    if wanted.client is None:
        return True
    try:
        return ip_address(view.client.host.partition("%")[0]) in wanted.client
    except ValueError:
        return False
