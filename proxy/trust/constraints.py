"""Name constraints of authorities, for the identities that OpenSSL does not hold them against.

RFC 5280 section 4.2.1.10 constrains each form of name for itself. An authority that may only vouch
for hosts below ``example.org`` could so put any domain it likes into an SRV-ID or XmppAddr. What is
said about host names counts for the domain in those as well.
"""

from collections.abc import Iterator
from typing import Final

from proxy.trust import der

_PERMITTED: Final = 0xA0
_EXCLUDED: Final = 0xA1
_DNS_NAME: Final = 0x82


def permits(name_constraints: bytes, name: str) -> bool:
    """Whether an authority may vouch for a domain.

    Args:
        name_constraints: The value of that extension of its certificate.
        name: The domain in A-labels, in lower case.

    Raises:
        ValueError: The extension is malformed.
    """
    allowed = True
    for tag, subtrees in der.elements(der.only(name_constraints, der.SEQUENCE)):
        inside = [_is_within(name, base) for base in _hosts(subtrees)]
        if tag == _EXCLUDED:
            allowed = allowed and not any(inside)
        elif tag == _PERMITTED:
            allowed = allowed and (any(inside) or not inside)
        else:
            raise ValueError("its name constraints are malformed")
    return allowed


def _hosts(subtrees: bytes) -> Iterator[str]:
    for tag, subtree in der.elements(subtrees):
        fields = list(der.elements(subtree))
        if tag != der.SEQUENCE or len(fields) != 1:
            raise ValueError("its name constraints are malformed")
        if fields[0][0] == _DNS_NAME:
            yield fields[0][1].decode("ascii").lower()


def _is_within(name: str, base: str) -> bool:
    return not base or name == base or name.endswith(f".{base.removeprefix('.')}")
