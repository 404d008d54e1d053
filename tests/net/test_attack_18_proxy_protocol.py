"""Attack 18: nobody but a proxy that is listed says whose a connection is, and nothing else."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.net.proxy_protocol import SIGNATURE, write
from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net.client import (
    AUTH,
    HandTLS,
    connected,
    lax_context,
    log_in,
    proceeding,
    read_all,
    secure,
)
from tests.net.front import Front
from tests.net.legacy import LegacyServer
from tests.net.proxies import (
    BLOCK,
    BLOCK6,
    CLIENT,
    CLIENT6,
    LINE,
    LINE6,
    LOCAL,
    PLACE,
    PLACE6,
    STREAM,
    Ended,
    daemon,
    opened,
    until,
)
from tests.net.test_proxy_protocol import block
from tests.servers.bascule import Daemon
from tests.servers.program import HOST
from tests.servers.stream import SECONDS


@pytest.fixture(scope="module")
def fronted(
    tmp_path_factory: pytest.TempPathFactory, _legacy: LegacyServer, authority: Authority
) -> Iterator[Front]:
    """A daemon behind proxies; see `daemon`."""
    with daemon(tmp_path_factory.mktemp("fronted"), _legacy, authority) as front:
        yield front


@pytest.fixture(scope="module")
def hasty(
    tmp_path_factory: pytest.TempPathFactory, _legacy: LegacyServer, authority: Authority
) -> Iterator[Front]:
    """Another one, in which no session gets further than to its deadline."""
    directory = tmp_path_factory.mktemp("hasty")
    with daemon(directory, _legacy, authority, negotiation=0.5) as front:
        yield front


def assert_closed_unanswered(connection: socket.socket) -> None:
    assert read_all(connection) == b""


WAYS = [
    pytest.param((LINE, CLIENT, "v1"), id="v1"),
    pytest.param((LINE6, CLIENT6, "v1"), id="v1 IPv6"),
    pytest.param((BLOCK, CLIENT, "v2"), id="v2"),
    pytest.param((BLOCK6, CLIENT6, "v2"), id="v2 IPv6"),
    pytest.param((LINE, CLIENT, "any"), id="any v1"),
    pytest.param((BLOCK6, CLIENT6, "any"), id="any v2"),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_client_is_whom_a_listed_proxy_says(
    fronted: Front,
    legacy: LegacyServer,
    authority: Authority,
    way: tuple[bytes, Address, str],
) -> None:
    header, client, listener = way
    ended = Ended(fronted)
    with opened(fronted, header, listener) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        log_in(stream)
    summary = ended.session()
    assert (summary["client"], summary["authenticated"]) == (str(client), "yes")


@pytest.mark.parametrize("header", [LINE, BLOCK, BLOCK6], ids=["v1", "v2", "v2 IPv6"])
def test_attack_18_a_header_may_be_cut_at_every_byte(
    fronted: Front, legacy: LegacyServer, header: bytes
) -> None:
    for end in range(1, len(header) + 1):
        ended = Ended(fronted)
        with opened(fronted, header[:end]) as stream:
            time.sleep(0.002)
            stream.send(header[end:] + STREAM)
            stream.read_until("</stream:features>")
        assert ended.session()["client"] in (str(CLIENT), str(CLIENT6))
    assert legacy.heard == b""


@pytest.mark.parametrize("header", [LINE, BLOCK, LOCAL], ids=["v1", "v2", "LOCAL"])
def test_attack_18_a_hello_in_the_same_segment_is_whole(
    fronted: Front, legacy: LegacyServer, header: bytes
) -> None:
    ended = Ended(fronted)
    tls = HandTLS(lax_context())
    with connected(fronted.named["any"]) as connection:
        connection.sendall(header + tls.hello())
        tls.finish(connection)
        tls.send(connection, STREAM)
        assert b"legacy-1" in tls.read_until(connection, b"</stream:features>")
        real = Address(*connection.getsockname())
    summary = ended.session()
    assert summary["start"] == "direct"
    assert summary["client"] == str(real if header is LOCAL else CLIENT)


@pytest.mark.parametrize("header", [LINE, BLOCK, LOCAL, b"", STREAM])
def test_attack_18_others_are_not_listened_to(
    fronted: Front, legacy: LegacyServer, header: bytes
) -> None:
    ended = Ended(fronted)
    place = (HOST, fronted.named["any"])
    with socket.create_connection(place, SECONDS, source_address=("127.0.0.2", 0)) as connection:
        with contextlib.suppress(OSError):  # it may be closed already
            connection.sendall(header + STREAM)
        assert_closed_unanswered(connection)
        line = ended.line("connection closed: it does not come from a trusted proxy")
        assert " warning " in line
        assert line.endswith(f" listener=any client=127.0.0.2:{connection.getsockname()[1]}")
    assert "192.0.2.7" not in line
    assert legacy.heard == b""


@pytest.mark.parametrize("header", [LINE, BLOCK, LOCAL], ids=["v1", "v2", "LOCAL"])
def test_attack_18_a_header_elsewhere_ends_the_session(
    fronted: Front, legacy: LegacyServer, header: bytes
) -> None:
    ended = Ended(fronted)
    with opened(fronted, header + STREAM, "bare") as stream:
        assert b"features" not in read_all(stream.connection)
        real = Address(*stream.connection.getsockname())
    assert ended.session()["client"] == str(real)
    assert legacy.heard == b""


def test_attack_18_a_header_under_tls_is_no_header(
    fronted: Front, legacy: LegacyServer, authority: Authority
) -> None:
    ended = Ended(fronted)
    with opened(fronted, LINE) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        stream.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 1 2\r\n")
        assert "<not-well-formed " in stream.read_until("</stream:stream>")
    assert ended.session()["client"] == str(CLIENT)
    assert legacy.heard == b""


@pytest.mark.parametrize("first", [LINE, BLOCK, LOCAL])
@pytest.mark.parametrize("second", [LINE, BLOCK])
def test_attack_18_the_first_header_is_the_only_one(
    fronted: Front, legacy: LegacyServer, first: bytes, second: bytes
) -> None:
    ended = Ended(fronted)
    second = second.replace(b"192.0.2.7", b"192.0.2.9")
    with opened(fronted, first + second + STREAM) as stream:
        assert b"features" not in read_all(stream.connection)
        real = Address(*stream.connection.getsockname())
    assert ended.session()["client"] == str(real if first is LOCAL else CLIENT)
    assert legacy.heard == b""


@pytest.mark.parametrize(
    ("data", "listener", "reason"),
    [
        (STREAM, "any", "it does not begin with a PROXY header"),
        (b"\x16\x03\x01\x02\0", "any", "it does not begin with a PROXY header"),
        (BLOCK + STREAM, "v1", "it does not begin with a PROXY header"),
        (LINE + STREAM, "v2", "it does not begin with a PROXY header"),
        (b"PROXY TCP5 ", "any", "the PROXY line names no known protocol"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "v1", "the PROXY line has no proper addresses"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "v1", "the PROXY line has no proper addresses"),
        (b"PROXY UNKNOWN".ljust(107, b" "), "v1", "the PROXY line has more than 107 bytes"),
        (b"PROXY UNKNOWN".ljust(106, b" ") + b"\r\n", "v1", "the PROXY line has more than 107"),
        (block(0x21, 0x11, b"", length=11), "v2", "the PROXY header is too short"),
        (block(0x21, 0x21, BLOCK[16:]), "v2", "the PROXY header is too short"),
        (block(0x20, 0, b"", length=4097), "v2", "the PROXY header has more than 4112 bytes"),
        (block(0x20, 0, b"", length=65535), "any", "the PROXY header has more than 4112 bytes"),
        (block(0x21, 0x11, BLOCK[16:] + b"\x20\xff\xff"), "v2", "a value of the PROXY header is"),
        (block(0x21, 0x11, BLOCK[16:] + b"\x01\0"), "v2", "a value of the PROXY header is"),
        (block(0x22, 0x11, BLOCK[16:]), "v2", "the PROXY header has an unknown version"),
        (block(0x31, 0x11, BLOCK[16:]), "v2", "the PROXY header has an unknown version"),
        (block(0x21, 0x51, BLOCK[16:]), "v2", "the PROXY header has an unknown family"),
    ],
)
def test_attack_18_what_is_no_header_is_closed_at_once(
    fronted: Front, legacy: LegacyServer, data: bytes, listener: str, reason: str
) -> None:
    """The deadline is not waited for, which would take longer than the test may."""
    ended = Ended(fronted)
    with connected(fronted.named[listener]) as connection:
        connection.sendall(data)
        assert_closed_unanswered(connection)
        line = ended.line(f"connection closed: {reason}")
        assert line.endswith(f" listener={listener} client={Address(*connection.getsockname())}")
    assert legacy.heard == b""


@pytest.mark.parametrize("begun", [b"", LINE[:-1], BLOCK[:-1]])
def test_attack_18_a_header_is_not_waited_for_longer_than_the_deadline(
    hasty: Front, begun: bytes
) -> None:
    ended = Ended(hasty)
    with connected(hasty.named["any"]) as connection:
        connection.sendall(begun)
        assert_closed_unanswered(connection)
    ended.line("connection closed: no PROXY header came in time")


def test_a_probe_of_the_proxy_leaves_no_line(fronted: Front) -> None:
    ended = Ended(fronted)
    before = fronted.log()
    for header in (b"", LOCAL, b"PROXY UNKNOWN\r\n"):
        with connected(fronted.named["any"]) as connection:
            connection.sendall(header)
            connection.shutdown(socket.SHUT_WR)
            assert_closed_unanswered(connection)
    with connected(fronted.named["any"]) as connection:  # whose line comes after theirs
        connection.sendall(STREAM)
        assert_closed_unanswered(connection)
    line = ended.line("connection closed: it does not begin with a PROXY header")
    assert fronted.log() == f"{before}{line}\n"


def test_attack_18_tls_that_the_header_tells_of_is_not_believed(
    fronted: Front, legacy: LegacyServer
) -> None:
    secured = b"\x07\0\0\0\0" + b"\x21\0\x07TLSv1.3" + b"\x22\0\x05admin"
    header = write(CLIENT, PLACE, [(1, b"xmpp-client"), (2, b"example.com"), (0x20, secured)])
    with opened(fronted, header) as stream:
        stream.send_header()
        assert "<mechanism" not in stream.read_until("</stream:features>")
        stream.send(AUTH)
        assert "<encryption-required" in stream.read_until("</failure>")
    assert legacy.heard == b""


def test_attack_18_limits_count_the_address_of_the_header(fronted: Front) -> None:
    """By /64 with IPv6, as without a proxy; the proxy itself counts for nothing."""

    def admitted(host: str) -> bool:
        header = write(Address(host, 1), PLACE6 if ":" in host else PLACE)
        stream = stack.enter_context(opened(fronted, header))
        stream.send_header()
        return "<stream:error>" not in stream.read_until("</stream:features>|</stream:stream>")

    with contextlib.ExitStack() as stack:
        assert [admitted("203.0.113.1") for _ in range(3)] == [True, True, False]
        assert [admitted("203.0.113.2") for _ in range(3)] == [True, True, False]
        assert [admitted("::ffff:203.0.113.2"), admitted("203.0.113.3")] == [False, True]
        assert [admitted(f"2001:db8:0:1::{each}") for each in range(3)] == [True, True, False]
        assert admitted("2001:db8:0:2::1")


class ForwardFront(Daemon):
    """A forward listener behind a proxy."""

    def configuration(self) -> str:
        return f"""\
