"""What comes of looking at a domain's servers, as values."""

import attrs

from proxy.net.targets import Target
from proxy.session.hooks import TLSFacts
from proxy.session.welcome import Proofs
from proxy.trust.dane.claims import Claims
from proxy.trust.evidence import Evidence


@attrs.frozen
class Handshake:
    """A TLS handshake that succeeded.

    Attributes:
        facts: what was agreed on.
        evidence: what the server showed of itself, not judged yet.
        seconds: from the first packet to the server until TLS was up.
    """

    facts: TLSFacts
    evidence: Evidence
    seconds: float


@attrs.frozen
class Attempt:
    """What came of one address.

    Attributes:
        address: the IP address; the port is the target's.
        forbidden: why it was not connected to; empty if it was.
        own: whether that is because it is a listener of ours.
        connected: the seconds until the connection was there; None if there was none.
        offered: whether the server's features offered STARTTLS; None if they did not come. One
            that speaks XMPP from before 1.0 has no features, and so no offer.
        proceeded: whether it consented to begin TLS.
        handshake: the TLS handshake; None if it did not come to that, or failed.
        proofs: by what the server lets others prove themselves; None without TLS, if it does not
            say, or if it is clients who ask.
        redirection: where the server points instead (see-other-host), as it wrote it: a host, and
            a port if it named one. It was not followed.
        problem: why there is no TLS, or no stream of servers under it, as a clause about the
            server; empty if there is, or if ``forbidden`` or ``redirection`` say why.
        detail: more about the problem. It may have text of the server's in it.
        without_tls: whether the server has shown that it does no TLS here.
    """

    address: str
    forbidden: str = ""
    own: bool = False
    connected: float | None = None
    offered: bool | None = None
    proceeded: bool = False
    handshake: Handshake | None = None
    proofs: Proofs | None = None
    redirection: str = ""
    problem: str = ""
    detail: str = ""
    without_tls: bool = False


@attrs.frozen
class Vouched:
    """What DNS says, as far as DNSSEC vouches for it, of the certificates at one target.

    Attributes:
        claims: what it vouches for about the target; None if that was not asked, as of a server
            that the policy sets, or cannot be known.
        secure: whether it vouches for the TLSA records among the claims being all, or for there
            being none.
        problem: why the TLSA records cannot be known, as one clause; empty if they can. Who goes
            by them does not connect to the target then.
    """

    claims: Claims | None = None
    secure: bool = False
    problem: str = ""


@attrs.frozen
class Probed:
    """What came of one target: of each address, or why there are none, and what DNSSEC says."""

    target: Target
    attempts: tuple[Attempt, ...]
    problem: str = ""
    vouched: Vouched = Vouched()
