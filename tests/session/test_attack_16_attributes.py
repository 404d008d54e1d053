"""Attack 16: attributes that one server overlooks and another takes for an address.

jabberd2 looks for attributes by their local names, in any namespace, and of several takes the last.
Whoever proves one domain must not speak for another to such a server, so nothing that one says in
dialback reaches another in its own words.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from proxy.session import dialback
from proxy.session.commands import Send
from proxy.session.hooks import Condition
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.federation import InboundPlaybook, OutboundPlaybook, Peers, never
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    REMOTE,
    VICTIM,
    anew,
    answer,
    answered,
    message,
    opened,
    own_answer,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server

REQUEST = result(REMOTE, LOCAL)
START = opened(None, None, db=False)
Z = "xmlns:z='urn:z'"


def read(sent: bytes) -> list[etree._Element]:
    """The first-level elements of what a server is sent in an open stream.

    Nothing is in scope there but what every stream declares.
    """
    return list(etree.fromstring(START + sent + FOOTER))


def as_jabberd2(element: etree._Element, name: str) -> str:
    """What jabberd2 reads as an attribute."""
    found = [value for key, value in element.items() if etree.QName(key).localname == name]
    return found[-1]


def smuggled(raw: bytes, *, first: bool = False, **more: str) -> bytes:
    """An element or a header with qualified attributes besides its own, before or behind them."""
    qualified = f" {Z}" + "".join(f" z:{name.rstrip('_')}='{more[name]}'" for name in more)
    tag, end = re.match(rb"<[^ ]+( [^ ]+='[^']*')*", raw), qualified.encode()
    assert tag is not None
    place = raw.index(b" ") if first else tag.end()
    return raw[:place] + end + raw[place:]


# Qualified attributes (jabberd2 takes them for its own)

SMUGGLED = [
    {"from_": VICTIM},
    {"from_": REMOTE},
    {"to": "example.org"},
    {"id": "Y"},
    {"type": "valid"},
    {"version": "2.0"},
    {"from_": f"ceo@{VICTIM}", "to": f"b@{LOCAL}", "id": "1", "type": "chat"},
]
smuggling = pytest.mark.parametrize("more", SMUGGLED, ids=str)
anywhere = pytest.mark.parametrize("first", [False, True], ids=["behind", "before"])


def test_jabberd2_is_read_aright() -> None:
    """What these tests take for its reading of a smuggled sender is the victim."""
    (element,) = read(smuggled(message(), from_=f"a@{VICTIM}"))
    assert as_jabberd2(element, "from") == f"a@{VICTIM}"
    assert element.get("from") == f"a@{REMOTE}"


FROM_CLIENT = [
    REQUEST,
    verify(REMOTE, LOCAL, "X"),
    answer(REMOTE, LOCAL, "valid"),
    message(),
    f"<iq type='get' id='1' from='{REMOTE}' to='{LOCAL}'/>".encode(),
    f"<presence from='{REMOTE}' to='{LOCAL}'/>".encode(),
    b"<enable xmlns='urn:xmpp:sm:3'/>",
    b"<r xmlns='urn:xmpp:sm:3'/>",
    b"<stream:error ><undefined-condition/></stream:error>",
]


@smuggling
@anywhere
@pytest.mark.parametrize("said", FROM_CLIENT)
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated", "to_convinced"])
def test_a_server_that_connects_smuggles_no_address(
    start: str, said: bytes, first: bool, more: dict[str, str]
) -> None:
    play = getattr(InboundPlaybook(), start)()
    play.client(smuggled(said, first=first, **more)).then(*refused(Condition.BAD_FORMAT))


@smuggling
@anywhere
@pytest.mark.parametrize("said", [message(f"b@{LOCAL}", f"a@{REMOTE}"), result(LOCAL, REMOTE)])
def test_nor_does_our_own_server(said: bytes, first: bool, more: dict[str, str]) -> None:
    play = OutboundPlaybook().to_dialled()
    play.client(smuggled(said, first=first, **more)).then(*refused(Condition.BAD_FORMAT))


@smuggling
@anywhere
def test_a_server_answers_for_no_other_by_what_it_smuggles(
    first: bool, more: dict[str, str]
) -> None:
    """It would tell our server that the victim's key was good which it has just been given."""
    play = OutboundPlaybook().to_streams()
    asked = verify(LOCAL, REMOTE, "X")
    play.client(asked).then(Send(SERVER, anew(asked)))
    before = to_client(play.commands)
    play.server(smuggled(answer(REMOTE, LOCAL, "valid", "X"), first=first, **more)).gave()
    assert b"<db:" not in to_client(play.commands).removeprefix(before)
    assert b"<remote-connection-failed" in to_client(play.commands)


