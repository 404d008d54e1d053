"""What a TLS handshake showed of a server, as values."""

import attrs


@attrs.frozen
class Evidence:
    """What a finished handshake showed of the server.

    Attributes:
        chain: The certificates in DER as the server sent them, its own first; empty if none.
        error: The code (``X509_V_…``) of OpenSSL's verification of the chain: its signatures,
            times and purpose, but no names; 0 when nothing was wrong.
        error_text: OpenSSL's words for that code.
        verified: The chain in DER that OpenSSL verified, from the server's own certificate to a
            trust anchor, which the server need not have sent; empty if there is none.
        staple: The OCSP response in DER that came with the chain; empty if none did.
    """

    chain: tuple[bytes, ...]
    error: int
    error_text: str
    verified: tuple[bytes, ...] = ()
    staple: bytes = b""
