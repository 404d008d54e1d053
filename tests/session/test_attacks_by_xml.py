"""Attacks by XML itself, numbered as in `test_attacks`: smuggling, growth, compression."""

from collections.abc import Callable

import pytest

from proxy.session.commands import (
    Arm,
    Command,
    Deadline,
    Send,
)
from proxy.session.hooks import Condition, Plugin
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND,
    BIND_FEATURES,
    CLIENT,
    CLIENT_HELLO,
    MESSAGE,
    SERVER,
    all_plugins,
    answer,
    client_hello,
    facts,
    header,
    new_session,
    own,
    refused,
)
from tests.session.sessions import (
    authenticated,
    chains,
    ends_with_error,
    is_over,
    nothing,
    opened,
    to_client,
    to_server,
)

SMUGGLED = {
    "overlong UTF-8": b"<message><body>\xc0\xbcx/></body></message>",
    "torn UTF-8": b"<message><body>\xeb<x/></body></message>",
    "CESU surrogates": b"<message><body>\xed\xa0\xbd\xed\xb8\x80</body></message>",
    "UTF-16": "<message/>".encode("utf-16"),
    "UTF-7": b"<message><body>+ADw-x/+AD4-</body></message\xff>",
    "U+FFFE": b"<message><body>\xef\xbf\xbe</body></message>",
    "NUL": b"<message><body>\x00</body></message>",
    "a reference to a control character": b"<message><body>&#1;</body></message>",
    "a space in a namespace": b"<message xmlns='jabber:client '/>",
    "a stream inside the stream": header(),
    "a second declaration": b"<?xml version='1.0'?><message/>",
    "a tag in CDATA outside stanzas": b"<![CDATA[<message/>]]>",
    "a prefixed stanza": b"<c:message xmlns:c='jabber:client'/>",
    "a prefix of the streams namespace": b"<s:features xmlns:s='http://etherx.jabber.org/streams'/>",
    "a comment": b"<!-- <message/> -->",
    "a comment inside": b"<message><!-- --></message>",
    "a processing instruction": b"<message><?php x ?></message>",
    "an undeclared prefix": b"<x:y/>",
    "a duplicate attribute": b"<message a='1' a='2'/>",
    "a duplicate expanded attribute": b"<m xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'/>",
    "xml bound anew": b"<message xmlns:xml='urn:x'/>",
    "two colons": b"<a:b:c xmlns:a='urn:a'/>",
    "a tag in a tag": b"<message <presence/>",
    "a stray end": b"</message>",
    "text": b"text",
}
ENTITIES = {
    "a document type": b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    "an entity": b"<message><body>&a;</body></message>",
    "an entity in an attribute": b"<message to='&a;'/>",
    "an external entity": b"<message>&xxe;</message>",
    "billion laughs": b"<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><l>&b;</l>",
    "a parameter entity": b"<!DOCTYPE l [<!ENTITY % a SYSTEM 'http://192.0.2.1/'>%a;]>",
}


WHOLE = {"a space in a namespace", "a prefix of the streams namespace"}
"""What is one whole element all the same, for the server to refuse after authentication."""

SMUGGLING = [
    pytest.param(there, data, id=f"{number}, {there.__name__}: {name}")
    for number, found in ((10, SMUGGLED), (11, ENTITIES))
    for name, data in found.items()
    for there in (opened, authenticated)
    if there is opened or name not in WHOLE
]


@chains
@pytest.mark.parametrize(("there", "smuggled"), SMUGGLING)
def test_attack_10_and_11_smuggling_reaches_no_server(
    plugins: Callable[[], list[Plugin]],
    there: Callable[[Callable[[], list[Plugin]]], Session],
    smuggled: bytes,
) -> None:
    for pieces in ([smuggled], [smuggled[place : place + 1] for place in range(len(smuggled))]):
        session = there(plugins)
        out: list[Command] = []
        for piece in pieces:
            out += session.received(CLIENT, piece)
        assert is_over(out)
        assert to_server(out) in (b"", FOOTER)
        assert to_client(out).endswith(FOOTER)
        assert b"<stream:error>" in to_client(out)


@chains
@pytest.mark.parametrize("there", [opened, authenticated])
def test_attack_10_data_after_the_end_reaches_no_server(
    plugins: Callable[[], list[Plugin]],
    there: Callable[[Callable[[], list[Plugin]]], Session],
) -> None:
    session = there(plugins)
    out = session.received(CLIENT, FOOTER + MESSAGE)
    out += session.received(CLIENT, header() + AUTH)
    assert out == [Send(SERVER, FOOTER), Arm(Deadline.ENDING)]


