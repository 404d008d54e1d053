"""What holds between servers whatever comes, in whatever order, and torn however.

What a server may be sent is judged by what that server itself has been asked and has answered, on
the connection it has now: the observers know nothing of what the session has taken note of.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.commands import (
    Abort,
    Command,
    Connect,
    ConnectNext,
    Deadline,
    Finish,
    Join,
    Reconnect,
    Redirect,
    Send,
    Side,
    StartServerTLS,
    StartTLS,
)
from proxy.session.hooks import Continue, Element, Plugin, Verdict
from proxy.session.securing import STARTTLS
from proxy.session.session import Session
from proxy.trust.evidence import Evidence
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED
from proxy.xmpp.events import Element as Parsed
from proxy.xmpp.framing import Framer, Limits
from tests.session.federation import (
    EXTERNAL,
    FAILURE,
    FEATURES,
    LOCAL,
    LOCAL_2,
    OPENING_ABROAD,
    REMOTE,
    REMOTE_2,
    SUCCESS,
    UNADDRESSED,
    VICTIM,
    WITH_EXTERNAL,
    Peers,
    answer,
    answered,
    auth,
    evidence,
    inbound_session,
    message,
    opened,
    outbound_session,
    proves,
    result,
    verify,
)
from tests.session.forward import FACTS, OFFER, reached
from tests.session.playbook import CLIENT, SERVER, client_hello, facts
from tests.xmpp.streams import cut_at

Event = tuple[str, Any]
Triple = tuple[str, str, str]

ADDRESSES = {
    REMOTE: REMOTE,
    f"a@{REMOTE}/x@{VICTIM}": REMOTE,
    f"a@{REMOTE.upper()}": REMOTE,
    f"a@{REMOTE_2}": REMOTE_2,
    f"a@{VICTIM}": VICTIM,
    f"{VICTIM}/@{REMOTE}": VICTIM,
    f"a@{VICTIM}@{REMOTE}": None,
    f"b@{LOCAL}": LOCAL,
    f"{LOCAL}/x": LOCAL,
    f"b@{LOCAL_2}": LOCAL_2,
    "": None,
}
"""Addresses, and the domain of each."""
THERE, HERE = (REMOTE, REMOTE, REMOTE_2, VICTIM), (LOCAL, LOCAL, LOCAL_2)
IDS = ("L1", "L2", "r2", "r3")
KINDS = ("valid", "valid", "invalid", "error")
_HEX = re.compile(r"[0-9a-f]{64}")


# What the servers say


def requests(senders: Sequence[str], to: Sequence[str]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(result, st.sampled_from(senders), st.sampled_from(to)),
        st.builds(verify, st.sampled_from(senders), st.sampled_from(to), st.sampled_from(IDS)),
    )


def answers(senders: Sequence[str], to: Sequence[str]) -> st.SearchStrategy[bytes]:
    return st.builds(
        answer,
        st.sampled_from(senders),
        st.sampled_from(to),
        st.sampled_from(KINDS),
        st.sampled_from((None, None, *IDS)),
    )


def _stanza(name: str, sender: str, to: str, more: str) -> bytes:
    return f"<{name}{more} from='{sender}' to='{to}'><body>MARK</body></{name}>".encode()


STANZAS = st.builds(
    _stanza,
    st.sampled_from(["message", "message", "iq", "presence"]),
    st.sampled_from(list(ADDRESSES)),
    st.sampled_from(list(ADDRESSES)),
    st.sampled_from(["", "", "", " id='1'", " xmlns='jabber:client'", " xmlns='urn:xmpp:sm:3'"]),
)
LIKELY = [(f"a@{REMOTE}", f"b@{LOCAL}"), (f"b@{LOCAL}", f"a@{REMOTE}")]
LAYERS = st.sampled_from(
    [
        auth(),
        auth(REMOTE),
        auth(VICTIM),
        f"<bidi xmlns='{ns.BIDIRECTIONAL}'/>".encode(),
        f"<compress xmlns='{ns.COMPRESSION}'/>".encode(),
        b"<enable xmlns='urn:xmpp:sm:3'/>",
        b"<stream:error/>",
        FOOTER,
        b" ",
        b"<",
        b"\xff",
        STARTTLS,
    ]
)
FROM_REMOTE = st.one_of(
    st.sampled_from(
        [
            opened(REMOTE, LOCAL, more=" mark='MARK'"),
            opened(REMOTE, LOCAL),
            opened(REMOTE, LOCAL_2),
            opened(None, LOCAL),
            opened(VICTIM, LOCAL),
            opened(LOCAL, LOCAL_2),
            opened(REMOTE, LOCAL, None),
        ]
    ),
    requests((*THERE, LOCAL), (*HERE, VICTIM)),
    requests((*THERE, LOCAL), (*HERE, VICTIM)),
    answers(THERE, HERE),
    STANZAS,
    st.just(message(*LIKELY[0], "MARK")),
    st.just(message(*LIKELY[0], "MARK")),
    LAYERS,
)
BY_LOCAL = st.one_of(
    answers(HERE, THERE),
    answers(HERE, THERE),
    st.sampled_from(
        [
            answer(LOCAL, REMOTE, "valid"),
            answered("L2", LOCAL) + FEATURES,
            answered("own-1", LOCAL),
            answered("L3", LOCAL, version=None),
            FEATURES,
            WITH_EXTERNAL,
            SUCCESS,
            FOOTER,
            b" ",
            b"<",
        ]
    ),
    requests(HERE, THERE),
    STANZAS,
)
FROM_LOCAL = st.one_of(
    st.sampled_from(
        [
            opened(LOCAL, REMOTE, more=" mark='MARK'"),
            opened(LOCAL, REMOTE),
            opened(LOCAL, REMOTE, None, db=False),
            opened(LOCAL_2, REMOTE_2),
            opened(VICTIM, REMOTE),
            UNADDRESSED,
        ]
    ),
    requests((*HERE, VICTIM), THERE),
    requests((*HERE, VICTIM), THERE),
    answers(HERE, THERE),
    STANZAS,
    st.just(message(*LIKELY[1], "MARK")),
    st.just(message(*LIKELY[1], "MARK")),
    LAYERS,
)
BY_REMOTE = st.one_of(
    answers(THERE, HERE),
    answers(THERE, HERE),
    st.sampled_from(
        [
            answer(REMOTE, LOCAL, "valid"),
            answered("r2", REMOTE) + FEATURES,
            answered("r3", REMOTE) + WITH_EXTERNAL,
            answered("r4", REMOTE, version=None),
            FEATURES,
            WITH_EXTERNAL,
            OFFER,
            PROCEED,
            SUCCESS,
            SUCCESS,
            FAILURE,
            FOOTER,
            b" ",
            b"<",
            f"<stream:error><see-other-host xmlns='{ns.STREAM_ERRORS}'>"
            "x.example</see-other-host></stream:error>".encode(),
        ]
    ),
    requests(THERE, HERE),
    STANZAS,
)


@st.composite
def torn(draw: st.DrawFn, side: str, fragments: st.SearchStrategy[bytes], most: int) -> list[Event]:
    """A few fragments of a side's, torn anywhere."""
    data = b"".join(draw(st.lists(fragments, min_size=1, max_size=most)))
    places = draw(st.lists(st.integers(0, len(data)), max_size=2))
    return [(side, piece) for piece in cut_at(data, places)]


