"""XMPP addresses (RFC 7622)."""

import re
from typing import Final

import attrs

from proxy.xmpp.domains import domain as ascii_domain

LONGEST: Final = 1023
"""Bytes of a local part, and of a resource (RFC 7622, sections 3.3 and 3.4)."""

_NO_LOCAL_PART: Final = re.compile(r"[\s\"&'/:<>@]")
"""What no local part holds (RFC 7622, section 3.3.1)."""

_NO_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What no part of an address holds."""


@attrs.frozen
class Jid:
    """An XMPP address (RFC 7622): ``local@domain/resource``; absent parts are empty."""

    local: str
    domain: str
    resource: str = ""

    @classmethod
    def parse(cls, text: str) -> "Jid":
        """Return the address that ``text`` writes, its local part and domain in lower case.

        Raises:
            ValueError: ``text`` is no address.
        """
        bare, slash, resource = text.partition("/")
        local, at, domain = bare.rpartition("@")
        if (at and not local) or (slash and not resource) or _NO_LOCAL_PART.search(local):
            raise ValueError("not an XMPP address")
        if _NO_CHARACTER.search(text):
            raise ValueError("a control character is in the XMPP address")
        if max(len(local.encode()), len(resource.encode())) > LONGEST:
            raise ValueError("a part of the XMPP address is too long")
        return cls(local.lower(), ascii_domain(domain), resource)

    @property
    def bare(self) -> "Jid":
        """The address without its resource."""
        return attrs.evolve(self, resource="")

    def __str__(self) -> str:
        return (
            (f"{self.local}@" if self.local else "")
            + self.domain
            + (f"/{self.resource}" if self.resource else "")
        )
