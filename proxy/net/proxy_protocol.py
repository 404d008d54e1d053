"""The PROXY protocol of HAProxy, versions 1 and 2: reads and writes its header, and no more.

A proxy in front says in the first bytes of a connection whose it is. What the specification
(section 2) leaves to the receiver is decided here: nothing is guessed, a header that does not
match exactly is none, and whatever a front proxy says of TLS is skipped.
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from proxy.session.hooks import Address, TLSFacts, View

LONGEST_LINE: Final = 107
"""Bytes of the longest line that version 1 has, its end included."""

LONGEST_BLOCK: Final = 4096
"""Bytes after the fixed part of version 2 that are taken; front proxies send some hundred."""

FIXED: Final = 16
"""Bytes of the fixed part of version 2."""

LONGEST: Final = FIXED + LONGEST_BLOCK
"""Bytes of the longest header."""

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with."""

_WORD: Final = b"PROXY "
_TCP4_WORD: Final = b"TCP4"
_UNKNOWN: Final = b"UNKNOWN"
_FAMILIES: Final = (_TCP4_WORD, b"TCP6", _UNKNOWN)
_FIELDS: Final = re.compile(rb"[0-9A-Fa-f:. ]*\r?")
_PORT: Final = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z")
_HIGHEST_PORT: Final = 65535

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_OTHERS: Final = frozenset((0x00, 0x12, 0x22, 0x31, 0x32))  # unspecified, UDP, UNIX
_FIELDS4: Final = Struct("!4s4sHH")
_FIELDS6: Final = Struct("!16s16sHH")
_VALUE_HEADER: Final = Struct("!BH")

_ALPN: Final = 0x01
_AUTHORITY: Final = 0x02
_CRC32C: Final = 0x03
_UNIQUE_ID: Final = 0x05
_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_COMMON_NAME: Final = 0x22
_SSL_CIPHER: Final = 0x23
_CLIENT_SSL: Final = 0x01
_CLIENT_CERTIFICATE: Final = 0x02
_LONGEST_NAME: Final = 256
_NOT_VERIFIED: Final = 1


class Versions(Enum):
    """Which headers are taken."""

    NONE = "none"
    V1 = "v1"
    V2 = "v2"
    ANY = "any"


@attrs.frozen
class Header:
    """What a header says.

    Attributes:
        length: how many bytes it has.
        source: where the client is; None if the header leaves the addresses as they are: the
            connection is the proxy's own (``LOCAL``), or the proxy does not know.
        destination: where the client has connected to; None together with ``source``.
    """

    length: int
    source: Address | None = None
    destination: Address | None = None


@attrs.frozen
class Incomplete:
    """The header has not come in whole: every byte so far is part of it."""


class HeaderError(Exception):
    """No header that would be taken; the message says why."""


def read(data: bytes, versions: Versions) -> Header | Incomplete:
    """Read the header at the start of ``data``, which may go on with what is not the header's.

    With `LONGEST` bytes the answer is never `Incomplete`.

    Raises:
        HeaderError: the bytes are no header, whatever follows.
    """
    if versions is not Versions.V1 and _begins(data, SIGNATURE):
        return _read_block(data)
    if versions in (Versions.V1, Versions.ANY) and _begins(data, _WORD):
        return _read_line(data)
    raise HeaderError("it does not begin with a PROXY header")


def _begins(data: bytes, start: bytes) -> bool:
    """Whether ``data`` begins with ``start``, or may yet."""
    return data[: len(start)] == start[: len(data)]


# Version 1


def _read_line(data: bytes) -> Header | Incomplete:
    line, end, _ = data[:LONGEST_LINE].partition(b"\r\n")
    if not end and len(data) >= LONGEST_LINE:
        raise HeaderError(f"the PROXY line has more than {LONGEST_LINE} bytes")
    family, space, rest = line[len(_WORD) :].partition(b" ")
    whole = bool(end or space)
    if not (family in _FAMILIES if whole else _may_become_family(family)):
        raise HeaderError("the PROXY line names no known protocol")
    if family != _UNKNOWN and not _FIELDS.fullmatch(rest):
        raise HeaderError("the PROXY line has no proper addresses and ports")
    if not end:
        return Incomplete()
    length = len(line) + len(end)
    if family == _UNKNOWN:
        return Header(length)
    try:
        source, destination, source_port, destination_port = rest.decode("ascii").split(" ")
        kind = IPv4Address if family == _TCP4_WORD else IPv6Address
        return Header(
            length,
            Address(_host(kind(source)), _port(source_port)),
            Address(_host(kind(destination)), _port(destination_port)),
        )
    except ValueError as error:
        raise HeaderError("the PROXY line has no proper addresses and ports") from error


def _may_become_family(text: bytes) -> bool:
    return any(each.startswith(text.removesuffix(b"\r")) for each in _FAMILIES)


