"""Limits: each is held before the memory is spent, however the bytes come in."""

from itertools import chain, repeat

import pytest

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.framing import Framer, Limits
from tests.xmpp.streams import FOOTER, HEADER, cut, read, ways

LIMITS = Limits(element=20_000, start_tag=5_000, attributes=10, depth=12, white_space=300)
LARGE = 65_536

ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    # name: what comes first, what comes again and again, the bytes after which it must end
    "white space before the header": (b"", b" \r\n\t", LIMITS.white_space),
    "declaration": (b"<?xml version='1.0'", b" ", LIMITS.start_tag),
    "name of the header": (b"<", b"a", LIMITS.start_tag),
    "value in the header": (b"<stream:stream to='", b"a", LIMITS.start_tag),
    "end tags in a value": (b"<stream:stream to='", b'/>"', LIMITS.start_tag),
    "white space in the header": (b"<stream:stream", b"\n", LIMITS.start_tag),
    "white space between stanzas": (HEADER, b"\n", LIMITS.white_space),
    "name of a stanza": (HEADER + b"<", b"a", LIMITS.start_tag),
    "value in a stanza": (HEADER + b'<iq id="', b"'>", LIMITS.start_tag),
    "end tag of a stanza": (HEADER + b"<iq></iq", b" ", LIMITS.start_tag),
    "end tag of the stream": (HEADER + b"</stream:stream", b" ", LIMITS.start_tag),
    "character data": (HEADER + b"<iq>", b"a", LIMITS.element),
    "white space in a stanza": (HEADER + b"<iq>", b" ", LIMITS.element),
    "references": (HEADER + b"<iq>", b"&lt;", LIMITS.element),
    "marked character data": (HEADER + b"<iq><![CDATA[", b"]>", LIMITS.element),
    "sections of character data": (HEADER + b"<iq>", b"<![CDATA[a]]>", LIMITS.element),
    "children": (HEADER + b"<iq>", b"<a/>", LIMITS.element),
    "children with text": (HEADER + b"<iq>", b"<a b='c'>d</a >\n", LIMITS.element),
    "a tag that no longer fits": (
        HEADER + b"<iq>" + b"a" * 19_000 + b"<a b='",
        b"a",
        LIMITS.element + len(HEADER),
    ),
    "depth": (HEADER, b"<a>", LIMITS.depth * 3),
    "attributes": (HEADER + b"<a", b" xmlns:a='b'", (LIMITS.attributes + 1) * 12),
}


@pytest.mark.parametrize("size", [1, 7, LARGE])
@pytest.mark.parametrize(("before", "again", "most"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_does_not_end_is_refused_before_the_memory_is_spent(
    before: bytes, again: bytes, most: int, size: int
) -> None:
    framer = Framer(LIMITS)
    unit = again * (size // len(again) + 1)
    endless = chain(cut(before, size), chain.from_iterable(repeat([unit[:size]])))
    if len(again) > 1 and size < LARGE:
        endless = chain(cut(before, size), cut(again * 50_000, size))
    fed = held = 0
    with pytest.raises(StreamError) as caught:  # noqa: PT012 - the loop is what must end
        for piece in endless:
            assert fed <= len(before) + most + size
            framer.feed(piece)
            fed += len(piece)
            held = max(held, framer.held)
            while framer.next_event() is not None:
                pass
    assert caught.value.condition is Condition.POLICY_VIOLATION
    assert held <= max(most, len(before)) + len("<iq>") + 1 + size


@pytest.mark.parametrize("size", [1, LARGE])
def test_white_space_is_handed_on_and_not_kept(size: int) -> None:
    framer = Framer(LIMITS)
    for piece in chain(cut(HEADER, size), cut((b" " * 200 + b"<a/>") * 500, size)):
        framer.feed(piece)
        while framer.next_event() is not None:
            pass
        assert framer.held <= len(HEADER)


SIZED: dict[str, tuple[Limits, bytes, bytes]] = {
    # name: the limits, what just fits, what is one byte, attribute or element too much
    "element": (Limits(element=20), b"<iq>89012345678</iq>", b"<iq>890123456789</iq>"),
    "element, all tag": (Limits(element=20), b"<iq a='8901234567'/>", b"<iq a='89012345678'/>"),
    "element, marked": (
        Limits(element=26),
        b"<iq><![CDATA[45678]]></iq>",
        b"<iq><![CDATA[456789]]></iq>",
    ),
    "element, reference last": (Limits(element=18), b"<iq>1234&lt;</iq>", b"<iq>123456&lt;</iq>"),
    "start tag": (
        Limits(start_tag=len(HEADER) + 1),
        b"<iq a='" + b"a" * (len(HEADER) - 9) + b"'/>",
        b"<iq a='" + b"a" * (len(HEADER) - 8) + b"'/>",
    ),
    "attributes": (
        Limits(attributes=4),
        b"<iq a='' b='' c='' xmlns:d='e'/>",
        b"<iq a='' b='' c='' d='' xmlns:d='e'/>",
    ),
    "depth": (Limits(depth=3), b"<iq><a/><a/></iq>", b"<iq><a><a/></a></iq>"),
    "white space": (Limits(white_space=5), b"\n\n\n\n\n<iq/> ", b"\n\n\n\n\n\n<iq/>"),
}


@pytest.mark.parametrize(("limits", "fits", "too_much"), SIZED.values(), ids=SIZED.keys())
def test_a_limit_is_exact(limits: Limits, fits: bytes, too_much: bytes) -> None:
    for way, pieces in ways(HEADER + fits + FOOTER):
        reading = read(pieces, limits)
        assert (reading.raw, reading.condition) == (HEADER + fits + FOOTER, None), way
    whole = read([HEADER + too_much + FOOTER], limits)
    assert whole.condition is Condition.POLICY_VIOLATION
    for way, pieces in ways(HEADER + too_much + FOOTER):
        assert read(pieces, limits) == whole, way


def test_a_limit_counts_for_each_element_alone() -> None:
    stanza = b"<message><body>" + b"a" * 15_000 + b"</body></message>"
    reading = read([HEADER + stanza * 20], LIMITS)
    assert [event.raw for event in reading.events] == [HEADER, *[stanza] * 20]


@pytest.mark.parametrize(
    "before",
    [b"<iq a='", b"<iq><![CDATA[", b"<iq>", b"<iq "],
    ids=["value", "marked character data", "character data", "white space in a tag"],
)
def test_time_grows_with_the_bytes_and_not_with_their_square(before: bytes) -> None:
    """Looking at all bytes again for each piece would take longer than a test may."""
    limits = Limits(element=1_000_000, start_tag=1_000_000)
    filler = b" " * 800_000
    reading = read([HEADER + before, *cut(filler, 4)], limits)
    assert reading.condition is None
