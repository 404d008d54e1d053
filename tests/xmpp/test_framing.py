"""The framer: what it finds, with which bytes, and what it refuses."""

import codecs

import pytest

from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element, Event, Footer, Header, WhiteSpace
from proxy.xmpp.framing import Framer, Limits
from proxy.xmpp.names import UNKNOWN
from tests.xmpp.streams import FOOTER, HEADER, cut, joined, read, ways

OPENING = HEADER.partition(b"?>")[2]

STREAMS: dict[str, list[bytes]] = {
    "header only": [HEADER],
    "no declaration": [OPENING],
    "declaration with encoding": [b'<?xml version="1.0" encoding="UTF-8" ?>\r\n' + OPENING],
    "declaration, standalone": [b"<?xml version='1.0' standalone='yes'?>" + OPENING],
    "white space before the header": [b" \r\n\t" + OPENING],
    "header over many lines": [OPENING.replace(b" ", b"\r\n\t ").replace(b">", b"\n>")],
    "closed": [HEADER, FOOTER],
    "closed, with white space in the tag": [HEADER, b"</stream:stream \r\n>"],
    "keepalives": [HEADER, b" \n \t\r\n", b"<presence/>", b" ", FOOTER],
    "stanzas": [HEADER, b"<presence/>", b"<iq type='get' id='1'><q xmlns='a'/></iq>", FOOTER],
    "starttls": [HEADER, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"],
    "starttls, prefixed": [HEADER, b"<ns0:starttls xmlns:ns0='urn:ietf:params:xml:ns:xmpp-tls' />"],
    "starttls, in two tags": [
        HEADER,
        b'<starttls\n\txmlns = "urn:ietf:params:xml:ns:xmpp-tls"\r\n></starttls\n>',
    ],
    "tags in quotation marks": [HEADER, b"<message a='>' b=\"/>'>\" c='\"'><body/></message>"],
    "tags in character data": [
        HEADER,
        b"<message><body><![CDATA[</body></message></stream:stream><iq/>]]></body></message>",
        b"<presence/>",
    ],
    "brackets in character data": [
        HEADER,
        b"<iq><a>]</a><b>]] ></b><c><![CDATA[]]]]></c><d><![CDATA[]]><![CDATA[>]]></d></iq>",
    ],
    "references": [
        HEADER,
        b"<message><body>&lt;&gt;&amp;&quot;&apos;&#9;&#x1F600;&#x0010FFFF;;</body></message>",
    ],
    "all lengths of characters": [
        HEADER,
        "<message é='ß'><body>a ß € 😀 \u00a0\ufffd\r\n</body></message>".encode(),
    ],
    "deep": [HEADER, b"<iq>" + b"<a>" * 100 + b"x" + b"</a>" * 100 + b"</iq>"],
    "its own default namespace": [HEADER, b"<c:message xmlns='x' xmlns:c='y'><c:a/></c:message>"],
    "stream features": [HEADER, b"<stream:features><a xmlns='b'/></stream:features>"],
    "prefixed content in a stanza": [HEADER, b"<iq><c:q xmlns:c='jabber:client'/></iq>"],
}


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS.keys())
def test_each_event_has_its_exact_bytes_however_the_stream_comes_in(pieces: list[bytes]) -> None:
    whole = read([b"".join(pieces)])
    assert [event.raw for event in whole.events] == pieces
    for way, torn in ways(b"".join(pieces)):
        assert read(torn) == whole, way


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize(
    "trailing", [b"\x16\x03\x01\x02\x00", b"<iq/>", b"<!-- -->", b"\xff", b"<", b"x"]
)
def test_what_follows_an_event_stays_in_rest(pieces: list[bytes], trailing: bytes) -> None:
    framer = Framer(Limits())
    framer.feed(b"".join(pieces) + trailing)
    for number, piece in enumerate(pieces, 1):
        event = framer.next_event()
        assert event is not None
        assert event.raw == piece
        assert framer.rest == b"".join(pieces[number:]) + trailing
        assert framer.held == len(framer.rest)


