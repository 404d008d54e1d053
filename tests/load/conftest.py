"""What tests under load share: a loop, and an echoing server on it."""

from collections.abc import Iterator

import pytest

from tests.load.echo_server import EchoServer
from tests.load.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that runs."""
    with Loop() as loop:
        yield loop


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    """A legacy server that sends back what comes, on a loop that runs."""
    with Loop() as loop:
        server = EchoServer(loop)
        yield server
    server.close()
