"""Attack 24: nothing that a peer says can forge, hide or leak into a line of the log."""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net import legacy as rote
from tests.net.client import (
    AUTH,
    BIND,
    SECRET,
    connected,
    log_in,
    logged_in,
    proceeding,
    read_all,
    secure,
)
from tests.net.front import DOMAIN, Front
from tests.net.legacy import Connection, LegacyServer
from tests.net.test_client_hello import spread
from tests.servers.bascule import Served
from tests.servers.stream import plaintext

FORGED = "2030-01-01T00:00:00.000Z info session ended session=forged"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) [ -~…]+")
"""Printable ASCII only: all these tests say is ASCII or must be escaped."""

NASTY = ["\n" + FORGED, "\r" + FORGED, "\x1b[2K" + FORGED, "\u202eevil", "\u2028" + FORGED, "\x00"]
STREAM = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory, domains: list[Served]) -> Iterator[Front]:
    """A daemon that says all it ever says, and is judged by that when all are done with it."""
    with Front(
        tmp_path_factory.mktemp("talkative"),
        domains,
        listeners={"c2s": "required", "report": "report"},
        environment={"BASCULE_DEBUG": "1", "PYTHONUNBUFFERED": "1"},
    ) as front:
        yield front
    # It has ended, so the log is whole.
    lines = front.log().removesuffix("\n").split("\n")
    assert lines
    for line in lines:
        assert LINE.fullmatch(line), line
        assert "session=forged" not in line.partition('"')[0]
        assert SECRET not in line
        assert "exceedingly" not in line


def attribute(text: str) -> str:
    """Write text so that an XML parser gives it back, line ends and all."""
    return "".join(f"&#{ord(each)};" if each in "\r\n\u202e\u2028" else each for each in text)


def hang_up(connection: Connection) -> None:
    """Offer features, and close on the first thing that is said after that."""
    rote.features(connection)
    connection.socket.recv(1)
    connection.close()


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("name", ["to", "from", "id", "version", "xml:lang"])
def test_attack_24_stream_headers_forge_nothing(
    talkative: Front, legacy: LegacyServer, nasty: str, name: str
) -> None:
    legacy.script = hang_up
    said = {"to": DOMAIN, "version": "1.0", name: nasty}
    written = "".join(f" {key}='{attribute(value)}'" for key, value in said.items())
    for port in talkative.ports:
        with plaintext(port, DOMAIN) as stream:
            stream.send(f"<stream:stream{written} {STREAM}></stream:stream>")
            read_all(stream.connection)


@pytest.mark.parametrize("name", [b"a\n" + FORGED.encode(), b"\x1b[31mred", b"\x00", b"a\r\nb"])
def test_attack_24_server_names_forge_nothing(talkative: Front, name: bytes) -> None:
    names = b"\x00" + len(name).to_bytes(2) + name
    names = len(names).to_bytes(2) + names
    extensions = b"\x00\x00" + len(names).to_bytes(2) + names
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += len(extensions).to_bytes(2) + extensions
    with connected(talkative.port) as connection:
        connection.sendall(spread(b"\x01" + len(body).to_bytes(3) + body, 16_000))
        read_all(connection)
    talkative.wait_for_log("SNI names another domain")


@pytest.mark.parametrize(
    "sent",
    [
        "<x\n{}>",
        "<message to='&#10;{}' id='&#13;{}'/>",
        "<a xmlns='urn:&#10;{}'/>",
        "</y{}>",
        "&{};",
        "<!-- \n{} -->",
    ],
)
def test_attack_24_elements_forge_nothing(
    talkative: Front, authority: Authority, sent: str
) -> None:
    text = sent.replace("{}", FORGED.replace("=", ""))
    with plaintext(talkative.port, DOMAIN) as stream:
        stream.send_header()
        stream.send(text)
        read_all(stream.connection)
    with plaintext(talkative.port, DOMAIN) as stream:
        proceeding(stream)
        secure(stream, authority.ca_path)
        stream.send_header()
        stream.read_until("</stream:features>")
        stream.send(text)
        read_all(stream.connection)


@pytest.mark.parametrize("nasty", NASTY)
def test_attack_24_the_server_behind_forges_nothing(
    talkative: Front, legacy: LegacyServer, authority: Authority, nasty: str
) -> None:
    def script(connection: Connection) -> None:
        opening = rote.HEADER.decode().replace("legacy-1", attribute(nasty))
        connection.send(opening.encode() + b"<" + nasty.encode("utf-8", "replace") + b">")

    legacy.script = script
    with plaintext(talkative.port, DOMAIN) as stream:
        secure(stream, authority.ca_path)
        stream.send_header()
        read_all(stream.connection)


def test_attack_24_no_password_is_logged_whatever_goes_wrong(
    talkative: Front, legacy: LegacyServer, authority: Authority
) -> None:
    register = (
        "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>alice</username>"
        f"<password>{SECRET}</password></query></iq>"
    )
    legacy_auth = register.replace("register", "auth")
    sasl2 = f"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{SECRET}'/>"
    bad = AUTH.replace("</auth>", "</oops>")
    legacy.script = hang_up
    for said in (AUTH, bad, AUTH + AUTH, AUTH + "<", register, legacy_auth, sasl2, sasl2 + "<>"):
        # In plaintext, where it is refused; in plaintext that passes; and under TLS.
        for name, tls in (("c2s", False), ("report", False), ("c2s", True)):
            port = talkative.named[name]
            with plaintext(port, DOMAIN) as stream:
                if tls:
                    secure(stream, authority.ca_path)
                stream.send_header()
                stream.read_until("</stream:features>")
                stream.send(said)
                stream.connection.shutdown(socket.SHUT_WR)
                read_all(stream.connection)
    # What the server says on success may be a token, too (XEP-0484).
    legacy.forget()
    legacy.script = with_token
    with plaintext(talkative.port, DOMAIN) as stream:
        secure(stream, authority.ca_path)
        log_in(stream)
        legacy.next().send(f"<token>{SECRET}</token".encode())
    with logged_in(talkative.port, authority.ca_path) as stream:
        stream.send(f"<message><body>{SECRET}</wrong>")


def with_token(connection: Connection) -> None:
    rote.features(connection)
    connection.read_until(rb"</auth>")
    connection.send(rote.SUCCESS.replace(b"/>", f">{SECRET}</success>".encode()))
    connection.read_until(rb"<stream:stream [^>]*>")
    connection.send(rote.HEADER + rote.BIND)
    connection.read_until(BIND[-5:].encode())
    connection.send(rote.BOUND)
