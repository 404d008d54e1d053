"""The supervisor before its workers are there."""

import io
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.testing import MemoryReactorClock

from proxy.daemon.check import Report
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Reloaded
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.workers.supervisor import Supervisor
from tests.daemon.conf_fakes import conf_of, content, listener_table


@attrs.frozen
class Source:
    """A conf that is always the same."""

    conf: Conf
    path: Path = Path("/etc/bascule/bascule.toml")

    def read(self) -> Report:
        return Report(self.conf, (), (), ())


@pytest.fixture
def supervisor() -> Supervisor:
    conf = conf_of(content(listener=[listener_table(tls="required")]))
    reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
    return Supervisor(conf, reactor, Log(io.StringIO()), None, Source(conf))


def test_who_asks_for_a_reload_before_the_start_is_over_waits(supervisor: Supervisor) -> None:
    """Otherwise systemd would be told that the service is ready when the reload is over."""
    told: list[Reloaded] = []
    supervisor.reload().addCallback(told.append)
    assert not told
    supervisor.stop()
    assert told == [Reloaded(("the daemon is about to end",))]
    with pytest.raises(NotControllableError):
        supervisor.reload()
