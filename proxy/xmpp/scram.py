"""What both sides of SCRAM work out (RFC 5802, RFC 7677)."""

import base64
import hashlib
import hmac
from typing import Final

MECHANISMS: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
"""By mechanism without channel binding, best first: the hash, as ``hashlib`` calls it."""


def salted(digest: str, password: bytes, salt: bytes, iterations: int) -> bytes:
    """Return the salted password, which takes its time: that is what ``iterations`` are for.

    Args:
        digest: the name of the hash.
        password: the password, as SASLprep has it.
        salt: the server's salt.
        iterations: the server's iteration count, at least 1.
    """
    return hashlib.pbkdf2_hmac(digest, password, salt, iterations)


def client_proof(digest: str, salted_password: bytes, signed: bytes) -> bytes:
    """Return what proves to the server that the client knows the password.

    Args:
        digest: the name of the hash.
        salted_password: what `salted` returned.
        signed: the messages that both sides sign.
    """
    key = hmac.digest(salted_password, b"Client Key", digest)
    signature = hmac.digest(hashlib.new(digest, key).digest(), signed, digest)
    return bytes(a ^ b for a, b in zip(key, signature, strict=True))


def server_signature(digest: str, salted_password: bytes, signed: bytes) -> bytes:
    """Return what proves to the client that the server knows the password; see `client_proof`."""
    return hmac.digest(hmac.digest(salted_password, b"Server Key", digest), signed, digest)


def fields(message: str) -> dict[str, str]:
    """Return the value of each ``name=value`` of a message."""
    return {field[:1]: field[2:] for field in message.split(",")}


def escaped(name: str) -> str:
    """Write a user's name as it stands in a message."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescaped(name: str) -> str:
    """Read a user's name as it stands in a message."""
    return name.replace("=2C", ",").replace("=3D", "=")


def encoded(data: bytes) -> str:
    """Return ``data`` in base64."""
    return base64.b64encode(data).decode()


def decoded_bytes(data: str) -> bytes:
    """Return what stands in base64.

    Raises:
        ValueError: it is no base64.
    """
    return base64.b64decode(data, validate=True)


def decoded(data: str) -> str:
    """Return the text that stands in a SASL element; ``=`` is an empty one (RFC 6120, 6.4.2).

    Raises:
        ValueError: it is no base64, or no UTF-8 in it.
    """
    return decoded_bytes("" if data == "=" else data).decode()
