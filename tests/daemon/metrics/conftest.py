"""A reactor that a test turns by hand."""

from collections.abc import Iterator

import pytest

from tests.net.conftest import Turning


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.stop()
