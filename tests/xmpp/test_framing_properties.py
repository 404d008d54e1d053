"""Properties of the framer: any pieces, any bytes, and libxml2 for a second opinion."""

from pyexpat import ParserCreate
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element, enclosure
from proxy.xmpp.framing import Limits
from proxy.xmpp.names import LONGEST, UNKNOWN, is_attribute, is_element
from tests.xmpp.streams import FOOTER, HEADER, cut, cut_at, read

places = st.lists(st.integers(0, 1 << 16), max_size=12)
characters = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))
texts = st.text(characters | st.sampled_from("<>&\"'] \t\n\r}{"), max_size=12)
spaces = st.text(" \t\r\n", max_size=3)
names = st.from_regex(r"[A-Za-z_é][A-Za-z0-9_.\-é]{0,6}", fullmatch=True)
uris = st.sampled_from(["jabber:client", "urn:a", "http://b.example/c?d&e", ""])
FAMOUS = ["message", "stream:error", "stream:features", "a:b", "c:d", "e"]


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    """The text of one element that declares the prefixes ``a`` and ``c`` if it uses them."""
    name = draw(st.sampled_from(FAMOUS) | names)
    attributes = draw(st.dictionaries(names.filter(lambda n: n[:3] != "xml"), texts, max_size=3))
    written = [f"{key}={_quoted(draw, value)}" for key, value in attributes.items()]
    for prefix in ("a", "c"):
        if name.startswith(f"{prefix}:") or draw(st.booleans()):
            written.append(f"xmlns:{prefix}='urn:{prefix}'")
            written += draw(st.sampled_from([[], [f"{prefix}:x=''"]]))
    if draw(st.booleans()):
        written.append(f"xmlns={quoteattr(draw(uris))}")
    tag = name + "".join(
        draw(st.sampled_from([" ", "\n", "\r\n\t"])) + one for one in draw(st.permutations(written))
    )
    tag += draw(spaces)
    if draw(st.booleans()):
        return f"<{tag}/>"
    inside = _text() if depth > 2 else _text() | elements(depth + 1)
    content = "".join(draw(st.lists(inside, max_size=4)))
    return f"<{tag}>{content}</{name}{draw(spaces)}>"


def _text() -> st.SearchStrategy[str]:
    return st.one_of(
        texts.map(escape),
        texts.filter(lambda text: "]]>" not in text).map("<![CDATA[{}]]>".format),
        st.sampled_from(["&lt;", "&amp;", "&#65;", "&#x1F600;", "&#13;", "&apos;"]),
    )


def _quoted(draw: st.DrawFn, value: str) -> str:
    written = quoteattr(value)
    return written.replace("&gt;", ">") if draw(st.booleans()) else written


def outside() -> st.SearchStrategy[bytes]:
    return st.lists(elements() | spaces, max_size=5).map(lambda parts: "".join(parts).encode())


streams = outside().map(lambda content: HEADER + content + FOOTER)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A stream with some of its bytes changed, doubled or dropped."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data[start:end] = draw(junk)
    return bytes(data)


fragments = [
    b"<", b">", b"/>", b"</", b"&", b";", b"&#", b"]]>", b"<![CDATA[", b"<!", b"<!--", b"<?",
    b"<?xml ", b"?>", b"'", b'"', b"=", b" ", b"\r", b"\0", b"\x1f", b"\x85", b"\xff", b"\xeb",
    b"\xc3\xa9", b"\xe2\x82", b"\xac", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xef\xbf\xbe", b"a",
    b":", b"xmlns", b" xmlns='x'", b" xmlns:a='jabber:client'", b"xml:id='1 2'", b"<iq>", b"</iq>",
    b"<a:iq", b"<stream:stream>", HEADER, FOOTER, b"&lt;", b"&lol;", b"&aaaaaaaaaaaaaaaaaaaa;",
]  # fmt: skip
junk = st.sampled_from(fragments) | st.binary(max_size=4)
anything = st.one_of(
    damaged(),
    st.lists(junk, max_size=20).map(b"".join),
    st.lists(junk, max_size=20).map(lambda parts: HEADER + b"".join(parts)),
    st.lists(junk, max_size=20).map(lambda parts: HEADER + b"<iq>" + b"".join(parts)),
)
tight = st.builds(
    Limits,
    element=st.integers(1, 60),
    start_tag=st.integers(len(HEADER), len(HEADER) + 9) | st.integers(1, 30),
    attributes=st.integers(1, 5),
    depth=st.integers(1, 4),
    white_space=st.integers(0, 4),
)