OCCASIONS: st.SearchStrategy[list[Event]] = st.one_of(
    st.sampled_from(list(Deadline)).map(lambda deadline: [("expired", deadline)]),
    st.sampled_from(list(Side)).map(lambda side: [("lost", side)]),
    st.sampled_from(["unreachable", "shut down", "TLS failed", "server TLS failed"]).map(
        lambda name: [(name, None)]
    ),
)
ARRIVALS: st.SearchStrategy[list[Event]] = st.one_of(
    st.sampled_from([client_hello(), client_hello(LOCAL_2)]).map(lambda hello: [("hello", hello)]),
    st.sampled_from([proves(REMOTE, REMOTE_2), proves(VICTIM), ()]).map(
        lambda chain: [("secured", chain)]
    ),
    st.just([("server connected", None)]),
    st.booleans().map(lambda direct: [("reached", direct)]),
    st.sampled_from([evidence(REMOTE, REMOTE_2), evidence(VICTIM)]).map(
        lambda shown: [("server secured", shown)]
    ),
)
INTO: st.SearchStrategy[list[Event]] = st.one_of(
    torn("client", FROM_REMOTE, 5),
    torn("client", FROM_REMOTE, 5),
    torn("server", BY_LOCAL, 1),
    torn("server", BY_LOCAL, 1),
    ARRIVALS,
    OCCASIONS,
)
OUT: st.SearchStrategy[list[Event]] = st.one_of(
    torn("client", FROM_LOCAL, 5),
    torn("client", FROM_LOCAL, 5),
    torn("server", BY_REMOTE, 1),
    torn("server", BY_REMOTE, 1),
    ARRIVALS,
    OCCASIONS,
)

