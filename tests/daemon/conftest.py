"""What the tests of the daemon share."""

from collections.abc import Iterator

import pytest

from proxy.trust.evidence import Evidence
from tests.authority import Authority
from tests.daemon.probe_fakes import DOMAIN
from tests.net.legacy import LegacyServer
from tests.trust.showing import believed, issued


@pytest.fixture(scope="session")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    """An authority below the root, as public ones are: it issues certificates with a chain."""
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", parent=authority)


@pytest.fixture(scope="module")
def _legacy() -> Iterator[LegacyServer]:
    """The server behind daemons that serve a whole module."""
    with LegacyServer() as server:
        yield server


@pytest.fixture
def legacy(_legacy: LegacyServer) -> Iterator[LegacyServer]:
    """The same server, as new for each test."""
    _legacy.forget()
    yield _legacy
    _legacy.forget()


@pytest.fixture
def good(authority: Authority) -> Evidence:
    """What a server of the domain shows, believed by OpenSSL."""
    return believed(*issued(authority, DOMAIN))


@pytest.fixture
def wrong(authority: Authority) -> Evidence:
    """What a server of another domain shows, believed by OpenSSL."""
    return believed(*issued(authority, "example.org"))
