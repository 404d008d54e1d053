"""A TLS handshake of which OpenSSL sees no more than one record at a time.

There are records that OpenSSL skips, for as long as its socket has some, without coming back: a
client skips HelloRequests (RFC 5246, section 7.4.1.1), a server the early data that it does not
take (RFC 8446, section 4.2.10), which empty records never use up. One peer that sends nothing else
would stop the whole process. So the records are taken off the socket here, counted, and handed over
one by one; when the handshake is finished, OpenSSL gets the socket itself.
"""

import socket
from contextlib import suppress
from enum import Enum
from typing import Final

from OpenSSL import SSL

from proxy.net import openssl

MOST_RECORDS: Final = 128
"""Records that a peer may need for its part of a handshake."""

MOST_BYTES: Final = 262_144
"""Bytes likewise, headers of records included."""

LARGEST: Final = 16_384 + 2048
"""Bytes in a record behind its header (RFC 5246, section 6.2.3); TLS 1.3 allows less."""

_HEADER: Final = 5
_KINDS: Final = range(20, 24)
_VERSION: Final = 3  # the first byte of it, in all versions
_RECORDS_AT_ONCE: Final = 8


class HandshakeError(Exception):
    """The handshake is given up; the message says why."""


class Next(Enum):
    """What a handshake goes on with."""

    READABLE = "when the socket can be read"
    WRITABLE = "when the socket can be written to"
    DONE = "nothing: it is finished"


class Handshake:
    """One handshake.

    Args:
        context: what is spoken.
        connection: the socket, connected and not blocking.
        accept: whether we are the server, or else the client.

    Attributes:
        tls: pyOpenSSL's connection. What is indicated and offered is set before the first
            `advance`; from `Next.DONE` on it is as one that was made on the socket, and not sooner.
    """

    __slots__ = (
        "_begun",
        "_bytes",
        "_finished",
        "_partial",
        "_records",
        "_size",
        "_socket",
        "_unsent",
        "tls",
    )

    def __init__(self, context: SSL.Context, connection: socket.socket, *, accept: bool) -> None:
        self.tls = SSL.Connection(context, None)
        if accept:
            self.tls.set_accept_state()
        else:
            self.tls.set_connect_state()
        self._socket = connection
        self._partial = bytearray()  # what has come of a record
        self._size = _HEADER  # as much of it as is read next, from its beginning
        self._unsent = b""
        self._begun = accept  # a client speaks first
        self._finished = False
        self._records = 0
        self._bytes = 0

    def advance(self) -> Next:
        """Go on as far as the socket allows, but for some records at most.

        Nothing that follows the handshake is taken off the socket.

        Raises:
            HandshakeError: the peer sends too much, or what is not TLS, or nothing any more.
            OpenSSL.SSL.Error: the handshake has failed; the peer has been told.
            OSError: the connection is lost.
        """
        if not self._flush():
            return Next.WRITABLE
        try:
            self._take_records()
        except SSL.Error:
            with suppress(OSError):
                self._socket.send(openssl.take_output(self.tls))
            raise
        self._unsent = openssl.take_output(self.tls)
        if not self._flush():
            return Next.WRITABLE
        if not self._finished:
            return Next.READABLE
        if openssl.unread(self.tls):
            raise HandshakeError("something is left of the handshake")
        openssl.go_on_with(self.tls, self._socket)
        return Next.DONE

    def _take_records(self) -> None:
        """Have OpenSSL go on with what comes."""
        if not self._begun:
            self._begun = True
            openssl.shake_hands(self.tls)
            return
        for _ in range(_RECORDS_AT_ONCE):
            if self._finished or not (record := self._read()):
                return
            self._finished = openssl.shake_hands(self.tls, record)

    def _read(self) -> bytes:
        """Return the next record; nothing if it has not come yet."""
        while True:
            try:
                data = self._socket.recv(self._size - len(self._partial))
            except BlockingIOError:
                return b""
            if not data:
                raise HandshakeError("connection lost")
            self._partial += data
            if len(self._partial) < self._size:
                return b""
            if self._size == _HEADER:
                self._size += self._measured()
            if len(self._partial) == self._size:
                return self._counted()

    def _measured(self) -> int:
        """Return how many bytes follow the header of a record."""
        kind, version, _, high, low = self._partial
        size = (high << 8) + low
        if kind not in _KINDS or version != _VERSION or size > LARGEST:
            openssl.shake_hands(self.tls, bytes(self._partial))  # raises what it can say in words
            raise HandshakeError("not a TLS record")
        return size

    def _counted(self) -> bytes:
        """Return the record that has come, and begin the next."""
        self._records += 1
        self._bytes += self._size
        if self._records > MOST_RECORDS or self._bytes > MOST_BYTES:
            raise HandshakeError("the handshake takes too much")
        record = bytes(self._partial)
        self._partial.clear()
        self._size = _HEADER
        return record

    def _flush(self) -> bool:
        """Send what is unsent; whether all of it is gone."""
        if self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return False
            self._unsent = self._unsent[sent:]
        return not self._unsent