[[listener]]
name = "legacy-clients"
direction = "forward"
stream = "c2s"
address = "{HOST}:{self.port}"
domains = ["example.net"]
proxy_protocol = "any"
trusted_proxies = ["{HOST}"]
"""


@pytest.mark.parametrize("header", [LINE, BLOCK], ids=["v1", "v2"])
def test_forward_listeners_take_headers_too(tmp_path: Path, header: bytes) -> None:
    with ForwardFront(tmp_path) as front, connected(front.port) as connection:
        connection.sendall(header + STREAM)
        assert b"<host-unknown " in read_all(connection)
        until(lambda: bool(re.search(f" session ended .* client={CLIENT} ", front.log_text())))


def test_attack_18_clients_tell_the_server_nothing(
    fronted: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """One header, Bascule's own, whatever a client sends before and after TLS."""
    for listener in ("any", "bare"):
        legacy.forget()
        with opened(fronted, LINE if listener == "any" else b"", listener) as stream:
            proceeding(stream)
            secure(stream, authority.ca_path)
            stream.send_header()
            stream.read_until("</stream:features>")
            stream.send(BLOCK)
            assert "<not-well-formed " in stream.read_until("</stream:stream>")
        assert legacy.heard.count(SIGNATURE) == 1
        assert (
            ip_address("192.0.2.7").packed not in legacy.heard[52 if listener == "bare" else 40 :]
        )