def test_the_header_is_told_in_full() -> None:
    (header,) = read([HEADER.replace(b" to=", b" xml:lang='de' xmlns:db='d' db:x='1' to=")]).events
    assert header == Header(
        raw=header.raw,
        name=ns.STREAM,
        prefix="stream",
        attributes={
            "to": "example.com",
            "version": "1.0",
            f"{{{ns.XML}}}lang": "de",
            "{d}x": "1",
        },
        namespaces={"": "jabber:client", "stream": ns.STREAMS, "db": "d"},
    )


@pytest.mark.parametrize(
    ("raw", "name", "attributes"),
    [
        (b"<message/>", ns.MESSAGE, {}),
        (b"<ns0:starttls xmlns:ns0='urn:ietf:params:xml:ns:xmpp-tls'/>", ns.STARTTLS, {}),
        (b"<starttls   xmlns\n=\n'urn:ietf:params:xml:ns:xmpp-tls'\n/>", ns.STARTTLS, {}),
        (b"<a xmlns='' b='&lt;&#65;\n'/>", "a", {"b": "<A "}),
        (b"<a xmlns='x}y'/>", "{x}y}a", {}),
        (
            b"<a:a xmlns:a='x' a:b='1' b='2' xml:lang='en'><c d='3'/></a:a>",
            "{x}a",
            {"{x}b": "1", "b": "2", f"{{{ns.XML}}}lang": "en"},
        ),
    ],
)
def test_an_element_has_its_qualified_names(
    raw: bytes, name: str, attributes: dict[str, str]
) -> None:
    for way, pieces in ways(HEADER + raw):
        found = read(pieces).events[-1]
        assert isinstance(found, Element), way
        assert found.raw == raw
        assert (found.name, dict(found.attributes)) == (name, attributes)
        assert found.namespaces == {"": "jabber:client", "stream": ns.STREAMS}


def test_a_name_that_libxml2_alone_refuses_is_not_shown() -> None:
    (found,) = read([HEADER + b"<a xmlns='x}y'/>"]).elements
    assert ns.split(found.name) == ("x}y", "a")
    assert found.tree.tag == UNKNOWN


def test_an_event_comes_with_its_last_byte() -> None:
    framer = Framer(Limits())
    found: list[tuple[int, type[Event]]] = []
    data = HEADER + b"<iq>&amp;</iq> <a/>" + FOOTER
    for place, byte in enumerate(cut(data), 1):
        framer.feed(byte)
        if (event := framer.next_event()) is not None:
            found.append((place, type(event)))
        assert framer.next_event() is None
    ends = [len(HEADER), len(HEADER) + 14, len(HEADER) + 15, len(HEADER) + 19, len(data)]
    assert found == list(zip(ends, [Header, Element, WhiteSpace, Element, Footer], strict=True))


