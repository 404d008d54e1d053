"""A control socket on a real reactor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.control.fakes import Running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "control")
    yield running
    running.stop()
