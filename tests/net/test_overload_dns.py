"""DNS is down: sessions end in time and leave nothing behind, and go on once it is back."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from proxy.net import name_servers
from proxy.net.name_servers import LookupFailedError, NameServers
from tests.authority import Authority
from tests.net.client import read_all
from tests.net.forward import HOSTING, greeting
from tests.net.hostile import Hostile, login, showing, upgraded
from tests.net.name_server import NameServer
from tests.net.trusting import Operated, refusal_in
from tests.servers.program import HOST, free_port

DOMAIN = "example.net"
AT_ONCE = 250
TIMES = 2
FEW = 4
"""Descriptors that the first sessions may have left open, whatever their number."""

MOST = 16 << 20
"""Octets of memory, most of it for failures that are remembered; what leaks takes more."""


@contextlib.contextmanager
def silent(port: int) -> Iterator[None]:
    """A name server that takes questions and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((HOST, port))
        yield


@contextlib.contextmanager
def failing(port: int) -> Iterator[None]:
    """A name server that has nobody to ask."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((HOST, port))
        answering = threading.Thread(target=_answer, args=[listening], daemon=True)
        answering.start()
        yield
        # What is not connected cannot be shut down, but its reader is told all the same.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        answering.join(20)
        assert not answering.is_alive()


def _answer(listening: socket.socket) -> None:
    while True:
        wire, peer = listening.recvfrom(4096)
        if not wire:
            return
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.set_rcode(dns.rcode.SERVFAIL)
        listening.sendto(response.to_wire(), peer)


Down = Callable[[int], contextlib.AbstractContextManager[None]]

WAYS: dict[str, tuple[Down, str]] = {
    "silent": (silent, "no name server gave a usable answer for"),
    "SERVFAIL": (failing, "the name server answered SERVFAIL for"),
    "gone": (lambda _: contextlib.nullcontext(), "no name server can be reached for"),
}


@pytest.fixture(scope="module")
def hostile(authority: Authority) -> Iterator[Hostile]:
    with Hostile() as server:
        server.play(upgraded(showing(authority.issue(DOMAIN))))
        yield server
        server.play(login)


def opened(bascule: Operated) -> int:
    """How many descriptors a daemon has."""
    return len(list(Path(f"/proc/{bascule.process_id}/fd").iterdir()))


def refused(bascule: Operated, begin: int, text: str) -> None:
    """Have many clients, each to a domain of its own, be told that its servers are not found."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(bascule.connect()) for _ in range(AT_ONCE)]
        for number, client in enumerate(clients, begin):
            client.sendall(greeting(f"d{number}.{DOMAIN}").encode())
        for client in clients:
            client.settimeout(60)
            said = refusal_in(read_all(client))
            assert said.condition == "remote-connection-failed"
            assert text in said.text


@pytest.mark.parametrize("way", WAYS)
def test_sessions_end_while_dns_is_down_and_leave_nothing_behind(
    tmp_path: Path, authority: Authority, hostile: Hostile, way: str
) -> None:
    port = free_port()
    down, text = WAYS[way]
    policy = {"domain": "*", "ca_file": str(authority.ca_path), "private_addresses": True}
    with Operated(tmp_path, [policy], names=port) as bascule:
        with down(port):
            before = opened(bascule)
            refused(bascule, 0, text)
            resident = bascule.resident()
            for batch in range(1, TIMES + 1):
                refused(bascule, batch * AT_ONCE, text)
            bascule.until(lambda: opened(bascule) <= before + FEW, 60)
            assert bascule.resident() - resident < MOST
        with NameServer(port=port) as names:
            names.add(f"_xmpp-client._tcp.{DOMAIN}", "SRV", f"0 0 {hostile.port} {HOSTING}.")
            names.add(HOSTING, "A", HOST)
            bascule.login(hostile, DOMAIN)
        assert bascule.alive()


def test_name_servers_may_go_and_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's file is gone or says nothing, such as while a network is set up."""
    system = tmp_path / "resolv.conf"
    monkeypatch.setattr(name_servers, "_SYSTEM", system)
    servers = NameServers(())
    for text in ("", "search example.org\n", "nameserver nowhere\n", None):
        if text is None:
            system.unlink()
        else:
            system.write_text(text)
        with pytest.raises(LookupFailedError, match="no name server is configured"):
            servers.servers()
        system.with_suffix(".new").write_text("nameserver 127.0.0.9\n")
        system.with_suffix(".new").rename(system)
        assert servers.servers() == (("127.0.0.9", 53),)
