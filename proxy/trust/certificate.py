"""A certificate taken apart as far as trust needs it (RFC 5280 section 4.1).

Its parts are read one by one and only when asked for, because parsers that take a certificate whole
refuse it whole: one name that is malformed must not hide the others.
"""

from datetime import datetime
from typing import Final

import attrs

from proxy.trust import der

SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")
KEY_USAGE: Final = bytes.fromhex("551d0f")
BASIC_CONSTRAINTS: Final = bytes.fromhex("551d13")
NAME_CONSTRAINTS: Final = bytes.fromhex("551d1e")
EXTENDED_KEY_USAGE: Final = bytes.fromhex("551d25")
"""Extensions, by the contents of their object identifiers."""

SERVER_AUTH: Final = bytes.fromhex("2b06010505070301")
CLIENT_AUTH: Final = bytes.fromhex("2b06010505070302")
"""Extended key usages, likewise: of who is connected to by TLS, and of who connects."""

_ANY_EXTENDED_KEY_USAGE: Final = bytes.fromhex("551d2500")

_VERSION: Final = 0xA0
_UNIQUE_IDENTIFIERS: Final = frozenset({0x81, 0x82})
_EXTENSIONS: Final = 0xA3
_DIGITAL_SIGNATURE: Final = 0x80
_FIELDS: Final = (der.INTEGER, *(der.SEQUENCE,) * 5)


@attrs.frozen
class Certificate:
    """The parts of a certificate, still in DER.

    Attributes:
        whole: The certificate itself.
        issuer: Its issuer's name, without tag and length.
        subject: Its subject's name, likewise.
        key: Its ``SubjectPublicKeyInfo``, with tag and length, as pins hash it.
        signature: The ``AlgorithmIdentifier`` that its issuer signed it by, without tag and length.
    """

    whole: bytes
    issuer: bytes
    subject: bytes
    key: bytes
    signature: bytes
    _validity: bytes
    _extensions: bytes | None

    @classmethod
    def read(cls, whole: bytes) -> "Certificate":
        """Take a certificate apart.

        Raises:
            ValueError: It is not made as certificates are.
        """
        outer = list(der.elements(der.only(whole, der.SEQUENCE)))
        if [tag for tag, _ in outer] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
            raise ValueError("it is not made as certificates are")
        fields = list(der.elements(outer[0][1]))
        if fields and fields[0][0] == _VERSION:
            del fields[0]
        extensions = None
        if fields and fields[-1][0] == _EXTENSIONS:
            extensions = fields.pop()[1]
        tags = tuple(tag for tag, _ in fields)
        count = len(_FIELDS)
        if tags[:count] != _FIELDS or not _UNIQUE_IDENTIFIERS.issuperset(tags[count:]):
            raise ValueError("it is not made as certificates are")
        _, signature, issuer, validity, subject, key = (content for _, content in fields[:count])
        key = der.encoded(der.SEQUENCE, key)
        return cls(whole, issuer, subject, key, signature, validity, extensions)

    def validity(self) -> tuple[datetime, datetime]:
        """Return the first and the last moment of its life, in UTC.

        Raises:
            ValueError: They are malformed.
        """
        dates = [der.moment(tag, content) for tag, content in der.elements(self._validity)]
        begin, end = dates
        return begin, end

    def extensions(self) -> dict[bytes, bytes]:
        """Return its extensions: the contents of their object identifiers and their values' DER.

        Raises:
            ValueError: They are malformed, or one is there twice.
        """
        found: dict[bytes, bytes] = {}
        if self._extensions is None:
            return found
        for tag, extension in der.elements(der.only(self._extensions, der.SEQUENCE)):
            fields = list(der.elements(extension))
            tags = [tag for tag, _ in fields]
            if tags[1:2] == [der.BOOLEAN]:
                del tags[1]
            if (tag, tags) != (der.SEQUENCE, [der.OBJECT_IDENTIFIER, der.OCTET_STRING]):
                raise ValueError("its extensions are malformed")
            if fields[0][1] in found:
                raise ValueError("it has an extension twice")
            found[fields[0][1]] = fields[-1][1]
        return found


def is_authority(basic_constraints: bytes) -> bool:
    """Whether the value of that extension makes a certificate one of an authority.

    Raises:
        ValueError: It is malformed.
    """
    fields = list(der.elements(der.only(basic_constraints, der.SEQUENCE)))
    return fields[:1] not in ([], [(der.BOOLEAN, b"\x00")])


def is_for_servers(extended_key_usage: bytes) -> bool:
    """Whether the value of that extension lets a server use the certificate.

    Raises:
        ValueError: It is malformed.
    """
    return SERVER_AUTH in purposes(extended_key_usage)


def purposes(extended_key_usage: bytes) -> frozenset[bytes]:
    """Return which of `SERVER_AUTH` and `CLIENT_AUTH` the value of that extension allows.

    Raises:
        ValueError: It is malformed.
    """
    both = frozenset({SERVER_AUTH, CLIENT_AUTH})
    usages = list(der.elements(der.only(extended_key_usage, der.SEQUENCE)))
    if (der.OBJECT_IDENTIFIER, _ANY_EXTENDED_KEY_USAGE) in usages:
        return both
    return frozenset(each for each in both if (der.OBJECT_IDENTIFIER, each) in usages)


def is_for_signatures(key_usage: bytes) -> bool:
    """Whether the value of that extension lets the key sign in a handshake (digitalSignature).

    Raises:
        ValueError: It is malformed.
    """
    bits = der.only(key_usage, der.BIT_STRING)
    if not bits:
        raise ValueError("its key usage is malformed")
    return bool(int.from_bytes(bits[1:2], "big") & _DIGITAL_SIGNATURE)
