"""Asking legacy servers, on a real reactor."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy.daemon.metrics import legacy
from proxy.daemon.metrics.legacy import LOCAL, Outcome, probe
from proxy.net.proxy_protocol import Header, Versions
from proxy.net.proxy_protocol import read as read_proxy_header
from proxy.session.kinds import Kind
from proxy.xmpp.headers import StreamHeader, read_answer
from tests.net.conftest import Turning
from tests.net.legacy import HEADER, MECHANISMS
from tests.servers.program import HOST, free_port

FOOTER = b"</stream:stream>"
OTHERWISE = "does not speak XMPP for clients: "
ERROR = b"<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"


class Server:
    """Takes one connection, says its words once a header has come, and writes down what comes."""

    def __init__(self, words: bytes, *, closes: bool = False) -> None:
        self.got = b""
        self._words = words
        self._closes = closes
        self.listening = socket.create_server((HOST, 0))
        self.port: int = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self.listening.accept()
        with connection:
            connection.settimeout(10)
            while b"<stream:stream" not in self.got or not self.got.endswith(b">"):
                self.got += connection.recv(4096)
            connection.sendall(self._words)
            if self._closes:
                return
            while data := self._read(connection):
                self.got += data
                if self.got.endswith(FOOTER):
                    connection.sendall(FOOTER)

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


@contextmanager
def serving(words: bytes, *, closes: bool = False) -> Iterator[Server]:
    server = Server(words, closes=closes)
    server.thread.start()
    yield server
    server.thread.join(10)
    server.listening.close()
    assert not server.thread.is_alive()


Ask = Callable[..., Outcome]


@pytest.fixture
def ask(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask a server that gets as long as it takes, or until something is so: the time is over then.

    A test that waits for the time itself would fail by its own.
    """
    monkeypatch.setattr(legacy, "SECONDS", 600.0)

    def asked(
        port: int,
        kind: Kind = Kind.C2S,
        *,
        host: str = HOST,
        tells: bool = False,
        over: Callable[[], object] | None = None,
    ) -> Outcome:
        found: list[Outcome] = []
        probe(turning.reactor, host, port, "example.com", kind, tells=tells).addCallback(
            found.append
        )
        if over is not None:
            turning.until(over)
            assert found == []
            (late,) = turning.reactor.getDelayedCalls()
            late.reset(0)
        turning.until(lambda: found)
        turning.turn(2)
        assert not turning.reactor.getDelayedCalls()
        return found[0]

    return asked


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_a_server_that_answers_is_left_politely(ask: Ask, host: str) -> None:
    with serving(HEADER + MECHANISMS) as server:
        outcome = ask(server.port, host=host)
    assert outcome.problem == ""
    assert outcome.seconds is not None
    assert outcome.seconds > 0
    assert (outcome.reached, outcome.version, outcome.features) == (True, "1.0", True)
    assert b"to='example.com'" in server.got or b'to="example.com"' in server.got
    assert server.got.startswith(b"<?xml version='1.0'?><stream:stream ")
    assert server.got.endswith(FOOTER)
    assert server.got.count(b"<") == 3


def test_a_server_from_before_features_answers_with_a_header(ask: Ask) -> None:
    with serving(HEADER.replace(b" version='1.0'>", b">")) as server:
        outcome = ask(server.port)
    assert outcome.problem == ""
    assert (outcome.reached, outcome.version, outcome.features) == (True, "0.9", False)


def test_a_component_gets_a_header_and_is_asked_no_more(ask: Ask) -> None:
    header = HEADER.replace(b"jabber:client", b"jabber:component:accept")
    with serving(header) as server:
        assert ask(server.port, Kind.COMPONENT).problem == ""
    assert b"xmlns='jabber:component:accept'" in server.got


def test_a_server_that_expects_a_proxy_header_gets_one_for_no_client(ask: Ask) -> None:
    with serving(HEADER + MECHANISMS) as server:
        assert ask(server.port, tells=True).problem == ""
    assert server.got.startswith(LOCAL)
    assert read_proxy_header(server.got, Versions.V2) == Header(len(LOCAL))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (HEADER + ERROR % b"host-unknown" + FOOTER, "refuses the stream: host-unknown"),
        (HEADER + FOOTER, "closed the stream at once"),
        (
            HEADER.replace(b"jabber:client", b"jabber:server"),
            f"{OTHERWISE}invalid-namespace: the default namespace must be jabber:client",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            f"{OTHERWISE}not-well-formed: this is no XML stream",
        ),
    ],
)
def test_what_a_server_says_instead_is_told(ask: Ask, words: bytes, problem: str) -> None:
    with serving(words) as server:
        assert ask(server.port).problem == problem


def test_a_server_for_servers_may_want_to_know_who_asks(ask: Ask) -> None:
    header = HEADER.replace(b"jabber:client' ", b"jabber:server' to='' ")
    with serving(header + ERROR % b"improper-addressing" + FOOTER) as server:
        assert ask(server.port, Kind.S2S).problem == ""
    with serving(HEADER + ERROR % b"improper-addressing" + FOOTER) as server:
        assert ask(server.port).problem == "refuses the stream: improper-addressing"


def test_a_server_that_hangs_up(ask: Ask) -> None:
    with serving(b"", closes=True) as server:
        assert ask(server.port) == Outcome("closed the connection without an answer", reached=True)
    with serving(HEADER, closes=True) as server:
        assert ask(server.port).problem == "closed the connection behind its header"


def test_a_server_that_is_not_there(ask: Ask) -> None:
    assert ask(free_port()) == Outcome("cannot be reached: Connection refused")


def test_a_server_that_says_nothing(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(b"") as server:
        outcome = ask(server.port, over=lambda: server.got)
        assert outcome == Outcome("did not answer within 600 s", reached=True)
    read: list[object] = []

    def noted(header: Any, content: str) -> StreamHeader:
        read.append(header)
        return read_answer(header, content)

    monkeypatch.setattr(legacy, "read_answer", noted)
    with serving(HEADER) as server:
        outcome = ask(server.port, over=lambda: read)
        assert outcome.problem == "sent a stream header and nothing more"


def test_a_server_that_does_not_end_its_stream_is_not_waited_for(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "LINGER", 0.2)
    with socket.create_server((HOST, 0)) as listening:
        taken: list[socket.socket] = []

        def serve() -> None:
            connection, _ = listening.accept()
            connection.recv(4096)
            connection.sendall(HEADER + MECHANISMS)
            taken.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(listening.getsockname()[1]).problem == ""
        thread.join(10)
        taken[0].close()


def test_who_does_not_wait_gets_an_outcome_at_once(turning: Turning) -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        for turns in (0, 20):
            found: list[Outcome] = []
            asking = probe(turning.reactor, HOST, port, "example.com", Kind.C2S)
            asking.addCallback(found.append)
            turning.turn(turns)
            asking.cancel()
            assert [outcome.problem for outcome in found] == ["was not waited for"]
            turning.turn(3)
            assert not turning.reactor.getDelayedCalls()
