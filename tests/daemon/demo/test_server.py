"""The demo server, spoken to over its socket."""

import asyncio
import base64
import hashlib
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import slixmpp

from proxy.daemon.demo.client import Client, ClientError, Message
from proxy.daemon.demo.sasl import MECHANISMS
from proxy.daemon.demo.server import Direction

from .conftest import DOMAIN, RunningServer

HEADER = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


class Wire:
    """A socket that says what it is told to, and reads up to what it is waiting for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, 10)
        self.read = ""

    def say(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def hear(self, pattern: str) -> re.Match[str]:
        """Read until ``pattern`` matches; what it matched, and all before it, is used up."""
        while True:
            found = re.search(pattern, self.read, re.DOTALL)
            if found is not None:
                self.read = self.read[found.end() :]
                return found
            data = self.socket.recv(65_536)
            assert data, f"the server closed; unread: {self.read!r}"
            self.read += data.decode()

    def hear_end(self) -> str:
        """Read until the server closes."""
        while data := self.socket.recv(65_536):
            self.read += data.decode()
        return self.read

    def log_in(self, server: RunningServer, name: str, resource: str = "wire") -> None:
        self.say(HEADER)
        self.hear("</stream:features>")
        self.say(plain(name, server.passwords[name]))
        self.hear("<success[^>]*/>")
        self.say(HEADER)
        self.hear("</stream:features>")
        self.say(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f"<resource>{resource}</resource></bind></iq>"
        )
        self.hear(f"<jid>{name}@{DOMAIN}/{resource}</jid></bind></iq>")


def plain(name: str, password: str, authorisation: str = "") -> str:
    text = base64.b64encode(f"{authorisation}\0{name}\0{password}".encode()).decode()
    return f"<auth xmlns='{SASL}' mechanism='PLAIN'>{text}</auth>"


@contextmanager
def wire(server: RunningServer) -> Iterator[Wire]:
    connection = Wire(server.address)
    with connection.socket:
        yield connection


@pytest.fixture
def juliet(server: RunningServer) -> Iterator[Wire]:
    with wire(server) as connection:
        connection.log_in(server, "juliet")
        yield connection


def logged_in(server: RunningServer, name: str) -> Client:
    client = Client(server.address, DOMAIN, authority=None)
    client.log_in(name, server.passwords[name], "demo")
    client.announce()
    return client


class Talker(slixmpp.ClientXMPP):  # type: ignore[misc]  # slixmpp has no types here
    """A slixmpp client that puts what happens to it into a queue."""

    def __init__(self, name: str, password: str, mechanism: str | None = None) -> None:
        super().__init__(f"{name}@{DOMAIN}", password, sasl_mech=mechanism)
        self.enable_plaintext = True
        self.enable_starttls = self.enable_direct_tls = False
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.happened: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.closed = asyncio.Event()
        for event in ("session_start", "message", "failed_all_auth", "got_online"):
            self.add_event_handler(event, lambda what, name=event: self._note(name, what))

    def _note(self, name: str, what: Any) -> None:
        self.happened.put_nowait((name, what))

    def connection_lost(self, exception: BaseException | None) -> None:
        super().connection_lost(exception)
        self.closed.set()

    async def leave(self) -> None:
        """Disconnect, and wait until the connection is closed for good."""
        self.abort()
        await asyncio.wait_for(self.closed.wait(), 15)

    async def wait_for(self, *names: str) -> tuple[str, Any]:
        while True:
            name, what = await asyncio.wait_for(self.happened.get(), 15)
            if name in names:
                return name, what


def test_two_slixmpp_clients_log_in_and_chat(server: RunningServer) -> None:
    async def chat() -> None:
        juliet = Talker("juliet", server.passwords["juliet"], "PLAIN")
        romeo = Talker("romeo", server.passwords["romeo"])
        for talker in (juliet, romeo):
            talker.connect(*server.address)
            await talker.wait_for("session_start")
            roster = await talker.get_roster()
            assert len(roster["roster"]["items"]) == 1
            talker.send_presence()
        online = ""
        while online != f"romeo@{DOMAIN}":  # her own presence comes back to her, too
            online = (await juliet.wait_for("got_online"))[1]["from"].bare
        juliet.send_message(mto=f"romeo@{DOMAIN}", mbody="to <bare> & back", mtype="chat")
        _, heard = await romeo.wait_for("message")
        assert ("to <bare> & back", juliet.boundjid.full) == (heard["body"], heard["from"].full)
        romeo.send_message(mto=heard["from"], mbody="to full", mtype="chat")
        _, heard = await juliet.wait_for("message")
        assert heard["body"] == "to full"
        for talker in (juliet, romeo):
            await talker.leave()

    asyncio.run(chat())


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("password", "outcome"), [(None, "session_start"), ("wrong", "failed_all_auth")]
)
def test_slixmpp_gets_in_with_the_right_password_only(
    server: RunningServer, mechanism: str, password: str | None, outcome: str
) -> None:
    async def attempt() -> str:
        talker = Talker("juliet", password or server.passwords["juliet"], mechanism)
        talker.connect(*server.address)
        name, _ = await talker.wait_for("session_start", "failed_all_auth")
        await talker.leave()
        return name

    assert asyncio.run(attempt()) == outcome
    tried = f'mechanism="{mechanism}"'.encode()
    assert any(tried in data.replace(b"'", b'"') for _, data in server.seen)


@pytest.mark.parametrize(
    ("auth", "condition"),
    [
        (plain("nobody", ""), "not-authorized"),
        (plain("juliet", ""), "not-authorized"),
        (f"<auth xmlns='{SASL}' mechanism='PLAIN'>~~~</auth>", "incorrect-encoding"),
        (f"<auth xmlns='{SASL}' mechanism='PLAIN'>AAA=</auth>", "not-authorized"),
        (f"<auth xmlns='{SASL}' mechanism='PLAIN'>anVsaWV0</auth>", "malformed-request"),
        (f"<auth xmlns='{SASL}' mechanism='DIGEST-MD5'>biws</auth>", "invalid-mechanism"),
        (f"<abort xmlns='{SASL}'/>", "aborted"),
    ],
)
def test_sasl_failures(server: RunningServer, auth: str, condition: str) -> None:
    with wire(server) as client:
        client.say(HEADER + auth)
        assert client.hear(r"<failure xmlns='[^']*'><([a-z-]+)/>")[1] == condition


def test_an_authorisation_identity_must_be_the_users_own(server: RunningServer) -> None:
    with wire(server) as client:
        client.say(HEADER + plain("juliet", server.passwords["juliet"], f"romeo@{DOMAIN}"))
        assert client.hear(r"<failure xmlns='[^']*'><([a-z-]+)/>")[1] == "invalid-authzid"
        client.say(plain("juliet", server.passwords["juliet"], f"juliet@{DOMAIN}"))
        client.hear("<success")


def test_sasl_without_an_initial_response(server: RunningServer) -> None:
    with wire(server) as client:
        client.say(HEADER + f"<auth xmlns='{SASL}' mechanism='PLAIN'/>")
        client.hear("<challenge[^>]*/>")
        text = plain("juliet", server.passwords["juliet"]).partition(">")[2].partition("<")[0]
        client.say(f"<response xmlns='{SASL}'>{text}</response>")
        client.hear("<success[^>]*/>")


def test_a_third_failed_attempt_ends_the_stream(server: RunningServer) -> None:
    with wire(server) as client:
        client.say(HEADER + plain("juliet", "wrong") * 3)
        assert client.hear_end().count("<not-authorized/>") == 3
        assert "<policy-violation" in client.read


@pytest.mark.parametrize("version", ["", " version='1.0'"])
@pytest.mark.parametrize("secret", ["password", "digest"])
def test_legacy_authentication(server: RunningServer, version: str, secret: str) -> None:
    password = server.passwords["romeo"]
    with wire(server) as client:
        client.say(HEADER.replace(" version='1.0' xmlns", f"{version} xmlns"))
        stream_id = client.hear(r"<stream:stream[^>]* id=\"([^\"]*)\"[^>]*>")[1]
        if version:
            client.hear("http://jabber.org/features/iq-auth.*</stream:features>")
        client.say(
            "<iq type='get' id='1'><query xmlns='jabber:iq:auth'><username>romeo</username>"
            "</query></iq>"
        )
        client.hear("<password/>.*<resource/>.*</iq>")
        proof = password
        if secret == "digest":
            proof = hashlib.sha1((stream_id + password).encode()).hexdigest()
        query = (
            "<iq type='set' id='{}'><query xmlns='jabber:iq:auth'><username>romeo</username>"
            f"<{secret}>{{}}</{secret}><resource>old</resource></query></iq>"
        )
        client.say(query.format(2, proof + "x"))
        client.hear('<iq type="error" id="2">.*<not-authorized.*</iq>')
        client.say(query.format(3, proof))
        client.hear('<iq type="result" id="3"/>')
        client.say(f"<message to='romeo@{DOMAIN}/old'><body>me</body></message>")
        client.hear(f'<message[^>]* from="romeo@{DOMAIN}/old"[^>]*><body>me</body></message>')


@pytest.mark.parametrize(
    ("sent", "condition"),
    [
        (HEADER + "<a><b></a>", "not-well-formed"),
        (HEADER + "<x:message/>", "not-well-formed"),
        (HEADER + "<!-- hidden -->", "restricted-xml"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + HEADER, "restricted-xml"),
        (HEADER + "<message/>", "not-authorized"),
        (HEADER + f"<iq to='{DOMAIN}' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", "not-auth"),
        (HEADER.replace(f"to='{DOMAIN}'", "to='else.example'"), "host-unknown"),
        (HEADER + "<a>" + "x" * 70_000, "policy-violation"),
        ("GET / HTTP/1.1\r\n\r\n", "not-well-formed"),
    ],
)
def test_a_stream_that_breaks_the_rules_gets_a_header_an_error_and_an_end(
    server: RunningServer, sent: str, condition: str
) -> None:
    with wire(server) as client:
        client.say(sent)
        heard = client.hear_end()
    assert re.fullmatch(
        rf"<\?xml[^>]*>\s*<stream:stream .*<stream:error><{condition}.*</stream:error>"
        "</stream:stream>",
        heard,
        re.DOTALL,
    ), heard


def test_a_message_of_a_megabyte(server: RunningServer) -> None:
    body = "é" * 524_288
    with closing(logged_in(server, "romeo")) as romeo, closing(logged_in(server, "juliet")) as me:
        me.send_message(f"romeo@{DOMAIN}", body)
        assert romeo.receive_message() == Message(f"juliet@{DOMAIN}/demo", body)


def test_a_message_to_oneself(server: RunningServer) -> None:
    with closing(logged_in(server, "juliet")) as me:
        for recipient in (f"juliet@{DOMAIN}", f"Juliet@LOCALHOST/{me.jid.partition('/')[2]}"):
            me.send_message(recipient, "note to self")
            assert me.receive_message() == Message(me.jid, "note to self")


def test_a_message_without_a_recipient_goes_to_its_sender(juliet: Wire) -> None:
    juliet.say("<presence/>")
    juliet.hear(f'<presence from="juliet@{DOMAIN}/wire"/>')
    juliet.say("<message id='m'><body>x</body></message>")
    juliet.hear(f'<message id="m" from="juliet@{DOMAIN}/wire"><body>x</body></message>')


def test_a_stanza_keeps_its_namespaces(juliet: Wire) -> None:
    juliet.say(
        f"<message to='juliet@{DOMAIN}/wire' xml:lang='de'><body>a &amp; b</body>"
        "<x xmlns='urn:x' xmlns:y='urn:y' y:z='1'><y:e/></x></message>"
    )
    heard = juliet.hear("<message.*</message>")[0]
    assert 'xml:lang="de"' in heard
    assert "<body>a &amp; b</body>" in heard
    assert re.search(r'<x xmlns="urn:x" xmlns:y="urn:y" y:z="1"><y:e/></x>', heard), heard


@pytest.mark.parametrize(
    ("stanza", "condition"),
    [
        (f"<message to='romeo@{DOMAIN}'><body/></message>", "service-unavailable"),
        (f"<message to='{DOMAIN}'><body/></message>", "service-unavailable"),
        ("<message to='x@else.example'/>", "remote-server-not-found"),
        ("<message to='@/'/>", "jid-malformed"),
        ("<iq type='get'><query xmlns='urn:unknown'/></iq>", "service-unavailable"),
        (f"<iq type='get' to='romeo@{DOMAIN}/x'><a xmlns='b'/></iq>", "service-unavailable"),
        ("<iq type='get'/>", "bad-request"),
        ("<iq type='odd'/>", "bad-request"),
        ("<iq type='get'><vCard xmlns='vcard-temp'/></iq>", "item-not-found"),
    ],
)
def test_stanzas_that_cannot_be_handled_come_back(
    juliet: Wire, stanza: str, condition: str
) -> None:
    juliet.say(stanza.replace(" ", " id='e' ", 1))
    heard = juliet.hear(r"<(iq|message) [^>]*>(?:(?!</\1>).)*</\1>")[0]
    assert 'type="error"' in heard
    assert 'id="e"' in heard
    assert f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>" in heard


def test_an_error_is_not_answered(juliet: Wire) -> None:
    juliet.say(f"<message type='error' to='romeo@{DOMAIN}'/><iq type='result' id='r'/>")
    juliet.say("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert juliet.hear("<[^>]*>")[0] == f'<iq type="result" id="p" to="juliet@{DOMAIN}/wire"/>'


def test_services_and_keepalives(juliet: Wire) -> None:
    juliet.say(" \n ")
    juliet.say("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    juliet.hear(f'<item jid="romeo@{DOMAIN}" name="Romeo" subscription=\'both\'/></query></iq>')
    juliet.say(
        f"<iq type='get' id='2' to='{DOMAIN}'>"
        "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    juliet.hear(f'<iq type="result" id="2" from="{DOMAIN}".*urn:xmpp:ping.*</iq>')
    juliet.say("<iq type='set' id='3'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    juliet.hear('<iq type="result" id="3"')


def test_presence_goes_round(server: RunningServer, juliet: Wire) -> None:
    juliet.say("<presence><show>away</show></presence>")
    juliet.hear("<presence.*</presence>")
    with wire(server) as romeo:
        romeo.log_in(server, "romeo")
        romeo.say("<presence/>")
        romeo.hear(f'<presence from="juliet@{DOMAIN}/wire"><show>away</show></presence>')
        juliet.hear(f'<presence from="romeo@{DOMAIN}/wire"/>')
    juliet.hear(f'<presence from="romeo@{DOMAIN}/wire" type="unavailable"/>')


def test_the_same_resource_again_ends_the_older_session(
    server: RunningServer, juliet: Wire
) -> None:
    with wire(server) as newer:
        newer.log_in(server, "juliet")
        assert "<conflict" in juliet.hear_end()
        newer.say("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        newer.hear('type="result" id="p"')


def test_the_end_of_a_stream_is_answered(juliet: Wire) -> None:
    juliet.say("</stream:stream>")
    assert juliet.hear_end() == "</stream:stream>"


def test_a_client_that_does_not_read_is_cut_off(server: RunningServer, juliet: Wire) -> None:
    flood = f"<message to='romeo@{DOMAIN}/wire'><body>{'x' * 1_000_000}</body></message>".encode()
    with wire(server) as romeo:
        romeo.log_in(server, "romeo")
        for _ in range(40):
            juliet.say(flood)
        juliet.hear("<service-unavailable")
        with pytest.raises(ConnectionError):
            romeo.hear_end()


def test_the_observer_sees_each_part_as_it_passed(juliet: Wire, server: RunningServer) -> None:
    juliet.say("<presence  type = 'unavailable' />")
    juliet.say("</stream:stream>")
    juliet.hear_end()
    towards = [data for direction, data in server.seen if direction is Direction.TO_SERVER]
    assert towards[0] == HEADER.encode()
    assert towards[-2:] == [b"<presence  type = 'unavailable' />", b"</stream:stream>"]
    assert server.seen[-1] == (Direction.TO_CLIENT, b"</stream:stream>")


def test_the_client_says_what_it_was_refused(server: RunningServer) -> None:
    with (
        closing(Client(server.address, DOMAIN, authority=None)) as client,
        pytest.raises(ClientError, match="not-authorized"),
    ):
        client.log_in("juliet", "wrong", "demo")
