"""Streams of components (XEP-0114): a handshake, then stanzas; direct TLS before both."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from proxy.session.chain import Chain
from proxy.session.commands import (
    Alert,
    Arm,
    AwaitTLS,
    Deadline,
    Disarm,
    Hold,
    Join,
    Resume,
    Send,
)
from proxy.session.components import ComponentPassage
from proxy.session.hooks import (
    Address,
    Condition,
    Continue,
    Direction,
    Element,
    Plugin,
    Stanzas,
    TLSRule,
    Verdict,
    View,
)
from proxy.session.kinds import Kind
from proxy.session.receiving import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from proxy.xmpp.headers import response
from proxy.xmpp.meter import Meter
from tests.session.playbook import (
    AUTH,
    CLIENT,
    CLIENT_HELLO,
    CONNECTING,
    DOMAIN,
    OTHER_DOMAIN,
    SERVER,
    STARTTLS,
    CountedIds,
    Playbook,
    TwoDomains,
    all_plugins,
    client_hello,
    finished,
    header,
    refused,
)
from tests.session.sessions import PLUGINS, to_server

OPENING = header(version=None, content=ns.COMPONENT)
ANSWER = (
    f"<stream:stream xmlns='{ns.COMPONENT}' xmlns:stream='{ns.STREAMS}' id='of the server' "
    f"from='{DOMAIN}'>"
).encode()
HANDSHAKE = b"<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>"
ACCEPTED = b"<handshake/>"
STANZA = b"<message from='x@example.com' to='bob@example.net'><body>hello</body></message>"
REFUSAL = (
    f"<stream:error><not-authorized xmlns='{ns.STREAM_ERRORS}'/></stream:error></stream:stream>"
).encode()
BEFORE = (
    STANZA,
    b"<iq type='get' id='a'><ping xmlns='urn:xmpp:ping'/></iq>",
    AUTH,
    b"<handshake xmlns='jabber:client'>x</handshake>",
    b"<route/>",
    f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>".encode(),
)


class _Metered:
    """Equals every meter."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Meter)

    __hash__ = None  # type: ignore[assignment]


METERED: Any = _Metered()


class Watching(Plugin):
    """Wants to see stanzas, and remembers the elements that it has seen."""

    name = "watching"
    stanzas = tuple(map(Stanzas, Direction))

    def __init__(self) -> None:
        self.seen: list[tuple[Direction, str]] = []

    def on_stanza(self, _view: View, direction: Direction, element: Element) -> Verdict:
        self.seen.append((direction, element.name))
        return Continue()


def own(number: int = 1, sender: str = DOMAIN, *, version: bool = False) -> bytes:
    """The header of the proxy's own stream with this number."""
    stream_id = f"own-{number}"
    return response(stream_id=stream_id, sender=sender, version=version, content=ns.COMPONENT)


class ComponentPlaybook(Playbook):
    """A playbook of a session of a component."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        super().__init__()
        self.session = Session(
            session_id="session",
            listener="components",
            kind=Kind.COMPONENT,
            rule=TLSRule.DIRECT,
            client=Address("192.0.2.1", 5000),
            domains=TwoDomains(),
            chain=Chain(plugins),
            ids=CountedIds(),
            passage=ComponentPassage,
        )

    def to_streams(self) -> "ComponentPlaybook":
        """Both streams open, the component having the server's own header."""
        self.to_direct_secured().client(OPENING).then(*CONNECTING)
        self.server_connected().then(Send(SERVER, OPENING))
        self.server(ANSWER).then(Disarm(Deadline.CONNECT), Send(CLIENT, ANSWER), Resume())
        return self


def is_authenticated(book: Playbook) -> bool:
    return book.session.view.authenticated


Play = Callable[..., ComponentPlaybook]


@pytest.fixture
def play() -> Iterator[Play]:
    """Makes playbooks; at the test's end nothing may have come out that was not asked for."""
    books: list[ComponentPlaybook] = []

    def make(plugins: Iterable[Plugin] = ()) -> ComponentPlaybook:
        books.append(ComponentPlaybook(plugins))
        return books[-1]

    yield make
    for book in books:
        book.done()


