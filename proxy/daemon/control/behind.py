"""The command ``servers``: operators ask whether the legacy servers are there."""

from collections.abc import Callable

from twisted.internet.defer import Deferred

from proxy.daemon.control.answering import Answer, Items
from proxy.daemon.control.facts import ServerFacts
from proxy.daemon.control.protocol import Arguments
from proxy.daemon.metrics.behind import Asked
from proxy.xmpp.text import printable


def answering(ask: Callable[[], Deferred[tuple[Asked, ...]]]) -> Answer:
    """Return what answers the command: one item for each server.

    Args:
        ask: asks the servers; the Deferred does not fail.
    """

    def answer(arguments: Arguments) -> Items:
        arguments.end()
        return _items(ask())

    return answer


def _items(asked: Deferred[tuple[Asked, ...]]) -> Items:
    found: list[Asked] = []
    yield asked.addCallback(found.extend)  # which is no item
    yield from map(facts_of, found)


def facts_of(asked: Asked) -> ServerFacts:
    """Return what operators are told of a server that was asked."""
    server, outcome = asked.server, asked.outcome
    return ServerFacts(
        domain=server.domain,
        stream=server.kind.value,
        server=str(server.address),
        reached=outcome.reached,
        answered=not outcome.problem,
        seconds=None if outcome.seconds is None else round(outcome.seconds, 3),
        version=outcome.version,
        features=outcome.features,
        problem=printable(outcome.problem),
    )
