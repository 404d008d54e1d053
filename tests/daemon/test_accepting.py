"""proxy.daemon.accepting: what the metrics are told of the way to a server."""

import socket
from typing import Any, cast

import attrs
import pytest
from twisted.internet.task import Clock

from proxy.daemon.accepting import ALERTS, Accepting
from proxy.daemon.model import Listener
from proxy.session.ways import Reached, Trouble
from tests.daemon.conf_fakes import conf_of, forwarding

DOMAIN = "example.net"
REACHED = cast(Reached, None)  # nobody looks at it


@attrs.define
class Told:
    """Stands for the metrics, and for who wants a connection."""

    connections: list[float | None] = attrs.field(factory=list)
    failures: int = 0
    outcomes: list[Any] = attrs.field(factory=list)

    def connected(self, _listener: str, _domain: str, seconds: float | None) -> None:
        self.connections.append(seconds)

    def unreachable(self, _listener: str, _domain: str) -> None:
        self.failures += 1


class Way:
    """A way to a server, measured."""

    def __init__(self, told: Told, **changes: Any) -> None:
        conf = conf_of(forwarding())
        listener: Listener = attrs.evolve(conf.listeners[0], **changes)
        nothing = cast(Any, None)
        accepting = Accepting(
            conf, Clock(), nothing, nothing, nothing, marks=nothing, metrics=cast(Any, told)
        )
        self._connected, self._failed = accepting._measured(
            listener,
            DOMAIN,
            lambda connection, _: told.outcomes.append(connection),
            lambda trouble, reason: told.outcomes.append((trouble, reason)),
        )

    def leads(self, connection: object) -> None:
        self._connected(cast(socket.socket, connection), REACHED)

    def ends(self, trouble: Trouble) -> None:
        self._failed(trouble, "why")


def test_a_server_that_cannot_be_reached_is_counted() -> None:
    told = Told()
    Way(told).ends(Trouble.UNREACHABLE)
    assert (told.connections, told.failures) == ([], 1)
    assert told.outcomes == [(Trouble.UNREACHABLE, "why")]


def test_one_that_was_reached_and_then_refused_has_not_failed() -> None:
    """What is no more there is another way to it."""
    told = Told()
    way = Way(told)
    way.leads("first")
    way.leads("second")
    way.ends(Trouble.UNREACHABLE)
    assert told.failures == 0
    assert told.outcomes == ["first", "second", (Trouble.UNREACHABLE, "why")]
    first, second = told.connections
    assert first is not None
    assert second is None, "it has the time in it that was spent on the first"


@pytest.mark.parametrize("trouble", [each for each in Trouble if each is not Trouble.UNREACHABLE])
def test_other_trouble_is_not_the_server_s(trouble: Trouble) -> None:
    told = Told()
    Way(told).ends(trouble)
    assert (told.failures, told.outcomes) == (0, [(trouble, "why")])


def test_where_the_daemon_itself_connects_nothing_is_counted() -> None:
    told = Told()
    way = Way(told, name=ALERTS)
    way.leads("first")
    way.ends(Trouble.UNREACHABLE)
    assert (told.connections, told.failures, len(told.outcomes)) == ([], 0, 2)
