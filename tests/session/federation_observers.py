"""Observers of sessions between servers, who know nothing of what a session has taken note of.

What a server may be sent is judged by what that server itself has been asked and has answered, on
the connection that it has now.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import attrs

from proxy.session.commands import (
    Abort,
    Command,
    Connect,
    ConnectNext,
    Finish,
    Join,
    Reconnect,
    Redirect,
    Send,
    Side,
    StartServerTLS,
    StartTLS,
)
from proxy.session.securing import STARTTLS
from proxy.session.session import Session
from proxy.trust.evidence import Evidence
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from proxy.xmpp.framing import Framer, Limits
from tests.session.federation import OPENING_ABROAD, Peers
from tests.session.federation_words import (
    EXTERNAL,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    SUCCESS,
    VICTIM,
)
from tests.session.forward import FACTS, reached
from tests.session.playbook import CLIENT, SERVER, facts

Event = tuple[str, Any]
Question = tuple[str, str, str, str]
"""The name of an element of dialback, who asks whom, and about the stream with which id."""

ADDRESSES: Final = {
    REMOTE: REMOTE,
    f"a@{REMOTE}": REMOTE,
    f"a@{REMOTE}/x@{VICTIM}": REMOTE,
    f"a@{REMOTE.upper()}": REMOTE,
    f"a@{REMOTE_2}": REMOTE_2,
    f"a@{VICTIM}": VICTIM,
    f"{VICTIM}/@{REMOTE}": VICTIM,
    f"a@{VICTIM}@{REMOTE}": None,
    LOCAL: LOCAL,
    f"b@{LOCAL}": LOCAL,
    f"{LOCAL}/x": LOCAL,
    f"b@{LOCAL_2}": LOCAL_2,
    "": None,
}
"""Addresses, and the domain of each."""

ADDRESSING: Final = ("}from", "}to", "}id", "}type")
"""How attributes end that some servers take for addresses and the like."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SAID: Final = re.compile(
    rb"<db:(result|verify) from='([^']*)' to='([^']*)'(?: id='([^']*)')?"
    rb"(?: xmlns:z='urn:z' z:x='')?(?: type='(\w+)'/>|>k3y</db:\1>)|" + re.escape(SUCCESS)
)
"""What counts of what servers say, as `tests.session.federation` writes it."""


def question(name: str, sender: str, to: str, stream_id: str, kind: str) -> Question:
    """Return what an element of dialback asks, or what had been asked that it answers."""
    pair = (to, sender) if kind else (sender, to)
    return (name, *pair, stream_id)