BEFORE: dict[str, tuple[bytes, Condition]] = {
    "byte order mark": (codecs.BOM_UTF8 + HEADER, Condition.NOT_WELL_FORMED),
    "UTF-16 with a byte order mark": (
        codecs.BOM_UTF16_LE + HEADER.decode().encode("utf-16-le"),
        Condition.UNSUPPORTED_ENCODING,
    ),
    "UTF-16, big end first, with a byte order mark": (
        codecs.BOM_UTF16_BE + HEADER.decode().encode("utf-16-be"),
        Condition.UNSUPPORTED_ENCODING,
    ),
    "UTF-16": (HEADER.decode().encode("utf-16-le"), Condition.NOT_WELL_FORMED),
    "UTF-16, big end first": (HEADER.decode().encode("utf-16-be"), Condition.NOT_WELL_FORMED),
    **{
        f"declared as {name}": (
            f"<?xml version='1.0' encoding='{name}'?>".encode() + OPENING,
            Condition.UNSUPPORTED_ENCODING,
        )
        for name in ("UTF-7", "UTF-16", "UTF-16LE", "ISO-8859-1", "us-ascii", "CESU-8", "x")
    },
    "XML 1.1": (b"<?xml version='1.1'?>" + OPENING, Condition.NOT_WELL_FORMED),
    "an empty declaration": (b"<?xml?>" + OPENING, Condition.NOT_WELL_FORMED),
    "a declaration without a version": (
        b"<?xml encoding='UTF-8'?>" + OPENING,
        Condition.NOT_WELL_FORMED,
    ),
    "white space before the declaration": (b"\n" + HEADER, Condition.RESTRICTED_XML),
    "two declarations": (b"<?xml version='1.0'?>" + HEADER, Condition.RESTRICTED_XML),
    "processing instruction": (b"<?a b?>" + OPENING, Condition.RESTRICTED_XML),
    "processing instruction like a declaration": (
        b"<?xml-stylesheet href='a'?>" + OPENING,
        Condition.RESTRICTED_XML,
    ),
    "comment": (b"<!-- a -->" + OPENING, Condition.RESTRICTED_XML),
    "document type": (b"<!DOCTYPE stream:stream>" + OPENING, Condition.RESTRICTED_XML),
    "billion laughs": (
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>" + OPENING,
        Condition.RESTRICTED_XML,
    ),
    "parameter entity": (
        b"<!DOCTYPE a [<!ENTITY % a SYSTEM 'http://192.0.2.1/'> %a;]>" + OPENING,
        Condition.RESTRICTED_XML,
    ),
    "external entity": (
        b"<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" + OPENING,
        Condition.RESTRICTED_XML,
    ),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", Condition.NOT_WELL_FORMED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", Condition.NOT_WELL_FORMED),
    "character data": (b"<![CDATA[a]]>" + OPENING, Condition.NOT_WELL_FORMED),
    "an end tag": (b"</a>", Condition.NOT_WELL_FORMED),
    "a stream that is empty": (OPENING[:-1] + b"/>", Condition.BAD_FORMAT),
    "undeclared prefix": (b"<stream:stream>", Condition.NOT_WELL_FORMED),
    "an entity in an attribute": (OPENING[:-1] + b" a='&nbsp;'>", Condition.RESTRICTED_XML),
}

BETWEEN: dict[str, tuple[bytes, Condition]] = {
    "character data": (b"a", Condition.BAD_FORMAT),
    "a reference to white space": (b"&#32;", Condition.BAD_FORMAT),
    "marked character data": (b"<![CDATA[ ]]>", Condition.BAD_FORMAT),
    "NUL": (b"\0", Condition.NOT_WELL_FORMED),
    "no-break space": (b"\xc2\xa0", Condition.BAD_FORMAT),
    "bad bytes": (b"\xff", Condition.UNSUPPORTED_ENCODING),
    "declaration": (b"<?xml version='1.0'?>", Condition.RESTRICTED_XML),
    "second stream": (OPENING, Condition.BAD_FORMAT),
    "prefixed stanza": (b"<c:message xmlns:c='jabber:client'/>", Condition.BAD_NAMESPACE_PREFIX),
    "wrong end tag": (b"</stream>", Condition.NOT_WELL_FORMED),
    "data after the end": (FOOTER + b"<iq/>", Condition.NOT_WELL_FORMED),
    "TLS after the end": (FOOTER + b"\x16", Condition.NOT_WELL_FORMED),
}

