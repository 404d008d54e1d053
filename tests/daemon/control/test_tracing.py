"""Traces: which sessions, what is told of them, and that it ends."""

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from proxy.daemon.control import tracing
from proxy.daemon.control.controlled import NotControllableError, Wanted
from proxy.daemon.control.facts import Traced
from proxy.daemon.control.tracing import Tracing, Watch
from proxy.session.commands import (
    Abort,
    AwaitTLS,
    Connect,
    Finish,
    Hold,
    Join,
    Redirect,
    Report,
    Send,
    Severity,
    Side,
    StartServerTLS,
    StartTLS,
)
from proxy.session.hooks import ClientHello
from proxy.session.kinds import Kind
from proxy.xmpp import namespaces as ns
from tests.daemon.control.fakes import SERVER, TLS, view

SECRET = b"AGFsaWNlAHdvbmRlcmxhbmQ="
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' to='example.com' version='1.0'>"
)
AUTH = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + SECRET + b"</auth>"
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
HEADER_SHOWN = '<stream:stream xmlns="jabber:client" to="example.com" version="1.0">'
AUTH_SHOWN = f'<auth xmlns="{ns.SASL}" mechanism="PLAIN">(masked)</auth>'
SUCCESS_SHOWN = f'<success xmlns="{ns.SASL}"/>'


class Traces:
    """A tracing, and what it tells."""

    def __init__(self) -> None:
        self.tracing = Tracing()
        self.told: list[Traced] = []
        self.ended = 0

    def end(self) -> None:
        self.ended += 1

    def next(self, **wanted: object) -> Callable[[], None]:
        return self.tracing.await_next(
            Wanted(**wanted),  # type: ignore[arg-type]
            self.told.append,
            self.end,
        )

    def begin(self, session_id: str = "a1", **known: object) -> Watch:
        watch = self.tracing.begun(view(session_id, **known))
        assert watch is not None
        return watch

    def lines(self) -> list[tuple[str, str, str]]:
        lines = [(each.leg, each.way, each.text) for each in self.told]
        self.told.clear()
        return lines


@pytest.fixture
def traces() -> Traces:
    return Traces()


def test_nobody_is_watched_unasked(traces: Traces) -> None:
    assert traces.tracing.begun(view()) is None
    stop = traces.next()
    stop()
    assert traces.tracing.begun(view()) is None
    assert traces.lines() == [("", "", "waiting for a session to begin")]
    assert traces.ended == 0


def test_a_negotiation_is_told_to_its_end(traces: Traces) -> None:
    traces.next()
    watch = traces.begin()
    watch.received(Side.CLIENT, HEADER + STARTTLS)
    watch.commanded(AwaitTLS(direct=False))
    watch.hello(ClientHello("example.com", (b"xmpp-client",), direct=False))
    watch.commanded(StartTLS("example.com"))
    watch.secured(Side.CLIENT, TLS)
    watch.received(Side.CLIENT, HEADER)
    watch.commanded(Connect("example.com"))
    watch.connected(SERVER)
    watch.commanded(Send(Side.SERVER, HEADER))
    watch.commanded(Hold())
    watch.received(Side.CLIENT, AUTH[:50])
    watch.received(Side.CLIENT, AUTH[50:])
    watch.commanded(Send(Side.SERVER, AUTH))
    watch.received(Side.SERVER, HEADER + SUCCESS)
    watch.commanded(Send(Side.CLIENT, HEADER + SUCCESS))
    watch.received(Side.CLIENT, HEADER)
    watch.received(Side.SERVER, HEADER)
    watch.commanded(Join(b"", b"", None))
    assert traces.lines() == [
        ("", "", "waiting for a session to begin"),
        ("", "", "session on listener c2s, client [2001:db8::7]:40123"),
        ("client", "received", HEADER_SHOWN),
        ("client", "received", f'<starttls xmlns="{ns.TLS}"/>'),
        ("client", "", "TLS is awaited, after STARTTLS"),
        ("client", "received", "ClientHello, for example.com, ALPN xmpp-client"),
        ("client", "", "TLS goes on with the certificate of example.com"),
        ("client", "", "TLS is up: TLSv1.3, TLS_AES_256_GCM_SHA384, X25519MLKEM768, resumed"),
        ("client", "received", HEADER_SHOWN),
        ("server", "", "to be connected to the server of example.com"),
        ("server", "", "connected to 127.0.0.1:15222"),
        ("server", "sent", HEADER_SHOWN),
        ("client", "received", AUTH_SHOWN),
        ("server", "sent", AUTH_SHOWN),
        ("server", "received", HEADER_SHOWN),
        ("server", "received", SUCCESS_SHOWN),
        ("client", "sent", HEADER_SHOWN),
        ("client", "sent", SUCCESS_SHOWN),
        ("client", "received", HEADER_SHOWN),
        ("server", "received", HEADER_SHOWN),
        ("", "", "negotiation is over; the legs are joined"),
    ]
    assert traces.ended == 1
    watch.received(Side.CLIENT, b"<message/>")
    watch.ended()
    assert (traces.told, traces.ended) == ([], 1)


