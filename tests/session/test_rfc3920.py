"""RFC 3920, section 5.1: the rules of TLS, as RFC 6120 amends them, for the receiving entity."""

import re

import pytest
from lxml import etree

from proxy.session.commands import Arm, AwaitTLS, Connect, Deadline, Send, StartTLS
from proxy.session.hooks import Condition
from proxy.session.ids import StreamIds
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED, STARTTLS_FAILURE
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND,
    CLIENT,
    CLIENT_HELLO,
    CONNECTING,
    MESSAGE,
    OTHER_DOMAIN,
    SERVER,
    STARTTLS,
    Playbook,
    all_plugins,
    answer,
    client_hello,
    facts,
    finished,
    header,
    new_session,
    own,
    refused,
)

OFFER = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    b"</stream:features>"
)


def opened(play: Play, opening: bytes) -> bytes:
    """What a client is sent in answer to its header."""
    book = play().connected().then(Arm(Deadline.NEGOTIATION)).client(opening)
    (sent,) = book.commands[1:]
    book.then(sent)
    assert isinstance(sent, Send)
    assert sent.side is CLIENT
    return sent.data


def attributes(data: bytes) -> dict[str, str]:
    """The attributes of a stream header."""
    root = etree.fromstring(data.partition(b"<stream:features>")[0] + FOOTER)
    return {str(name): str(value) for name, value in root.attrib.items()}


def test_rule_01_a_client_of_version_1_0_is_needed(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION)).client(header(version=None))
    book.then(*refused(Condition.POLICY_VIOLATION, "XMPP 1.0", before=own(version=False)))


@pytest.mark.parametrize("version", ["1.0", "1.1", "01.00", "1.13"])
def test_rule_03_the_header_is_answered_with_exactly_the_offer_of_starttls(
    play: Play, version: str
) -> None:
    assert opened(play, header(version=version)) == own() + OFFER


def test_rule_03_the_answer_does_not_wait_for_the_server(play: Play) -> None:
    book = play(plugins=all_plugins()).to_offer()
    assert not [command for command in book.commands if isinstance(command, Connect)]


@pytest.mark.parametrize(
    "said",
    [
        MESSAGE,
        BIND,
        f"<iq type='get' id='1'><query xmlns='{ns.AUTH}'/></iq>".encode(),
        f"<iq type='set' id='1'><query xmlns='{ns.AUTH}'/></iq>".encode(),
        f"<iq type='set' id='1'><query xmlns='{ns.REGISTER}'/></iq>".encode(),
        f"<authenticate xmlns='{ns.SASL2}' mechanism='PLAIN'/>".encode(),
    ],
)
def test_rule_04_nothing_comes_before_tls(play: Play, said: bytes) -> None:
    for plugins in ([], all_plugins()):
        book = play(plugins=plugins).to_offer().client(said)
        book.then(*refused(Condition.POLICY_VIOLATION, "TLS is required"))


def test_rule_04_sasl_before_tls_fails_and_starttls_may_follow(play: Play) -> None:
    book = play(plugins=all_plugins()).to_offer().client(AUTH)
    (sent,) = book.commands[2:]
    book.then(sent)
    assert isinstance(sent, Send)
    assert sent.side is CLIENT
    assert sent.data.startswith(f"<failure xmlns='{ns.SASL}'><encryption-required/>".encode())
    book.client(STARTTLS).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))


def test_rule_04_the_core_alone_refuses_sasl_before_tls(play: Play) -> None:
    play().to_offer().client(AUTH).then(*refused(Condition.POLICY_VIOLATION))


@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b"\t \r\n"])
def test_rule_05_white_space_around_starttls_is_tolerated(play: Play, space: bytes) -> None:
    book = play().to_offer().client(space).then()
    book.client(STARTTLS + space).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
    assert book.session.unread == 0


def test_rule_05_proceed_is_exact(play: Play) -> None:
    book = play().to_offer().client(STARTTLS)
    book.then(
        Send(CLIENT, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), AwaitTLS(direct=False)
    )


def test_rule_06_tls_begins_right_after_proceed(play: Play) -> None:
    book = play().to_offer().client(STARTTLS + CLIENT_HELLO)
    book.then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
    assert book.session.unread == len(CLIENT_HELLO)


def test_rule_06_white_space_before_tls_is_read_and_tls_is_not(play: Play) -> None:
    book = play().to_offer().client(STARTTLS + b"\r\n" + CLIENT_HELLO)
    book.then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
    assert book.session.unread == len(CLIENT_HELLO)


def test_rule_06_no_xml_is_sent_between_proceed_and_the_end_of_the_handshake(play: Play) -> None:
    book = play().to_hello().client(MESSAGE).then()
    book.hello().then(StartTLS("example.com"))
    book.client(MESSAGE).then()


def test_rules_09_and_10_knowledge_from_before_tls_is_discarded(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header(more=" from='mallory@example.com/x' xml:lang='de' id='x'"))
    book.then(Send(CLIENT, own(to="mallory@example.com") + OFFER))
    book.client(STARTTLS).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
    book.hello().then(StartTLS("example.com"))
    book.session.secured(facts())
    book.client(header(more=" from='alice@example.com'")).then(*CONNECTING)
    book.server_unreachable().then(
        *refused(Condition.REMOTE_CONNECTION_FAILED, before=own(2, to="alice@example.com"))
    )


def test_rule_10_the_proxys_own_answer_under_tls_knows_no_from_of_plaintext(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header(more=" from='mallory@example.com'"))
    book.then(Send(CLIENT, own(to="mallory@example.com") + OFFER))
    book.client(STARTTLS).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))
    book.hello().then(StartTLS("example.com"))
    book.session.secured(facts())
    book.shut_down().then(*refused(Condition.SYSTEM_SHUTDOWN, before=own(2)))


