"""Taking headers off connections, on a reactor that the test turns.

Of its time, nothing passes for deadlines but what a test lets pass.
"""

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest
from twisted.internet.task import Clock

from proxy.net.deadlines import Deadlines
from proxy.net.listener import Listener
from proxy.net.proxied import Network, Proxied
from proxy.net.proxy_protocol import LONGEST, SIGNATURE, Versions, write
from proxy.session.commands import Deadline
from proxy.session.hooks import Address
from tests.net.conftest import Turning
from tests.net.legacy import reset
from tests.servers.program import HOST

CLIENT = Address("192.0.2.7", 56324)
PLACE = Address("198.51.100.1", 5222)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n"
BLOCK = write(CLIENT, PLACE, [(5, b"unique")])
LOCAL = SIGNATURE + b"\x20\0\0\0"
TRUSTED = ("127.0.0.0/8", "::1/128")
PATIENCE = 60
"""Seconds that a header gets."""


def line(source: Address, place: Address) -> bytes:
    return f"PROXY TCP4 {source.host} {place.host} {source.port} {place.port}\r\n".encode()


class Gate:
    """A listener whose connections come through proxies, and what becomes of them."""

    def __init__(
        self,
        turning: Turning,
        *,
        versions: Versions = Versions.ANY,
        trusted: tuple[str, ...] = TRUSTED,
        host: str = HOST,
    ) -> None:
        self.turning = turning
        self.taken: list[tuple[socket.socket, Address, Address | None]] = []
        self.refused: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.clock = Clock()
        self.proxied = Proxied(
            turning.hub,
            Deadlines(self.clock, {Deadline.NEGOTIATION: PATIENCE}),
            versions=versions,
            trusted=[Network(ip_network(each)) for each in trusted],
            taken=self._take,
            refused=lambda peer, reason: self.refused.append((peer.host, reason)),
        )
        self._host = host
        self._listener = Listener(turning.hub, host, 0, self.proxied.accepted)
        self._listener.start()
        self._clients: list[socket.socket] = []

    def _take(self, connection: socket.socket, client: Address, place: Address | None) -> None:
        self.taken.append((connection, client, place))
        if self.fault is not None:
            raise self.fault

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection((self._host, self._listener.port), timeout=5)
        self._clients.append(client)
        client.sendall(data)
        return client

    def until_waiting(self) -> None:
        self.turning.until(lambda: self.proxied.waiting)

    def until_read(self, begun: bytes) -> None:
        """Wait until so much has been taken off the one connection that waits."""
        self.until_waiting()
        [waiting] = self.proxied.waiting
        self.turning.until(lambda: waiting._begun == begun)

    def until_taken(self) -> tuple[socket.socket, Address, Address | None]:
        self.turning.until(lambda: self.taken)
        assert not self.proxied.waiting
        return self.taken[-1]

    def until_refused(self) -> str:
        self.turning.until(lambda: self.refused)
        assert not self.proxied.waiting
        assert not self.taken
        [(_, reason)] = self.refused
        return reason

    def close(self) -> None:
        self.proxied.stop()
        self._listener.stop()
        for connection in (*self._clients, *(each[0] for each in self.taken)):
            connection.close()


@pytest.fixture
def gate(turning: Turning) -> Iterator[Gate]:
    gate = Gate(turning)
    yield gate
    gate.close()