def test_attack_10_cdata_that_holds_tags_stays_whole() -> None:
    stanza = b"<message><body><![CDATA[</body></message><presence/>]]></body></message>"
    session = authenticated(nothing)
    out = [
        one for place in range(len(stanza)) for one in session.received(CLIENT, stanza[place:][:1])
    ]
    assert out == [Send(SERVER, stanza)]


@chains
@pytest.mark.parametrize(
    ("name", "piece", "most"),
    [
        ("a start tag without end", b" a='" + b"x" * 4096, 80_000),
        ("attributes", b"".join(b" a%d=''" % count for count in range(500)), 80_000),
        ("depth", b"><a" * 200, 80_000),
        ("text", b"><body>" + b"x" * 4096, 270_000),
        ("white space in a tag", b" " * 4096, 270_000),
    ],
)
@pytest.mark.parametrize("begin", [b"", header()], ids=["no header", "a header"])
def test_attack_12_growth_before_tls_is_bounded(
    plugins: Callable[[], list[Plugin]], name: str, piece: bytes, most: int, begin: bytes
) -> None:
    session = new_session(plugins=plugins())
    session.connected()
    out = session.received(CLIENT, begin + b"<a" + piece)
    sent = 0
    while not is_over(out):
        out = session.received(CLIENT, piece if name != "text" else piece[7:])
        sent += len(piece)
        assert sent < most, name
    assert to_server(out) == b""


@chains
def test_attack_12_growth_endless_white_space_before_authentication(
    plugins: Callable[[], list[Plugin]],
) -> None:
    session = opened(plugins)
    for _ in range(300):
        if is_over(session.received(CLIENT, b" " * 1000)):
            return
    pytest.fail("white space without end")


@chains
def test_attack_12_growth_many_elements_before_authentication(
    plugins: Callable[[], list[Plugin]],
) -> None:
    session = opened(plugins)
    asked = f"<iq type='get' id='1'><query xmlns='{ns.AUTH}'/></iq>".encode()
    for _ in range(257):
        if is_over(session.received(CLIENT, asked)):
            return
    pytest.fail("elements without end")


def test_attack_12_growth_sasl_before_tls_is_no_endless_game() -> None:
    session = new_session(plugins=all_plugins())
    session.connected()
    session.received(CLIENT, header())
    for _ in range(65):
        if is_over(session.received(CLIENT, AUTH)):
            return
    pytest.fail("elements without end")


@chains
def test_attack_12_growth_what_is_sent_ahead_of_a_slow_server_is_bounded(
    plugins: Callable[[], list[Plugin]],
) -> None:
    session = new_session(plugins=plugins())
    session.connected()
    session.received(CLIENT, CLIENT_HELLO)
    session.hello(client_hello(direct=True))
    session.secured(facts(direct=True))
    session.received(CLIENT, header())
    for _ in range(100):
        out = session.received(CLIENT, MESSAGE * 100)
        if is_over(out):
            assert ends_with_error(out, Condition.POLICY_VIOLATION)
            return
    pytest.fail("bytes without end")


@chains
def test_attack_12_growth_one_byte_at_a_time_ends_at_the_deadline(
    play: Play, plugins: Callable[[], list[Plugin]]
) -> None:
    book = play(plugins=plugins())
    book.session.connected()
    for place in range(20):
        book.client(header()[place : place + 1]).then()
    book.expired(Deadline.NEGOTIATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT, before=own(sender="")))


COMPRESS = f"<compress xmlns='{ns.COMPRESSION}'><method>zlib</method></compress>".encode()


def test_attack_15_compression_is_never_offered() -> None:
    offer = (
        f"<compression xmlns='{ns.COMPRESSION_FEATURE}'><method>zlib</method></compression>"
    ).encode()
    session = opened(all_plugins)
    session.received(CLIENT, AUTH)
    session.received(SERVER, f"<success xmlns='{ns.SASL}'/>".encode())
    session.received(CLIENT, header())
    features = BIND_FEATURES.replace(b"</stream", offer + b"</stream")
    sent = to_client(session.received(SERVER, answer("s2") + features))
    assert b"bind" in sent
    assert b"compress" not in sent


@chains
@pytest.mark.parametrize("there", [opened, authenticated])
def test_attack_15_compress_is_refused(
    plugins: Callable[[], list[Plugin]],
    there: Callable[[Callable[[], list[Plugin]]], Session],
) -> None:
    out = there(plugins).received(CLIENT, COMPRESS)
    assert out == list(refused(Condition.UNSUPPORTED_STANZA_TYPE))


def test_bind_is_what_a_client_sends_after_authentication() -> None:
    """The sessions of these tests do let through what is fine."""
    assert authenticated(all_plugins).received(CLIENT, BIND) == [Send(SERVER, BIND)]
