"""Who is believed about DNSSEC."""

from enum import Enum


class Validating(Enum):
    """Which name servers are believed when they say that an answer is secure."""

    AUTO = "auto"
    """Those on loopback addresses; all in the system's configuration if ``trust-ad`` stands in it,
    as with glibc."""
    YES = "yes"
    """All. The way to them must be safe as well."""
    NO = "no"
    """None."""
