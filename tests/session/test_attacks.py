"""Known attacks on STARTTLS and on proxies, as far as the negotiation must hold against them.

The number in a test's name is the attack's, the same in all tests of this project. Most run with
the core alone and with the plugins of the default chain: the core holds without any plugin.
"""

from collections.abc import Callable, Iterable, Iterator

import pytest

from proxy.session.commands import (
    Alert,
    AwaitTLS,
    Command,
    Connect,
    Send,
    StartTLS,
)
from proxy.session.hooks import ClientHello, Condition, Plugin, TLSRule
from proxy.session.ids import StreamIds
from proxy.session.session import Session
from proxy.xmpp.errors import FOOTER, PROCEED, STARTTLS_FAILURE
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    CLIENT,
    CLIENT_HELLO,
    CONNECTING,
    DOMAIN,
    MECHANISMS,
    MESSAGE,
    OTHER_DOMAIN,
    SERVER,
    STARTTLS,
    Playbook,
    answer,
    client_hello,
    facts,
    finished,
    header,
    new_session,
    own,
    refused,
)
from tests.session.sessions import (
    chains,
    ends_with_error,
    is_over,
    opened,
    to_client,
    to_server,
)


def fed(session: Session, pieces: Iterable[bytes]) -> list[Command]:
    """Feed a client's plaintext, as a leg does: none is read any more when TLS is awaited."""
    out = session.connected()
    for piece in pieces:
        commands = session.received(CLIENT, piece)
        out += commands
        if any(isinstance(command, AwaitTLS) for command in commands):
            # What comes now is read as TLS, and this is none.
            out += session.tls_failed("not a TLS record")
    return out


def torn(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[place : place + 1] for place in range(len(data))]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]


INJECTED = [AUTH, MESSAGE, header() + AUTH, FOOTER, b"x", b"\x17\x03\x03\x00\x01x"]


@chains
@pytest.mark.parametrize("injected", INJECTED)
def test_attack_01_injection_in_one_segment(
    play: Play, plugins: Callable[[], list[Plugin]], injected: bytes
) -> None:
    book = play(plugins=plugins()).to_offer().client(STARTTLS + injected)
    book.then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished("starttls", close=[CLIENT, SERVER])
    )


@chains
@pytest.mark.parametrize("injected", INJECTED)
def test_attack_01_injection_split_at_every_byte(
    plugins: Callable[[], list[Plugin]], injected: bytes
) -> None:
    data = header() + STARTTLS + injected
    end = len(data) - len(injected)
    for pieces in torn(data):
        out = fed(new_session(plugins=plugins()), pieces)
        assert to_server(out) == b""
        assert not any(isinstance(command, Connect | StartTLS) for command in out)
        assert is_over(out)
        # With something behind <starttls/> in its segment there is no <proceed/>.
        starts = [sum(map(len, pieces[:count])) for count in range(len(pieces))]
        assert (PROCEED in to_client(out)) == (end in starts)


def test_attack_01_injection_while_tls_is_awaited_has_no_effect(play: Play) -> None:
    book = play().to_hello().client(header() + AUTH).then()
    book.hello().then(StartTLS(DOMAIN))
    book.client(header() + AUTH).then()
    book.session.secured(facts())
    book.client(header()).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, header()))


@chains
def test_attack_05_desync_the_plaintext_stream_has_no_effect(
    plugins: Callable[[], list[Plugin]],
) -> None:
    """Opossum: plaintext that a man in the middle prefixes to a client's direct TLS."""
    seen = []
    for prefix in (b"", b" from='mallory@example.com' xml:lang='xx' xmlns:evil='urn:evil'"):
        session = new_session(plugins=plugins())
        out = session.connected()
        opening = header(more=prefix.decode())
        out += session.received(CLIENT, opening + AUTH * bool(plugins()) + STARTTLS)
        out += session.hello(client_hello(protocols=(b"xmpp-client",)))
        out += session.secured(facts())
        start = len(out)
        out += session.received(CLIENT, header())
        out += session.server_connected()
        out += session.received(SERVER, answer() + MECHANISMS)
        out += session.received(CLIENT, AUTH)
        seen.append(out[start:])
        assert to_server(out) == header() + AUTH
    assert seen[0] == seen[1]


