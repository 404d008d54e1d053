"""proxy.trust.der: one form for each value."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust import der


@given(st.lists(st.tuples(st.sampled_from([0x02, 0x30, 0x82, 0xA0]), st.binary(max_size=300))))
def test_elements_come_apart_as_they_were_put_together(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(der.encoded(tag, content) for tag, content in parts)
    assert parts == list(der.elements(data))


@given(st.binary(max_size=40))
def test_anything_is_der_in_one_form_or_an_error(data: bytes) -> None:
    try:
        parts = list(der.elements(data))
    except ValueError:
        return
    assert data == b"".join(der.encoded(tag, content) for tag, content in parts)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30",
        b"\x30\x01",
        b"\x30\x80\x00\x00",  # indefinite length
        b"\x30\x81\x01\x00",  # a length longer than it needs to be
        b"\x30\x82\x00\x80" + bytes(128),
        b"\x30\x84\x00\x00\x00\x01\x00",
        b"\x30\xff" + bytes(127),
        b"\x30\x83\xff\xff\xff",
        b"\x1f\x01\x00",  # a tag of several octets
        b"\x30\x82\x01",
    ],
)
def test_what_is_not_der(data: bytes) -> None:
    with pytest.raises(ValueError, match="not DER"):
        list(der.elements(data))


@pytest.mark.parametrize("data", [b"", b"\x02\x00", b"\x30\x00\x30\x00", b"\x30\x00\x00"])
def test_only_one_element_with_that_tag(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is not"):
        der.only(data, der.SEQUENCE)


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        (der.UTC_TIME, b"491231235959Z", dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
        (der.UTC_TIME, b"500101000000Z", dt.datetime(1950, 1, 1, tzinfo=dt.UTC)),
        (der.GENERALIZED_TIME, b"20500229120000Z", None),
        (
            der.GENERALIZED_TIME,
            b"99991231235959Z",
            dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
        ),
        (der.GENERALIZED_TIME, b"491231235959Z", None),
        (der.UTC_TIME, b"20491231235959Z", None),
        (der.UTC_TIME, b"4912312359Z", None),
        (der.UTC_TIME, b"491231235959+0100", None),
        (der.UTC_TIME, b"491231235959z", None),
        (der.UTC_TIME, b"49123123595 Z", None),
        (der.UTC_TIME, b"+91231235959Z", None),
        (der.UTC_TIME, b"491331235959Z", None),
        (der.UTC_TIME, b"", None),
        (der.OCTET_STRING, b"491231235959Z", None),
    ],
)
def test_times(tag: int, text: bytes, expected: dt.datetime | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"malformed|month|day"):
            der.moment(tag, text)
    else:
        assert expected == der.moment(tag, text)
