"""Properties of skimming: nobody can tell from what a stream comes to whether it was skimmed."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.xmpp.framing import Limits
from tests.xmpp.streams import FOOTER, cut_at, read
from tests.xmpp.test_framing_properties import anything, fragments, junk
from tests.xmpp.test_skim import LIMITS, SERVERS, Skimmed, read_skimming

JIDS = ["a.example", "b@b.example/x", "é@c.example/日 本", ""]
NAMES = ["body", "a", "b", "iq", "message", "a-1._"]
KEYS = ["from", "to", "id", "type", "a", "b", "xml:lang", "xmlns"]
characters = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))
texts = st.text(characters | st.sampled_from("<>&\"' ]\t\n"), max_size=8)
pairs = st.tuples(*[st.sampled_from([jid.encode() for jid in JIDS])] * 2)
places = st.lists(st.integers(0, 1 << 16), max_size=8)


def _written(draw: st.DrawFn, name: str, value: str) -> str:
    mark = draw(st.sampled_from("'\""))
    value = escape(value, {mark: "&#39;" if mark == "'" else "&quot;"})
    return f" {name}={mark}{value}{mark}"


@st.composite
def elements(draw: st.DrawFn, deep: int = 5) -> str:
    """The text of an element as it may stand in a simple stanza."""
    name = draw(st.sampled_from(NAMES))
    attributes = "".join(
        _written(draw, key, "urn:x" if key == "xmlns" else draw(texts))
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3))
    )
    if draw(st.booleans()):
        return f"<{name}{attributes}/>"
    inside = texts.map(escape) if deep == 1 else texts.map(escape) | elements(deep - 1)
    return f"<{name}{attributes}>{''.join(draw(st.lists(inside, max_size=3)))}</{name}>"


@st.composite
def simple(draw: st.DrawFn) -> bytes:
    """A stanza of the form that is skimmed."""
    name = draw(st.sampled_from(["message", "iq", "presence"]))
    attributes = {
        "from": draw(st.sampled_from(JIDS)),
        "to": draw(st.sampled_from(JIDS)),
        **draw(st.dictionaries(st.sampled_from(["id", "type", "xml:lang"]), texts)),
    }
    start = "".join(
        _written(draw, key, attributes[key]) for key in draw(st.permutations(list(attributes)))
    )
    inside = "".join(draw(st.lists(texts.map(escape) | elements(), max_size=3)))
    return f"<{name}{start}>{inside}</{name}>".encode()


bits = [
    *fragments, b"<message", b"</message>", b"<iq from='a.example' to='b@b.example/x'/>", b"-->",
    b" from='a.example'", b' to="a.example"', b" from=", b" x:from='a.example'", b" id='1'",
    b"<message from='a.example' to='a.example'>", b"<stream:a/>", b"\xc0\xbc", b"\xef\xbf\xbf",
    b" xmlns='http://www.w3.org/2000/xmlns/'", b" a='1' a='2'", b"\t", b"\n",
]  # fmt: skip


@st.composite
def near(draw: st.DrawFn) -> bytes:
    """Simple stanzas, one behind the other, with some damage."""
    data = bytearray(b"".join(draw(st.lists(simple(), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data[start:end] = draw(st.sampled_from(bits) | junk)
    return bytes(data)


hostile = st.one_of(
    near().map(lambda data: SERVERS + data),
    near().map(lambda data: SERVERS + data + FOOTER),
    st.lists(st.sampled_from(bits) | simple(), max_size=12).map(lambda p: SERVERS + b"".join(p)),
    anything,
)
tight = st.builds(
    Limits,
    element=st.integers(1, 300),
    start_tag=st.integers(len(SERVERS), len(SERVERS) + 20),
    attributes=st.integers(5, 10),
    depth=st.integers(5, 9),
    white_space=st.integers(0, 4),
)


@given(st.lists(simple(), min_size=1, max_size=5))
def test_every_simple_stanza_is_skimmed(stanzas: list[bytes]) -> None:
    skimmed = read_skimming([SERVERS, b"".join(stanzas)])
    assert skimmed.pieces == (b"".join(stanzas),)
    assert skimmed.reading == read([SERVERS, *stanzas])


def _agrees(skimmed: Skimmed, data: bytes, limits: Limits = LIMITS) -> None:
    whole = read([data], limits)
    assert skimmed.reading == whole
    if whole.condition is None:
        assert skimmed.reading.rest == whole.rest


@given(hostile, places, st.sets(pairs))
@example(SERVERS + b"<iq from='' to=''>\xe2\x82\xef\xbf\xbe</iq>", [], set())
def test_a_stream_comes_to_the_same_if_skimmed(
    data: bytes, where: list[int], approved: set[tuple[bytes, bytes]]
) -> None:
    """`read_skimming` asserts that every piece is whole stanzas with approved addresses."""
    _agrees(read_skimming(cut_at(data, where)), data)
    _agrees(read_skimming(cut_at(data, where), lambda pair: pair in approved), data)


@given(hostile, places, tight)
def test_the_same_under_tight_limits(data: bytes, where: list[int], limits: Limits) -> None:
    _agrees(read_skimming(cut_at(data, where), limits=limits), data, limits)


SAMPLES = [
    b"<iq from='a.b' to='c'><a b='&lt;' xmlns='d'>e</a></iq>",
    b'<message xml:lang=\'\' to="c" from="a"/>',
    "<presence id='' type='é' to='c' from='é'>&#9;<a/><b><b/></b> </presence>".encode(),
]


def changed(sample: bytes) -> Iterator[bytes]:
    """The sample with one byte left out, and with anything in its place or before it."""
    for place in range(len(sample) + 1):
        yield sample[:place] + sample[place + 1 :]
        for bit in BITS:
            yield sample[:place] + bit + sample[place:]
            yield sample[:place] + bit + sample[place + 1 :]


BITS = sorted({*bits, *(bytes([byte]) for byte in b"\0\t\r\x1f\x7f\x80\xc3\xefAaftx_.-1:;#/=")})


@pytest.mark.parametrize("sample", SAMPLES)
def test_one_change_anywhere_is_judged_the_same(sample: bytes) -> None:
    skimmed = left = 0
    for data in changed(sample):
        reading = read_skimming([SERVERS, data])
        _agrees(reading, SERVERS + data)
        skimmed += bool(reading.pieces)
        left += not reading.pieces
    assert min(skimmed, left) > 100  # the changes try both


BOUNDARIES = [
    0x80, 0x7FF, 0x800, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFE,
    0x1FFFF, 0x10FFFF,
]  # fmt: skip


@pytest.mark.parametrize("form", ["{}", "<a b='{}'/>", '<a b="{}"/>', "<{}/>", "<a {}=''/>"])
def test_each_byte_and_each_boundary_of_utf_8_is_judged_the_same(form: str) -> None:
    before, after = (part.encode() for part in form.split("{}"))
    sequences = [bytes([byte]) for byte in range(256)]
    sequences += [chr(code).encode(errors="surrogatepass") for code in BOUNDARIES]
    sequences += [
        b"\xc0\x80",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
    ]
    sequences += [f"&#{code};".encode() for code in range(132)]
    for sequence in sequences:
        data = SERVERS + b"<iq from='a' to='b'>" + before + sequence + after + b"</iq>"
        _agrees(read_skimming([data]), data)
