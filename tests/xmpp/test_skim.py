"""Skimming: what is taken unparsed, what is left to expat, and what an attempt may cost."""

from collections.abc import Iterable, Iterator

import attrs
import pytest

from proxy.xmpp import namespaces as ns
from proxy.xmpp import skim
from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.events import Element, Event
from proxy.xmpp.framing import Framer, Limits
from tests.xmpp.streams import FOOTER, Reading, joined, read

SERVERS = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' "
    b"xmlns:stream='http://etherx.jabber.org/streams' to='b.example' version='1.0'>"
)
NAMES = {f"{{{ns.SERVER}}}{local}" for local in ("message", "iq", "presence")}
ADDRESSES = b" from='a@a.example/x' to='b.example'"
PAIR = (b"a@a.example/x", b"b.example")
MESSAGE = b"<message" + ADDRESSES + b"><body>hello</body></message>"
LIMITS = Limits()

Pair = tuple[bytes, bytes]


@attrs.frozen
class Skimmed:
    """A stream that was read with skimming: what it came to, and what of it was skimmed."""

    reading: Reading
    pieces: tuple[bytes, ...]


class Asked:
    """Takes note of the addresses that it is asked about, and approves of some."""

    def __init__(self, *approved: Pair) -> None:
        self.approved = approved
        self.pairs: list[Pair] = []

    def __call__(self, pair: Pair) -> bool:
        self.pairs.append(pair)
        return not self.approved or pair in self.approved


def everything(_pair: Pair) -> bool:
    return True


def read_skimming(
    pieces: Iterable[bytes], approve: skim.Approve = everything, limits: Limits = LIMITS
) -> Skimmed:
    """Read a stream as one who skims does; each skimmed piece is framed anew, on its own."""
    framer = Framer(limits)
    events: list[Event] = []
    taken: list[bytes] = []
    allowed: set[Pair] = set()

    def ask(pair: Pair) -> bool:
        if approved := approve(pair):
            allowed.add(pair)
        return approved

    try:
        for piece in pieces:
            framer.feed(piece)
            while True:
                if skimmed := framer.skim(ask):
                    taken.append(skimmed)
                    events += elements_of(skimmed, allowed)
                if (event := framer.next_event()) is None:
                    break
                events.append(event)
    except StreamError as error:
        assert framer.skim(ask) == b""
        reading = Reading(joined(events), error.condition, error.text, framer.rest)
        return Skimmed(reading, tuple(taken))
    return Skimmed(Reading(joined(events), None, "", framer.rest), tuple(taken))


def elements_of(skimmed: bytes, allowed: set[Pair]) -> Iterator[Element]:
    """The elements that a fresh framer finds in what was skimmed, which must be all of it."""
    reading = read([SERVERS + skimmed])
    assert (reading.condition, reading.rest, reading.raw) == (None, b"", SERVERS + skimmed)
    for event in reading.events[1:]:
        assert isinstance(event, Element)
        assert event.name in NAMES
        addresses = event.attributes["from"].encode(), event.attributes["to"].encode()
        assert addresses in allowed
        yield event


def skims(stanza: bytes, approve: skim.Approve = everything, limits: Limits = LIMITS) -> bool:
    """Whether the stanza is taken unparsed, where another one stands before and behind it."""
    whole = read([SERVERS + MESSAGE + stanza + MESSAGE], limits)
    skimmed = read_skimming([SERVERS + MESSAGE + stanza + MESSAGE], approve, limits)
    assert skimmed.reading == whole
    return b"".join(skimmed.pieces) == MESSAGE + stanza + MESSAGE


def attributes(names: str) -> str:
    return "".join(f" {name}='='" for name in names)


def stanza(inside: str, name: str = "message") -> bytes:
    return f"<{name}{ADDRESSES.decode()}>{inside}</{name}>".encode()