INSIDE: dict[str, tuple[bytes, Condition]] = {
    "comment": (b"<!-- a -->", Condition.RESTRICTED_XML),
    "processing instruction": (b"<?a?>", Condition.RESTRICTED_XML),
    "declaration": (b"<?xml version='1.0'?>", Condition.RESTRICTED_XML),
    "document type": (b"<!DOCTYPE a>", Condition.RESTRICTED_XML),
    "entity declaration": (b"<!ENTITY a 'b'>", Condition.RESTRICTED_XML),
    "undefined entity": (b"&nbsp;", Condition.RESTRICTED_XML),
    "undefined entity in an attribute": (b"<a b='&b;'/>", Condition.RESTRICTED_XML),
    "entity with a long name": (b"&CounterClockwise;", Condition.RESTRICTED_XML),
    "character reference with a long number": (b"&#x0000000000041;", Condition.RESTRICTED_XML),
    "reference without an end": (b"&amp<a/>", Condition.NOT_WELL_FORMED),
    "ampersand": (b"a & b", Condition.NOT_WELL_FORMED),
    "overlong": (b"\xc0\xbc", Condition.UNSUPPORTED_ENCODING),
    "overlong, three bytes": (b"\xe0\x80\xbc", Condition.UNSUPPORTED_ENCODING),
    "overlong, four bytes": (b"\xf0\x80\x80\xbc", Condition.UNSUPPORTED_ENCODING),
    "torn character before a tag": (b"\xeb<a/>", Condition.UNSUPPORTED_ENCODING),
    "torn character in an attribute": (b"<a b='\xeb'/>", Condition.UNSUPPORTED_ENCODING),
    "torn character in a name": (b"<a\xeb/>", Condition.UNSUPPORTED_ENCODING),
    "surrogates": (b"\xed\xa0\xbd\xed\xb8\x80", Condition.UNSUPPORTED_ENCODING),
    "beyond Unicode": (b"\xf4\x90\x80\x80", Condition.UNSUPPORTED_ENCODING),
    "Latin-1": (b"caf\xe9 ", Condition.UNSUPPORTED_ENCODING),
    "U+FFFE": (b"\xef\xbf\xbe", Condition.NOT_WELL_FORMED),
    "U+FFFF": (b"\xef\xbf\xbf", Condition.NOT_WELL_FORMED),
    "NUL": (b"\0", Condition.NOT_WELL_FORMED),
    "NUL in marked character data": (b"<![CDATA[\0]]>", Condition.NOT_WELL_FORMED),
    "control character": (b"\x1f", Condition.NOT_WELL_FORMED),
    "control character before bad bytes": (b"\x01\xff", Condition.NOT_WELL_FORMED),
    "reference to a control character": (b"&#1;", Condition.NOT_WELL_FORMED),
    "reference to NUL": (b"&#0;", Condition.NOT_WELL_FORMED),
    "reference to a surrogate": (b"&#xD800;", Condition.NOT_WELL_FORMED),
    "separator in a namespace": (b"<a xmlns='b\x1fc'/>", Condition.NOT_WELL_FORMED),
    "separator in a namespace, as a reference": (
        b"<a xmlns='b&#x1f;c'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "end of marked character data": (b"a]]>b", Condition.NOT_WELL_FORMED),
    "undeclared prefix": (b"<a:b/>", Condition.NOT_WELL_FORMED),
    "undeclared prefix of an attribute": (b"<b a:c=''/>", Condition.NOT_WELL_FORMED),
    "prefix of the element before": (b"<a xmlns:c='d'/><c:a/>", Condition.NOT_WELL_FORMED),
    "prefix taken back": (b"<a xmlns:stream=''/>", Condition.NOT_WELL_FORMED),
    "duplicate attribute": (b"<a b='' b=''/>", Condition.NOT_WELL_FORMED),
    "duplicate expanded attribute": (
        b"<a xmlns:b='x' xmlns:c='x' b:d='' c:d=''/>",
        Condition.NOT_WELL_FORMED,
    ),
    "xml bound anew": (b"<a xmlns:xml='x'/>", Condition.NOT_WELL_FORMED),
    "another prefix for xml": (
        b"<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "xmlns bound": (b"<a xmlns:xmlns='x'/>", Condition.NOT_WELL_FORMED),
    "two colons": (b"<a:b:c xmlns:a='x'/>", Condition.NOT_WELL_FORMED),
    "colon first": (b"<:a/>", Condition.NOT_WELL_FORMED),
    "colon last": (b"<stream:/>", Condition.NOT_WELL_FORMED),
    "no name": (b"<>", Condition.NOT_WELL_FORMED),
    "space before the name": (b"< a/>", Condition.NOT_WELL_FORMED),
    "tag in a tag": (b"<a <b/>", Condition.NOT_WELL_FORMED),
    "tag in an attribute": (b"<a b='<c/>'/>", Condition.NOT_WELL_FORMED),
    "attribute without quotation marks": (b"<a b=c/>", Condition.NOT_WELL_FORMED),
    "attribute without a value": (b"<a b/>", Condition.NOT_WELL_FORMED),
    "attributes without space": (b"<a b=''c=''/>", Condition.NOT_WELL_FORMED),
    "attribute of an end tag": (b"<a></a b=''>", Condition.NOT_WELL_FORMED),
    "overlapping elements": (b"<a><b></a></b>", Condition.NOT_WELL_FORMED),
    "end of the stream": (FOOTER, Condition.NOT_WELL_FORMED),
    "lower-case cdata": (b"<![cdata[a]]>", Condition.RESTRICTED_XML),
}