def closed(client: socket.socket) -> bool:
    """Whether the other end is closed, in whichever way."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("header", [LINE, BLOCK], ids=["v1", "v2"])
@pytest.mark.parametrize("behind", [b"", b"<stream:stream", b"\x16\x03\x01\0\xff" + LINE])
def test_the_header_is_taken_off_and_nothing_else(gate: Gate, header: bytes, behind: bytes) -> None:
    client = gate.connect(header + behind)
    connection, source, place = gate.until_taken()
    assert (source, place) == (CLIENT, PLACE)
    client.shutdown(socket.SHUT_WR)
    connection.settimeout(5)
    found = connection.recv(100)
    assert found == behind
    assert not gate.refused


@pytest.mark.parametrize("header", [LINE, BLOCK], ids=["v1", "v2"])
def test_a_header_may_come_in_two_pieces_cut_anywhere(gate: Gate, header: bytes) -> None:
    for end in range(1, len(header)):
        client = gate.connect(header[:end])
        gate.until_waiting()
        gate.turning.turn(2)
        client.sendall(header[end:] + b"<stream:stream")
        connection, source, _ = gate.until_taken()
        assert source == CLIENT
        assert connection.recv(100, socket.MSG_PEEK) == b"<stream:stream"
        gate.taken.pop()[0].close()


def test_a_header_may_drip(gate: Gate) -> None:
    client = gate.connect()
    for byte in LINE + b"<":
        client.sendall(bytes((byte,)))
        gate.turning.turn(1)
    connection, source, _ = gate.until_taken()
    assert (source, connection.recv(10)) == (CLIENT, b"<")


def test_but_not_for_ever(gate: Gate) -> None:
    begun = b"PROXY UNKNOWN "
    client = gate.connect(begun)
    for _ in range(10):
        gate.until_read(begun)
        assert not gate.refused
        gate.clock.advance(PATIENCE / 10)
        client.sendall(b"x")
        begun += b"x"
    assert gate.until_refused() == "no PROXY header came in time"
    assert closed(client)


@pytest.mark.parametrize("begun", [b"", LINE[:-1], BLOCK[:20]])
def test_a_header_that_does_not_come_whole_is_not_waited_for(gate: Gate, begun: bytes) -> None:
    client = gate.connect(begun)
    gate.until_read(begun)
    gate.clock.advance(PATIENCE)
    assert gate.until_refused() == "no PROXY header came in time"
    assert closed(client)


def test_garbage_is_refused_at_once(gate: Gate) -> None:
    client = gate.connect(b"<stream:stream")
    assert gate.until_refused() == "it does not begin with a PROXY header"
    assert closed(client)


def test_no_more_than_the_longest_header_is_kept(gate: Gate) -> None:
    """What comes behind a header waits in the kernel, however much it is."""
    header = SIGNATURE + b"\x20\0" + (4096).to_bytes(2)
    client = gate.connect(header + bytes(4095))
    gate.until_waiting()
    [waiting] = gate.proxied.waiting
    gate.turning.until(lambda: len(waiting._begun) == LONGEST - 1)
    client.sendall(bytes(20_000))
    connection, _, _ = gate.until_taken()
    assert len(waiting._begun) == LONGEST
    connection.settimeout(5)
    assert len(connection.recv(30_000, socket.MSG_WAITALL | socket.MSG_PEEK)) >= 19_999 - 4096


@pytest.mark.parametrize("trusted", [("192.0.2.0/24",), ("::/0",), ("127.0.0.2",)])
def test_others_are_closed_unread(turning: Turning, trusted: tuple[str, ...]) -> None:
    gate = Gate(turning, trusted=trusted)
    client = gate.connect(LINE)
    assert gate.until_refused() == "it does not come from a trusted proxy"
    assert gate.refused[0][0] == HOST
    assert closed(client)
    gate.close()


def test_proxies_may_come_by_ipv6(turning: Turning) -> None:
    gate = Gate(turning, host="::1", trusted=("127.0.0.1", "::1"))
    gate.connect(LINE)
    assert gate.until_taken()[1] == CLIENT
    gate.close()


def test_a_mapped_address_of_a_proxy_is_that_of_ipv4(turning: Turning) -> None:
    taken: list[Address] = []
    gate = Gate(turning, trusted=("127.0.0.1",))
    listener = Listener(turning.hub, "::", 0, gate.proxied.accepted)
    listener.start()
    with socket.create_connection((HOST, listener.port)) as client:
        client.sendall(LINE)
        taken.append(gate.until_taken()[1])
    assert taken == [CLIENT]
    listener.stop()
    gate.close()


def test_a_network_knows_addresses_with_a_scope() -> None:
    assert "fe80::1%eth0" in Network(ip_network("fe80::/64"))
    assert "10.1.2.3" not in Network(ip_network("fe80::/64"))


@pytest.mark.parametrize(
    ("versions", "header"), [(Versions.V1, BLOCK), (Versions.V2, LINE), (Versions.V2, LINE[:1])]
)
def test_the_other_version_is_refused(turning: Turning, versions: Versions, header: bytes) -> None:
    gate = Gate(turning, versions=versions)
    client = gate.connect(header)
    assert gate.until_refused() == "it does not begin with a PROXY header"
    assert closed(client)
    gate.close()


@pytest.mark.parametrize("header", [b"", LOCAL, b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("rudely", [False, True], ids=["FIN", "RST"])
def test_probes_leave_no_trace(gate: Gate, header: bytes, rudely: bool) -> None:
    client = gate.connect(header)
    gate.until_waiting()
    gate.turning.turn(3)
    if rudely:
        reset(client)
    else:
        client.close()
    gate.turning.until(lambda: not gate.proxied.waiting)
    assert (gate.taken, gate.refused) == ([], [])


@pytest.mark.parametrize("write", [write, line], ids=["v2", "v1"])
def test_a_probe_may_give_the_proxys_own_address(
    gate: Gate, write: Callable[[Address, Address], bytes]
) -> None:
    """As HAProxy's do with version 1."""
    client = gate.connect()
    ends = Address(*client.getsockname()), Address(*client.getpeername())
    client.sendall(write(*ends))
    gate.until_waiting()
    gate.turning.turn(3)
    reset(client)
    gate.turning.until(lambda: not gate.proxied.waiting)
    assert (gate.taken, gate.refused) == ([], [])
    client = gate.connect()
    ends = Address(*client.getsockname()), Address(*client.getpeername())
    client.sendall(write(*ends) + b"<")
    assert gate.until_taken()[1:] == ends


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("together", [True, False])
def test_a_proxy_may_speak_for_itself(gate: Gate, header: bytes, together: bool) -> None:
    client = gate.connect(header + b"<" if together else header)
    if not together:
        gate.until_waiting()
        gate.turning.turn(3)
        assert not gate.taken
        client.sendall(b"<")
    connection, source, place = gate.until_taken()
    assert (source, place) == (Address(*client.getsockname()), None)
    assert connection.recv(10) == b"<"


