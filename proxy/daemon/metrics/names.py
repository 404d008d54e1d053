"""Which domain a metric names: one that the configuration names, for there may be any others."""

from collections.abc import Iterable, Mapping

import attrs

from proxy.daemon.metrics.tally import OTHER
from proxy.daemon.model import REVERSE, Conf


@attrs.frozen
class Place:
    """What a listener is to its metrics: its direction and kind of stream, as configured."""

    direction: str
    stream: str


@attrs.frozen
class Names:
    """The names that a configuration has, which metrics may have for labels.

    Attributes:
        places: each listener by its name.
        own: the domains that servers behind Bascule serve, as A-labels.
        patterns: those of policies and forward listeners, as text.
    """

    places: Mapping[str, Place]
    own: frozenset[str]
    patterns: frozenset[str]

    @classmethod
    def of(cls, conf: Conf) -> "Names":
        """Return the names of a configuration."""
        patterns = [policy.domain for policy in conf.policies]
        patterns += [pattern for listener in conf.listeners for pattern in listener.domains]
        return cls(
            places={
                listener.name: Place(listener.direction, listener.stream.value)
                for listener in conf.listeners
            },
            own=frozenset(domain.name for domain in conf.domains),
            patterns=frozenset(map(str, patterns)),
        )

    def domain(self, place: Place, domain: str) -> str:
        """Return what stands for a domain whose server is connected to.

        That is the domain itself where it is configured, else the most specific pattern that it
        matches, such as ``*.example.org``, else a word for all others.
        """
        known = self.own if place.direction == REVERSE else self.patterns
        return domain if domain in known else self._pattern(domain)

    def remembered(self, domain: str) -> str | None:
        """Return the domain if a policy or listener names just this one, else None."""
        return domain if domain in self.patterns or domain in self.own else None

    def _pattern(self, domain: str) -> str:
        return next((each for each in _above(domain) if each in self.patterns), OTHER)


def _above(domain: str) -> Iterable[str]:
    """The patterns that match a domain besides itself, the most specific ones first."""
    rest = domain
    while "." in rest:
        _, _, rest = rest.partition(".")
        yield f"*.{rest}"
    yield "*"