def _host(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text: an IPv4-mapped one as IPv4, as for connections without proxy."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _port(text: str) -> int:
    if not _PORT.match(text) or int(text) > _HIGHEST_PORT:
        raise ValueError("not a port")
    return int(text)


# Version 2


def _read_block(data: bytes) -> Header | Incomplete:
    command, family = data[12:13], data[13:14]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise HeaderError("the PROXY header has an unknown version or command")
    if command == bytes((_PROXY,)) and family and family[0] not in (_TCP4, _TCP6, *_OTHERS):
        raise HeaderError("the PROXY header has an unknown family of addresses")
    if len(data) < FIXED:
        return Incomplete()
    size = int.from_bytes(data[14:16])
    if size > LONGEST_BLOCK:
        raise HeaderError(f"the PROXY header has more than {LONGEST} bytes")
    length = FIXED + size
    if command[0] == _PROXY and family[0] not in _OTHERS:
        fields = _FIELDS4 if family[0] == _TCP4 else _FIELDS6
        if size < fields.size:
            raise HeaderError("the PROXY header is too short for its addresses")
        if len(data) >= length:
            return _read_proxied(data[:length], fields)
    return Incomplete() if len(data) < length else Header(length)


def _read_proxied(header: bytes, fields: Struct) -> Header:
    source, destination, source_port, destination_port = fields.unpack_from(header, FIXED)
    _walk(header, FIXED + fields.size)
    return Header(
        len(header),
        Address(_host(ip_address(source)), source_port),
        Address(_host(ip_address(destination)), destination_port),
    )


def _walk(header: bytes, position: int) -> None:
    """Pass over the values that follow the addresses; check the checksum, if one is among them."""
    while position < len(header):
        start = position + _VALUE_HEADER.size
        if start > len(header):
            raise HeaderError("a value of the PROXY header is cut short")
        kind, size = _VALUE_HEADER.unpack_from(header, position)
        position = start + size
        if position > len(header):
            raise HeaderError("a value of the PROXY header is cut short")
        if kind == _CRC32C:
            blanked = header[:start] + bytes(size) + header[position:]
            if header[start:position] != crc32c(blanked).to_bytes(4):
                raise HeaderError("the checksum of the PROXY header is wrong")


def crc32c(data: bytes) -> int:
    """Return the checksum CRC32c (RFC 4960, appendix B)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC_TABLE: Final = tuple(map(_crc_entry, range(256)))


# Writing


def write(source: Address, destination: Address, values: Iterable[tuple[int, bytes]] = ()) -> bytes:
    """Write a header of version 2 for a connection of TCP.

    Args:
        source: where the client is.
        destination: where it has connected to. If one of the two is of IPv6 and the other one of
            IPv4, that one is written as an IPv4-mapped address.
        values: what else is told: types, and their values.

    Raises:
        ValueError: an address is not an IP address, or the header would get too long.
    """
    addresses = [ip_address(each.host) for each in (source, destination)]
    if any(isinstance(address, IPv6Address) for address in addresses):
        family, fields, packed = _TCP6, _FIELDS6, [_mapped(address) for address in addresses]
    else:
        family, fields, packed = _TCP4, _FIELDS4, [address.packed for address in addresses]
    block = fields.pack(*packed, source.port, destination.port)
    block += b"".join(_value(kind, value) for kind, value in values)
    if len(block) > LONGEST_BLOCK:
        raise ValueError("the PROXY header would get too long")
    return SIGNATURE + bytes((_PROXY, family)) + len(block).to_bytes(2) + block


def _mapped(address: IPv4Address | IPv6Address) -> bytes:
    if isinstance(address, IPv6Address):
        return address.packed
    return bytes(10) + b"\xff\xff" + address.packed


def _value(kind: int, value: bytes) -> bytes:
    return _VALUE_HEADER.pack(kind, len(value)) + value


def preface(view: View, destination: Address, shown: Sequence[bytes] = ()) -> bytes:
    """Write what the server behind is told of a session, before anything of the session itself.

    That is where the client is and has connected to, the application protocol, the domain, the
    session's id, and TLS if there is any; of a server that connects also whether its certificate
    has proved its domain, and the common name in it, which proves nothing.

    Args:
        view: the session.
        destination: where the client has connected to.
        shown: the certificates that the client has shown, in DER, its own first.
    """
    values = [(_ALPN, view.kind.protocol)]
    if view.domain:
        values.append((_AUTHORITY, view.domain.encode()))
    values.append((_UNIQUE_ID, view.id.encode()))
    if view.tls is not None:
        values.append((_SSL, _tls(view.tls, shown, proved=bool(view.client_identity))))
    return write(view.client, destination, values)


def _tls(facts: TLSFacts, shown: Sequence[bytes], *, proved: bool) -> bytes:
    client, name = _CLIENT_SSL, b""
    if shown:
        client |= _CLIENT_CERTIFICATE
        name = _common_name(shown[0])
    return (
        bytes((client,))
        + (0 if proved else _NOT_VERIFIED).to_bytes(4)
        + _value(_SSL_VERSION, facts.version.encode())
        + _value(_SSL_CIPHER, facts.cipher.encode())
        + (_value(_SSL_COMMON_NAME, name) if name else b"")
    )


def _common_name(certificate: bytes) -> bytes:
    """Return the first common name of a certificate in UTF-8; empty if there is none to be read."""
    try:
        subject = x509.load_der_x509_certificate(certificate).subject
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value).encode()[:_LONGEST_NAME] if names else b""
    except (ValueError, UnsupportedAlgorithm):
        return b""
