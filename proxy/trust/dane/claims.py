"""What DNS says about a server, as far as DNSSEC vouches for it."""

import attrs

from proxy.trust.dane.records import TLSA, effective
from proxy.trust.dane.references import References


@attrs.frozen
class Claims:
    """What DNSSEC vouches for about one target of a domain.

    Attributes:
        references: The identities by which the server there may prove the domain.
        records: The TLSA records of the target; none unless they are secure.
    """

    references: References
    records: tuple[TLSA, ...] = ()

    @property
    def has_dane(self) -> bool:
        """Whether there are records that can be used; without any, authorities count."""
        return bool(effective(self.records))
