"""How strong keys and signatures of certificates must be, where no TLS library sees to it.

What is strong enough is listed and nothing else is: an algorithm that nobody has heard of yet is as
weak as a broken one.
"""

from typing import Final

from proxy.trust import der

SHORTEST_RSA: Final = 2048
"""How many bits the modulus of an RSA key must have (RFC 9325 section 4.5)."""

_RSA: Final = bytes.fromhex("2a864886f70d010101")
_RSA_PSS: Final = bytes.fromhex("2a864886f70d01010a")
_ELLIPTIC_CURVE: Final = bytes.fromhex("2a8648ce3d0201")
_ED25519: Final = bytes.fromhex("2b6570")
_ED448: Final = bytes.fromhex("2b6571")
_EDWARDS: Final = frozenset({_ED25519, _ED448})

_P256: Final = bytes.fromhex("2a8648ce3d030107")
_P384: Final = bytes.fromhex("2b81040022")
_P521: Final = bytes.fromhex("2b81040023")
_CURVES: Final = frozenset({_P256, _P384, _P521})

_SHA_2: Final = frozenset(
    bytes.fromhex("6086480165030402") + bytes((number,)) for number in (1, 2, 3, 4)
)
_SHA_1: Final = bytes.fromhex("2b0e03021a")
_WITH_RSA: Final = _RSA[:-1]
_WITH_ECDSA: Final = bytes.fromhex("2a8648ce3d04")

_SIGNATURES: Final = frozenset(
    {
        *(_WITH_RSA + bytes((number,)) for number in (11, 12, 13, 14)),  # sha…WithRSAEncryption
        *(_WITH_ECDSA + bytes((3, number)) for number in (1, 2, 3, 4)),  # ecdsa-with-SHA…
        *_EDWARDS,
    }
)
"""The algorithms that are strong enough, all of which but RSASSA-PSS say so by their names."""

_BROKEN: Final = {
    _WITH_RSA + b"\x02": "MD2",
    _WITH_RSA + b"\x04": "MD5",
    _WITH_RSA + b"\x05": "SHA-1",
    _WITH_ECDSA + b"\x01": "SHA-1",
}
"""Those whose name is worth telling."""

_HASH: Final = 0xA0
_MOST_FIELDS: Final = 2


def key_weakness(key: bytes) -> str:
    """Return why a key is not strong enough, fit for brackets; "" if it is.

    Strong enough are RSA of `SHORTEST_RSA` bits or more, P-256, P-384, P-521, Ed25519 and Ed448.

    Args:
        key: Its ``SubjectPublicKeyInfo``, with tag and length.

    Raises:
        ValueError: It is malformed.
    """
    fields = list(der.elements(der.only(key, der.SEQUENCE)))
    if [tag for tag, _ in fields] != [der.SEQUENCE, der.BIT_STRING]:
        raise ValueError("its key is malformed")
    (_, kind), (_, bits) = fields
    algorithm, parameters = _algorithm(kind)
    if algorithm in _EDWARDS:
        return ""
    if algorithm in {_RSA, _RSA_PSS}:
        length = _modulus(bits).bit_length()
        return "" if length >= SHORTEST_RSA else f"RSA of {length} bits"
    if algorithm == _ELLIPTIC_CURVE:
        known = parameters[:1] in [[(der.OBJECT_IDENTIFIER, curve)] for curve in _CURVES]
        return "" if known else "on a curve other than P-256, P-384 and P-521"
    return "neither RSA nor on a known curve"


def signature_weakness(signature: bytes) -> str:
    """Return why an algorithm of signatures is not strong enough, fit for brackets; "" if it is.

    Strong enough are RSA and ECDSA with a hash of SHA-2, RSASSA-PSS with the same, Ed25519 and
    Ed448.

    Args:
        signature: Its ``AlgorithmIdentifier``, without tag and length.

    Raises:
        ValueError: It is malformed.
    """
    algorithm, parameters = _algorithm(signature)
    if algorithm == _RSA_PSS:
        hashed = _hash_of_pss(parameters)
        if hashed in _SHA_2:
            return ""
        return "SHA-1" if hashed == _SHA_1 else "an unknown algorithm"
    if algorithm in _SIGNATURES:
        return ""
    return _BROKEN.get(algorithm, "an unknown algorithm")


def _algorithm(identifier: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the object identifier and the parameters of an ``AlgorithmIdentifier``."""
    fields = list(der.elements(identifier))
    if [tag for tag, _ in fields[:1]] != [der.OBJECT_IDENTIFIER] or len(fields) > _MOST_FIELDS:
        raise ValueError("its algorithm is malformed")
    return fields[0][1], fields[1:]


def _modulus(bits: bytes) -> int:
    if bits[:1] != b"\x00":
        raise ValueError("its key is malformed")
    fields = list(der.elements(der.only(bits[1:], der.SEQUENCE)))
    number = int.from_bytes(fields[0][1], "big", signed=True) if fields else 0
    if [tag for tag, _ in fields] != [der.INTEGER, der.INTEGER] or number <= 0:
        raise ValueError("its key is malformed")
    return number


def _hash_of_pss(parameters: list[tuple[int, bytes]]) -> bytes:
    """Return the hash that the parameters of RSASSA-PSS name (RFC 4055 section 3.1)."""
    for tag, content in parameters:
        if tag != der.SEQUENCE:
            raise ValueError("its algorithm is malformed")
        for field, value in der.elements(content):
            if field == _HASH:
                return _algorithm(der.only(value, der.SEQUENCE))[0]
    return _SHA_1