def test_attack_05_desync_a_partial_plaintext_stream_is_no_part_of_the_stream_under_tls() -> None:
    session = new_session(TLSRule.REPORT)
    session.connected()
    session.received(CLIENT, header(more=" xmlns:evil='urn:evil'"))
    session.server_connected()
    session.received(SERVER, answer() + MECHANISMS)
    session.received(CLIENT, STARTTLS)
    session.hello(client_hello())
    session.secured(facts())
    out = session.received(CLIENT, header())
    out += session.server_connected()
    out += session.received(SERVER, answer() + MECHANISMS)
    assert to_server(out) == header()
    out = session.received(CLIENT, b"<evil:x/>")  # a prefix that only plaintext declared
    assert is_over(out)
    assert b"not-well-formed" in to_client(out)


@pytest.mark.parametrize(
    ("hello", "description"),
    [
        (client_hello(protocols=(b"h2",)), 120),
        (client_hello(protocols=(b"http/1.1", b"h2")), 120),
        (client_hello(protocols=(b"xmpp-server",)), 120),
        (client_hello(protocols=(b"",)), 120),
        (client_hello("mail.example.com"), 112),
        (client_hello("example.net"), 112),
        (client_hello(OTHER_DOMAIN), 112),  # ours, but not what the stream is to
        (client_hello("mail.example.com", (b"h2",)), 120),
    ],
)
def test_attack_06_alpaca_another_protocol_or_service_gets_a_fatal_alert(
    play: Play, hello: ClientHello, description: int
) -> None:
    book = play().to_hello().hello(hello)
    book.then(Alert(description), *finished("TLS refused", close=[SERVER]))


@pytest.mark.parametrize(
    ("hello", "description"),
    [
        (client_hello(protocols=(b"h2",), direct=True), 120),
        (client_hello("mail.example.com", direct=True), 112),
    ],
)
def test_attack_06_alpaca_on_direct_tls(play: Play, hello: ClientHello, description: int) -> None:
    book = play(TLSRule.DIRECT)
    book.session.connected()
    book.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
    book.hello(hello).then(Alert(description), *finished("TLS refused", close=[SERVER]))


@pytest.mark.parametrize("protocols", [(), (b"xmpp-client",), (b"h2", b"xmpp-client")])
def test_attack_06_our_own_protocol_or_none_is_fine(
    play: Play, protocols: tuple[bytes, ...]
) -> None:
    play().to_hello().hello(client_hello(protocols=protocols)).then(StartTLS(DOMAIN))


HTTP = b"POST / HTTP/1.1\r\nHost: example.com\r\n\r\n" + header() + AUTH


@chains
def test_attack_06_http_under_tls_is_not_reflected(
    play: Play, plugins: Callable[[], list[Plugin]]
) -> None:
    book = play(plugins=plugins()).to_secured().client(HTTP)
    book.then(*refused(Condition.NOT_WELL_FORMED, before=own(2)))
    assert b"POST" not in to_client(book.commands)
    assert to_server(book.commands) == b""


@pytest.mark.parametrize("to", [OTHER_DOMAIN, "example.net", None])
def test_attack_07_another_domain_after_authentication(play: Play, to: str | None) -> None:
    book = play().to_success().client(header(to))
    book.then(*refused(Condition.NOT_AUTHORIZED, "authenticated", before=own(2)))


@pytest.mark.parametrize("to", [OTHER_DOMAIN, "example.net", None])
def test_attack_07_another_domain_after_starttls(play: Play, to: str | None) -> None:
    book = play().to_secured().client(header(to))
    book.then(*refused(Condition.POLICY_VIOLATION, "for which TLS was set up", before=own(2)))