def test_rule_11_no_starttls_after_tls(play: Play) -> None:
    features = (
        f"<stream:features><starttls xmlns='{ns.TLS}'/><mechanisms xmlns='{ns.SASL}'/>"
        "</stream:features>"
    ).encode()
    book = play(plugins=[*all_plugins()[:2]]).to_connecting()
    book.server_connected().then(Send(SERVER, header()))
    book.server(answer() + features)
    sent = b"".join(one.data for one in book.commands[-3:] if isinstance(one, Send))
    book.then(*book.commands[-4:])
    assert f"<stream:features><mechanisms xmlns='{ns.SASL}'/></stream:features>".encode() in sent
    assert b"starttls" not in sent
    book.client(STARTTLS).then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished(close=[CLIENT, SERVER])
    )


def test_rule_12_the_clients_own_header_opens_the_servers_stream(play: Play) -> None:
    opening = b"<?xml version='1.0'?>\n" + header(more=" xml:lang='cy' xmlns:x='urn:x'")
    book = play().to_secured().client(opening).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, opening))


def test_rule_13_both_legs_end_when_tls_fails(play: Play) -> None:
    for step in (Playbook.to_hello, Playbook.to_handshake):
        step(play()).tls_failed().then(*finished("TLS failed", abort=[CLIENT, SERVER]))


# Failure


@pytest.mark.parametrize(
    "said",
    [
        f"<starttls xmlns='{ns.TLS}' mode='x'/>".encode(),
        f"<starttls xmlns='{ns.TLS}'><required/></starttls>".encode(),
        f"<starttls xmlns='{ns.TLS}'>now</starttls>".encode(),
        STARTTLS + MESSAGE,
        STARTTLS + b"x",
        STARTTLS + STARTTLS,
    ],
)
def test_starttls_that_is_malformed_or_not_the_last_word_fails(play: Play, said: bytes) -> None:
    book = play().to_offer().client(said)
    book.then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished("starttls", close=[CLIENT, SERVER])
    )


@pytest.mark.parametrize(
    "said",
    [
        f"<starttls xmlns='{ns.TLS}'></starttls>".encode(),
        f'<starttls xmlns="{ns.TLS}" />'.encode(),
        f"<t:starttls xmlns:t='{ns.TLS}'/>".encode(),
        f"<starttls xmlns='{ns.TLS}'>\n</starttls>".encode(),
    ],
)
def test_starttls_may_be_written_in_any_way(play: Play, said: bytes) -> None:
    play().to_offer().client(said).then(Send(CLIENT, PROCEED), AwaitTLS(direct=False))


def test_starttls_of_another_namespace_is_none(play: Play) -> None:
    play().to_offer().client(b"<starttls/>").then(*refused(Condition.POLICY_VIOLATION))


def test_starttls_inside_direct_tls_fails(play: Play) -> None:
    book = play().to_direct_secured().client(header()).then(*CONNECTING).to_features()
    book.client(STARTTLS).then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished(close=[CLIENT, SERVER])
    )


# The proxy's own header


def test_the_answer_is_from_the_domain_asked_for(play: Play) -> None:
    assert attributes(opened(play, header(OTHER_DOMAIN)))["from"] == OTHER_DOMAIN


def test_the_domain_is_answered_as_a_labels_in_lower_case(play: Play) -> None:
    assert attributes(opened(play, header("EXAMPLE.com.")))["from"] == "example.com"


def test_the_answer_has_no_to_without_a_from(play: Play) -> None:
    assert "to" not in attributes(opened(play, header()))


def test_the_answer_is_to_the_bare_jid(play: Play) -> None:
    opening = header(more=" from='alice@example.com/bal&apos;cony&lt;'")
    assert attributes(opened(play, opening))["to"] == "alice@example.com"


def test_what_from_says_cannot_break_out_of_the_answer(play: Play) -> None:
    opening = header(more=" from='a&apos;&quot;&gt;&lt;x&#10;@example.com'")
    assert attributes(opened(play, opening))["to"] == "a'\"><x\n@example.com"


def test_the_answer_has_a_language_a_version_and_the_proxys_id(play: Play) -> None:
    said = attributes(opened(play, header(more=" id='mine' xml:lang='cy'")))
    assert said == {
        "from": "example.com",
        "id": "own-1",
        "version": "1.0",
        "{http://www.w3.org/XML/1998/namespace}lang": "en",
    }


def own_ids(session: Session) -> list[str]:
    """The ids of the two streams that the proxy itself answers: before TLS and after."""
    out = [*session.connected(), *session.received(CLIENT, header() + STARTTLS)]
    out += [*session.hello(client_hello()), *session.secured(facts()), *session.shut_down()]
    sent = b"".join(one.data for one in out if isinstance(one, Send)).decode()
    return re.findall(r'<stream:stream[^>]* id="([^"]*)"', sent)


def test_each_stream_has_a_fresh_id_that_cannot_be_guessed() -> None:
    ids = StreamIds()
    found = [one for _ in range(20) for one in own_ids(new_session(ids=ids))]
    assert len(found) == len(set(found)) == 40
    assert all(len(one) >= 32 for one in found)
    assert all(map(ids.issued, found))


def test_a_header_always_comes_before_an_error(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION)).client(b"nonsense")
    book.then(*refused(Condition.NOT_WELL_FORMED, before=own(sender="")))


def test_a_header_comes_before_an_error_after_authentication_too(play: Play) -> None:
    book = play().to_success().client(header("example.org", more=" from='alice@example.com/x'"))
    book.then(*refused(Condition.NOT_AUTHORIZED, before=own(2, to="alice@example.com")))
