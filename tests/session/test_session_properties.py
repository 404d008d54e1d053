"""What holds whatever comes, in whatever order: the invariants on which the rest stands."""

from collections.abc import Callable, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from proxy.session.commands import (
    Abort,
    Alert,
    AwaitTLS,
    Command,
    Connect,
    Deadline,
    Finish,
    Join,
    Send,
    Side,
    StartTLS,
)
from proxy.session.hooks import Plugin, TLSRule
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from proxy.xmpp.framing import SPACE
from tests.session.playbook import (
    BIND,
    BIND_FEATURES,
    BOUND,
    CLIENT,
    CLIENT_HELLO,
    DOMAIN,
    MECHANISMS,
    OTHER_DOMAIN,
    SERVER,
    STARTTLS,
    SUCCESS,
    all_plugins,
    answer,
    client_hello,
    facts,
    header,
    new_session,
)
from tests.xmpp.streams import cut_at

PLAIN, SECRET = b"PLAINTEXT", b"ENCRYPTED"
"""Marks what a client says before TLS and what it says under TLS."""

_AUTH = f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>MARK</auth>".encode()
_IQ_AUTH = f"<iq type='set' id='a'><query xmlns='{ns.AUTH}'>MARK</query></iq>".encode()
_SASL2 = f"<authenticate xmlns='{ns.SASL2}' mechanism='PLAIN'>MARK</authenticate>".encode()

FROM_CLIENT = st.sampled_from(
    [
        header(more=" from='MARK@example.com'"),
        header(),
        header(OTHER_DOMAIN),
        header(version=None),
        header(content="jabber:server"),
        header(more="/"),
        STARTTLS,
        STARTTLS,
        CLIENT_HELLO,
        _AUTH,
        _IQ_AUTH,
        _SASL2,
        BIND,
        b"<message>MARK</message>",
        b"<db:result xmlns:db='jabber:server:dialback'>MARK</db:result>",
        FOOTER,
        b" ",
        b"\r\n",
        b"MARK",
        b"<",
        b">",
        b"<!--",
        b"&MARK;",
        b"\xff\x00",
        b"<?xml version='1.0'?>",
    ]
)
FROM_SERVER = st.sampled_from(
    [
        answer(),
        answer("own-1"),
        answer(version=None),
        MECHANISMS,
        BIND_FEATURES,
        SUCCESS,
        f"<success xmlns='{ns.SASL2}'><bound xmlns='{ns.BIND2}'/></success>".encode(),
        f"<failure xmlns='{ns.SASL}'/>".encode(),
        f"<challenge xmlns='{ns.SASL}'/>".encode(),
        f"<resumed xmlns='{ns.STREAM_MANAGEMENT}'/>".encode(),
        BOUND,
        b"<iq type='result' id='a'/>",
        b"<message/>",
        b"<stream:error/>",
        FOOTER,
        b" ",
        b"<",
        b"nonsense",
        b"\xff",
    ]
)

Event = tuple[str, object]

HELLOS = [
    client_hello(),
    client_hello(None),
    client_hello(OTHER_DOMAIN),
    client_hello("example.net"),
    client_hello(protocols=(b"h2",)),
]


@st.composite
def pieces(draw: st.DrawFn, side: Side) -> list[Event]:
    """A few fragments, torn anywhere."""
    fragments = FROM_CLIENT if side is CLIENT else FROM_SERVER
    data = b"".join(draw(st.lists(fragments, min_size=1, max_size=5)))
    places = draw(st.lists(st.integers(0, len(data)), max_size=3))
    return [(side.value, piece) for piece in cut_at(data, places)]


EVENTS = st.one_of(
    pieces(CLIENT),
    pieces(CLIENT),
    pieces(SERVER),
    st.sampled_from(HELLOS).map(lambda hello: [("hello", hello)]),
    st.sampled_from(["secured", "server connected", "unreachable", "shut down", "TLS failed"]).map(
        lambda name: [(name, None)]
    ),
    st.just([("server connected", None)]),
    st.just([("secured", None)]),
    st.sampled_from(list(Deadline)).map(lambda deadline: [("expired", deadline)]),
    st.sampled_from(list(Side)).map(lambda side: [("lost", side)]),
)

WELL: list[Event] = [
    ("connected", None),
    ("client", header(more=" from='MARK@example.com'")),
    ("client", STARTTLS),
    ("hello", client_hello()),
    ("secured", None),
    ("client", header()),
    ("server connected", None),
    ("server", answer()),
    ("server", MECHANISMS),
    ("client", _AUTH),
    ("server", SUCCESS),
    ("client", header()),
    ("server", answer("s2") + BIND_FEATURES),
    ("client", BIND),
    ("server", BOUND),
]
"""How a session goes that goes well."""

WELL_DIRECT: list[Event] = [WELL[0], ("client", CLIENT_HELLO), *WELL[3:]]
"""The same with direct TLS."""

WELL_REPORT: list[Event] = [
    *WELL[:2],
    ("server connected", None),
    ("server", answer() + MECHANISMS),
    *WELL[2:],
]
"""The same where TLS is not enforced: the server's stream is open before STARTTLS."""


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """A session that goes well for a while, and then anything."""
    well = draw(st.sampled_from([WELL, WELL_DIRECT, WELL_REPORT]))
    events = well[: draw(st.integers(1, len(well)))]
    for some in draw(st.lists(EVENTS, max_size=12)):
        events = events + some
    return events


