"""Where values come from that are there anyway, and are looked at only when somebody asks."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Protocol

import attrs

from proxy.session.commands import Side
from proxy.session.hooks import View


class Live(Protocol):
    """A session that goes on; it must be hashable, and equal to no other one."""

    @property
    def view(self) -> View:
        """The session as it stands."""

    @property
    def passed(self) -> tuple[int, int]:
        """How many bytes have come from the client and from the server."""

    @property
    def stalled(self) -> bool:
        """Whether bytes wait that a peer does not take."""


class Source(Enum):
    """Whose certificate it is."""

    SERVED = "served"
    """One of our own domains'."""
    REMEMBERED = "remembered"
    """One in the keyring."""


@attrs.frozen
class Expiring:
    """A certificate.

    Attributes:
        source: whose it is.
        domain: the domain, as A-labels.
        not_after: when it expires, in seconds since 1970.
    """

    source: Source
    domain: str
    not_after: float


class Sources(Protocol):
    """What a daemon can be asked. Nothing of it may take long; what raises is left out."""

    def sessions(self) -> Iterable[Live]:
        """Return the sessions that there are."""

    def certificates(self) -> Iterable[Expiring]:
        """Return the certificates that are served, and those in the keyring."""

    def pending(self) -> int:
        """Return how many certificates wait for an operator's decision."""

    def stalls(self) -> Mapping[Side, int]:
        """Return how often each leg has not taken all at once, since the start."""

    def troubles(self) -> Sequence[str]:
        """Return why the daemon is not ready, in words; nothing if it is."""