def test_a_component_comes_up(play: Play) -> None:
    """Headers, the server's id with them, and handshake and answer pass as they are."""
    book = play().to_streams().client(HANDSHAKE)
    book.then(Send(SERVER, HANDSHAKE), Hold())
    assert not is_authenticated(book)
    book.server(ACCEPTED).then(
        Send(CLIENT, ACCEPTED), Disarm(Deadline.AUTHENTICATION), Resume(), Join(b"", b"", None)
    )
    assert is_authenticated(book)
    assert book.session.view.kind is Kind.COMPONENT


def test_what_follows_the_handshake_waits_for_its_answer(play: Play) -> None:
    book = play().to_streams().client(HANDSHAKE + STANZA + b" " + STANZA[:20])
    book.then(Send(SERVER, HANDSHAKE), Hold())
    book.server(ACCEPTED + STANZA).then(
        Send(CLIENT, ACCEPTED),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Join(STANZA + b" " + STANZA[:20], STANZA, None),
    )


def test_what_follows_a_handshake_that_is_refused_never_passes(play: Play) -> None:
    book = play().to_streams().client(HANDSHAKE + STANZA).then(Send(SERVER, HANDSHAKE), Hold())
    error = REFUSAL.removesuffix(FOOTER)
    book.server(REFUSAL).then(
        Send(CLIENT, error),
        Send(CLIENT, FOOTER),
        *finished("not-authorized", close=[CLIENT, SERVER]),
    )
    assert to_server(book.commands) == OPENING + HANDSHAKE
    assert not is_authenticated(book)


def test_all_at_once(play: Play) -> None:
    """A component that waits for nothing: each part is taken in its turn."""
    book = play().to_direct_secured().client(OPENING + HANDSHAKE + STANZA).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, OPENING))
    book.server(ANSWER).then(
        Disarm(Deadline.CONNECT), Send(CLIENT, ANSWER), Resume(), Send(SERVER, HANDSHAKE), Hold()
    )
    book.server(ACCEPTED).ending(Resume(), Join(STANZA, b"", None))


@pytest.mark.parametrize("plugins", PLUGINS, ids=["core alone", "default chain"])
@pytest.mark.parametrize("element", BEFORE)
def test_nothing_passes_before_the_handshake(
    play: Play, plugins: Callable[[], list[Plugin]], element: bytes
) -> None:
    book = play(plugins()).to_streams().client(element)
    book.then(*refused(Condition.NOT_AUTHORIZED, "handshake must come first"))
    assert to_server(book.commands) == OPENING


def test_an_answer_that_nobody_asked_for_authenticates_nobody(play: Play) -> None:
    book = play().to_streams().server(ACCEPTED).then(Send(CLIENT, ACCEPTED))
    assert not is_authenticated(book)
    book.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


@pytest.mark.parametrize(
    "answer", [STANZA, b"<handshake xmlns='jabber:client'/>", b"<success/>", b" "]
)
def test_something_else_is_no_answer(play: Play, answer: bytes) -> None:
    book = play().to_streams().client(HANDSHAKE + STANZA).then(Send(SERVER, HANDSHAKE), Hold())
    book.server(answer).then(Send(CLIENT, answer))
    assert not is_authenticated(book)
    assert STANZA not in to_server(book.commands)


def test_a_component_may_end_its_stream_before_the_handshake(play: Play) -> None:
    book = play().to_streams().client(FOOTER)
    book.then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.server(FOOTER).then(Send(CLIENT, FOOTER), *finished(close=[CLIENT, SERVER]))


def test_a_stream_error_of_the_components_reaches_the_server(play: Play) -> None:
    error = REFUSAL.removesuffix(FOOTER)
    play().to_streams().client(error).then(Send(SERVER, error))


def test_starttls_is_not_on_offer(play: Play) -> None:
    """Neither by the proxy, nor by a server that has features, which XEP-0114 knows none of."""
    offer = f"<stream:features>{STARTTLS.decode()}<x/></stream:features>".encode()
    book = play().to_streams().server(offer)
    book.then(Send(CLIENT, b"<stream:features><x/></stream:features>"))
    book.client(STARTTLS).ending(*finished("not on offer", close=[CLIENT, SERVER]))
    assert STARTTLS not in to_server(book.commands)