@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
def test_a_server_of_ours_smuggles_nothing_out(kind: str) -> None:
    play = InboundPlaybook().to_streams()
    play.client(REQUEST).gave()
    play.server(smuggled(answer(LOCAL, REMOTE, kind), from_=VICTIM)).gave()
    assert VICTIM.encode() not in to_client(play.commands)
    assert b"<remote-connection-failed" in to_client(play.commands)


@smuggling
@anywhere
def test_a_header_smuggles_nothing_to_our_server(first: bool, more: dict[str, str]) -> None:
    play = InboundPlaybook().to_tls()
    play.client(smuggled(opened(REMOTE, LOCAL), first=first, **more)).gave()
    play.server_connected().gave()
    assert to_server(play.commands) == b""
    assert b"<bad-format" in to_client(play.commands)


def test_nor_does_the_second_one() -> None:
    play = InboundPlaybook().to_external()
    before = to_server(play.commands)
    play.client(smuggled(opened(REMOTE, LOCAL), from_=VICTIM)).gave()
    play.server_connected().gave()
    assert to_server(play.commands) == before
    assert b"<bad-format" in to_client(play.commands)


@smuggling
@anywhere
def test_nor_does_the_header_of_a_server_that_was_connected_to(
    first: bool, more: dict[str, str]
) -> None:
    """Our server would hash an id of another stream, or answer another domain."""
    play = OutboundPlaybook().to_secured()
    header = re.sub(rb"^<\?.*?\?>", b"", answered("r2", REMOTE))
    play.server(smuggled(header, first=first, **more) + FEATURES).gave()
    assert b"urn:z" not in to_client(play.commands)
    assert b"<remote-connection-failed" in to_client(play.commands)


def test_attributes_of_other_names_are_nobodys_address() -> None:
    play = InboundPlaybook().to_dialled()
    stanza = smuggled(message(), lang="de", From=VICTIM, fromage=VICTIM)
    play.client(stanza).then(Send(SERVER, stanza))


@pytest.mark.parametrize("said", [message(), REQUEST, b"<r xmlns='urn:xmpp:sm:3'/>"])
def test_the_namespace_of_xml_is_one_too(said: bytes) -> None:
    play = InboundPlaybook().to_dialled()
    play.client(said.replace(b" ", b" xml:id='Y' ", 1)).then(*refused(Condition.BAD_FORMAT))


def test_a_policy_without_dialback_is_not_got_round() -> None:
    """The victim's domain must be proved by a certificate, whatever ours makes of an attribute."""
    play = InboundPlaybook(Peers(policies=never(VICTIM))).to_streams()
    play.client(smuggled(REQUEST, from_=VICTIM)).then(*refused(Condition.BAD_FORMAT))


# Everything is written anew


SPELLINGS = {
    REMOTE: [REMOTE, REMOTE.upper(), f"{REMOTE}.", "Remote.Example", "remote\uff0eexample"],
    LOCAL: [LOCAL, LOCAL.upper(), f"{LOCAL}.", "Example.com", "example\u3002com"],
}
VALUES = st.sampled_from([VICTIM, REMOTE, LOCAL, "valid", "L1", "X", "&quot;", "&#10;&#x41;"])
FURTHER = [
    *("xml:lang", "FROM", "From", "x", "type2", "z:x", "z:lang", "y:a", "db:x"),
    *("z:from", "z:to", "z:id", "z:type", "y:from", "db:from", "stream:to", "z:version"),
]


