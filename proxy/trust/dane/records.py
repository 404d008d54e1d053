"""TLSA records, and which of them can be used (RFC 6698, RFC 7671, acronyms of RFC 7218)."""

import hashlib
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final

import attrs

from proxy.trust import der
from proxy.trust.certificate import Certificate
from proxy.trust.verdict import LARGEST_CERTIFICATE

_SHOWN: Final = 16  # hexadecimal digits of the data
_ACRONYMS: Final = ("PKIX-TA", "PKIX-EE", "DANE-TA", "DANE-EE")


class Usage(IntEnum):
    """What a record says of the certificate that it is about (RFC 6698, section 2.1.1)."""

    PKIX_TA = 0
    """An authority above the server's certificate, which a trusted root vouches for as well."""
    PKIX_EE = 1
    """The server's own, which a trusted root vouches for as well."""
    DANE_TA = 2
    """An authority above the server's certificate, to be trusted for itself."""
    DANE_EE = 3
    """The server's own, to be trusted for itself."""


class Selector(IntEnum):
    """Which part of the certificate counts (RFC 6698, section 2.1.2)."""

    CERT = 0
    """All of it."""
    SPKI = 1
    """Its ``SubjectPublicKeyInfo``."""


class Matching(IntEnum):
    """How that part stands in the record (RFC 6698, section 2.1.3)."""

    FULL = 0
    """As it is."""
    SHA2_256 = 1
    SHA2_512 = 2


_DIGESTS: Final[dict[int, Callable[[bytes], bytes]]] = {
    Matching.SHA2_256: lambda data: hashlib.sha256(data).digest(),
    Matching.SHA2_512: lambda data: hashlib.sha512(data).digest(),
}
_LENGTHS: Final[dict[int, int]] = {Matching.SHA2_256: 32, Matching.SHA2_512: 64}


@attrs.frozen
class TLSA:
    """A TLSA record, which may have any parameters and data.

    ``str()`` gives the usage in words, the parameters and the beginning of the data:
    ``DANE-EE 3 1 1 0123456789abcdef…``.

    Attributes:
        usage: The certificate usage, mostly a `Usage`.
        selector: Mostly a `Selector`.
        matching: The matching type, mostly a `Matching`.
        data: The certificate association data.
    """

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        digits = self.data.hex()
        shown = digits if len(digits) <= _SHOWN else f"{digits[:_SHOWN]}…"
        acronym = _ACRONYMS[self.usage] if 0 <= self.usage < len(_ACRONYMS) else "TLSA"
        return f"{acronym} {self.usage} {self.selector} {self.matching} {shown}".rstrip()

    @property
    def usable(self) -> bool:
        """Whether all parameters are known and the data is well-formed (RFC 6698, section 4.1)."""
        if self.usage not in set(Usage) or self.selector not in set(Selector):
            return False
        if self.matching != Matching.FULL:
            return len(self.data) == _LENGTHS.get(self.matching)
        try:
            return _is_well_formed(self.data, self.selector)
        except ValueError:
            return False

    def matches(self, certificate: Certificate) -> bool:
        """Whether this, a usable record, is about a certificate; its usage is not looked at."""
        part = certificate.key if self.selector == Selector.SPKI else certificate.whole
        digest = _DIGESTS.get(self.matching)
        return self.data == (part if digest is None else digest(part))


def _is_well_formed(data: bytes, selector: int) -> bool:
    if len(data) > LARGEST_CERTIFICATE:
        return False
    if selector == Selector.CERT:
        Certificate.read(data)
        return True
    fields = [tag for tag, _ in der.elements(der.only(data, der.SEQUENCE))]
    return fields == [der.SEQUENCE, der.BIT_STRING]


def effective(records: Iterable[TLSA]) -> list[TLSA]:
    """Return the records that count: the usable ones, once each, by the best digest alone.

    Of those with the same usage and selector, digests other than the strongest do not count
    (RFC 7671, section 9), so that the weakest of several hashes need not be safe.
    """
    usable = [record for record in dict.fromkeys(records) if record.usable]
    best: dict[tuple[int, int], int] = {}
    for record in usable:
        place = record.usage, record.selector
        best[place] = max(record.matching, best.get(place, Matching.FULL))
    return [
        record
        for record in usable
        if record.matching in {Matching.FULL, best[record.usage, record.selector]}
    ]
