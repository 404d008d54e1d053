"""Reads a ClientHello (RFC 8446, section 4.1.2) that is looked at but not taken from its socket.

Only to choose a certificate and to refuse early: OpenSSL reads the same bytes afterwards and is
the one that judges them. Choosing before OpenSSL begins gives each domain a TLS context, and with
it ticket keys, of its own; a context swapped later would keep the tickets of the first.
"""

from typing import Final

import attrs

LONGEST: Final = 16_384
"""Bytes of handshake that a ClientHello may have here, the limit of one record."""

_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_MAJOR_VERSION: Final = 3  # of TLS, all of it


@attrs.frozen
class Hello:
    """What a ClientHello asks for.

    Attributes:
        server_name: the host name of server name indication, as sent; None if there is none.
        protocols: the protocols of ALPN, in order.
    """

    server_name: str | None
    protocols: tuple[bytes, ...]


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
    message = bytearray()
    position = 0
    while True:
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
                return _read_message(bytes(message[4 : 4 + wanted]))


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


class _Reader:
    """Takes fields off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def more(self) -> bool:
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise MalformedError("a field of the ClientHello is cut short")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _read_message(body: bytes) -> Hello:
    reader = _Reader(body)
    reader.take(2 + 32)  # version and random
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    server_name: str | None = None
    protocols: tuple[bytes, ...] = ()
    if reader.more:
        extensions = _Reader(reader.vector(2))
        while extensions.more:
            kind = extensions.number(2)
            content = extensions.vector(2)
            if kind == _SERVER_NAME:
                server_name = _server_name(content)
            elif kind == _ALPN:
                protocols = _protocols(content)
    return Hello(server_name, protocols)


def _server_name(content: bytes) -> str | None:
    """Read the first host name of the extension (RFC 6066, section 3)."""
    names = _Reader(_Reader(content).vector(2))
    while names.more:
        kind = names.number(1)
        name = names.vector(2)
        if kind == 0:
            try:
                return name.decode("ascii")
            except UnicodeDecodeError as error:
                raise MalformedError("the server name is not ASCII") from error
    return None


def _protocols(content: bytes) -> tuple[bytes, ...]:
    """Read the list of protocols (RFC 7301, section 3.1)."""
    names = _Reader(_Reader(content).vector(2))
    found = []
    while names.more:
        found.append(names.vector(1))
    return tuple(found)
