"""The rule a listener applies to TLS on the leg that it accepts."""

from enum import Enum


class TLSRule(Enum):
    """What a listener demands of a peer before anything of the peer's may pass.

    The values are the words of the configuration file.
    """

    REQUIRED = "required"
    """TLS before anything else: STARTTLS (RFC 6120 section 5), or direct TLS (XEP-0368) when the
    first byte of the connection is that of a TLS record."""

    DIRECT = "direct"
    """Direct TLS only: a connection that does not begin with a TLS record is refused."""

    REPORT = "report"
    """TLS is offered and nothing is enforced; the log tells who would have been refused."""

    NONE = "none"
    """No TLS: none is offered and none is recognised."""