def test_what_else_is_told(traces: Traces) -> None:
    traces.next()
    watch = traces.begin()
    traces.told.clear()
    watch.hello(ClientHello(None, (b"h2", b"\xff\n"), direct=True))
    watch.commanded(StartServerTLS("example.com", direct=True))
    watch.commanded(Redirect("host\n.example", 5223, proved=True))
    watch.commanded(Report(Severity.WARNING, "odd", {"a": "b\u202e", "c": None}))
    watch.tls_failed(Side.SERVER, "bad\ncertificate")
    watch.unreachable("refused")
    watch.lost(Side.CLIENT, "reset")
    watch.commanded(Abort(Side.SERVER))
    watch.commanded(Finish(view(), "over"))
    watch.ended()
    assert traces.lines() == [
        ("client", "received", "ClientHello, no server name, ALPN h2, \\\\xff\\n"),
        ("server", "", "TLS begins, direct, for example.com"),
        ("server", "", "redirected to host\\n.example, port 5223"),
        ("", "", "log: odd a=b\\u202e"),
        ("server", "", "TLS failed: bad\\ncertificate"),
        ("server", "", "cannot be reached: refused"),
        ("client", "", "connection lost: reset"),
        ("server", "", "given up"),
        ("", "", "ended: over"),
        ("", "", "the session is over"),
    ]
    assert traces.ended == 1


# Which sessions


def test_only_what_was_asked_for_is_watched(traces: Traces) -> None:
    traces.next(listener="c2s", client=ip_network("2001:db8::/64"))
    assert traces.tracing.begun(view(listener="other")) is None
    assert traces.tracing.begun(view(client=SERVER)) is None
    traces.begin()
    assert traces.tracing.begun(view("a2")) is None


def test_as_many_as_were_asked_for(traces: Traces) -> None:
    traces.next(count=2)
    first, second = traces.begin("a1"), traces.begin("a2")
    assert traces.tracing.begun(view("a3")) is None
    first.ended()
    assert traces.ended == 0
    second.ended()
    assert traces.ended == 1
    assert {each.session for each in traces.told} == {"", "a1", "a2"}


def test_a_first_that_ends_early_leaves_the_others_to_come(traces: Traces) -> None:
    traces.next(count=2)
    traces.begin("a1").ended()
    assert traces.ended == 0
    traces.begin("a2").ended()
    assert traces.ended == 1


def test_two_may_watch_one_session(traces: Traces) -> None:
    stop = traces.next()
    other = Traces()
    other.tracing = traces.tracing
    other.next()
    watch = traces.begin()
    stop()
    traces.told.clear()
    other.told.clear()
    watch.received(Side.CLIENT, HEADER)
    assert traces.lines() == []
    assert other.lines() == [("client", "received", HEADER_SHOWN)]
    watch.ended()
    assert (traces.ended, other.ended) == (0, 1)


def follow(traces: Traces, *, negotiating: bool = True, kind: Kind = Kind.C2S) -> list[Watch]:
    attached: list[Watch] = []

    def attach(watch: Watch) -> bool:
        attached.append(watch)
        return negotiating

    traces.tracing.follow(view(kind=kind), attach, traces.told.append, traces.end)
    return attached


