"""ClientHellos of real libraries, cut everywhere, and bytes that are none."""

import shutil
import socket
import ssl
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.net.client_hello import LONGEST, Hello, Incomplete, MalformedError, read
from tests.net.client import HandTLS, lax_context
from tests.servers.program import HOST

NAME = "example.com"


def stdlib_hello(name: str | None, protocols: tuple[str, ...], newest: ssl.TLSVersion) -> bytes:
    context = lax_context()
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(protocols)
    return HandTLS(context, name).hello()


def openssl_hello(name: str | None, protocols: tuple[str, ...]) -> bytes:
    """A ClientHello of a newer OpenSSL, with a key share for X25519MLKEM768."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    if name is not None:
        connection.set_tlsext_host_name(name.encode())
    if protocols:
        connection.set_alpn_protos([protocol.encode() for protocol in protocols])
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


REAL = [
    pytest.param(hello, name, protocols, id=f"{label}-{name}-{'+'.join(protocols)}")
    for name in (NAME, None)
    for protocols in ((), ("xmpp-client",), ("h2", "xmpp-client"))
    for label, hello in (
        ("TLSv1.2", stdlib_hello(name, protocols, ssl.TLSVersion.TLSv1_2)),
        ("TLSv1.3", stdlib_hello(name, protocols, ssl.TLSVersion.TLSv1_3)),
        ("MLKEM", openssl_hello(name, protocols)),
    )
]
BODY = stdlib_hello(NAME, ("xmpp-client",), ssl.TLSVersion.TLSv1_3)[5:]


def record(content: bytes) -> bytes:
    return b"\x16\x03\x01" + len(content).to_bytes(2) + content


def spread(message: bytes, size: int) -> bytes:
    """A handshake message in records of ``size`` bytes at most."""
    return b"".join(record(message[at : at + size]) for at in range(0, len(message), size))


@pytest.mark.parametrize(("data", "name", "protocols"), REAL)
def test_a_real_hello_is_incomplete_until_its_last_byte(
    data: bytes, name: str | None, protocols: tuple[str, ...]
) -> None:
    for size in range(len(data)):
        found = read(data[:size])
        assert isinstance(found, Incomplete)
        assert size < found.needed <= len(data)
    expected = Hello(name, tuple(protocol.encode() for protocol in protocols))
    assert expected == read(data)
    assert expected == read(data + b"\x00anything")


def test_mlkem_makes_a_hello_larger_than_one_segment() -> None:
    assert len(openssl_hello(NAME, ())) > 1300


@pytest.mark.server("openssl")
def test_the_hello_of_the_program_openssl_is_read() -> None:
    program = shutil.which("openssl")
    assert program is not None
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(15)
        port = listening.getsockname()[1]
        arguments = [program, "s_client", "-connect", f"{HOST}:{port}", "-servername", NAME]
        with subprocess.Popen(
            [*arguments, "-alpn", "xmpp-client"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            connection, _ = listening.accept()
            data = b""
            with connection:
                connection.settimeout(15)
                while not data or isinstance(found := read(data), Incomplete):
                    data += connection.recv(65536)
    assert Hello(NAME, (b"xmpp-client",)) == found


@pytest.mark.parametrize("size", [20, 64, 300])
def test_a_hello_may_be_spread_over_records(size: int) -> None:
    data = spread(BODY, size)
    for cut in range(len(data)):
        assert isinstance(read(data[:cut]), Incomplete)
    assert Hello(NAME, (b"xmpp-client",)) == read(data)


def test_a_hello_in_records_of_one_byte_is_refused_before_it_costs_anything() -> None:
    with pytest.raises(MalformedError, match="too many records"):
        read(spread(BODY, 1))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "not a TLS handshake"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "not a TLS handshake"),
        (b"\x16\x02\x01\x00\x05", "not a TLS record"),
        (b"\x16\x03\x01\x00\x00", "not a TLS record"),
        (b"\x16\x03\x01\xff\xff", "not a TLS record"),
        (record(b"\x02\x00\x00\x00"), "not a ClientHello"),
        (record(b"\x01" + (LONGEST + 1).to_bytes(3)), "too long"),
        (record(b"\x01\x00\x00\x02\x03\x03"), "cut short"),
        (record(b"\x01\x00\x00\x30" + bytes(34) + b"\xff" + bytes(13)), "cut short"),
        (record(BODY).replace(b"example.com", b"ex\xe4mple.com"), "not ASCII"),
    ],
)
def test_what_is_no_hello_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        read(data)


def test_the_longest_hello_passes() -> None:
    # A padding extension (RFC 7685) fills it up.
    extensions_at = len(BODY) - int.from_bytes(_extensions(BODY)[1])
    extensions = BODY[extensions_at:]
    filling = LONGEST - (len(BODY) - 4) - 4
    extensions += b"\x00\x15" + filling.to_bytes(2) + bytes(filling)
    body = BODY[4 : extensions_at - 2] + len(extensions).to_bytes(2) + extensions
    assert len(body) == LONGEST
    message = b"\x01" + LONGEST.to_bytes(3) + body
    assert Hello(NAME, (b"xmpp-client",)) == read(spread(message, 16_000))


def _extensions(message: bytes) -> tuple[int, bytes]:
    """Where the length of the extensions stands in a ClientHello, and that length."""
    at = 4 + 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2])
    at += 1 + message[at]
    return at, message[at : at + 2]


@pytest.mark.parametrize(
    ("curve", "newest", "goes_on"),
    [
        (None, ssl.TLSVersion.TLSv1_3, False),
        ("prime256v1", ssl.TLSVersion.TLSv1_3, False),
        ("secp384r1", ssl.TLSVersion.TLSv1_3, False),
        ("secp521r1", ssl.TLSVersion.TLSv1_3, True),
        ("secp521r1", ssl.TLSVersion.TLSv1_2, False),
    ],
)
def test_a_hello_after_which_another_may_be_asked_for(
    curve: str | None, newest: ssl.TLSVersion, *, goes_on: bool
) -> None:
    context = lax_context()
    context.maximum_version = newest
    if curve is not None:
        context.set_ecdh_curve(curve)
    found = read(HandTLS(context, "example.com").hello())
    assert isinstance(found, Hello)
    assert found.goes_on is goes_on


@given(st.binary(max_size=400))
def test_any_bytes_give_one_of_three_answers(data: bytes) -> None:
    judge(data)


@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_body_gives_one_of_three_answers(body: bytes, size: int) -> None:
    judge(spread(b"\x01" + len(body).to_bytes(3) + body, size))


@given(st.integers(0, len(BODY) - 1), st.integers(0, 255))
def test_a_hello_with_a_byte_changed_gives_one_of_three_answers(at: int, value: int) -> None:
    changed = bytearray(record(BODY))
    changed[at + 5] = value
    judge(bytes(changed))


@given(st.data())
def test_a_refusal_stands_whatever_follows(data: st.DataObject) -> None:
    first = data.draw(st.binary(max_size=60))
    try:
        read(first)
    except MalformedError:
        with pytest.raises(MalformedError):
            read(first + data.draw(st.binary(max_size=60)))


def judge(data: bytes) -> None:
    try:
        found = read(data)
    except MalformedError:
        return
    assert isinstance(found, Hello) or found.needed > len(data)