INTO_DIALBACK: list[Event] = [
    ("connected", None),
    ("client", opened(REMOTE, LOCAL, more=" mark='MARK'")),
    ("client", STARTTLS),
    ("hello", client_hello()),
    ("secured", proves(REMOTE, REMOTE_2)),
    ("client", opened(REMOTE, LOCAL)),
    ("server connected", None),
    ("server", answered("L1", LOCAL) + FEATURES),
    ("client", result(REMOTE, LOCAL)),
    ("server", answer(LOCAL, REMOTE, "valid")),
    ("client", message(*LIKELY[0], "MARK")),
]
INTO_EXTERNAL: list[Event] = [
    *INTO_DIALBACK[:8],
    ("client", auth(REMOTE)),
    ("client", opened(REMOTE, LOCAL)),
    ("server connected", None),
    ("server", answered("L2", LOCAL) + FEATURES),
    ("client", message(*LIKELY[0], "MARK")),
    ("server", answer(LOCAL, REMOTE, "valid")),
    ("client", message(*LIKELY[0], "MARK")),
]
_OUT_START: list[Event] = [
    ("reached", False),
    ("server", answered("r1", REMOTE) + OFFER),
    ("server", PROCEED),
    ("server secured", evidence(REMOTE, REMOTE_2)),
]
OUT_DIALBACK: list[Event] = [
    ("connected", None),
    ("client", opened(LOCAL, REMOTE, more=" mark='MARK'")),
    *_OUT_START,
    ("server", answered("r2", REMOTE) + FEATURES),
    ("client", result(LOCAL, REMOTE)),
    ("server", answer(REMOTE, LOCAL, "valid")),
    ("client", message(*LIKELY[1], "MARK")),
]
OUT_EXTERNAL: list[Event] = [
    *OUT_DIALBACK[:6],
    ("server", answered("r2", REMOTE) + WITH_EXTERNAL),
    ("server", SUCCESS),
    ("server", answered("r3", REMOTE) + FEATURES),
    ("client", result(LOCAL, REMOTE)),
    ("client", message(*LIKELY[1], "MARK")),
]
OUT_REFUSED: list[Event] = [
    *OUT_EXTERNAL[:7],
    ("server", FAILURE),
    *_OUT_START,
    ("server", answered("r4", REMOTE) + WITH_EXTERNAL),
    *OUT_DIALBACK[7:],
]
OUT_UNADDRESSED: list[Event] = [
    ("connected", None),
    ("client", UNADDRESSED),
    ("client", result(LOCAL, REMOTE)),
    *OUT_DIALBACK[2:7],
    *OUT_DIALBACK[8:],
]


def stories(
    wells: Iterable[list[Event]], events: st.SearchStrategy[list[Event]]
) -> st.SearchStrategy[list[Event]]:
    """Sessions that go well for a while, and then anyhow."""
    well = st.sampled_from(list(wells)).flatmap(
        lambda well: st.integers(1, len(well)).map(lambda count: well[:count])
    )
    return st.tuples(well, st.lists(events, max_size=12)).map(
        lambda parts: [*parts[0], *(event for some in parts[1] for event in some)]
    )


