"""OpenSSL's own functions, called on the object inside pyOpenSSL's connection.

pyOpenSSL's methods make a buffer and an exception where a session that is established needs
neither. What is read goes into one buffer that all sessions share: take it out before the next
read.
"""

import socket
from functools import cache
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL._util import exception_from_error_queue, ffi, lib

RECORD: Final = 16_384
"""The largest piece of a TLS record (RFC 8446, section 5.1)."""

RECORDS: Final = 4
BUFFER: Final = ffi.new("char[]", RECORD * RECORDS)
PIECES: Final = tuple(BUFFER + RECORD * index for index in range(RECORDS))
VIEW: Final = memoryview(ffi.buffer(BUFFER))
"""The bytes that have just been read, of whichever session."""

read = lib.SSL_read
write = lib.SSL_write
get_error = lib.SSL_get_error
clear_errors = lib.ERR_clear_error
shutdown = lib.SSL_shutdown
_PLACE: Final = ffi.new("char **")
NONE: Final = lib.SSL_ERROR_NONE
WANT_READ: Final = lib.SSL_ERROR_WANT_READ
WANT_WRITE: Final = lib.SSL_ERROR_WANT_WRITE
ZERO_RETURN: Final = lib.SSL_ERROR_ZERO_RETURN


def inside(connection: SSL.Connection) -> Any:
    """Return OpenSSL's object; it lives on when pyOpenSSL's connection is gone."""
    return connection._ssl  # noqa: SLF001 - there is no public way


def read_a_record_at_a_time(connection: SSL.Connection) -> None:
    """Have a read return after a record without data, such as a KeyUpdate.

    pyOpenSSL sets the contrary. A peer that sends nothing else could keep a read busy for ever, and
    with it the whole process; this way other sockets and deadlines have their turn.
    """
    lib.SSL_clear_mode(inside(connection), lib.SSL_MODE_AUTO_RETRY)


def advance(connection: SSL.Connection) -> int:
    """Go on with the handshake of a connection on a socket.

    Returns:
        `NONE` if it is finished, else `WANT_READ` or `WANT_WRITE`.

    Raises:
        OpenSSL.SSL.Error: it has failed.
    """
    ssl = inside(connection)
    clear_errors()
    result = lib.SSL_do_handshake(ssl)
    error: int = get_error(ssl, result)
    if error not in (NONE, WANT_READ, WANT_WRITE):
        connection._raise_ssl_error(ssl, result)  # noqa: SLF001 - it knows of callbacks, too
    return error


def shake_hands(connection: SSL.Connection, received: bytes = b"") -> bool:
    """Go on with the handshake of a connection without a socket; whether it is finished.

    Args:
        connection: the connection.
        received: what has come.

    Raises:
        OpenSSL.SSL.Error: it has failed.
    """
    ssl = inside(connection)
    clear_errors()
    if received:
        lib.BIO_write(connection._into_ssl, received, len(received))  # noqa: SLF001
    result = lib.SSL_do_handshake(ssl)
    if result == 1:
        return True
    if get_error(ssl, result) != WANT_READ:
        connection._raise_ssl_error(ssl, result)  # noqa: SLF001 - it knows of callbacks, too
    return False


def take_output(connection: SSL.Connection) -> bytes:
    """Take what a connection without a socket has to send."""
    waiting = lib.BIO_get_mem_data(connection._from_ssl, _PLACE)  # noqa: SLF001
    return connection.bio_read(waiting) if waiting > 0 else b""


def unread(connection: SSL.Connection) -> int:
    """How many bytes that were written to a connection without a socket it has not read."""
    return int(lib.BIO_get_mem_data(connection._into_ssl, _PLACE))  # noqa: SLF001


def go_on_with(connection: SSL.Connection, peer: socket.socket) -> None:
    """Have a connection that was made without a socket go on with one.

    Raises:
        OpenSSL.SSL.Error: OpenSSL cannot.
    """
    # OpenSSL frees them: what is asked of them from now on must fail, and not touch them.
    connection._into_ssl = connection._from_ssl = None  # noqa: SLF001
    if lib.SSL_set_fd(inside(connection), peer.fileno()) != 1:
        raise pending_error() or SSL.Error("no socket")