@attrs.define
class Observer:
    """Carries events to a session and holds each invariant after each of them."""

    rules: Peers
    session: Session
    commands: list[Command] = attrs.field(factory=list)
    open: bool = False
    """Whether a server leg is there to be written to."""
    framer: Framer = attrs.field(factory=lambda: Framer(Limits(element=1 << 20)))
    received: list[Element] = attrs.field(factory=list)
    """What the server has been sent on its present connection."""
    waiting: Counter[Question] = attrs.field(factory=Counter)
    """What it has been asked there, and has not answered."""
    granted: set[tuple[str, str]] = attrs.field(factory=set)
    """What it has agreed to there."""
    asked: Counter[Question] = attrs.field(factory=Counter)
    """What the client has asked for, and no answer has come."""
    said: dict[Side, bytes] = attrs.field(factory=lambda: {CLIENT: b"", SERVER: b""})
    passed: int = 0
    """How many stanzas have reached the server."""
    over: bool = False

    def take(self, event: Event) -> None:
        name, value = event
        session = self.session
        if name in ("client", "server"):
            side = CLIENT if name == "client" else SERVER
            value = self.marked(side, value)
            self.hear(side, value)
            out = session.received(side, value)
        else:
            calls: dict[str, Callable[[], list[Command]]] = {
                "connected": session.connected,
                "secured": lambda: session.secured(facts(), value),
                "server connected": session.server_connected,
                "reached": lambda: session.server_connected(reached(direct=value)),
                "server secured": lambda: session.server_secured(FACTS, value),
                "server TLS failed": lambda: session.server_tls_failed("bad"),
                "unreachable": lambda: session.server_unreachable("refused"),
                "shut down": session.shut_down,
                "TLS failed": lambda: session.tls_failed("bad"),
                "hello": lambda: session.hello(value),
                "expired": lambda: session.expired(value),
                "lost": lambda: session.lost(value, "gone"),
            }
            self.note(name, value)
            out = calls[name]()
        for command in out:
            self.see(command)
        self.commands += out
        if self.over:
            assert len(self.rules.ledger) == 0, "a key has outlived its session"

    def marked(self, _side: Side, value: bytes) -> bytes:
        return value

    def note(self, name: str, value: Any) -> None:
        """Take note of something that happens."""

    def hear(self, side: Side, value: bytes) -> None:
        """Take note of what a side says, before the session does."""
        text = self.said[side] + value
        end = 0
        for found in _SAID.finditer(text):
            end = found.end()
            name, sender, to, stream_id, kind = (part.decode() for part in found.groups(b""))
            if not name:
                self.accept(side)
                continue
            asked = question(name, sender.lower(), to.lower(), stream_id, kind)
            if side is CLIENT and not kind:
                self.asked[asked] += 1
            elif side is SERVER and kind and self.waiting[asked]:
                self.waiting[asked] -= 1
                if name == "result":
                    (self.granted.add if kind == "valid" else self.granted.discard)(asked[1:3])
        self.said[side] = text[end:]

    def accept(self, side: Side) -> None:
        """Take note that a side has accepted EXTERNAL."""

    def see(self, command: Command) -> None:
        assert not self.over, "something came after the end"
        match command:
            case Send(Side.SERVER, data):
                self.send(data)
            case Send(Side.CLIENT, data):
                self.reply(data)
            case Connect() | ConnectNext() | Reconnect() | Redirect() | Abort(Side.SERVER):
                self.renew()
            case Join():
                raise AssertionError("nobody looks any more")
            case Finish():
                self.over = True
            case _:
                pass

    def renew(self) -> None:
        """Take note that there is another connection to the server, or none."""
        self.framer = Framer(Limits(element=1 << 20))
        self.received.clear()
        self.waiting.clear()
        self.granted.clear()
        self.said[SERVER] = b""

    def send(self, data: bytes) -> None:
        """Look at what the server is sent."""
        if b"<stream:stream" in data:
            self.framer = Framer(Limits(element=1 << 20))
        self.framer.feed(data)
        while (event := self.framer.next_event()) is not None:
            if isinstance(event, Element):
                self.received.append(event)
                self.judge(event)

    def judge(self, element: Element) -> None:
        """Hold each element that the server is sent against what it has agreed to."""
        for name in element.attributes:
            assert name == ns.split(name)[1] or not name.endswith(ADDRESSING), f"it was sent {name}"
        _, local = ns.split(element.name)
        if local in ("message", "iq", "presence"):
            sender, to = (ADDRESSES[element.attributes[name]] for name in ("from", "to"))
            assert (sender, to) in self.granted, f"{sender} -> {to} is not proved"
            assert ns.split(element.name)[0] == ns.SERVER
            self.passed += 1
            return
        if ns.split(element.name)[0] == ns.DIALBACK:
            assert element.attributes.keys() <= {"from", "to", "id", "type"}
            assert "type" not in element.attributes, "an answer on a stream of the other direction"
            sender, to = element.attributes["from"].lower(), element.attributes["to"].lower()
            asked = question(local, sender, to, element.attributes.get("id", ""), "")
            self.waiting[asked] += 1
            self.may_ask(asked, element)
        else:
            assert local in ("enable", "error"), f"the server was sent <{local}/>"
            assert local == "error" or self.granted

    def may_ask(self, asked: Question, element: Element) -> None:
        """Hold a request against what the server may be asked."""

    def reply(self, data: bytes) -> None:
        """Look at what the client is sent."""
        assert data
        for name in (b"message", b"iq ", b"presence"):
            assert b"<" + name not in data, "a stanza on a stream of the other direction"
        for part in re.finditer(rb"<db:(\w+) [^<>]*>", data):
            said = dict(re.findall(r""" (\w+)=['"]([^'"]*)""", part[0].decode()))
            assert b"z:" not in part[0], "an answer in the server's own words"
            assert "type" in said, "a request on a stream of the other direction"
            asked = question(
                part[1].decode(), said["from"].lower(), said["to"].lower(), said.get("id", ""), "x"
            )
            assert self.asked[asked], "an answer that nobody has asked for"
            self.asked[asked] -= 1


