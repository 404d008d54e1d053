"""The demo's client against servers that do not deserve its password."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proxy.daemon.demo import authority
from proxy.daemon.demo.authority import Files
from proxy.daemon.demo.client import Client, ClientError, Secured

HEADER = (
    b"<?xml version='1.0'?><stream:stream id='1' from='localhost' version='1.0'"
    b" xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
STARTTLS = b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
MECHANISMS = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)


class ScriptedServer:
    """Serves one connection with ``script``; keeps everything it is told."""

    def __init__(self, script: Callable[["ScriptedServer", socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self._script = script
        self.address: tuple[str, int] = self._listening.getsockname()
        self.heard = b""
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def hear(self, connection: socket.socket, end: bytes) -> None:
        heard = b""
        while end not in heard:
            data = connection.recv(65_536)
            if not data:
                raise ConnectionError
            heard += data
            self.heard += data

    def _serve(self) -> None:
        with self._listening:
            connection, _ = self._listening.accept()
        connection.settimeout(20)
        try:
            self._script(self, connection)
            self.hear(connection, b"</stream:stream>")
        except OSError:
            pass  # the client has gone, as it should
        finally:
            connection.close()


@contextmanager
def scripted(script: Callable[[ScriptedServer, socket.socket], None]) -> Iterator[ScriptedServer]:
    server = ScriptedServer(script)
    try:
        yield server
    finally:
        server.thread.join(30)
        assert not server.thread.is_alive()


def starting_tls(files: Files) -> Callable[[ScriptedServer, socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        server.hear(connection, b"streams'>")
        connection.sendall(HEADER + STARTTLS)
        server.hear(connection, b"<starttls")
        connection.sendall(PROCEED)
        with context.wrap_socket(connection, server_side=True) as tls:
            server.hear(tls, b"streams'>")
            tls.sendall(HEADER + MECHANISMS)
            server.hear(tls, b"</auth>")

    return script


def log_in(server: ScriptedServer, trusted: Path | None) -> None:
    with closing(
        Client(server.address, "localhost", authority=trusted, secured=SEEN.append)
    ) as client:
        client.log_in("juliet", "secret", "demo")


SEEN: list[Secured] = []


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    return one, other


def test_the_password_goes_to_who_proves_the_domain(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "localhost")
    SEEN.clear()
    with scripted(starting_tls(files)) as server, pytest.raises(ClientError):
        log_in(server, files.authority)  # the server ends after <auth/>
    assert b"</auth>" in server.heard
    assert [(what.version, what.subject) for what in SEEN] == [("TLSv1.3", "CN=localhost")]


def test_another_authority_is_refused(directories: tuple[Path, Path]) -> None:
    files, others = (authority.write(directory, "localhost") for directory in directories)
    with scripted(starting_tls(files)) as server, pytest.raises(ClientError, match="certificate"):
        log_in(server, others.authority)
    assert b"<auth" not in server.heard


def test_another_domain_is_refused(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "else.example")
    with (
        scripted(starting_tls(files)) as server,
        pytest.raises(ClientError, match="does not prove localhost"),
    ):
        log_in(server, files.authority)
    assert b"<auth" not in server.heard


def test_no_starttls_no_password(tmp_path: Path) -> None:
    def script(server: ScriptedServer, connection: socket.socket) -> None:
        server.hear(connection, b"streams'>")
        connection.sendall(HEADER + MECHANISMS)

    files = authority.write(tmp_path, "localhost")
    with scripted(script) as server, pytest.raises(ClientError, match="does not offer STARTTLS"):
        log_in(server, files.authority)
    assert b"<auth" not in server.heard


def test_plaintext_after_proceed_is_no_tls(tmp_path: Path) -> None:
    def script(server: ScriptedServer, connection: socket.socket) -> None:
        server.hear(connection, b"streams'>")
        connection.sendall(HEADER + STARTTLS)
        server.hear(connection, b"<starttls")
        connection.sendall(PROCEED + HEADER + MECHANISMS)

    files = authority.write(tmp_path, "localhost")
    with scripted(script) as server, pytest.raises(ClientError, match="the connection failed"):
        log_in(server, files.authority)
    assert b"<auth" not in server.heard


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "closed the connection"),
        (HEADER + b"</stream:stream>", "ended the stream"),
        (HEADER + b"<a></b>", "breaks the rules"),
        (HEADER + b"<message><body/></message>", "received <message/> with body"),
    ],
)
def test_a_server_that_makes_no_sense_is_told_apart(answer: bytes, text: str) -> None:
    def script(server: ScriptedServer, connection: socket.socket) -> None:
        server.hear(connection, b"streams'>")
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    with scripted(script) as server, pytest.raises(ClientError, match=text):
        log_in(server, None)