def request_certificate(context: SSL.Context) -> None:
    """Have a server ask for certificates, and take any or none: whom to believe is decided later.

    What OpenSSL says of them (`verify_result`) is always an error then, so that nobody can mistake
    a handshake that has succeeded for a verdict.
    """
    # pyOpenSSL's own callback looks its connection up, which may be gone while the handshake is on.
    lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER, _TAKE_ANY)  # noqa: SLF001


def _take_any(_found: int, verification: Any) -> int:
    lib.X509_STORE_CTX_set_error(verification, lib.X509_V_ERR_APPLICATION_VERIFICATION)
    return 1


_TAKE_ANY: Final = ffi.callback("int(int, X509_STORE_CTX *)", _take_any)
"""Kept for ever: OpenSSL calls it. Should it fail, it returns 0, which ends the handshake."""


def agree_on(context: SSL.Context, protocol: bytes) -> None:
    """Have a server agree on this protocol only (RFC 7301), or on none where it is empty.

    A client that offers others, and not this one, gets a fatal alert, one that offers nothing goes
    on without.
    """
    selection = _selection(protocol)
    lib.SSL_CTX_set_alpn_select_cb(context._context, selection, ffi.NULL)  # noqa: SLF001


@cache  # for ever: OpenSSL calls it
def _selection(protocol: bytes) -> Any:
    """Return what OpenSSL calls to choose; pyOpenSSL's way takes several times as long."""
    wanted = bytes((len(protocol),)) + protocol
    chosen = ffi.new("unsigned char[]", protocol)

    def select(
        _ssl: Any, out: Any, out_length: Any, offered: Any, length: int, _argument: Any
    ) -> int:
        names = ffi.buffer(offered, length)[:]
        position = 0
        while protocol and position < length:
            following = position + 1 + names[position]
            if names[position:following] == wanted:
                out[0] = chosen
                out_length[0] = len(protocol)
                return _AGREED
            position = following
        return _REFUSED

    return ffi.callback(_SELECT, select, error=_REFUSED)  # should it fail, the handshake does


_SELECT: Final = (
    "int(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)"
)
_AGREED: Final[int] = lib.SSL_TLSEXT_ERR_OK
_REFUSED: Final[int] = lib.SSL_TLSEXT_ERR_ALERT_FATAL


def was_resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake took up an earlier session."""
    return bool(lib.SSL_session_reused(inside(connection)))


def verify_result(connection: SSL.Connection) -> tuple[int, str]:
    """Return what OpenSSL made of the peer's chain: its code (0: nothing is wrong) and words."""
    code = lib.SSL_get_verify_result(inside(connection))
    return code, ffi.string(lib.X509_verify_cert_error_string(code)).decode("utf-8", "replace")


def took_up(connection: SSL.Connection, server_name: str | None) -> bool:
    """Whether a finished handshake, of the server, was for this server name.

    Where it has resumed a session, OpenSSL may have forgotten the name (TLS 1.2); the session was
    for the context, which was chosen by the name.
    """
    indicated = connection.get_servername()
    if indicated is None and was_resumed(connection):
        return True
    return indicated == (None if server_name is None else server_name.encode())


def set_groups(context: SSL.Context, groups: str) -> bool:
    """Set the groups of key exchange, in order; whether OpenSSL knows them.

    pyOpenSSL has no public name for this yet, but carries the function under its old one.
    """
    names = groups.encode()
    return bool(lib.SSL_CTX_set1_curves_list(context._context, names) == 1)  # noqa: SLF001


def pending_error() -> BaseException | None:
    """Take the errors that OpenSSL has queued and return them as an exception."""
    try:
        exception_from_error_queue(SSL.Error)  # never returns
    except SSL.Error as error:
        return error if error.args[0] else None