@st.composite
def elements(
    draw: st.DrawFn, name: str, sender: str, to: str, *, kinds: st.SearchStrategy[str | None]
) -> bytes:
    """An element of dialback, strange in every way that is well-formed."""
    own = {"from": draw(st.sampled_from(SPELLINGS[sender]))}
    own["to"] = draw(st.sampled_from(SPELLINGS[to]))
    if name == "verify" or draw(st.booleans()):
        own["id"] = draw(st.sampled_from(["X", "X", "a&amp;b", "&quot;'&#10;&#9;"]))
        own["id"] = own["id"].replace("'", "&apos;")
    kind = draw(kinds)
    if kind is not None:
        own["type"] = kind
    names = draw(st.lists(st.sampled_from(FURTHER), max_size=2, unique=True))
    own |= {each: draw(VALUES) for each in names}
    own |= {f"xmlns:{each}": f"urn:{each}" for each in ("z", "y")}
    written = "".join(f" {each}='{own[each]}'" for each in draw(st.permutations(list(own))))
    inside = draw(st.sampled_from(["k3y", " k3y\n", "k&lt;&amp;3", "k3y<x from='a'/>", "k]]&gt;"]))
    if kind == "error":
        inside = "<error by='x'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>y</error>"
    return f"<db:{name}{written}>{inside}</db:{name}>".encode()


def parsed(raw: bytes) -> etree._Element:
    return etree.fromstring(opened(None, None) + raw + FOOTER)[0]


def is_strange(element: etree._Element) -> bool:
    """Whether an attribute might be taken for an address or the like, in spite of its namespace."""
    return any(
        name.namespace and name.localname in ("from", "to", "id", "type", "version")
        for name in map(etree.QName, element.attrib)
    )


@given(said=st.sampled_from(["result", "verify"]).flatmap(
    lambda name: elements(name, REMOTE, LOCAL, kinds=st.none())
))  # fmt: skip
def test_our_server_reads_what_was_judged(said: bytes) -> None:
    """Whatever attributes a request has, what comes of it has those of dialback and no others."""
    play = InboundPlaybook().to_streams()
    play.client(said)
    passed = to_server(play.gave())
    meant = parsed(said)
    assert bool(passed) is not is_strange(meant)
    if not passed:
        return
    (element,) = read(passed)
    names = {"from", "to", "id"} if meant.tag == dialback.VERIFY else {"from", "to"}
    assert element.tag == meant.tag
    assert set(element.keys()) == names
    assert element.nsmap.keys() - {None, "stream"} == {"db"}
    for name in names:
        assert element.get(name) == as_jabberd2(element, name) == meant.get(name)
    assert len(element) == 0
    assert (element.text, element.tail) == ((meant.text or "").strip(), None)


