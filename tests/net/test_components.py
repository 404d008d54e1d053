"""Components (XEP-0114) on the wire: the daemon, direct TLS, and a server that speaks by rote."""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.net.client import HandTLS, lax_context, read_all
from tests.net.front import Front
from tests.net.legacy import Connection, LegacyServer
from tests.net.legacy import Script as LegacyScript
from tests.net.proxies import until
from tests.servers.program import HOST
from tests.servers.stream import SECONDS, STARTTLS, Stream, plaintext

DOMAIN, OTHER = "gateway.example.com", "chat.example.com"
SECRET = "as secret as a hash of it"
SERVER_HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' "
    b"xmlns='jabber:component:accept' from='gateway.example.com' id='3BF96D32'>"
)
MESSAGE = "<message from='a@gateway.example.com' to='b@example.com'><body>{}</body></message>"
NOT_AUTHORIZED = (
    b"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    b"</stream:stream>"
)
FOOTER = "</stream:stream>"


class ComponentFront(Front):
    """The daemon with one listener for components.

    Args:
        directory: its state.
        domains: the files of each component's domain.
        server: the port of the server of all of them.
    """

    def __init__(self, directory: Path, domains: dict[str, tuple[Path, Path]], server: int) -> None:
        super().__init__(directory, [], listeners={"components": "direct"})
        self._files = domains
        self._server = server

    def configuration(self) -> str:
        parts = ["[plugins.limits]\nconnections_per_address = 0\nhandshakes_per_minute = 0\n"]
        parts += [
            f'[[domain]]\nname = "{name}"\ncertificate = "{files[0]}"\n'
            f'private_key = "{files[1]}"\ncomponent_server = "{HOST}:{self._server}"\n'
            for name, files in self._files.items()
        ]
        parts.append(
            '[[listener]]\nname = "components"\ndirection = "reverse"\nstream = "component"\n'
            f'address = "{HOST}:{self.port}"\ntls = "direct"\n'
        )
        return "\n".join(parts)


@pytest.fixture(scope="module")
def _server() -> Iterator[LegacyServer]:
    with LegacyServer() as server:
        yield server


@pytest.fixture
def server(_server: LegacyServer) -> Iterator[LegacyServer]:
    """The server behind, as new for each test: it accepts every handshake."""
    _server.forget()
    _server.script = answering(b"<handshake/>")
    yield _server
    _server.forget()


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, _server: LegacyServer
) -> Iterator[ComponentFront]:
    files = {name: authority.issue(name) for name in (DOMAIN, OTHER)}
    with ComponentFront(tmp_path_factory.mktemp("components"), files, _server.port) as front:
        yield front
        assert front.alive()


def answering(said: bytes) -> LegacyScript:
    """What opens the stream, waits for a handshake and answers it."""

    def script(connection: Connection) -> None:
        connection.read_until(rb"<stream:stream [^>]*>")
        connection.send(SERVER_HEADER)
        connection.read_until(rb"</handshake>")
        connection.send(said)

    return script


def header(to: str = DOMAIN) -> str:
    """A component's header, which has no version."""
    return (
        "<stream:stream xmlns='jabber:component:accept' "
        f"xmlns:stream='http://etherx.jabber.org/streams' to='{to}'>"
    )


def handshake(stream_id: str = "3BF96D32") -> str:
    """What proves the secret."""
    return f"<handshake>{hashlib.sha1((stream_id + SECRET).encode()).hexdigest()}</handshake>"


@contextlib.contextmanager
def component(front: Front, authority: Authority, name: str | None = DOMAIN) -> Iterator[Stream]:
    """A component under TLS that has said nothing yet; None indicates no server name."""
    context = ssl.create_default_context(cafile=str(authority.ca_path))
    context.check_hostname = name is not None
    with plaintext(front.port, name or DOMAIN) as stream:
        stream.connection = context.wrap_socket(
            stream.connection, server_hostname=name, suppress_ragged_eofs=False
        )
        yield stream


def test_a_component_comes_up(
    front: ComponentFront, server: LegacyServer, authority: Authority
) -> None:
    """Every byte passes both ways, the stream's id among them, as does the end."""
    with component(front, authority) as stream:
        stream.send(header())
        assert stream.read_until("id='3BF96D32'>").encode() == SERVER_HEADER
        stream.send(handshake())
        stream.read_until("<handshake/>")
        behind = server.next()
        assert behind.got.decode() == header() + handshake()
        for number in range(20):
            said = MESSAGE.format(number)
            stream.send(said)
            assert behind.read(len(said)).decode() == said
            behind.send(said.encode())
            assert stream.read_until("</message>") == said
        stream.send(FOOTER)
        behind.read_until(rb"</stream:stream>")
        behind.send(FOOTER.encode())
        behind.close()
        assert stream.read_to_end() == FOOTER
    until(lambda: any(each.get("domain") == DOMAIN for each in front.summaries()))
    summary = next(each for each in front.summaries() if each.get("domain") == DOMAIN)
    assert (summary["listener"], summary["authenticated"]) == ("components", "yes")
    assert handshake() not in front.log()
    assert handshake()[11:-12] not in front.log()


def test_what_is_sent_ahead_waits_for_the_answer(
    front: ComponentFront, server: LegacyServer, authority: Authority
) -> None:
    ahead = "".join(map(MESSAGE.format, range(50)))
    held: list[bytes] = []

    def script(connection: Connection) -> None:
        connection.read_until(rb"<stream:stream [^>]*>")
        connection.send(SERVER_HEADER)
        connection.read_until(rb"</handshake>")
        connection.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            connection.read(1)
        held.append(connection.got)
        connection.socket.settimeout(SECONDS)
        connection.send(b"<handshake/>")

    server.script = script
    with component(front, authority) as stream:
        stream.send(header() + handshake() + ahead)
        stream.read_until("<handshake/>")
        behind = server.next()
        assert behind.read(len(ahead)).decode() == ahead
    assert held[0].decode() == header() + handshake()


