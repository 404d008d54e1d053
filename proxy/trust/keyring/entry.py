"""What the keyring holds, as values."""

from datetime import datetime
from enum import Enum
from typing import Final

import attrs

from proxy.trust.keyring.facts import Facts

C2S: Final = "c2s"
S2S: Final = "s2s"
STREAMS: Final = (C2S, S2S)
"""The kinds of streams, which have certificates of their own, in the words of the conf."""


class How(Enum):
    """How a certificate came to be believed."""

    PKIX = "pkix"
    """A trusted authority vouches for it, and it names the domain."""
    DANE = "dane"
    """TLSA records vouch for it (RFC 7673)."""
    POSH = "posh"
    """The domain's web site vouches for it (RFC 7711)."""
    PIN = "pin"
    """Its key is one of the policy's pins."""
    OPERATOR = "operator"
    """An operator has permitted this very certificate."""


class State(Enum):
    """What has become of a certificate that was not believed."""

    PENDING = "pending"
    """Nobody has decided yet."""
    APPROVED = "approved"
    """An operator has permitted it."""
    REJECTED = "rejected"
    """An operator has rejected or revoked it."""


@attrs.frozen
class Revocation:
    """When a certificate was revoked in the keyring (UTC), and who did it."""

    at: datetime
    by: str


@attrs.frozen
class Entry:
    """A certificate of a domain that was believed once.

    Attributes:
        domain: The domain, in A-labels.
        stream: The kind of stream, one of `STREAMS`.
        certificate: The certificate in DER.
        facts: What is told of it.
        how: How it came to be believed.
        permitted_by: ``policy``, or the name of the operator who permitted it.
        permitted_at: When that was, in UTC.
        first_seen: When it was first seen, in UTC.
        last_seen: When it was last seen, to the hour or so.
        revocation: When and by whom it was revoked; ``None`` if it was not.
    """

    domain: str
    stream: str
    certificate: bytes
    facts: Facts
    how: How
    permitted_by: str
    permitted_at: datetime
    first_seen: datetime
    last_seen: datetime
    revocation: Revocation | None = None

    @property
    def revoked(self) -> bool:
        """Whether it was revoked: it is never believed then, whoever vouches for it."""
        return self.revocation is not None

    def authorised(self, now: datetime) -> bool:
        """Whether an operator's permission makes up for what is wrong with the certificate.

        A permission ends with the life of the certificate, unless it was given after that: then
        the operator knew.
        """
        if self.how is not How.OPERATOR or self.revoked:
            return False
        end = self.facts.not_after
        return now <= end or self.permitted_at > end


@attrs.frozen
class Held:
    """A certificate that was not believed, and waits for an operator or has been decided about.

    Attributes:
        id: What commands call it: eight characters, always the same for the same certificate of
            the same domain and stream in one keyring.
        domain: The domain, in A-labels.
        stream: The kind of stream, one of `STREAMS`.
        certificate: The certificate in DER.
        facts: What is told of it.
        reason: Why it was not believed, as one clause fit to be shown.
        change: Whether the keyring had another certificate for the domain and stream: this one may
            be that of an attacker.
        first_seen: When it was first seen, in UTC.
        last_seen: When it was last seen.
        count: How many times it was shown.
        state: What has become of it.
        since: Since when it has been in that state.
        by: Who has decided that; empty while nobody has.
    """

    id: str
    domain: str
    stream: str
    certificate: bytes
    facts: Facts
    reason: str
    change: bool
    first_seen: datetime
    last_seen: datetime
    count: int
    state: State
    since: datetime
    by: str


@attrs.frozen
class Seen:
    """What a domain was once reached with: since when (UTC), or ``None`` if never."""

    tls_since: datetime | None = None
    dane_since: datetime | None = None

    @property
    def tls(self) -> bool:
        """Whether it was once reached by TLS."""
        return self.tls_since is not None

    @property
    def dane(self) -> bool:
        """Whether it once had TLSA records that DNSSEC proved."""
        return self.dane_since is not None
