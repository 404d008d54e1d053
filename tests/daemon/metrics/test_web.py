"""The HTTP server, on a real reactor."""

import json
import socket
from collections.abc import Iterator, Sequence

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from proxy.daemon.endpoints import Endpoint
from proxy.daemon.metrics import families, web
from proxy.daemon.metrics.behind import Behind, LegacyServers
from proxy.daemon.metrics.health import Health
from proxy.daemon.metrics.legacy import Outcome
from proxy.daemon.metrics.snapshot import Snapshot
from proxy.daemon.metrics.web import MOST_CONNECTIONS, MetricsServer, Pages
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from tests.net.conftest import Turning
from tests.servers.program import HOST

SNAPSHOT = Snapshot({families.READY.name: {(): (1.0,)}})
BEHIND = Behind("example.com", Kind.C2S, Address("127.0.0.1", 15222))


@attrs.define
class Site:
    turning: Turning
    troubles: Sequence[str] = ()
    remarks: Sequence[str] = ()
    healths: Deferred[Health] | None = None
    outcome: Outcome = attrs.field(factory=lambda: Outcome("", 0.0125))
    snapshots: Deferred[Snapshot] | None = None
    asked: int = 0
    server: MetricsServer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        servers = LegacyServers(self.turning.reactor, [BEHIND], lambda *_: self.ask())
        pages = Pages(lambda: self.snapshots or succeed(SNAPSHOT), self.health, servers)
        self.server = MetricsServer(self.turning.reactor, Endpoint(HOST, 0), pages)
        self.server.start()
        self.servers = servers

    servers: LegacyServers = attrs.field(init=False)

    def health(self) -> Health | Deferred[Health]:
        return self.healths or Health(self.troubles, remarks=self.remarks)

    def ask(self) -> Deferred[Outcome]:
        self.asked += 1
        return succeed(self.outcome)

    def connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self.server.port))
        connection.setblocking(False)
        return connection

    def rest(self, connection: socket.socket) -> bytes:
        """Everything until the connection is closed."""
        got = b""
        closed = False

        def read() -> bool:
            nonlocal got, closed
            try:
                data = connection.recv(65536)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                data = b""
            got += data
            closed = not data
            return closed

        self.turning.until(read)
        return got

    def send(self, request: bytes) -> tuple[bytes, bytes]:
        with self.connect() as connection:
            connection.sendall(request)
            head, _, body = self.rest(connection).partition(b"\r\n\r\n")
        return head, body

    def get(self, path: str, headers: str = "") -> tuple[bytes, bytes]:
        return self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())


@pytest.fixture
def site(turning: Turning) -> Iterator[Site]:
    site = Site(turning)
    yield site
    site.server.stop()
    site.servers.stop()
    turning.turn(3)
    assert not turning.reactor.getDelayedCalls()


def test_metrics_are_shown(site: Site) -> None:
    head, body = site.get("/metrics")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"\r\nConnection: close" in head
    assert b"\nbascule_ready 1.0\n" in body
    assert b"Content-Length: %d" % len(body) in head


def test_metrics_come_when_they_are_there(site: Site, turning: Turning) -> None:
    site.snapshots = Deferred()
    with site.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        turning.turn()
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        site.snapshots.callback(SNAPSHOT)
        assert b"bascule_ready 1.0" in site.rest(connection)


def test_who_has_gone_meanwhile_gets_nothing(site: Site, turning: Turning) -> None:
    site.snapshots = Deferred()
    with site.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        turning.turn()
    turning.turn()
    site.snapshots.callback(SNAPSHOT)
    assert site.get("/healthz")[0].startswith(b"HTTP/1.1 200 OK")


def test_a_failure_is_told(site: Site) -> None:
    site.snapshots = fail(RuntimeError("nothing there"))
    head, body = site.get("/metrics")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert body == b"that has failed; see the log\n"


def test_health_says_ready_or_why_not(site: Site) -> None:
    assert site.get("/healthz")[1] == b"ready\n"
    site.troubles = ("it is draining", "a\nforged: line")
    head, body = site.get("/healthz")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == b"not ready: it is draining\nnot ready: a\\nforged: line\n"
    assert site.asked == 0


def test_who_is_ready_may_have_something_to_say(site: Site) -> None:
    site.remarks = ("worker 2 does not answer", "a\nforged: line")
    head, body = site.get("/healthz")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b"ready\nworker 2 does not answer\na\\nforged: line\n"
    body = site.get("/healthz", "Accept: application/json\r\n")[1]
    assert json.loads(body) == {"ready": True, "troubles": [], "remarks": [*site.remarks]}