SIMPLE: dict[str, bytes] = {
    "message": MESSAGE,
    "empty": b"<presence" + ADDRESSES + b"/>",
    "empty, with a space": b"<presence" + ADDRESSES + b" />",
    "empty in two tags": b"<presence" + ADDRESSES + b"></presence>",
    "all attributes": b"<iq xml:lang='en' id='1' to='b.example' type='get' from='a.example'/>",
    "quotation marks": b'<iq to="b.example" id="it\'s" from=\'a.example\'><q a=\'"\' b="\'"/></iq>',
    "children": stanza(
        "<body>hello</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
        "<origin-id id='1' xmlns='urn:xmpp:sid:0'/>\n<html xmlns='http://www.w3.org/1999/xhtml'/>"
    ),
    "five deep": stanza("<a><b><c><d><e/>t</d></c></b><b>u<a/></b></a><a b.y-z_1='' y=''/>"),
    "text": stanza("a\t\r\nb ' \" ] ]] / = ! ? -- \x7f"),
    "references": stanza("<a b='&lt;&#39;&quot;' c=\"&apos;\">&amp;amp;&gt;&#9;</a>&#10;&#13;"),
    "characters of many bytes": stanza("<a b='\U0010ffff'>é\u0085\ufffd\ud7ff\ue000</a>\U0001ffff"),
    "addresses of many bytes": "<iq to='é@b.example/日' from='ü.example/😀'/>".encode(),
    "most attributes": stanza(f"<a{attributes('abcdefgh')}/>"),
}


@pytest.mark.parametrize("simple", SIMPLE.values(), ids=SIMPLE.keys())
def test_a_simple_stanza_is_skimmed(simple: bytes) -> None:
    assert skims(simple)


NOT_SIMPLE: dict[str, bytes] = {
    "white space before it": b" " + MESSAGE,
    "no from": b"<message to='b.example'/>",
    "no to": b"<message from='a.example'/>",
    "no addresses": b"<message/>",
    "another name": b"<a" + ADDRESSES + b"/>",
    "a longer name": b"<messages" + ADDRESSES + b"/>",
    "a name in other letters": b"<IQ" + ADDRESSES + b"/>",
    "a namespace": b"<message xmlns='jabber:server'" + ADDRESSES + b"/>",
    "a prefix declared": b"<message xmlns:x='jabber:client'" + ADDRESSES + b"/>",
    "another attribute": b"<message x=''" + ADDRESSES + b"/>",
    "a reference in from": b"<message from='&#97;.example' to='b.example'/>",
    "a predefined reference in to": b"<message from='a.example' to='b.example/&amp;'/>",
    "a quotation mark in from": b"<message from=\"a.example/'\" to='b.example'/>",
    "a line break in to": b"<message from='a.example' to='b.example\n'/>",
    "a prefix inside": stanza("<x:a xmlns:x='urn:x'/>"),
    "a prefix of the stream": stanza("<stream:a/>"),
    "six deep": stanza("<a><b><c><d><e><f/></e></d></c></b></a>"),
    "one attribute more": stanza(f"<a{attributes('abcdefghi')}/>"),
    "a name beyond ASCII": stanza("<é/>"),
    "CDATA": stanza("<![CDATA[a]]>"),
    "a greater-than sign in text": stanza("a>b"),
    "a greater-than sign in a value": stanza("<a b='>'/>"),
    "a reference beyond ASCII": stanza("&#233;"),
    "more white space in a tag": stanza("<a  b=''/>"),
    "white space at the end of a tag": stanza("<a b='' ></a>"),
    "white space in an end tag": stanza("<a></a >"),
    "white space around the equals sign": stanza("<a b = ''/>"),
    "too long": stanza("a" * skim.LONGEST),
}


@pytest.mark.parametrize("other", NOT_SIMPLE.values(), ids=NOT_SIMPLE.keys())
def test_whatever_else_is_well_formed_is_left_to_expat(other: bytes) -> None:
    assert read([SERVERS + other]).condition is None
    assert not skims(other)


def test_addresses_are_shown_as_they_are_written() -> None:
    asked = Asked()
    data = "<iq from='a@é/b c' to=\"d\"/><iq to='f' id='from' from=\"\"/>".encode()
    read_skimming([SERVERS + data], asked)
    assert asked.pairs == [("a@é/b c".encode(), b"d"), (b"", b"f")]


