"""What the meter must refuse at once, and what that may cost."""

from collections.abc import Iterable

import pytest

from proxy.xmpp.errors import Condition, StreamError
from proxy.xmpp.meter import Meter
from tests.xmpp.streams import cut, ways
from tests.xmpp.test_meter import measured

PLENTY = 1_000_000
MESSAGE = b"<message><body>hello</body></message>"


@pytest.mark.parametrize("local", ["compress", "starttls"])
@pytest.mark.parametrize(
    "form",
    [
        "<{}/>",
        "<{} />",
        "<{} xmlns='urn:x'>zlib</{}>",
        "<{}\n xmlns='urn:x'/>",
        "<{}><method>zlib</method></{}>",
        "<x:{} xmlns:x='urn:x'/>",
        "<a-b.c:{} xmlns:a-b.c='urn:x'></a-b.c:{}>",
        "<été:{} xmlns:été='urn:x'/>",
    ],
)
def test_what_changes_layers_is_refused_after_login(local: str, form: str) -> None:
    late = form.replace("{}", local).encode()
    for before in (b"", b" \n", MESSAGE, b"<presence/>"):
        for way, pieces in ways(before + late + MESSAGE):
            assert measured(list(pieces)) is Condition.UNSUPPORTED_STANZA_TYPE, way


@pytest.mark.parametrize(
    "fine",
    [
        b"<message><compress/><starttls/></message>",
        b"<message>compress starttls</message>",
        b"<compressed/>",
        b"<starttlsx/>",
        b"<compress-it/>",
        b"<a compress='starttls'/>",
    ],
)
def test_what_only_looks_like_that_passes(fine: bytes) -> None:
    for way, pieces in ways(fine + MESSAGE):
        assert measured(list(pieces)) is None, way


@pytest.mark.parametrize(
    "malformed",
    [b"<a b='<'>", b'<a b="<">', b"<a <b>", b"<a b='\"<'>", b"</a<>", b"</a <b>", b'<a b="\'<"/>'],
)
def test_a_malformed_tag_is_refused_as_soon_as_it_ends(malformed: bytes) -> None:
    """What follows could only be guessed at."""
    for way, pieces in ways(malformed):
        meter = Meter(PLENTY, 8)
        assert refusal(meter, pieces) is Condition.NOT_WELL_FORMED, way


def refusal(meter: Meter, pieces: Iterable[bytes]) -> Condition | None:
    try:
        for piece in pieces:
            meter.feed(piece)
    except StreamError as error:
        return error.condition
    return None


@pytest.mark.parametrize(
    "opening",
    [
        (b"<m a='/>", b"'>"),
        (b'<n/><m a="/>', b'">'),
        (b"<n></n><m a='x' b='/>", b"/>'>"),
        (b"<m a='/>'>",),
        (b"<m><n a='/>'>", b"</n>"),
        (b"<m>/>",),
        (b"<m><n/>/>",),
    ],
)
def test_a_stanza_is_not_over_because_something_looks_like_an_empty_element(
    opening: tuple[bytes, ...],
) -> None:
    """Else it could go on for ever, each piece looking whole by itself."""
    more = [b"<n/>", b"<n><o/></n>", MESSAGE] * 20
    assert measured([*opening, *more]) is Condition.POLICY_VIOLATION


def test_a_stream_of_whole_stanzas_is_never_too_large() -> None:
    many = [b"<n/>", b"<n><o a='b'/></n>", MESSAGE, b"<n><o/></n><n/>", b"<n a='x>y'/>"] * 20
    assert measured(many) is None


class Counting(bytearray):
    """Counts the bytes that are searched."""

    searched = 0

    def find(self, *arguments: object) -> int:
        start = arguments[1]
        assert isinstance(start, int)
        type(self).searched += len(self) - start
        return super().find(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("opening", [b"<a b='", b"<m><![CDATA["])
def test_a_torn_token_is_searched_once(opening: bytes) -> None:
    meter = Meter(PLENTY, 8)
    meter.feed(opening)
    meter._torn = Counting(meter._torn)
    Counting.searched = 0
    total = 20_000
    for piece in cut(b"x" * total):
        meter.feed(piece)
    assert total <= Counting.searched < 4 * total