def test_a_proxy_that_speaks_for_itself_must_speak(gate: Gate) -> None:
    client = gate.connect(LOCAL)
    gate.until_read(LOCAL)
    gate.clock.advance(PATIENCE)
    assert gate.until_refused() == "nothing came in time after the PROXY header"
    assert closed(client)


@pytest.mark.parametrize("rudely", [False, True], ids=["FIN", "RST"])
def test_half_a_header_and_the_end(gate: Gate, rudely: bool) -> None:
    client = gate.connect(LINE[:9])
    gate.until_read(LINE[:9])
    if rudely:
        reset(client)
    else:
        client.close()
    assert gate.until_refused() == "it was closed in the middle of the PROXY header"


def test_a_header_and_the_end_is_a_connection(gate: Gate) -> None:
    gate.connect(LINE).close()
    assert gate.until_taken()[1] == CLIENT


def test_waiting_ends_with_the_service(gate: Gate) -> None:
    clients = [gate.connect(LINE[:5]), gate.connect(LOCAL), gate.connect()]
    gate.turning.until(lambda: len(gate.proxied.waiting) == 3)
    gate.proxied.stop()
    assert all(closed(client) for client in clients)
    gate.turning.turn(3)
    assert (gate.taken, gate.refused) == ([], [])


def test_nothing_is_left_of_the_deadline(gate: Gate) -> None:
    gate.connect(LINE)
    gate.until_taken()
    gate.clock.advance(2 * PATIENCE)
    gate.turning.turn(3)
    assert not gate.refused
    assert gate.taken[0][0].fileno() >= 0


def test_a_fault_beyond_is_not_ours(gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    """The connection belongs to who has taken it, whatever became of that."""
    gate.fault = RuntimeError("made up")
    gate.connect(LINE)
    connection, _, _ = gate.until_taken()
    gate.turning.turn(3)
    assert connection.fileno() >= 0
    assert not gate.refused
