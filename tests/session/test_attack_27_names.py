"""Attack 27: names that strangers make up do not fill lxml, which keeps every name for ever.

What a client says before it is authenticated never reaches lxml. Of what servers say, who may be
strangers too, it sees a bounded number of names.
"""

from collections.abc import Callable, Iterator, Mapping

import pytest
from lxml import etree

from proxy.session.commands import Join
from proxy.session.hooks import Condition, Plugin
from proxy.session.session import Session
from proxy.xmpp import events
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, STARTTLS_FAILURE
from tests.session.playbook import (
    AUTH,
    BIND,
    BOUND,
    CLIENT,
    MECHANISMS,
    SERVER,
    STARTTLS,
    all_plugins,
    answer,
    client_hello,
    facts,
    header,
    iq_auth,
    new_session,
)
from tests.session.sessions import authenticated, chains, is_over, opened, to_client, to_server
from tests.xmpp.streams import HEADER, read, ways
from tests.xmpp.tables import tables

MADE_UP = b"<made-up xmlns='urn:made-up' up='made'><a><b/></a></made-up>"


@pytest.fixture(autouse=True)
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What lxml has been given; it must never be the client's."""
    seen: list[bytes] = []
    parse = events.parse

    def noted(raw: bytes, namespaces: Mapping[str, str]) -> etree._Element:
        seen.append(raw)
        return parse(raw, namespaces)

    monkeypatch.setattr(events, "parse", noted)
    yield seen
    assert not [raw for raw in seen if b"<stream:features>" not in raw]


def inside(session: Session, said: bytes) -> tuple[bytes, bytes, bool]:
    """Return what comes of it: bytes for the client and for the server, and whether it ends."""
    out = session.received(CLIENT, said)
    return to_client(out), to_server(out), is_over(out)


@chains
@pytest.mark.parametrize(
    "starttls",
    [
        f"<starttls xmlns='{ns.TLS}'>".encode() + MADE_UP + b"</starttls>",
        f"<starttls xmlns='{ns.TLS}'>text</starttls>".encode(),
        f"<starttls xmlns='{ns.TLS}' made='up'/>".encode(),
        f"<starttls xmlns='{ns.TLS}'><![CDATA[]]></starttls>".encode(),
    ],
)
def test_attack_27_starttls_that_is_not_empty_fails_unseen(
    plugins: Callable[[], list[Plugin]], starttls: bytes
) -> None:
    session = new_session(plugins=plugins())
    session.connected()
    session.received(CLIENT, header())
    assert inside(session, starttls) == (STARTTLS_FAILURE + FOOTER, b"", True)


@chains
@pytest.mark.parametrize("kind", ["get", "set"])
def test_attack_27_an_iq_before_authentication_is_refused_unseen(
    plugins: Callable[[], list[Plugin]], kind: str
) -> None:
    said, passed, over = inside(
        opened(plugins), f"<iq type='{kind}' id='1'>".encode() + MADE_UP + b"</iq>"
    )
    assert f"<{Condition.NOT_AUTHORIZED.value} ".encode() in said
    assert not passed
    assert over


@chains
@pytest.mark.parametrize(
    "said",
    [
        AUTH,
        iq_auth("get"),
        iq_auth("set", MADE_UP.decode()),
        iq_auth("get").replace(ns.AUTH.encode(), ns.REGISTER.encode()),
    ],
)
def test_attack_27_what_logs_in_passes_unseen(
    plugins: Callable[[], list[Plugin]], said: bytes
) -> None:
    assert inside(opened(plugins), said) == (b"", said, False)


@chains
def test_attack_27_names_that_a_server_makes_up_are_not_kept_but_pass(
    plugins: Callable[[], list[Plugin]],
) -> None:
    with tables(3) as (elements, attributes):
        before = len(elements), len(attributes)
        for number in range(9):
            session = new_session(plugins=plugins())
            session.connected()
            session.received(CLIENT, header() + STARTTLS)
            session.hello(client_hello())
            session.secured(facts())
            session.received(CLIENT, header())
            session.server_connected()
            news = b"<n%d a%d='1'>n<m xmlns='urn:%d'/></n%d>" % ((number,) * 4)
            offer = MECHANISMS.replace(
                b"</stream:features>", STARTTLS + news + b"</stream:features>"
            )
            sent = to_client(session.received(SERVER, answer() + offer))
            assert news in sent
            assert STARTTLS not in sent
        assert (len(elements), len(attributes)) == (before[0] + 3, before[1] + 3)


def test_attack_27_a_whole_login_is_never_seen() -> None:
    session = authenticated(all_plugins)
    assert to_server(session.received(CLIENT, BIND)) == BIND
    out = session.received(SERVER, BOUND)
    assert any(isinstance(command, Join) for command in out)


@pytest.mark.parametrize(
    ("raw", "child"),
    [
        (b"<iq/>", ""),
        (b"<iq></iq>", ""),
        (b"<iq>text</iq>", ""),
        (b"<iq><a xmlns='urn:a'><b/></a><c/></iq>", "{urn:a}a"),
        (b"<iq>text<b><c xmlns='urn:c'/></b></iq>", "{jabber:client}b"),
        (b"<iq><x:a xmlns:x='urn:x'/></iq>", "{urn:x}a"),
        (b"<iq><![CDATA[<a/>]]><b xmlns=''/></iq>", "b"),
    ],
)
def test_attack_27_the_child_is_known_however_it_comes(raw: bytes, child: str) -> None:
    for way, pieces in ways(HEADER + b"<iq><first/></iq>" + raw + b"<iq/>"):
        children = [element.child for element in read(pieces).elements]
        assert children == ["{jabber:client}first", child, ""], way