INWARD = stories([INTO_DIALBACK, INTO_EXTERNAL], INTO)
OUTWARD = stories([OUT_DIALBACK, OUT_EXTERNAL, OUT_REFUSED, OUT_UNADDRESSED], OUT)


# What is held against it


def question(raw: bytes | Parsed) -> tuple[Triple | None, str]:
    """Return what an element asks or answers, turned to what was asked, and its type."""
    text = (raw if isinstance(raw, bytes) else raw.raw).decode(errors="replace")
    found = re.match(r"<db:(result|verify) ", text)
    if found is None:
        return None, ""
    said = {
        name: value
        for name, _, value in re.findall(r""" (\w+)=(['"])(.*?)\2""", text.split(">")[0])
    }
    pair = said["from"].lower(), said["to"].lower()
    kind = said.get("type", "")
    sender, to = pair[::-1] if kind else pair
    about = found[1] if found[1] == "result" else f"verify {said.get('id', '')}"
    return (about, sender, to), kind


@attrs.define
class Observer:
    """Carries events to a session and holds each invariant after each of them."""

    rules: Peers
    session: Session
    commands: list[Command] = attrs.field(factory=list)
    open: bool = False
    """Whether a server leg is there to be written to."""
    framer: Framer = attrs.field(factory=lambda: Framer(Limits(element=1 << 20)))
    received: list[Parsed] = attrs.field(factory=list)
    """What the server has been sent on its present connection."""
    waiting: Counter[Triple] = attrs.field(factory=Counter)
    """What it has been asked there, and has not answered."""
    granted: set[tuple[str, str]] = attrs.field(factory=set)
    """What it has agreed to there."""
    asked: Counter[Triple] = attrs.field(factory=Counter)
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
        """Take note of what a side says, element by element, before the session does."""
        said = self.said[side] + value
        while (end := said.find(b">")) >= 0:
            whole = re.match(rb"[^<]*(<db:\w+ [^<>]*[^/<>]>[^<>]*</db:\w+>)", said)
            if whole is None and re.match(rb"[^<]*<db:\w+ [^<>]*[^/<>]>", said):
                break  # its end tag has not come yet
            piece = whole[1] if whole is not None else said[: end + 1].lstrip()
            said = said[whole.end() if whole is not None else end + 1 :]
            self.heard(side, piece)
        self.said[side] = said

    def heard(self, side: Side, piece: bytes) -> None:
        """Take note of a tag, or of an element of dialback, that a side has sent."""
        triple, kind = question(piece[piece.find(b"<db:") :] if b"<db:" in piece else piece)
        if triple is None:
            return
        if side is CLIENT and not kind:
            self.asked[triple] += 1
        elif side is SERVER and kind and self.waiting[triple]:
            self.waiting[triple] -= 1
            if triple[0] == "result":
                (self.granted.add if kind == "valid" else self.granted.discard)(triple[1:])

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
            if isinstance(event, Parsed):
                self.received.append(event)
                self.judge(event)

    def judge(self, element: Parsed) -> None:
        """Hold each element that the server is sent against what it has agreed to."""
        _, local = ns.split(element.name)
        if local in ("message", "iq", "presence"):
            sender, to = (ADDRESSES[element.attributes[name]] for name in ("from", "to"))
            assert (sender, to) in self.granted, f"{sender} -> {to} is not proved"
            assert ns.split(element.name)[0] == ns.SERVER
            self.passed += 1
            return
        triple, kind = question(element)
        if triple is not None:
            assert not kind, "an answer on a stream of the other direction"
            self.waiting[triple] += 1
            self.may_ask(triple, element)
        else:
            assert local in ("enable", "error"), f"the server was sent <{local}/>"
            assert local == "error" or self.granted

    def may_ask(self, triple: Triple, element: Parsed) -> None:
        """Hold a request against what the server may be asked."""

    def reply(self, data: bytes) -> None:
        """Look at what the client is sent."""
        assert data
        for name in (b"message", b"iq ", b"presence"):
            assert b"<" + name not in data, "a stanza on a stream of the other direction"
        for part in re.findall(rb"<db:\w+ [^<>]*>", data):
            triple, kind = question(part)
            assert triple is not None
            assert kind, "a request on a stream of the other direction"
            assert self.asked[triple], "an answer that nobody has asked for"
            self.asked[triple] -= 1


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

    def may_ask(self, triple: Triple, element: Parsed) -> None:
        about, sender, to = triple
        assert sender in (REMOTE, REMOTE_2, VICTIM)
        assert to in (LOCAL, LOCAL_2)
        if _HEX.fullmatch(element.tree.text or ""):
            assert self.authenticated
            assert (about, sender) == ("result", REMOTE)
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

    def note(self, name: str, value: Any) -> None:
        if name == "server secured" and self.handshaking:
            shown: Evidence = value
            self.proved = tuple(shown.chain[0].decode().split(","))
            self.handshaking = False

    def see(self, command: Command) -> None:
        if isinstance(command, StartServerTLS):
            self.handshaking = True
        super().see(command)

    def renew(self) -> None:
        super().renew()
        self.proved = ()
        self.handshaking = self.presented = False

    def heard(self, side: Side, piece: bytes) -> None:
        if side is SERVER and piece == SUCCESS and self.presented:
            view = self.session.view
            assert view.origin is not None
            assert view.domain is not None
            self.granted.add((view.origin, view.domain))
        super().heard(side, piece)

    def send(self, data: bytes) -> None:
        domain = self.session.view.domain
        if domain not in self.proved:
            opening = OPENING_ABROAD.replace(REMOTE.encode(), (domain or "").encode())
            opening = opening.replace(LOCAL.encode(), (self.session.view.origin or "").encode())
            assert data in (opening, STARTTLS), "our server's bytes left before the verdict"
            return
        assert PLAIN not in data
        super().send(data)

    def judge(self, element: Parsed) -> None:
        if element.name == ns.qualified(ns.SASL, "auth"):
            self.presented = True
            return
        super().judge(element)

    def may_ask(self, triple: Triple, element: Parsed) -> None:
        about, sender, to = triple
        assert sender in (LOCAL, LOCAL_2)
        assert to in self.proved
        if _HEX.fullmatch(element.tree.text or ""):
            assert about == "result"


