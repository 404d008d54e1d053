"""Ways to a server: what a forward listener demands of them, and what comes of looking for one."""

from enum import Enum
from typing import Protocol

import attrs

from proxy.session.hooks import Address
from proxy.trust.dane.claims import Claims
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Policy
from proxy.trust.verdict import Verdict


class Trouble(Enum):
    """Why no way to a server is left."""

    ABSENT = "there is no such domain, or no XMPP service for it"
    UNREACHABLE = "nobody answers, or it cannot be found out where"
    FORBIDDEN = "it may not be connected to"


@attrs.frozen
class Reached:
    """A way to a server, connected.

    Attributes:
        host: the server's name, or its address where nothing else is known.
        address: the address and port that the connection leads to.
        direct: whether direct TLS is spoken there.
        more: whether there is another way after this one.
        claims: what DNSSEC vouches for about the server; None where DNS was not asked.
    """

    host: str
    address: Address
    direct: bool
    more: bool
    claims: Claims | None = None


class Rules(Protocol):
    """What a forward listener allows and demands."""

    report: bool
    """Whether nothing is refused, and the log names what would be."""

    def policy(self, domain: str) -> Policy:
        """Return how ``domain`` (A-labels) must prove itself."""

    def judge(
        self, domain: str, policy: Policy, evidence: Evidence, claims: Claims | None
    ) -> Verdict:
        """Judge the server's certificate; raises UntrustedError, or UndecidedError."""

    def judge_aside(self, domain: str, policy: Policy, evidence: Evidence) -> Verdict:
        """As `judge`, of another domain than it was connected to for, and without a trace."""

    def lacks_tls(self, domain: str) -> str:
        """Take note that the server of ``domain`` says that it has no TLS.

        Returns:
            Why the domain is not to be reached without it; empty if nothing is against that but
            the policy.
        """
