"""A control socket of three workers, on a real reactor."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from proxy.daemon.log import Log
from tests.daemon.conf_fakes import conf_of, content, listener_table
from tests.daemon.workers.fakes import Several


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    conf = conf_of(content(listener=[listener_table(tls="required")]))
    several = Several(tmp_path / "control", conf, Log(StringIO()))
    yield several
    several.stop()
