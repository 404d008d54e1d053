"""Stream ids: unpredictable, never the same twice, and known again when they come back."""

import hashlib
import hmac
import secrets
from typing import Final

_RANDOM: Final = 16
_PROOF: Final = 8


class StreamIds:
    """Makes the ids of the streams that the proxy itself answers (RFC 6120, section 4.7.3).

    Each id carries a proof under a key of the proxy's. A peer that answers with such an id is the
    proxy itself: the connection runs in a circle.

    Args:
        key: the key, which all processes have that are to know each other's ids; None for one that
            nobody else has.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key

    def new(self) -> str:
        """Return a new id, in hexadecimal."""
        random = secrets.token_hex(_RANDOM)
        return random + self._proof(random)

    def issued(self, stream_id: str) -> bool:
        """Whether ``stream_id`` is one that `new` returned, here or where the key is the same."""
        random, proof = stream_id[: 2 * _RANDOM], stream_id[2 * _RANDOM :]
        return hmac.compare_digest(proof.encode(), self._proof(random).encode())

    def _proof(self, random: str) -> str:
        digest = hmac.digest(self._key, random.encode(), hashlib.sha256)
        return digest[:_PROOF].hex()