def inwards(events: Iterable[Event], plugins: Sequence[Plugin] = ()) -> Inwards:
    rules = Peers()
    observer = Inwards(rules, inbound_session(rules, plugins=plugins))
    for event in events:
        observer.take(event)
    return observer


def outwards(events: Iterable[Event], plugins: Sequence[Plugin] = ()) -> Outwards:
    rules = Peers()
    observer = Outwards(rules, outbound_session(rules, plugins))
    for event in events:
        observer.take(event)
    return observer


@given(events=INWARD)
def test_our_server_gets_nothing_that_it_has_not_agreed_to(events: list[Event]) -> None:
    inwards(events)


@given(events=OUTWARD)
def test_nor_does_another_server(events: list[Event]) -> None:
    outwards(events)


@pytest.mark.parametrize(
    ("observe", "well", "passed"),
    [
        (inwards, INTO_DIALBACK, 1),
        (inwards, INTO_EXTERNAL, 2),
        (outwards, OUT_DIALBACK, 1),
        (outwards, OUT_EXTERNAL, 1),
        (outwards, OUT_REFUSED, 1),
        (outwards, OUT_UNADDRESSED, 1),
    ],
)
def test_the_sessions_that_go_well_do(
    observe: Callable[[list[Event]], Observer], well: list[Event], passed: int
) -> None:
    """The stories above do start where they mean to, and the observers do see what passes."""
    observer = observe(well)
    assert observer.passed == passed
    assert not observer.over
    observer.take(("lost", CLIENT))
    assert observer.over
