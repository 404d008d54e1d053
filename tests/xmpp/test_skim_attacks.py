"""What must not be skimmed past anyone, and what an attempt may cost."""

import re

import pytest

from proxy.xmpp import namespaces as ns
from proxy.xmpp import skim
from proxy.xmpp.errors import Condition
from proxy.xmpp.framing import Framer
from tests.xmpp.streams import cut, read, ways
from tests.xmpp.test_skim import (
    ADDRESSES,
    LIMITS,
    MESSAGE,
    PAIR,
    SERVERS,
    Asked,
    everything,
    read_skimming,
    skims,
    stanza,
)

MALFORMED: dict[str, tuple[bytes, Condition]] = {
    "smuggled by a tag that is left open": (
        stanza(f"<a>{stanza('').decode()}"),
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by crossed tags": (stanza("<a><b></a></b>"), Condition.NOT_WELL_FORMED),
    "smuggled by another end": (
        MESSAGE.replace(b"</message>", b"</iq>"),
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by a quotation mark": (
        b"<message from='a.example' to='b.example' id='\"'><a b='\"><iq from=\"'/></message>\"",
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by attributes without a space": (
        b"<message from='a.example'to='b.example'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by a second from": (
        b"<message from='a.example' to='b.example' from='c.example'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by a second to": (
        b"<message to='d.example' from='a.example' to='b.example'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "a second id": (
        b"<message id='1'" + ADDRESSES + b" id='2'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "a second type": (b"<iq type='set'" + ADDRESSES + b" type='get'/>", Condition.NOT_WELL_FORMED),
    "a second language": (
        b"<message xml:lang='en' xml:lang='fr'" + ADDRESSES + b"/>",
        Condition.NOT_WELL_FORMED,
    ),
    "a second attribute inside": (stanza("<a b='' c='' b=''/>"), Condition.NOT_WELL_FORMED),
    "a second namespace inside": (stanza("<a xmlns='a' xmlns='b'/>"), Condition.NOT_WELL_FORMED),
    "smuggled by a tag in a value": (
        stanza("<a b='</message><message from=\"c.example\">'/>"),
        Condition.NOT_WELL_FORMED,
    ),
    "smuggled by an overlong <": (
        stanza("\0").replace(b"\0", b"\xc0\xbc/message>\xe0\x80\xbcmessage>"),
        Condition.UNSUPPORTED_ENCODING,
    ),
    "smuggled by a < in the place of another byte": (
        stanza("\0").replace(b"\0", b"\xeb</message>"),
        Condition.UNSUPPORTED_ENCODING,
    ),
    "not UTF-8 in an address": (
        b"<message from='a\xff.example' to='b.example'/>",
        Condition.UNSUPPORTED_ENCODING,
    ),
    "a surrogate": (
        stanza("\0").replace(b"\0", b"\xed\xa0\x80"),
        Condition.UNSUPPORTED_ENCODING,
    ),
    "NUL": (stanza("\0"), Condition.NOT_WELL_FORMED),
    "NUL in an address": (
        b"<message from='a.example' to='b.example\0.c.example'/>",
        Condition.NOT_WELL_FORMED,
    ),
    "a control character": (stanza("<a b='\x1f'/>"), Condition.NOT_WELL_FORMED),
    "U+FFFE": (stanza("\ufffe"), Condition.NOT_WELL_FORMED),
    "U+FFFF": (stanza("\uffff"), Condition.NOT_WELL_FORMED),
    "the end of a section": (stanza("]]>"), Condition.NOT_WELL_FORMED),
    "a section in a value": (stanza("<a b='<![CDATA['/>"), Condition.NOT_WELL_FORMED),
    "a comment": (stanza("<!-- </message> -->"), Condition.RESTRICTED_XML),
    "a processing instruction": (stanza("<?a </message> ?>"), Condition.RESTRICTED_XML),
    "a document type": (stanza("<!DOCTYPE a>"), Condition.RESTRICTED_XML),
    "an entity": (stanza("&lol;"), Condition.RESTRICTED_XML),
    "an entity in from": (
        b"<message from='&a;.example' to='b.example'/>",
        Condition.RESTRICTED_XML,
    ),
    "a reference to no character": (stanza("&#1;"), Condition.NOT_WELL_FORMED),
    "a prefix that nobody declares": (stanza("<x:a/>"), Condition.NOT_WELL_FORMED),
    "a prefix that nobody declares, of from": (
        b"<message x:from='c.example'" + ADDRESSES + b"/>",
        Condition.NOT_WELL_FORMED,
    ),
    "a namespace that is reserved": (
        stanza(f"<a xmlns='{ns.XML}'/>"),
        Condition.NOT_WELL_FORMED,
    ),
    "another namespace that is reserved": (
        stanza('<a xmlns="http://www.w3.org/2000/xmlns/"/>'),
        Condition.NOT_WELL_FORMED,
    ),
    "a namespace that is reserved, by references": (
        stanza(f"<a xmlns='{ns.XML.replace('/', '&#47;')}'/>"),
        Condition.NOT_WELL_FORMED,
    ),
}


@pytest.mark.parametrize(("bad", "condition"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_well_formed_is_refused_as_ever(bad: bytes, condition: Condition) -> None:
    for way, pieces in ways(bad + MESSAGE):
        skimmed = read_skimming([SERVERS + MESSAGE, *pieces])
        assert skimmed.reading.condition is condition, way
        assert skimmed.pieces == (MESSAGE,), way


def test_what_comes_before_the_bad_one_is_skimmed_in_one_piece() -> None:
    many = stanza("é") * 50
    skimmed = read_skimming([SERVERS, many + stanza("\uffff") + many])
    assert skimmed.pieces == (many,)
    assert skimmed.reading.condition is Condition.NOT_WELL_FORMED


def test_a_nested_stanza_is_none() -> None:
    forged = b"<message from='c.example' to='b.example'/>"
    asked = Asked(PAIR)
    assert skims(stanza(f"<forwarded xmlns='urn:xmpp:forward:0'>{forged.decode()}</forwarded>"))
    torn = stanza(forged.decode())
    for way, pieces in ways(torn):
        skimmed = read_skimming([SERVERS, *pieces], asked)
        assert [event.raw for event in skimmed.reading.elements] == [torn], way
    assert set(asked.pairs) == {PAIR}


@pytest.mark.parametrize(
    "name",
    ["x:from", "from.", "fromage", "from-", "xfrom", "From", "from:x", "ffrom", "tto", "to1"],
)
def test_no_other_name_is_taken_for_that_of_an_address(name: str) -> None:
    instead = "to" if name.lower().startswith("t") else "from"
    other = "from" if instead == "to" else "to"
    for form in (
        f"<message {name}='c.example' {other}='b.example'/>",
        f"<message {other}='b.example' {name}='c.example'/>",
    ):
        asked = Asked()
        framer = Framer(LIMITS)
        framer.feed(SERVERS + form.encode())
        framer.next_event()
        assert framer.skim(asked) == b""
        assert not asked.pairs


def test_the_names_of_addresses_mean_nothing_further_inside() -> None:
    assert skims(stanza("<delay from='c.example' to='d.example' xmlns='urn:xmpp:delay'/>"))


class Counting:
    """The pattern, which counts how often it is tried and on how many bytes at most."""

    def __init__(self) -> None:
        self.tried = self.shown = 0
        self._match = skim._SIMPLE.match

    def match(self, data: bytearray, start: int, end: int) -> re.Match[bytes] | None:
        self.tried += 1
        self.shown += max(0, min(end, len(data)) - start)
        found = self._match(data, start, end)
        if found is not None:
            self.shown -= end - found.end()  # it stops there
        return found


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(skim, "_SIMPLE", counting)
    return counting


@pytest.mark.parametrize("size", [1, 5, 31, 1000])
def test_a_torn_stanza_is_not_looked_through_again_and_again(counting: Counting, size: int) -> None:
    data = stanza("<body>" + "x" * 10_000 + "</body>") + stanza("<a/>", "presence") * 200
    pieces = list(cut(data, size))
    skimmed = read_skimming([SERVERS, *pieces])
    assert skimmed.reading.raw == SERVERS + data
    assert counting.shown <= 2 * len(data)
    assert counting.tried <= 201 + 2 * len(pieces)


def test_many_torn_stanzas_cost_no_more_than_their_bytes(counting: Counting) -> None:
    """Each attempt sees little: what is torn is taken over by expat, a token at a time."""
    torn = MESSAGE[:-1]
    framer = Framer(LIMITS)
    framer.feed(SERVERS)
    framer.next_event()
    for _ in range(1000):
        framer.feed(torn)
        assert framer.skim(everything) == b""
        assert framer.next_event() is None
        framer.feed(b">")
        assert framer.skim(everything) == b""
        assert framer.next_event() is not None
    assert counting.shown <= 1000 * len(MESSAGE)


def test_stanzas_that_are_not_simple_cost_little_in_a_large_input(counting: Counting) -> None:
    data = stanza("<![CDATA[a]]>") * 500 + MESSAGE.replace(b"a.example", b"c.example") * 500
    read_skimming([SERVERS, data], Asked(PAIR))
    assert counting.tried <= 2 * 1000 + 3
    assert counting.shown <= counting.tried * skim.LONGEST


HOSTILE: dict[str, tuple[str, str, str]] = {
    # name: what comes first, what comes again and again, what comes last
    "text": ("", "a", ""),
    "brackets": ("", "]", ""),
    "references": ("", "&amp;", "&"),
    "references in a value": ("<a b='", "&amp;", "&'/>"),
    "children": ("", "<a/>", "<"),
    "children with text": ("", "<a>b</a>c", "</iq>"),
    "children with references": ("", "<a b='&lt;'>&amp;</a>&lt;", "</iq>"),
    "nests": ("", "<a><a><a><a><a/></a></a></a></a>", "</iq>"),
    "open nests": ("", "<a><a><a><a><a>", ""),
    "nests in a nest": ("<a>", "<a><a><a><a/></a></a></a>", "</message>"),
    "attributes": ("", "<a b='' c='' d='' e='' f='' g='' h='' i=''/>", "</iq>"),
    "a long value behind attributes": ("<a b='' c='' d='' e='' f='' g='' h='' i='", " b", "'/>"),
    "long names": ("<" + "a" * 8000 + " " + "a" * 2000 + "b='", " " + "a" * 1999, "'/>"),
    "a long name": ("<", "a", ""),
    "a long name, spaced": ("<a", " a", "/>"),
    "quotation marks": ("<a b=", "'\"", "/>"),
    "end tags": ("", "</a>", ""),
}


@pytest.mark.parametrize(("first", "again", "last"), HOSTILE.values(), ids=HOSTILE.keys())
def test_no_hostile_stanza_takes_more_than_its_bytes(
    counting: Counting, first: str, again: str, last: str
) -> None:
    """Were it not so, the attempt would not come back."""
    inside = (first + again * ((skim.LONGEST - len(first) - 200) // len(again)) + last)[:16_200]
    for data in (
        stanza(inside),
        stanza(inside)[:-9],
        stanza(inside + again * (50_000 // len(again))),
    ):
        counting.tried = 0
        skimmed = read_skimming([SERVERS, data + MESSAGE])
        assert skimmed.reading == read([SERVERS, data + MESSAGE])
        assert counting.tried <= 4
