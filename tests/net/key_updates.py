"""A peer's records of TLS 1.3 made by hand: KeyUpdates, which carry no data, and data."""

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_HANDSHAKE = 0x16
_DATA = 0x17
_KEY_UPDATE = 24


class KeyUpdates:
    """Goes on where a handshake of TLS 1.3 has ended, instead of the library that made it.

    Args:
        key_log: what the library wrote to ``keylog_filename``.
        tls: its side, which must have sent nothing but the handshake.
        peer: which side it is, ``CLIENT`` or ``SERVER``.
    """

    def __init__(self, key_log: Path, tls: ssl.SSLObject, peer: str = "CLIENT") -> None:
        chosen = tls.cipher()
        assert chosen is not None
        assert chosen[0] == "TLS_AES_256_GCM_SHA384"
        (line,) = (
            line
            for line in key_log.read_text().splitlines()
            if line.startswith(f"{peer}_TRAFFIC_SECRET_0 ")
        )
        self._secret = bytes.fromhex(line.split()[2])
        self._sent = 0  # records under this secret

    def update(self, *, answer: bool) -> bytes:
        """Return a record with a KeyUpdate, which asks for another one if ``answer``."""
        record = self.record(_HANDSHAKE, bytes((_KEY_UPDATE, 0, 0, 1, answer)))
        self._secret = _expand(self._secret, b"traffic upd", 48)
        self._sent = 0
        return record

    def flood(self, count: int, *, answer: bool) -> bytes:
        """Return ``count`` KeyUpdates."""
        return b"".join(self.update(answer=answer) for _ in range(count))

    def data(self, data: bytes) -> bytes:
        """Return a record with data."""
        return self.record(_DATA, data)

    def record(self, kind: int, content: bytes) -> bytes:
        """Protect a record (RFC 8446, section 5.2)."""
        key, mask = _expand(self._secret, b"key", 32), _expand(self._secret, b"iv", 12)
        nonce = int.from_bytes(mask) ^ self._sent
        inner = content + bytes((kind,))
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        self._sent += 1
        return header + AESGCM(key).encrypt(nonce.to_bytes(12), inner, header)


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446, section 7.1)."""
    named = b"tls13 " + label
    info = size.to_bytes(2) + bytes((len(named),)) + named + b"\x00"
    return HKDFExpand(SHA384(), size, info).derive(secret)
