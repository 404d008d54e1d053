"""The meter must say of sizes what the framer says, though it cuts and holds nothing."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.framing import Limits
from proxy.xmpp.meter import Meter
from tests.xmpp.streams import FOOTER, HEADER, cut, cut_at, read, ways

LIMIT = 100
DEPTH = 8


def measured(pieces: list[bytes], limit: int = LIMIT) -> Condition | None:
    """What the meter objects to in a stream that comes in these pieces."""
    meter = Meter(limit, DEPTH)
    try:
        for piece in pieces:
            meter.feed(piece)
    except StreamError as error:
        return error.condition
    return None


def stanza(size: int, kind: str) -> bytes:
    """A stanza of exactly so many bytes."""
    start, end = {
        "text": (b"<m><b>", b"</b></m>"),
        "attribute": (b"<m a='", b"'/>"),
        "empty": (b"<m ", b"/>"),
        "pair": (b"<m ", b"></m>"),
        "long name": (b"<" + b"m" * 20 + b" ", b"/>"),
        "names of many bytes": ("<été日本 ".encode(), "></été日本>".encode()),
        "nested": (b"<m><a><m>", b"</m></a><m/></m>"),
        "CDATA": (b"<m><![CDATA[</m>", b"]]></m>"),
        "brackets in CDATA": (b"<m><![CDATA[]>]]]x]] ><m>", b"]]]></m>"),
        "ends of tags in quotation marks": (b"<m a='/>\"' b=\">'/m>\" c='>", b"'><n d='/'/></m>"),
        "white space in the end tag": (b"<m></m ", b">"),
    }[kind]
    return start + (b" " if kind in SPACED else b"x") * (size - len(start) - len(end)) + end


KINDS = [
    "text",
    "attribute",
    "empty",
    "pair",
    "long name",
    "names of many bytes",
    "nested",
    "CDATA",
    "brackets in CDATA",
    "ends of tags in quotation marks",
    "white space in the end tag",
]
SPACED = {"empty", "pair", "long name", "names of many bytes", "white space in the end tag"}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("after", [b"", b"<n/>", FOOTER, b"</"], ids=["", "n", "end", "torn"])
def test_a_stanza_of_the_limit_passes_and_one_byte_more_does_not(kind: str, after: bytes) -> None:
    for size, verdict in ((LIMIT, None), (LIMIT + 1, Condition.POLICY_VIOLATION)):
        data = stanza(size, kind)
        assert len(data) == size
        for way, pieces in ways(data + after):
            assert measured(list(pieces)) is verdict, (size, way)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Stanzas, many of them near the limit, and white space."""
    sizes = st.integers(40, 80) | st.integers(LIMIT - 8, LIMIT + 8)
    made = st.builds(stanza, sizes, st.sampled_from(KINDS))
    return draw(st.lists(made | st.sampled_from([b" ", b"\r\n", b" " * 300, b"<n/>"]), max_size=8))


@given(parts=streams(), places=st.lists(st.integers(0, 2000), max_size=12), ended=st.booleans())
def test_the_meter_objects_exactly_when_the_framer_does(
    parts: list[bytes], places: list[int], ended: bool
) -> None:
    data = b"".join(parts) + FOOTER * ended
    framer = Limits(element=LIMIT, start_tag=1000, depth=DEPTH)
    verdict = measured(cut_at(data, places))
    assert verdict is read([HEADER, data], framer).condition
    assert (verdict is None) == all(len(part) <= LIMIT for part in parts if part.strip())


PARTS = st.sampled_from(
    [
        *("<m>", "</m>", "<m/>", "<m ", "/>", ">", "/", "<", "</", "a='", 'b="', "'", '"', " "),
        *("<![CDATA[", "]]>", "]", "x" * 30, " " * 30, "&gt;", "<m a='>'>", "<m a='\"'/>", "é"),
        *("<!-- ", "-->", "<?x ?>", "<!DOCTYPE x>", "</stream:stream>"),
    ]
)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(parts=st.lists(PARTS, min_size=1, max_size=14), places=st.lists(st.integers(0, 300)))
def test_in_all_that_is_well_formed_the_verdict_is_the_framers(
    parts: list[str], places: list[int]
) -> None:
    data = "".join(parts).encode()
    unbounded = read([HEADER, data])
    assume(unbounded.condition is None and not unbounded.rest)  # of a torn token nobody can tell
    framer = Limits(element=LIMIT, start_tag=1000, depth=DEPTH)
    assert measured(cut_at(data, places)) is read([HEADER, data], framer).condition


@given(parts=st.lists(PARTS.map(str.encode) | st.binary(max_size=40)), size=st.integers(1, 50))
def test_whatever_comes_is_refused_or_held_within_the_limit(parts: list[bytes], size: int) -> None:
    meter = Meter(LIMIT, DEPTH)
    with suppress(StreamError):
        for piece in cut(b"".join(parts), size):
            meter.feed(piece)
            assert len(meter._torn) <= LIMIT


def test_white_space_without_end_is_fine() -> None:
    meter = Meter(LIMIT, DEPTH)
    for _ in range(10_000):
        meter.feed(b" \r\n\t" * 10)
    meter.feed(b"<m/>")


def test_stanzas_without_end_are_fine() -> None:
    meter = Meter(LIMIT, DEPTH)
    for _ in range(10_000):
        meter.feed(b"<m><b>x</b></m><m")
        meter.feed(b"/> ")


@pytest.mark.parametrize("start", [b"<m a='", b"<m><b>", b"<m ", b"<", b"<m><![CDATA[", b"</"])
def test_what_has_no_end_is_stopped_at_the_limit(start: bytes) -> None:
    meter = Meter(262_144, DEPTH)
    meter.feed(start)
    piece = b"x" * 65_536 if start != b"<m " else b" " * 65_536
    for _ in range(262_144 // len(piece) - 1):
        meter.feed(piece)
    meter.feed(piece[: -len(start)])  # the last byte that may come
    with pytest.raises(StreamError) as refusal:
        meter.feed(piece[:1])
    assert refusal.value.condition is Condition.POLICY_VIOLATION


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"<!-- -->", Condition.RESTRICTED_XML),
        (b"<m><!-- --></m>", Condition.RESTRICTED_XML),
        (b"<?php x?>", Condition.RESTRICTED_XML),
        (b"<m><?php x?></m>", Condition.RESTRICTED_XML),
        (b"<!DOCTYPE x>", Condition.RESTRICTED_XML),
        (b"<m><!DOCTYPE x [<!ENTITY a 'b'>]>", Condition.RESTRICTED_XML),
        (b"<![CDATA[x]]>", Condition.BAD_FORMAT),
        (b"<m>" * DEPTH, Condition.POLICY_VIOLATION),
    ],
)
def test_what_must_not_pass(data: bytes, condition: Condition) -> None:
    for way, pieces in ways(data):
        assert measured(list(pieces)) is condition, way


def test_elements_nest_as_deep_as_they_may() -> None:
    inside = DEPTH - 1  # beside the stream
    for _, pieces in ways(b"<m>" * inside + b"</m>" * inside):
        assert measured(list(pieces)) is None


def test_a_stream_may_end() -> None:
    assert measured([b"<m/>", FOOTER, b" \n"]) is None


def test_white_space_in_an_end_tag_is_bounded_all_the_same() -> None:
    assert measured([b"<m></m"] + [b" "] * (LIMIT + 1)) is Condition.POLICY_VIOLATION
