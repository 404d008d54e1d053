"""A resolver for tests, and what it is asked for."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred

from proxy.net.resolver import LookupFailedError, Records, Resolver, TLSARecords
from proxy.net.targets import Target
from proxy.net.validating import Validating
from tests.net.conftest import Turning

T = TypeVar("T")


class Asking:
    """A resolver, asked by turning the reactor until it has answered.

    Args:
        turning: the reactor.
        servers: the name servers.
        validating: which of them are believed.
    """

    def __init__(
        self,
        turning: Turning,
        *servers: tuple[str, int],
        validating: Validating = Validating.AUTO,
    ) -> None:
        self.turning = turning
        self.now = 1000.0
        self.resolver = Resolver(
            turning.reactor,
            servers,
            validating=validating,
            chance=random.Random(1),
            now=lambda: self.now,
        )

    def wait(self, deferred: Deferred[T]) -> T:
        """Return what a lookup gives; raise what it fails with."""
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        self.turning.until(lambda: outcome)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result

    def targets(self, domain: str = "example.net", service: str = "xmpp-client") -> list[Target]:
        targets = self.wait(self.resolver.targets(domain, service))
        return list(targets)

    def addresses(self, host: str) -> tuple[str, ...]:
        return self.wait(self.resolver.addresses(host))

    def records(self, name: str, kind: RdataType) -> Records:
        return self.wait(self.resolver.records(name, kind))

    def tlsa(self, target: Target) -> TLSARecords:
        return self.wait(self.resolver.tlsa(target))

    def refusal(self, lookup: Callable[[], object]) -> LookupFailedError:
        """Return what a lookup fails with."""
        with pytest.raises(LookupFailedError) as caught:
            lookup()
        return caught.value

    def failure(self, lookup: Callable[[], object]) -> tuple[str, bool]:
        """Return the text of a failure, and whether something is certainly absent."""
        refusal = self.refusal(lookup)
        return str(refusal), refusal.absent