@given(streams, places)
def test_a_valid_stream_is_read_in_full_however_it_is_cut(data: bytes, where: list[int]) -> None:
    whole = read([data])
    assert (whole.raw, whole.condition, whole.rest) == (data, None, b"")
    assert read(cut_at(data, where)) == whole
    assert read(cut(data)) == whole


@given(anything, places)
@example(b"<!DOCTYPE a>", [2])
@example(HEADER + b"a\xff", [len(HEADER) + 1])
@example(HEADER + b" \n\xc3(", [len(HEADER) + 1, len(HEADER) + 3])
@example(HEADER + b"<a>]]>\xff", [len(HEADER) + 6])
@example(HEADER + b"<a>&aaaaaaaaaaaaaaaaaa;</a>", [len(HEADER) + 20])
@example(HEADER + b"<a>]]]>", [len(HEADER) + 4])
@example(HEADER + b"<a>]]</a>", [len(HEADER) + 4])
@example(HEADER + b"<a>\xf0\x9f\x98\x80</a>", [len(HEADER) + 5])
@example(HEADER + b"<a>&#\xeb&&", [])
@example(HEADER + b"<a>&#&&", [])
@example(HEADER + b"<a>\xe0\x80</a>", [len(HEADER) + 4])
def test_any_bytes_give_the_same_however_they_are_cut(data: bytes, where: list[int]) -> None:
    whole = read([data])  # whatever is no StreamError fails the test
    assert data.startswith(whole.raw)
    assert read(cut_at(data, where)) == whole
    assert read(cut(data)) == whole


@given(anything, places, tight)
def test_the_same_under_tight_limits(data: bytes, where: list[int], limits: Limits) -> None:
    whole = read([data], limits)
    assert data.startswith(whole.raw)
    assert read(cut_at(data, where), limits) == whole
    assert read(cut(data), limits) == whole


Seen = tuple[str, dict[str, str], str, list["Seen"], str]


def _seen(node: ET.Element | etree._Element) -> Seen:
    """A tree as plain values: name, attributes, text, children, tail."""
    assert isinstance(node.tag, str)
    attributes = {str(name): str(value) for name, value in node.attrib.items()}
    children = [_seen(child) for child in node]
    return node.tag, attributes, node.text or "", children, node.tail or ""


def _by_expat(element: Element) -> Seen:
    builder = ET.TreeBuilder()
    parser = ParserCreate("utf-8", "\x1f")

    def started(name: str, attributes: dict[str, str]) -> None:
        builder.start(_qualified(name), {_qualified(k): value for k, value in attributes.items()})

    def ended(name: str) -> None:
        builder.end(_qualified(name))

    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = builder.data
    parser.Parse(enclosure(element.namespaces) + element.raw + b"</enclosure>", True)
    return _seen(builder.close()[0])


def _qualified(name: str) -> str:
    return "{" + name.replace("\x1f", "}") if "\x1f" in name else name


def _shown(seen: Seen) -> Seen:
    """What a tree is to show of what expat sees: not the names that libxml2 refuses."""
    name, attributes, text, children, tail = seen
    return (
        name if _is_kept(name) and is_element(name) else UNKNOWN,
        {
            key: value
            for key, value in attributes.items()
            if _is_kept(key) and key != f"{{{ns.XML}}}id" and is_attribute(key)
        },
        text,
        [_shown(child) for child in children],
        tail,
    )


def _is_kept(name: str) -> bool:
    return len(name) <= LONGEST


def _agree(element: Element) -> None:
    seen = _by_expat(element)
    assert (element.name, dict(element.attributes)) == seen[:2]
    assert _seen(element.tree) == _shown(seen)
    assert list(element.tree.attrib) == list(_shown(seen)[1])


@given(streams)
def test_libxml2_sees_the_same_elements(data: bytes) -> None:
    reading = read([data])
    for element in reading.elements:
        _agree(element)
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    stream = etree.fromstring(data, parser)
    assert [_seen(child)[:4] for child in stream] == [_seen(e.tree)[:4] for e in reading.elements]


@given(anything)
@example(HEADER + b"<a xml:id='1 2' b='\r\n\t'/>")
@example(HEADER + b"<a xmlns='urn:}b'>\r\r\n</a>")
@example(HEADER.replace(b" to=", b" xmlns:a='urn:&#10;b&quot;&lt;' to=") + b"<a:b/>")
def test_libxml2_sees_the_same_in_whatever_is_accepted(data: bytes) -> None:
    for element in read([data]).elements:
        _agree(element)


def test_the_comparison_can_fail() -> None:
    one, other = read([HEADER + b"<a>b</a><a>c</a>"]).elements
    assert _by_expat(one) == _seen(one.tree)
    assert _by_expat(one) != _seen(other.tree)
