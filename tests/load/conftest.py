"""What tests under load share: an echoing server on a loop of its own."""

import resource
from collections.abc import Iterator

import pytest

from tests.load.echo_server import EchoServer
from tests.load.loop import Loop


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many descriptors as the system allows: both ends of all that the daemon has are here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def echo(descriptors: None) -> Iterator[EchoServer]:
    """A legacy server that sends back what comes, on a loop that runs."""
    with Loop() as loop:
        server = EchoServer(loop)
        yield server
    server.close()
