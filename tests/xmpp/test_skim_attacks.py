"""What skimming may cost, whatever comes."""

import re

import pytest

from proxy.xmpp import skim
from proxy.xmpp.framing import Framer
from tests.xmpp.streams import cut, read
from tests.xmpp.test_skim import (
    LIMITS,
    MESSAGE,
    PAIR,
    SERVERS,
    Asked,
    everything,
    read_skimming,
    stanza,
)


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
    for data in (stanza(inside), stanza(inside)[:-9], stanza(inside + again * 10_000)[:65_536]):
        counting.tried = 0
        skimmed = read_skimming([SERVERS, data + MESSAGE])
        assert skimmed.reading == read([SERVERS, data + MESSAGE])
        assert counting.tried <= 4