# Before there is a stream


@pytest.mark.parametrize("data", [OPENING, OPENING + HANDSHAKE, STARTTLS, b"\x00", b" "])
def test_plaintext_is_refused(play: Play, data: bytes) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(data).then(
        *refused(
            Condition.POLICY_VIOLATION,
            "TLS must begin with the first byte",
            before=own(sender="", version=True),
        )
    )
    assert to_server(book.commands) == b""


@pytest.mark.parametrize("protocols", [(b"xmpp-client",), (b"xmpp-server", b"h2")])
def test_alpn_has_no_name_for_components(play: Play, protocols: tuple[bytes, ...]) -> None:
    """A client of another protocol has come to the wrong port (RFC 7301, section 3.2)."""
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
    book.hello(client_hello(DOMAIN, protocols, direct=True))
    book.then(Alert(NO_APPLICATION_PROTOCOL), *finished("ALPN", close=[SERVER]))


def test_sni_of_another_domain(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
    book.hello(client_hello("elsewhere.example", direct=True))
    book.then(Alert(UNRECOGNIZED_NAME), *finished("another domain", close=[SERVER]))


def test_a_domain_that_is_not_served(play: Play) -> None:
    """Without SNI the first domain's certificate was shown, and binds the stream to it."""
    elsewhere = header("elsewhere.example", None, content=ns.COMPONENT)
    book = play().to_direct_secured().client(elsewhere)
    book.then(*refused(Condition.POLICY_VIOLATION, f"must be to {DOMAIN}", before=own()))
    book = play().to_direct_secured().client(header(OTHER_DOMAIN, None, content=ns.COMPONENT))
    book.then(*refused(Condition.POLICY_VIOLATION, f"must be to {DOMAIN}", before=own()))


@pytest.mark.parametrize("content", [ns.CLIENT, ns.SERVER, "jabber:component:connect"])
def test_streams_of_other_kinds(play: Play, content: str) -> None:
    book = play().to_direct_secured().client(header(version=None, content=content))
    book.then(*refused(Condition.INVALID_NAMESPACE, ns.COMPONENT, before=own(version=True)))


def test_a_server_that_speaks_to_clients(play: Play) -> None:
    book = play().to_direct_secured().client(OPENING).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, OPENING))
    book.server(ANSWER.replace(ns.COMPONENT.encode(), ns.CLIENT.encode())).then(
        *refused(
            Condition.REMOTE_CONNECTION_FAILED, "does not speak XMPP for components", before=own()
        )
    )


def test_a_component_that_takes_too_long(play: Play) -> None:
    book = play().to_streams().expired(Deadline.AUTHENTICATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT))


# Plugins


def test_a_plugin_sees_what_follows_the_handshake(play: Play) -> None:
    watching = Watching()
    book = play([watching]).to_streams().client(HANDSHAKE + STANZA)
    book.then(Send(SERVER, HANDSHAKE), Hold())
    assert not watching.seen
    book.server(ACCEPTED).then(
        Send(CLIENT, ACCEPTED),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Send(SERVER, STANZA),
    )
    message = ns.qualified(ns.COMPONENT, "message")
    assert watching.seen == [(Direction.TO_SERVER, message)]
    book.server(STANZA).then(Send(CLIENT, STANZA))
    assert watching.seen[1:] == [(Direction.TO_CLIENT, message)]


def test_with_the_default_chain(play: Play) -> None:
    """Stanzas are measured, and there are no features to which limits could be added."""
    book = play(all_plugins()).to_streams().client(HANDSHAKE).then(Send(SERVER, HANDSHAKE), Hold())
    book.server(ACCEPTED).then(
        Send(CLIENT, ACCEPTED), Disarm(Deadline.AUTHENTICATION), Resume(), Join(b"", b"", METERED)
    )


def test_endless_handshakes_are_too_many(play: Play) -> None:
    book = play(all_plugins()).to_streams()
    book.client(b"<handshake>" + b"a" * 70_000)
    book.then(*refused(Condition.POLICY_VIOLATION))