def test_health_that_takes_its_time(site: Site) -> None:
    site.healths = Deferred()
    with site.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        site.turning.turn(20)
        site.healths.callback(Health(("it is draining",)))
        assert b"not ready: it is draining" in site.rest(connection)


def test_health_for_programs(site: Site) -> None:
    site.troubles = ("it is draining",)
    head, body = site.get("/healthz", "Accept: application/json\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nContent-Type: application/json" in head
    assert json.loads(body) == {
        "ready": False,
        "troubles": ["it is draining"],
        "remarks": [],
    }


@pytest.mark.parametrize("query", ["servers", "servers=1"])
def test_servers_are_asked_on_demand(site: Site, query: str) -> None:
    head, body = site.get(f"/healthz?{query}")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"ready\nexample.com c2s: 127.0.0.1:15222 has answered in 12 ms\n"
    assert site.asked == 1


def test_a_server_that_does_not_answer_is_no_health(site: Site) -> None:
    site.outcome = Outcome("cannot be reached: Connection refused")
    head, body = site.get("/healthz?servers")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == (
        b"ready\nexample.com c2s: 127.0.0.1:15222 cannot be reached: Connection refused\n"
    )
    _, body = site.get("/healthz?servers", "Accept: application/json\r\n")
    assert json.loads(body)["servers"] == [
        {
            "domain": "example.com",
            "stream": "c2s",
            "server": "127.0.0.1:15222",
            "answered": False,
            "seconds": None,
            "problem": "cannot be reached: Connection refused",
        }
    ]


def test_servers_are_not_asked_as_often_as_somebody_likes(site: Site) -> None:
    for _ in range(5):
        site.get("/healthz?servers")
    assert site.asked == 1


def test_there_is_nothing_else(site: Site) -> None:
    assert site.get("/")[0].startswith(b"HTTP/1.1 404 ")
    assert site.get("/metrics/")[0].startswith(b"HTTP/1.1 404 ")
    head, _ = site.send(b"PUT /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD" in head
    head, body = site.send(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b""


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1000000\r\n\r\n" + b"x" * 100_000,
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_refused(site: Site, body: bytes) -> None:
    head, rest = site.send(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + body)
    assert head in (b"HTTP/1.1 400 Bad Request", b"")  # b"": a reset overtook the answer
    assert rest == b""


def test_one_request_is_all_there_is(site: Site) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    with site.connect() as connection:
        connection.sendall(request * 3)
        assert site.rest(connection).count(b"HTTP/1.1 200 OK") == 1


def test_headers_are_bounded(site: Site) -> None:
    for headers in ("X: y\r\n" * 100, f"X: {'y' * 9000}\r\n"):
        head, _ = site.get("/metrics", headers)
        assert not head.startswith(b"HTTP/1.1 200")


def test_connections_are_bounded(site: Site, turning: Turning) -> None:
    connections = [site.connect() for _ in range(MOST_CONNECTIONS)]
    turning.turn()
    with site.connect() as more:
        assert site.rest(more) == b""
    connections.pop().close()
    turning.turn()
    assert site.get("/healthz")[1] == b"ready\n"
    for connection in connections:
        connection.close()
    turning.turn()


def test_who_says_nothing_does_not_stay(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE", 0.1)
    site = Site(turning)
    with site.connect() as connection:
        assert site.rest(connection) == b""
    site.server.stop()


def test_nobody_stays_long(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LIFE", 0.2)
    site = Site(turning)
    site.snapshots = Deferred()
    with site.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert site.rest(connection) == b""
    site.server.stop()
    turning.turn(3)
    assert not turning.reactor.getDelayedCalls()


def test_a_stop_ends_what_is_open(site: Site) -> None:
    with site.connect() as connection:
        site.turning.turn(3)
        site.server.stop()
        assert site.rest(connection) == b""


def test_an_address_that_is_taken_is_told(site: Site, turning: Turning) -> None:
    taken = Endpoint(HOST, site.server.port)
    pages = Pages(lambda: succeed(SNAPSHOT), site.health, site.servers)
    with pytest.raises(OSError, match=rf"\Ametrics: {taken}: Address already in use\Z"):
        MetricsServer(turning.reactor, taken, pages).start()