def test_a_wrong_secret(front: ComponentFront, server: LegacyServer, authority: Authority) -> None:
    """The server's own words come back, and nothing that was sent ahead gets to it."""
    server.script = answering(NOT_AUTHORIZED)
    with component(front, authority) as stream:
        stream.send(header() + handshake("of another stream") + MESSAGE.format("x"))
        assert stream.read_to_end().encode() == SERVER_HEADER + NOT_AUTHORIZED
    assert server.next().read_to_end() == b""
    assert b"<message" not in server.heard


@pytest.mark.parametrize(
    "element", [MESSAGE.format("x"), "<iq type='get' id='a'/>", "<auth mechanism='PLAIN'/>"]
)
def test_a_stanza_before_the_handshake(
    front: ComponentFront, server: LegacyServer, authority: Authority, element: str
) -> None:
    with component(front, authority) as stream:
        stream.send(header() + element + handshake())
        told = stream.read_to_end()
    assert "<not-authorized" in told
    assert "the handshake must come first" in told
    assert told.endswith(FOOTER)
    assert all(b"<handshake" not in each.got for each in server.connections)
    assert element.encode() not in server.heard


@pytest.mark.parametrize("protocol", ["xmpp-client", "xmpp-server", "h2"])
def test_alpn_names_no_components(
    front: ComponentFront, server: LegacyServer, protocol: str
) -> None:
    context = lax_context()
    context.set_alpn_protocols([protocol])
    with (
        plaintext(front.port, DOMAIN) as stream,
        pytest.raises(ssl.SSLError, match="no application protocol"),
    ):
        context.wrap_socket(stream.connection, server_hostname=DOMAIN)
    assert server.connections == []


@pytest.mark.parametrize("said", [header(), header() + handshake(), STARTTLS])
def test_plaintext_is_refused(
    front: ComponentFront, server: LegacyServer, said: str | bytes
) -> None:
    """STARTTLS, too, of which streams of components know nothing."""
    with plaintext(front.port, DOMAIN) as stream:
        stream.send(said)
        told = read_all(stream.connection).decode()
    assert "<policy-violation" in told
    assert "TLS must begin with the first byte" in told
    assert "<starttls" not in told
    assert "<proceed" not in told
    assert server.connections == []


@pytest.mark.parametrize("name", [DOMAIN, None])
def test_starttls_under_tls_is_refused(
    front: ComponentFront, server: LegacyServer, authority: Authority, name: str | None
) -> None:
    with component(front, authority, name) as stream:
        stream.send(header())
        stream.read_until("id='3BF96D32'>")
        stream.send(STARTTLS)
        assert "<failure" in stream.read_to_end()
    assert b"starttls" not in server.heard


@pytest.mark.parametrize(
    ("names", "condition"),
    [
        ((DOMAIN, OTHER), "policy-violation"),
        ((OTHER, DOMAIN), "policy-violation"),
        ((None, "elsewhere.example"), "policy-violation"),
        ((DOMAIN, "no domain"), "host-unknown"),
    ],
)
def test_another_domain_than_that_of_tls(
    front: ComponentFront,
    server: LegacyServer,
    authority: Authority,
    names: tuple[str | None, str],
    condition: str,
) -> None:
    """What the certificate was shown for is what the stream must be to."""
    shown, to = names
    with component(front, authority, shown) as stream:
        stream.send(header(to) + handshake())
        assert f"<{condition}" in stream.read_to_end()
    assert server.connections == []


def test_sni_of_another_domain(front: ComponentFront, server: LegacyServer) -> None:
    """The certificate of a domain is shown to those who ask for it, and to nobody else."""
    with (
        plaintext(front.port, DOMAIN) as stream,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        lax_context().wrap_socket(stream.connection, server_hostname="example.com")
    assert server.connections == []


def test_each_byte_by_itself(
    front: ComponentFront, server: LegacyServer, authority: Authority
) -> None:
    with component(front, authority, OTHER) as stream:
        for byte in (header(OTHER) + handshake() + MESSAGE.format("x")).encode():
            stream.send(bytes((byte,)))
        stream.read_until("<handshake/>")
        assert server.next().read_until(rb"</message>").decode() == MESSAGE.format("x")


def test_a_server_that_is_down(tmp_path: Path, authority: Authority) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and does not listen
        files = {DOMAIN: authority.issue(DOMAIN)}
        with (
            ComponentFront(tmp_path, files, taken.getsockname()[1]) as front,
            component(front, authority) as stream,
        ):
            stream.send(header())
            assert "<remote-connection-failed" in stream.read_to_end()


def test_hello_in_pieces(front: ComponentFront, server: LegacyServer) -> None:
    hand = HandTLS(lax_context(), DOMAIN)
    hello = hand.hello()
    with plaintext(front.port, DOMAIN) as stream:
        for start in range(0, len(hello), 50):
            stream.connection.sendall(hello[start : start + 50])
        hand.finish(stream.connection)
        hand.send(stream.connection, header())
        assert SERVER_HEADER in hand.read_until(stream.connection, b"id='3BF96D32'>")
        hand.send(stream.connection, handshake())
        hand.read_until(stream.connection, b"<handshake/>")
    assert server.next().got.decode() == header() + handshake()