@given(data=st.data())
def test_our_server_is_answered_in_its_own_spelling(data: st.DataObject) -> None:
    """Whatever an answer looks like, of it there passes what it says, and by whom it was asked."""
    name = data.draw(st.sampled_from(["result", "verify"]))
    sender, to = (data.draw(st.sampled_from(SPELLINGS[each])) for each in (LOCAL, REMOTE))
    play = OutboundPlaybook().to_streams()
    play.client(result(sender, to) if name == "result" else verify(sender, to, "X")).gave()
    kinds = st.sampled_from(["valid", "invalid", "error"])
    said = data.draw(elements(name, REMOTE, LOCAL, kinds=kinds))
    play.server(said)
    passed = to_client(play.gave())
    meant = parsed(said)
    if is_strange(meant) or (name == "verify" and meant.get("id") != "X"):
        assert b"<db:" not in passed
        return
    (element,) = read(passed)
    expected = {"from": to, "to": sender, "type": meant.get("type")}
    if name == "verify":
        expected["id"] = "X"
    assert dict(element.attrib) == expected
    assert all(as_jabberd2(element, each) == expected[each] for each in expected)
    assert element.nsmap.keys() - {None, "stream"} == {"db"}
    assert element.text is None
    told = [etree.QName(each).localname for each in element.iter()][1:]
    assert told == (["error", "forbidden"] if meant.get("type") == "error" else [])


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        ("<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>", "forbidden"),
        (
            "<text>x</text><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>",
            "item-not-found",
        ),
        ("<forbidden/>", "undefined-condition"),
        ("<made-up xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>", "undefined-condition"),
        ("", "undefined-condition"),
    ],
)
def test_of_an_error_only_a_known_condition_is_kept(said: str, condition: str) -> None:
    play = OutboundPlaybook().to_streams()
    play.client(result(LOCAL, REMOTE)).gave()
    whole = answer(REMOTE, LOCAL, "error")[:-2] + f"><error>{said}</error></db:result>".encode()
    play.server(whole).then(Send(CLIENT, own_error(REMOTE, LOCAL, condition)))


def test_each_of_two_requests_is_answered_in_its_own_spelling() -> None:
    play = OutboundPlaybook().to_streams()
    play.client(verify(LOCAL, REMOTE, "X") + verify(LOCAL.upper(), f"{REMOTE}.", "X")).gave()
    said = answer(REMOTE, LOCAL, "valid", "X")
    play.server(said).then(Send(CLIENT, own_answer(REMOTE, LOCAL, "valid", "X")))
    play.server(said).then(Send(CLIENT, own_answer(f"{REMOTE}.", LOCAL.upper(), "valid", "X")))
    play.server(said).then()


def test_a_prefix_that_a_header_declares_otherwise_is_declared_again() -> None:
    play = InboundPlaybook().to_tls()
    header = opened(REMOTE, LOCAL, db=False, more=" xmlns:db='urn:x'")
    request = REQUEST.replace(b"<db:result", f"<d:result xmlns:d='{ns.DIALBACK}'".encode())
    request = request.replace(b"</db:", b"</d:")
    play.to_stream(header).client(request).then(Send(SERVER, anew(REQUEST)))


# Stream errors, which anybody may send

BAD_ERROR = (
    f"<stream:error from='ceo@{VICTIM}' to='b@{LOCAL}'><reset xmlns='{ns.STREAM_ERRORS}'/>"
    f"<text xmlns='{ns.STREAM_ERRORS}'>bye &amp; thanks</text>"
    f"<message from='ceo@{VICTIM}' to='b@{LOCAL}'/></stream:error>"
).encode()
ERROR = (
    f"<stream:error><reset xmlns='{ns.STREAM_ERRORS}'/>"
    f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'>bye &amp; thanks</text></stream:error>"
).encode()


UNKNOWN_ERROR = f"<stream:error><message from='{VICTIM}'/></stream:error>".encode()
NO_WORDS = (
    f"<stream:error><undefined-condition xmlns='{ns.STREAM_ERRORS}'/>"
    f"<text xmlns='{ns.STREAM_ERRORS}' xml:lang='en'></text></stream:error>"
).encode()
errors = pytest.mark.parametrize(("said", "told"), [(BAD_ERROR, ERROR), (UNKNOWN_ERROR, NO_WORDS)])


@errors
def test_nothing_hides_in_the_stream_error_of_a_server_that_connects(
    said: bytes, told: bytes
) -> None:
    InboundPlaybook().to_dialled().client(said).then(Send(SERVER, told))


@errors
def test_nothing_hides_in_the_stream_error_of_a_server_that_is_connected_to(
    said: bytes, told: bytes
) -> None:
    OutboundPlaybook().to_dialled().server(said).then(Send(CLIENT, told))