@pytest.mark.parametrize("to", [OTHER_DOMAIN, "example.net", None])
def test_attack_07_another_domain_than_direct_tls_showed(play: Play, to: str | None) -> None:
    book = play().to_direct_secured().client(header(to))
    book.then(*refused(Condition.POLICY_VIOLATION, "for which TLS was set up", before=own()))


def test_attack_07_the_same_domain_written_otherwise_is_the_same(play: Play) -> None:
    opening = header("EXAMPLE.COM")
    book = play().to_success().client(opening)
    assert to_server(book.commands).endswith(opening)
    book.then(*book.commands[-3:])


FROM_SERVERS = [
    b"<db:result xmlns:db='jabber:server:dialback' from='example.com' to='example.com'/>",
    b"<db:verify xmlns:db='jabber:server:dialback' from='a.example' to='example.com' id='1'/>",
    b"<handshake xmlns='jabber:component:accept'>00</handshake>",
    b"<handshake>00</handshake>",
    b"<message xmlns='jabber:server' from='admin@example.com' to='bob@example.com'/>",
    b"<bidi xmlns='urn:xmpp:bidi'/>",
]


@chains
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("content", ["jabber:server", "jabber:component:accept", ""])
def test_attack_17_a_stream_of_servers_or_components_reaches_no_server(
    plugins: Callable[[], list[Plugin]], secured: bool, content: str
) -> None:
    session = new_session(plugins=plugins())
    session.connected()
    out: list[Command] = []
    if secured:
        session.received(CLIENT, header() + STARTTLS)
        session.hello(client_hello())
        session.secured(facts())
    opening = header(content=content, more=" xmlns:db='jabber:server:dialback'")
    out += session.received(CLIENT, opening + FROM_SERVERS[0])
    assert ends_with_error(out, Condition.INVALID_NAMESPACE)
    assert not any(isinstance(command, Connect) for command in out)


@chains
@pytest.mark.parametrize("said", FROM_SERVERS)
def test_attack_17_what_servers_say_in_a_stream_of_clients_reaches_no_server(
    plugins: Callable[[], list[Plugin]], said: bytes
) -> None:
    session = new_session(plugins=plugins())
    session.connected()
    assert ends_with_error(session.received(CLIENT, header() + said), Condition.POLICY_VIOLATION)
    out = opened(plugins).received(CLIENT, said)
    assert is_over(out)
    assert to_server(out) == b""


def test_attack_22_loop_the_proxys_own_id_comes_back(play: Play) -> None:
    book = play().to_connecting().server_connected().then(Send(SERVER, header()))
    book.server(own(1)).then(
        *refused(
            Condition.REMOTE_CONNECTION_FAILED, "the proxy is connected to itself", before=own(2)
        )
    )


def test_attack_22_loop_an_id_like_ours_from_another_is_fine(play: Play) -> None:
    book: Playbook = play().to_connecting()
    book.server_connected().then(Send(SERVER, header()))
    book.server(answer("0" * 48))
    assert to_client(book.commands).endswith(answer("0" * 48))
    book.then(*book.commands[-3:])


@chains
def test_attack_22_loop_two_sessions_of_one_proxy_find_each_other_out(
    plugins: Callable[[], list[Plugin]],
) -> None:
    """A session whose server is the proxy's own listener, with ids as they really are."""
    ids = StreamIds()
    outer, inner = (new_session(plugins=plugins(), ids=ids) for _ in range(2))
    outer.connected()
    outer.received(CLIENT, CLIENT_HELLO)
    outer.hello(client_hello(direct=True))
    outer.secured(facts(direct=True))
    outer.received(CLIENT, header())
    inner.connected()
    said = to_client(inner.received(CLIENT, to_server(outer.server_connected())))
    out = outer.received(SERVER, said)
    assert ends_with_error(out, Condition.REMOTE_CONNECTION_FAILED)
    assert b"connected to itself" in to_client(out)
