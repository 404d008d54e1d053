"""OCSP stapling as the client (RFC 6066, section 8): asking for a response, and taking it out.

OpenSSL is given no callback, so a handshake succeeds whatever comes, or does not: the response is
judged later, with the certificates (`proxy.trust.ocsp`). Nothing that goes wrong can get lost in a
callback on the way.
"""

from typing import Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from proxy.net import openssl

_PLACE: Final = ffi.new("unsigned char **")


def request_staple(connection: SSL.Connection) -> None:
    """Ask the server for a response, in a handshake that has not begun.

    Raises:
        OpenSSL.SSL.Error: OpenSSL cannot.
    """
    connection.request_ocsp()


def staple(connection: SSL.Connection) -> bytes:
    """Return the response in DER that the server has sent, as it came; empty if there is none.

    A session that was resumed would bring none. There are no such: contexts for servers remember
    no sessions (`proxy.net.tls.client_context`).
    """
    length = lib.SSL_get_tlsext_status_ocsp_resp(openssl.inside(connection), _PLACE)
    return bytes(ffi.buffer(_PLACE[0], length)) if length > 0 else b""
