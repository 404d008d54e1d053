"""DER, as far as certificates need it (X.690 section 10): one form for each value, or an error."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30

_LONG_FORM: Final = 0x80
_MOST_LENGTH_OCTETS: Final = 3
_MULTIBYTE_TAG: Final = 0x1F
_TURN_OF_CENTURY: Final = 50


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take DER apart into tags and contents, one level deep.

    Raises:
        ValueError: It is not DER, or has a tag or length that no certificate needs.
    """
    position = 0
    while position < len(data):
        header = data[position : position + 2]
        if len(header) < len("TL") or header[0] & _MULTIBYTE_TAG == _MULTIBYTE_TAG:
            raise ValueError("it is not DER")
        position += 2
        length = header[1]
        if length >= _LONG_FORM:
            octets = length - _LONG_FORM
            length = int.from_bytes(data[position : position + octets], "big")
            if octets > _MOST_LENGTH_OCTETS or _length(length) != _shortened(octets, length):
                raise ValueError("it is not DER")
            position += octets
        if position + length > len(data):
            raise ValueError("it is not DER")
        yield header[0], data[position : position + length]
        position += length


def only(data: bytes, tag: int) -> bytes:
    """Return the contents of the one element that ``data`` is.

    Raises:
        ValueError: It is not exactly one element with that tag.
    """
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError("it is not made as certificates are")
    return found[0][1]


def encoded(tag: int, content: bytes) -> bytes:
    """Return the DER of an element: what `elements` took apart, byte for byte."""
    return bytes((tag,)) + _length(len(content)) + content


def moment(tag: int, content: bytes) -> datetime:
    """Return the time that a certificate states (RFC 5280 section 4.1.2.5), in UTC.

    Raises:
        ValueError: It is not in one of the two forms that are allowed.
    """
    digits, zone = content[:-1], content[-1:]
    lengths = {UTC_TIME: len("YYMMDDhhmmss"), GENERALIZED_TIME: len("YYYYMMDDhhmmss")}
    if len(digits) != lengths.get(tag) or not digits.isdigit() or zone != b"Z":
        raise ValueError("its dates are malformed")
    if tag == UTC_TIME:
        digits = (b"20" if int(digits[:2]) < _TURN_OF_CENTURY else b"19") + digits
    year, pairs = int(digits[:4]), digits[4:]
    month, day, hour, minute, second = (int(pairs[at : at + 2]) for at in range(0, 10, 2))
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def _length(length: int) -> bytes:
    if length < _LONG_FORM:
        return bytes((length,))
    octets = (length.bit_length() + 7) // 8
    return _shortened(octets, length)


def _shortened(octets: int, length: int) -> bytes:
    return bytes((_LONG_FORM + octets,)) + length.to_bytes(octets, "big")