PLAIN, SECRET = b"PLAINTEXT", b"ENCRYPTED"


@attrs.define
class Inwards(Observer):
    """Of a session from a server out there to one of ours."""

    secured: bool = False
    starting: bool = False
    authenticated: bool = False

    def marked(self, side: Side, value: bytes) -> bytes:
        return value.replace(b"MARK", SECRET if self.secured else PLAIN)

    def note(self, name: str, value: Any) -> None:
        if name == "secured" and self.starting:
            self.secured = True
            self.starting = False
            self.said[CLIENT] = b""

    def see(self, command: Command) -> None:
        if isinstance(command, StartTLS):
            self.starting = True
        if isinstance(command, Connect):
            assert self.secured, "the server was connected to before TLS"
        super().see(command)

    def send(self, data: bytes) -> None:
        assert self.secured, "the server got something before TLS"
        assert PLAIN not in data
        super().send(data)

    def may_ask(self, asked: Question, element: Element) -> None:
        name, sender, to, _ = asked
        assert sender in (REMOTE, REMOTE_2, VICTIM)
        assert to in (LOCAL, LOCAL_2)
        if _HEX.fullmatch(element.tree.text or ""):
            assert self.authenticated
            assert (name, sender) == ("result", REMOTE)
        assert len(self.rules.ledger) <= 1

    def reply(self, data: bytes) -> None:
        if SUCCESS in data:
            assert self.secured
            assert self.session.view.origin == REMOTE
            assert self.session.view.client_identity == f"DNS-ID {REMOTE}"
            self.authenticated = True
        assert EXTERNAL.encode() not in data or (self.secured and not self.authenticated)
        super().reply(data)


@attrs.define
class Outwards(Observer):
    """Of a session from a server of ours to one out there."""

    handshaking: bool = False
    proved: tuple[str, ...] = ()
    """What the certificate of the present connection proves; nothing before it is judged."""
    presented: bool = False
    sought: bool = False
    """Whether a connection has been asked for."""

    def note(self, name: str, value: Any) -> None:
        if name == "server secured" and self.handshaking:
            shown: Evidence = value
            self.proved = tuple(shown.chain[0].decode().split(","))
            self.handshaking = False

    def see(self, command: Command) -> None:
        if isinstance(command, StartServerTLS):
            self.handshaking = True
        self.sought = self.sought or isinstance(command, Connect)
        super().see(command)

    def renew(self) -> None:
        super().renew()
        self.proved = ()
        self.handshaking = self.presented = False

    def accept(self, side: Side) -> None:
        view = self.session.view
        if side is SERVER and self.presented and view.origin and view.domain:
            self.granted.add((view.origin, view.domain))

    def send(self, data: bytes) -> None:
        assert self.sought, "something was written to a leg that is not there"
        domain = self.session.view.domain
        if domain not in self.proved:
            opening = OPENING_ABROAD.replace(REMOTE.encode(), (domain or "").encode())
            opening = opening.replace(LOCAL.encode(), (self.session.view.origin or "").encode())
            assert data in (opening, STARTTLS), "our server's bytes left before the verdict"
            return
        assert PLAIN not in data
        super().send(data)

    def judge(self, element: Element) -> None:
        if element.name == ns.qualified(ns.SASL, "auth"):
            self.presented = True
            return
        super().judge(element)

    def may_ask(self, asked: Question, element: Element) -> None:
        name, sender, to, _ = asked
        assert sender in (LOCAL, LOCAL_2)
        assert to in self.proved
        if _HEX.fullmatch(element.tree.text or ""):
            assert name == "result"
