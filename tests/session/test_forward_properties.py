"""What holds on a forward listener whatever comes, in whatever order."""

from collections.abc import Callable, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.commands import (
    Abort,
    Command,
    Deadline,
    Finish,
    Join,
    Send,
    Side,
    StartServerTLS,
)
from proxy.session.hooks import Plugin
from proxy.session.securing import STARTTLS
from proxy.session.session import Session
from proxy.session.ways import Trouble
from proxy.trust.policy import Level
from proxy.xmpp import namespaces as ns
from proxy.xmpp.headers import opening
from tests.session.forward import (
    DISTRUSTED,
    FACTS,
    NO_OFFER,
    OFFER,
    PROCEED,
    TRUSTED,
    Rules,
    forward_session,
    reached,
)
from tests.session.playbook import (
    BIND,
    BOUND,
    CLIENT,
    DOMAIN,
    MECHANISMS,
    OTHER_DOMAIN,
    SERVER,
    SUCCESS,
    all_plugins,
    answer,
    header,
)
from tests.session.test_session_properties import FROM_CLIENT, FROM_SERVER, Event
from tests.xmpp.streams import cut_at

STRANGER = b"STRANGER"
"""Marks what a server says before TLS."""
OURS = b"".join((opening(DOMAIN), opening(OTHER_DOMAIN), STARTTLS))

_REDIRECTION = (
    f"<stream:error><see-other-host xmlns='{ns.STREAM_ERRORS}'>MARK.example.com</see-other-host>"
    "</stream:error>"
).encode()
_MORE_FROM_SERVER = st.sampled_from(
    [
        OFFER,
        NO_OFFER,
        PROCEED,
        f"<failure xmlns='{ns.TLS}'/>".encode(),
        answer("MARK"),
        _REDIRECTION,
        b"MARK",
    ]
)
_SAID: dict[Side, st.SearchStrategy[bytes]] = {
    CLIENT: FROM_CLIENT,
    SERVER: st.one_of(FROM_SERVER, _MORE_FROM_SERVER),
}


@st.composite
def pieces(draw: st.DrawFn, side: Side) -> list[Event]:
    data = b"".join(draw(st.lists(_SAID[side], min_size=1, max_size=4)))
    places = draw(st.lists(st.integers(0, len(data)), max_size=2))
    return [(side.value, piece) for piece in cut_at(data, places)]


def one(name: str) -> st.SearchStrategy[list[Event]]:
    return st.just([(name, None)])


EVENTS = st.one_of(
    pieces(CLIENT),
    pieces(SERVER),
    pieces(SERVER),
    *map(
        one,
        [
            "reached",
            "reached directly",
            "trusted",
            "distrusted",
            "TLS failed",
            "unreachable",
            "shut down",
            "lost client",
            "lost server",
            "too slow",
        ],
    ),
)

WELL: list[Event] = [
    ("connected", None),
    ("client", header(more=" from='MARK@example.com'")),
    ("reached", None),
    ("server", answer("MARK") + OFFER),
    ("server", PROCEED),
    ("trusted", None),
    ("server", answer("MARK") + MECHANISMS),
    ("client", f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>MARK</auth>".encode()),
    ("server", SUCCESS),
    ("client", header()),
    ("server", answer("MARK") + MECHANISMS),
    ("client", BIND),
    ("server", BOUND),
]


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    events = WELL[: draw(st.integers(1, len(WELL)))]
    for some in draw(st.lists(EVENTS, max_size=12)):
        events = events + some
    return events


@attrs.define
class Observer:
    """Carries events to a session and holds each invariant after each of them."""

    session: Session
    commands: list[Command] = attrs.field(factory=list)
    shaking: bool = False
    proved: bool = False
    """Whether the server leg that there is has proved the domain."""
    over: bool = False

    def take(self, event: Event) -> None:
        name, value = event
        if name in ("trusted", "distrusted") and not self.shaking:
            return  # a leg has no TLS that was not asked for
        session = self.session
        calls: dict[str, Callable[[], list[Command]]] = {
            "connected": session.connected,
            "reached": lambda: session.server_connected(reached(more=True)),
            "reached directly": lambda: session.server_connected(reached(direct=True)),
            "trusted": lambda: session.server_secured(FACTS, TRUSTED),
            "distrusted": lambda: session.server_secured(FACTS, DISTRUSTED),
            "TLS failed": lambda: session.server_tls_failed("bad record"),
            "unreachable": lambda: session.server_unreachable("refused", Trouble.UNREACHABLE),
            "shut down": session.shut_down,
            "lost client": lambda: session.lost(CLIENT, "gone"),
            "lost server": lambda: session.lost(SERVER, "gone"),
            "too slow": lambda: session.expired(Deadline.WAY),
        }
        if name == "trusted":
            self.shaking, self.proved = False, True
        if isinstance(value, bytes):
            if name == "client":
                out = session.received(CLIENT, value.replace(b"MARK", b"CLIENTS"))
            else:
                mark = b"KNOWN" if self.proved else STRANGER
                out = session.received(SERVER, value.replace(b"MARK", mark))
        else:
            out = calls[name]()
        for command in out:
            self.see(command)
        self.commands += out

    def see(self, command: Command) -> None:
        assert not self.over, "something came after the end"
        match command:
            case Send(Side.SERVER, data):
                assert self.proved or data in OURS, "an unproved server got something"
            case Join():
                assert self.proved, "joined to an unproved server"
            case Send(Side.CLIENT, data):
                assert STRANGER not in data, "something unauthenticated came through"
            case StartServerTLS():
                self.shaking = True
            case Abort(Side.SERVER):
                self.shaking = self.proved = False
            case _:
                pass
        self.over = isinstance(command, Finish | Join)


def observe(rules: Rules, plugins: Sequence[Plugin], events: Sequence[Event]) -> Observer:
    observer = Observer(forward_session(rules, plugins))
    for event in events:
        observer.take(event)
    return observer


@pytest.mark.parametrize("plugins", [list, all_plugins], ids=["core alone", "default chain"])
@given(events=stories())
def test_nothing_passes_an_unproved_server_in_any_order_of_events(
    plugins: Callable[[], list[Plugin]], events: list[Event]
) -> None:
    observe(Rules(Level.SECURE), plugins(), events)


def test_the_session_that_goes_well_is_joined() -> None:
    """The stories above do start where they mean to."""
    observer = observe(Rules(), [], WELL)
    assert isinstance(observer.commands[-1], Join)


@given(data=st.data())
def test_how_a_session_is_torn_does_not_matter(data: st.DataObject) -> None:
    events = [
        (name, value.replace(b"MARK", b"SOMEBODY") if isinstance(value, bytes) else value)
        for name, value in WELL
    ]
    torn: list[Event] = []
    for name, value in events:
        if isinstance(value, bytes):
            places = data.draw(st.lists(st.integers(0, len(value)), max_size=4))
            torn += [(name, piece) for piece in cut_at(value, places)]
        else:
            torn.append((name, value))
    whole, pieced = (observe(Rules(), all_plugins(), each) for each in (events, torn))
    for side in Side:
        assert _sent(whole, side) == _sent(pieced, side)


def _sent(observer: Observer, side: Side) -> bytes:
    return b"".join(
        command.data
        for command in observer.commands
        if isinstance(command, Send) and command.side is side
    )