@attrs.define
class Observer:
    """Carries events to a session and holds each invariant after each of them."""

    session: Session
    strict: bool
    """Whether nothing may reach the server before TLS."""
    commands: list[Command] = attrs.field(factory=list)
    secured: bool = False
    awaiting: bool = False
    """Whether TLS is awaited or under way, so that no XML may be sent."""
    under_tls: bytes = b""
    to_server: bytes = b""
    to_client: bytes = b""
    """What the client got in its present stream."""
    over: bool = False

    def take(self, event: Event) -> None:
        name, value = event
        session = self.session
        mark = SECRET if self.secured else PLAIN
        calls: dict[str, Callable[[], list[Command]]] = {
            "connected": session.connected,
            "secured": lambda: session.secured(facts()),
            "server connected": session.server_connected,
            "unreachable": lambda: session.server_unreachable("refused"),
            "shut down": session.shut_down,
            "TLS failed": lambda: session.tls_failed("bad"),
            "hello": lambda: session.hello(value),  # type: ignore[arg-type]
            "expired": lambda: session.expired(value),  # type: ignore[arg-type]
            "lost": lambda: session.lost(value, "gone"),  # type: ignore[arg-type]
        }
        was_awaiting = self.awaiting
        if name == "secured" and self.awaiting and isinstance(self.commands[-1], StartTLS):
            self.awaiting = False
            self.secured = True
            self.to_client = b""
        if isinstance(value, bytes):
            data = value.replace(b"MARK", mark)
            if name == "client" and self.secured:
                self.under_tls += data
            out = session.received(CLIENT if name == "client" else SERVER, data)
            assert 0 <= session.unread <= len(data)
        else:
            out = calls[name]()
        for command in out:
            self.see(command)
        self.commands += out
        if self.over and any(isinstance(one, Finish) for one in out):
            self.end(name, out, was_awaiting=was_awaiting)

    def see(self, command: Command) -> None:
        assert not self.over, "something came after the end"
        match command:
            case Send(Side.SERVER, data) | Join(to_server=data):
                assert self.secured or not self.strict, "the server got something before TLS"
                self.to_server += data
            case Connect():
                assert self.secured or not self.strict, "the server was connected to before TLS"
            case Send(Side.CLIENT, data):
                assert not self.awaiting, "XML in the middle of TLS"
                assert data
                if data.startswith((b"<?xml", b"<stream:stream")):
                    self.to_client = b""
                self.to_client += data
            case AwaitTLS():
                self.awaiting = True
            case _:
                pass
        self.over = isinstance(command, Finish | Join)
        if self.strict:
            assert PLAIN not in self.to_server
            sent, got = (one.translate(None, SPACE) for one in (self.under_tls, self.to_server))
            assert sent.startswith(got), "the server got what was not sent"

    def end(self, name: str, out: Sequence[Command], *, was_awaiting: bool) -> None:
        if Abort(CLIENT) in out or any(isinstance(one, Alert) for one in out):
            assert was_awaiting or name == "TLS failed"
        elif Abort(SERVER) in out:  # refused
            assert b"<stream:error>" in self.to_client
        if FOOTER in self.to_client:
            etree.fromstring(self.to_client)  # header, error and footer make one document


def observe(rule: TLSRule, plugins: Sequence[Plugin], events: Sequence[Event]) -> Observer:
    observer = Observer(new_session(rule, plugins), rule in (TLSRule.REQUIRED, TLSRule.DIRECT))
    for event in events:
        observer.take(event)
    return observer


@pytest.mark.parametrize("rule", list(TLSRule))
@given(events=stories())
def test_no_order_of_events_breaks_an_invariant(rule: TLSRule, events: list[Event]) -> None:
    observe(rule, [], events)


@pytest.mark.parametrize("rule", list(TLSRule))
@given(events=stories())
def test_nor_with_the_default_chain(rule: TLSRule, events: list[Event]) -> None:
    observe(rule, all_plugins(), events)


@pytest.mark.parametrize(
    ("rule", "events"),
    [
        (TLSRule.REQUIRED, WELL),
        (TLSRule.REQUIRED, WELL_DIRECT),
        (TLSRule.DIRECT, WELL_DIRECT),
        (TLSRule.REPORT, WELL_DIRECT),
        (TLSRule.REPORT, WELL_REPORT),
    ],
)
def test_the_session_that_goes_well_is_joined(rule: TLSRule, events: list[Event]) -> None:
    """The stories above do start where they mean to."""
    observer = observe(rule, [], events)
    assert isinstance(observer.commands[-1], Join)
    assert SECRET in observer.to_server


@given(data=st.data())
def test_how_a_session_is_torn_does_not_matter(data: st.DataObject) -> None:
    """The same bytes in other pieces bring the same bytes to either side."""
    events = [
        (name, value.replace(b"MARK", SECRET) if isinstance(value, bytes) else value)
        for name, value in WELL[: data.draw(st.integers(5, len(WELL) - 1))]
    ]
    torn: list[Event] = []
    for name, value in events:
        if isinstance(value, bytes):
            places = data.draw(st.lists(st.integers(0, len(value)), max_size=4))
            torn += [(name, piece) for piece in cut_at(value, places)]
        else:
            torn.append((name, value))
    whole, pieced = (observe(TLSRule.REQUIRED, all_plugins(), one) for one in (events, torn))
    assert (whole.to_server, whole.to_client) == (pieced.to_server, pieced.to_client)
    assert whole.session.view == pieced.session.view


def test_the_domain_is_bound_to_the_certificate() -> None:
    observer = observe(TLSRule.REQUIRED, [], WELL)
    assert [one for one in observer.commands if isinstance(one, StartTLS | Connect)] == [
        StartTLS(DOMAIN),
        Connect(DOMAIN),
    ]
