"""proxy.trust.constraints: an authority of some hosts is none of other domains."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust.constraints import permits

OWN, OTHER = x509.DNSName("Example.net"), x509.DNSName("example.org")
PERSON = x509.DirectoryName(x509.Name([]))
ALL = x509.DNSName("")
BELOW = x509.DNSName(".example.net")


@pytest.mark.parametrize(
    ("permitted", "excluded", "name", "expected"),
    [
        ([OWN], None, "example.net", True),
        ([OWN], None, "a.b.example.net", True),
        ([OWN], None, "badexample.net", False),
        ([OWN], None, "net", False),
        ([OTHER], None, "example.net", False),
        ([OTHER, OWN], None, "example.net", True),
        ([PERSON], None, "example.net", True),
        ([PERSON, OTHER], None, "example.net", False),
        ([ALL], None, "example.net", True),
        ([BELOW], None, "chat.example.net", True),
        ([OTHER], [x509.DNSName("example.com")], "example.net", False),
        (None, [OWN], "example.net", False),
        (None, [OWN], "chat.example.net", False),
        (None, [OTHER], "example.net", True),
        (None, [ALL], "example.net", False),
        ([OWN], [x509.DNSName("chat.example.net")], "example.net", True),
        ([OWN], [x509.DNSName("chat.example.net")], "chat.example.net", False),
    ],
)
def test_permits(
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    name: str,
    expected: bool,
) -> None:
    assert expected == permits(x509.NameConstraints(permitted, excluded).public_bytes(), name)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x31\x00",
        b"\x30\x02\xa2\x00",
        b"\x30\x04\xa0\x02\x82\x00",
        b"\x30\x04\xa0\x02\x30\x00",
        b"\x30\x09\xa0\x07\x30\x05\x82\x00\x80\x01\x01",  # a minimum, which RFC 5280 forbids
        b"\x30\x07\xa0\x05\x30\x03\x82\x01\xff",
    ],
)
def test_what_is_malformed_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is not|malformed|codec"):
        permits(data, "example.net")


@given(st.binary(max_size=40))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    try:
        answer = permits(data, "example.net")
    except ValueError:
        return
    assert answer in {True, False}