def test_the_first_no_ends_it_and_the_stanza_comes_as_an_element() -> None:
    framer = Framer(LIMITS)
    framer.feed(SERVERS)
    framer.next_event()
    bad = MESSAGE.replace(b"a.example", b"c.example")
    framer.feed(MESSAGE + MESSAGE + bad + MESSAGE)
    assert framer.skim(Asked(PAIR)) == MESSAGE * 2
    assert framer.skim(Asked(PAIR)) == b""
    event = framer.next_event()
    assert isinstance(event, Element)
    assert event.raw == bad
    assert framer.skim(Asked(PAIR)) == MESSAGE
    assert (framer.skim(Asked(PAIR)), framer.next_event(), framer.held) == (b"", None, 0)


def test_an_exception_takes_nothing() -> None:
    framer = Framer(LIMITS)
    framer.feed(SERVERS + MESSAGE * 2)
    framer.next_event()
    answers = iter([True])
    with pytest.raises(StopIteration):
        framer.skim(lambda _pair: next(answers))
    assert framer.rest == MESSAGE * 2
    assert framer.skim(everything) == MESSAGE * 2


def test_nothing_is_skimmed_but_between_the_elements_of_an_open_stream() -> None:
    framer = Framer(LIMITS)
    framer.feed(MESSAGE)
    assert framer.skim(everything) == b""  # before the header
    framer = Framer(LIMITS)
    framer.feed(SERVERS + b"<a>" + MESSAGE)
    framer.next_event()
    assert framer.next_event() is None
    framer.feed(MESSAGE)
    assert framer.skim(everything) == b""  # inside an element
    framer.feed(b"</a><message")
    framer.next_event()
    assert framer.next_event() is None
    framer.feed(MESSAGE.removeprefix(b"<message") + MESSAGE)
    assert framer.skim(everything) == b""  # of which a part has been looked at
    assert framer.next_event() is not None
    assert framer.skim(everything) == MESSAGE
    framer.feed(FOOTER + MESSAGE)
    assert framer.skim(everything) == b""
    framer.next_event()
    assert framer.skim(everything) == b""  # after the footer
    with pytest.raises(StreamError):
        framer.next_event()
    assert framer.skim(everything) == b""  # after a failure


def sized(size: int) -> bytes:
    return stanza("a" * (size - len(stanza(""))))


LIMITED: dict[str, tuple[Limits, bytes, bool]] = {
    "element": (Limits(element=100), sized(100), True),
    "element, too large": (Limits(element=99), sized(100), False),
    "start tag": (Limits(start_tag=100), sized(100), True),
    "start tag, if all were one": (Limits(start_tag=99), sized(100), False),
    "attributes": (Limits(attributes=8), MESSAGE, True),
    "attributes, too many for some": (Limits(attributes=7), MESSAGE, False),
    "longest": (LIMITS, sized(skim.LONGEST), True),
    "longer than that": (LIMITS, sized(skim.LONGEST + 1), False),
}


@pytest.mark.parametrize(("limits", "data", "skimmed"), LIMITED.values(), ids=LIMITED.keys())
def test_what_could_break_a_limit_is_left_to_expat(
    limits: Limits, data: bytes, skimmed: bool
) -> None:
    framer = Framer(LIMITS)
    framer.feed(SERVERS + data)
    framer.next_event()
    framer.limits = limits
    assert framer.skim(everything) == (data if skimmed else b"")


@pytest.mark.parametrize(("depth", "skimmed"), [(skim.DEEPEST, True), (skim.DEEPEST - 1, False)])
def test_the_depth_that_counts_is_that_which_the_parser_knows(depth: int, skimmed: bool) -> None:
    framer = Framer(Limits(depth=depth))
    framer.feed(SERVERS + MESSAGE)
    framer.next_event()
    framer.limits = LIMITS
    assert framer.skim(everything) == (MESSAGE if skimmed else b"")


def test_white_space_counts_from_anew_behind_what_was_skimmed() -> None:
    limits = Limits(white_space=5)
    for pieces in ([SERVERS, b"   ", MESSAGE, b"    "], [SERVERS, b"   " + MESSAGE + b"     "]):
        assert read_skimming(pieces, limits=limits).reading == read(pieces, limits)
    skimmed = read_skimming([SERVERS, b"     " + MESSAGE + b"      "], limits=limits)
    assert skimmed.pieces == (MESSAGE,)
    assert skimmed.reading.condition is Condition.POLICY_VIOLATION