def test_a_session_that_is_there_is_followed_from_where_it_stands(traces: Traces) -> None:
    (watch,) = follow(traces)
    watch.received(Side.CLIENT, AUTH)
    watch.commanded(Send(Side.CLIENT, SUCCESS))
    watch.received(Side.CLIENT, HEADER)
    watch.received(Side.SERVER, HEADER)
    assert traces.lines() == [
        ("", "", "session on listener c2s, client [2001:db8::7]:40123"),
        ("client", "received", AUTH_SHOWN),
        ("client", "sent", SUCCESS_SHOWN),
        ("client", "received", HEADER_SHOWN),
        ("server", "received", HEADER_SHOWN),
    ]
    assert follow(traces) == []  # it has a watch already
    watch.ended()
    assert traces.ended == 2


def test_a_session_past_its_negotiation_is_not_followed(traces: Traces) -> None:
    with pytest.raises(NotControllableError, match="the negotiation of session a1 is over"):
        follow(traces, negotiating=False)
    assert follow(traces)


def test_nobody_left_to_tell_ends_the_watch(traces: Traces) -> None:
    stop = traces.next()
    watch = traces.begin()
    stop()
    assert watch._flows == {}
    watch.received(Side.CLIENT, HEADER)
    assert traces.ended == 0
    assert follow(traces)


# Bounds, faults, and what cannot be shown


def test_stanzas_end_a_trace_between_servers(traces: Traces) -> None:
    traces.next()
    watch = traces.begin(kind=Kind.S2S)
    header = HEADER.replace(b"jabber:client", b"jabber:server")
    watch.commanded(Send(Side.SERVER, header + b"<message><body>hush</body></message>"))
    assert traces.lines()[-1] == ("", "", "stanzas pass; no more is shown")
    assert traces.ended == 1


def test_a_client_that_speaks_too_early_is_shown_without_what_it_says(traces: Traces) -> None:
    traces.next()
    watch = traces.begin()
    watch.received(Side.CLIENT, HEADER + b"<message><body>hush</body></message>")
    told = '<message xmlns="jabber:client"><body>(masked)</body></message>'
    assert traces.lines()[-1] == ("client", "received", told)


def test_what_is_no_stream_is_not_shown(traces: Traces) -> None:
    traces.next()
    watch = traces.begin()
    watch.received(Side.CLIENT, b"GET /" + SECRET + b" HTTP/1.1\r\n")
    watch.received(Side.CLIENT, AUTH)
    told = "(nothing more of this stream can be shown: this is no XML stream)"
    assert traces.lines()[2:] == [("client", "received", told)]
    watch.secured(Side.CLIENT, TLS)
    watch.received(Side.CLIENT, HEADER)
    assert traces.lines()[-1] == ("client", "received", HEADER_SHOWN)


def test_a_trace_is_bounded(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_LINES", 10)
    traces.next()
    watch = traces.begin()
    watch.received(Side.CLIENT, HEADER + STARTTLS * 50)
    assert len(traces.told) == 13
    assert [each.last for each in traces.told] == [False] * 12 + [True]
    assert traces.told[-1].text == "this takes too long; no more is shown"
    assert traces.ended == 1


def test_a_fault_ends_the_trace_and_not_the_session(traces: Traces) -> None:
    def failing(traced: Traced) -> None:
        if traced.way:
            raise RuntimeError

    traces.tracing.await_next(Wanted(), failing, traces.end)
    watch = traces.begin()
    with capturedLogs() as logged:
        watch.received(Side.CLIENT, HEADER)
        watch.received(Side.CLIENT, STARTTLS)
    assert len(logged) == 1
    assert traces.ended == 1


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted({each % len(data) for each in places}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


WHOLE = HEADER + AUTH + SUCCESS + AUTH


@given(
    st.integers(0, len(WHOLE) - 1),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.booleans(),
)
def test_no_credential_however_bytes_come_or_where_the_trace_begins(
    start: int, places: list[int], begun: bool
) -> None:
    traces = Traces()
    if begun:
        traces.next()
        watch = traces.begin()
        start = 0
    else:
        (watch,) = follow(traces)
    for piece in cut(WHOLE[start:], places):
        watch.received(Side.CLIENT, piece)
        watch.commanded(Send(Side.SERVER, piece))
    said = "".join(each.text for each in traces.told)
    for length in range(8, len(SECRET) + 1):
        assert SECRET[-length:].decode() not in said
        assert SECRET[:length].decode() not in said
    if begun:
        assert ("client", "received", AUTH_SHOWN) in traces.lines()
