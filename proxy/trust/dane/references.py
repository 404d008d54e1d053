"""The identities by which a server may prove a domain whose SRV records are secure."""

from datetime import datetime

import attrs

from proxy.trust.evidence import Evidence
from proxy.trust.policy import Policy
from proxy.trust.revocation import NO_LISTS, RevocationLists
from proxy.trust.verdict import UntrustedError, Verdict, judge


@attrs.frozen
class References:
    """The reference identities of a server (RFC 7673, section 4.1).

    Attributes:
        domain: The domain that it must prove, in A-labels.
        service: The SRV service name that counts, with its underscore: ``_xmpp-client``.
        target: The host name that a secure answer to the domain's SRV question names, in A-labels.
            Empty unless it was secure: what an insecure one names is nobody's word.
    """

    domain: str
    service: str
    target: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of which its certificate must prove one: the domain, and then the target."""
        return tuple(dict.fromkeys(name for name in (self.domain, self.target) if name))

    def judge(
        self,
        policy: Policy,
        evidence: Evidence,
        now: datetime,
        *,
        initiating: bool = False,
        revocation: RevocationLists = NO_LISTS,
    ) -> Verdict:
        """Judge a server as `proxy.trust.verdict.judge` does, by any of these identities.

        Raises:
            UntrustedError: None of them is proven as the policy demands; it says why the domain
                is not.
        """
        verdict: Verdict | None = None
        problem: UntrustedError | None = None
        for name in self.names:
            try:
                found = judge(
                    name,
                    self.service,
                    policy,
                    evidence,
                    now,
                    initiating=initiating,
                    revocation=revocation,
                )
            except UntrustedError as error:
                problem = problem or error
                continue
            if found.identity:
                return found
            verdict = verdict or found
        if verdict is None:
            raise problem or UntrustedError("there is no name to prove")
        return verdict