_INSIDE = HEADER + b"<message><body>"
FAULTS = (
    [pytest.param(b"", *fault, id=f"before: {name}") for name, fault in BEFORE.items()]
    + [pytest.param(HEADER, *fault, id=f"between: {name}") for name, fault in BETWEEN.items()]
    + [pytest.param(_INSIDE, *fault, id=f"inside: {name}") for name, fault in INSIDE.items()]
)


@pytest.mark.parametrize(("before", "fault", "condition"), FAULTS)
def test_a_fault_ends_the_stream_however_it_comes_in(
    before: bytes, fault: bytes, condition: Condition
) -> None:
    whole = read([before + fault])
    assert whole.condition is condition
    assert all(event.raw in HEADER + FOOTER for event in whole.events)
    for way, pieces in ways(fault):
        assert read([before, *pieces]) == whole, way


@pytest.mark.parametrize(
    "fault",
    [fault for fault, _ in INSIDE.values() if fault[:3] in (b"<!-", b"<?a", b"<!D", b"<!E")],
)
def test_restricted_xml_is_refused_as_soon_as_it_begins(fault: bytes) -> None:
    assert read([_INSIDE + fault[:4]]).condition is Condition.RESTRICTED_XML


@pytest.mark.parametrize(
    ("fault", "condition"),
    [
        (b"x", Condition.BAD_FORMAT),
        (b"<a:iq xmlns:a='jabber:client'/>", Condition.BAD_NAMESPACE_PREFIX),
        (b"<stream:stream/>", Condition.BAD_FORMAT),
    ],
)
def test_a_stream_that_failed_stays_failed(fault: bytes, condition: Condition) -> None:
    framer = Framer(Limits())
    framer.feed(HEADER + b"<presence/>" + fault + b"<iq/>")
    assert isinstance(framer.next_event(), Header)
    assert isinstance(framer.next_event(), Element)
    for _ in range(3):
        with pytest.raises(StreamError) as caught:
            framer.next_event()
        assert caught.value.condition is condition
        framer.feed(b"<presence/>")


def test_a_space_in_a_namespace_makes_no_other_name() -> None:
    (found,) = read([HEADER + b"<a xmlns='jabber:client message'/>"]).elements
    assert ns.split(found.name) == ("jabber:client message", "a")


def test_a_new_framer_remembers_nothing() -> None:
    first = Framer(Limits())
    first.feed(HEADER + b"<message><body>")
    assert isinstance(first.next_event(), Header)
    assert first.next_event() is None
    second = Framer(Limits())
    assert (second.held, second.rest, second.next_event()) == (0, b"", None)
    second.feed(HEADER)
    assert joined([event for event in [second.next_event()] if event]) == read([HEADER]).events
