"""Reads a ClientHello (RFC 8446, section 4.1.2) that is looked at but not taken from its socket.

Only to choose a certificate and to refuse early: OpenSSL reads the same bytes afterwards and is
the one that judges them. Choosing before OpenSSL begins gives each domain a TLS context, and with
it ticket keys, of its own; a context swapped later would keep the tickets of the first.
"""

from typing import Final

import attrs

LONGEST: Final = 16_384
"""Bytes of handshake that a ClientHello may have here, the limit of one record."""

MOST_RECORDS: Final = 64
"""Records over which it may be spread: each costs as much as all of it when it is looked at."""

_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_EARLY_DATA: Final = 42
_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51
_HEEDED: Final = frozenset((_SERVER_NAME, _ALPN, _EARLY_DATA, _SUPPORTED_VERSIONS, _KEY_SHARE))
_OUR_GROUPS: Final = frozenset((0x11EC, 0x001D, 0x0017, 0x0018))
"""X25519MLKEM768, X25519, secp256r1 and secp384r1 (`proxy.net.tls.GROUPS`)."""
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_MAJOR_VERSION: Final = 3  # of TLS, all of it


@attrs.frozen
class Hello:
    """What a ClientHello asks for.

    Attributes:
        server_name: the host name of server name indication, as sent; None if there is none.
        protocols: the protocols of ALPN, in order.
        goes_on: whether more may follow at once that OpenSSL takes in within one call, however much
            it is: early data (RFC 8446, section 4.2.10), or a second ClientHello, for which a
            client is asked that offers no key share of ours.
    """

    server_name: str | None
    protocols: tuple[bytes, ...]
    goes_on: bool = False


@attrs.frozen
class Incomplete:
    """The ClientHello has not come in whole; look again once there are ``needed`` bytes."""

    needed: int


class MalformedError(Exception):
    """No ClientHello; the message says why."""


def read(data: bytes) -> Hello | Incomplete:
    """Read the ClientHello at the start of ``data``, which may be spread over records.

    Raises:
        MalformedError: the bytes are no ClientHello, whatever follows.
    """
    message = b""
    position = 0
    for _ in range(MOST_RECORDS):
        end = _record_end(data, position)
        if len(data) < end:
            return Incomplete(end)
        message += data[position + _RECORD_HEADER : end]
        position = end
        if message[0] != _CLIENT_HELLO:
            raise MalformedError("not a ClientHello")
        if len(message) >= _MESSAGE_HEADER:
            wanted = int.from_bytes(message[1:4])
            if wanted > LONGEST:
                raise MalformedError("the ClientHello is too long")
            if len(message) >= _MESSAGE_HEADER + wanted:
                return _read_message(message[4 : 4 + wanted])
    raise MalformedError("the ClientHello is spread over too many records")


def _record_end(data: bytes, position: int) -> int:
    """Return where the record at ``position`` ends, as far as that can be seen yet."""
    if len(data) > position and data[position] != _HANDSHAKE:
        raise MalformedError("not a TLS handshake")
    if len(data) < position + _RECORD_HEADER:
        return position + _RECORD_HEADER
    length = int.from_bytes(data[position + 3 : position + 5])
    if data[position + 1] != _MAJOR_VERSION or not 0 < length <= LONGEST:
        raise MalformedError("not a TLS record")
    return position + _RECORD_HEADER + length


def _read_message(body: bytes) -> Hello:
    try:
        position = 2 + 32  # version and random
        position += 1 + body[position]  # session id
        position += 2 + (body[position] << 8 | body[position + 1])  # cipher suites
        position += 1 + body[position]  # compression methods
    except IndexError:
        raise MalformedError("a field of the ClientHello is cut short") from None
    found = {} if position == len(body) else _extensions(_vector(body, position, 2)[0])
    name, protocols, shares = found.get(_SERVER_NAME), found.get(_ALPN), found.get(_KEY_SHARE)
    # There is no second ClientHello before TLS 1.3.
    asked_again = _SUPPORTED_VERSIONS in found and (
        shares is None or _OUR_GROUPS.isdisjoint(_shares(shares))
    )
    return Hello(
        None if name is None else _server_name(name),
        () if protocols is None else _protocols(protocols),
        _EARLY_DATA in found or asked_again,
    )


def _extensions(data: bytes) -> dict[int, bytes]:
    """Read the contents of those extensions that matter here, by their kinds."""
    found = {}
    position, size = 0, len(data)
    while position < size:
        # As `_vector` does, but without a call for each of some twenty.
        start = position + 4
        if start > size:
            raise MalformedError("an extension of the ClientHello is cut short")
        end = start + (data[position + 2] << 8 | data[position + 3])
        if end > size:
            raise MalformedError("an extension of the ClientHello is cut short")
        kind = data[position] << 8 | data[position + 1]
        if kind in _HEEDED:
            found[kind] = data[start:end]
        position = end
    return found


def _vector(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    """Read a vector whose length has ``size`` bytes: its content, and where it ends."""
    start = position + size
    end = start + int.from_bytes(data[position:start])
    if start > len(data) or end > len(data):
        raise MalformedError("a field of the ClientHello is cut short")
    return data[start:end], end


def _server_name(content: bytes) -> str | None:
    """Read the first host name of the extension (RFC 6066, section 3)."""
    names, _ = _vector(content, 0, 2)
    position = 0
    while position < len(names):
        kind = names[position]
        name, position = _vector(names, position + 1, 2)
        if kind == 0:
            try:
                return name.decode("ascii")
            except UnicodeDecodeError as error:
                raise MalformedError("the server name is not ASCII") from error
    return None


def _shares(content: bytes) -> list[int]:
    """Read of which groups there are key shares (RFC 8446, section 4.2.8)."""
    shares, _ = _vector(content, 0, 2)
    position = 0
    found = []
    while position < len(shares):
        found.append(int.from_bytes(shares[position : position + 2]))
        position = _vector(shares, position + 2, 2)[1]
    return found


def _protocols(content: bytes) -> tuple[bytes, ...]:
    """Read the list of protocols (RFC 7301, section 3.1)."""
    names, _ = _vector(content, 0, 2)
    position = 0
    found = []
    while position < len(names):
        name, position = _vector(names, position, 1)
        found.append(name)
    return tuple(found)
