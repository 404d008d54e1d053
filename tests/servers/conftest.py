"""Real servers with Bascule in front of them, started once for all tests that want them."""

import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import attrs
import pytest

from tests.authority import Authority, KeyKind
from tests.servers import network
from tests.servers.bascule import Bascule, ForwardBascule, Served
from tests.servers.dns.unbound import NameServer
from tests.servers.ejabberd import Ejabberd
from tests.servers.jabberd2 import DOMAIN as JABBERD2
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import HOST, RUNNING
from tests.servers.prosody import DOMAIN as PROSODY
from tests.servers.prosody import Prosody

DOWN = "down.test"
"""A domain whose server is down."""

AUDITED = "localhost"
"""A domain for auditors that ask for the name of the host they connect to."""

KEYS: dict[str, tuple[KeyKind, ...]] = {
    PROSODY: ("ec",),
    JABBERD2: ("rsa",),
    DOWN: ("ec",),
    AUDITED: ("ec", "rsa"),
}
"""The kinds of keys that each domain has certificates for."""


@attrs.frozen
class Front:
    """Where clients reach the servers: Bascule's port and the authority behind its certificates."""

    bascule: Bascule
    authority: Authority

    @property
    def port(self) -> int:
        """Bascule's port on 127.0.0.1."""
        return self.bascule.port


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of running servers to the report of a test that failed."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {each.name}", each.log_text()) for each in RUNNING]
    return report


@pytest.fixture(scope="session")
def stopped_prosody(tmp_path_factory: pytest.TempPathFactory) -> Prosody:
    """A Prosody that is not started, but whose port is known."""
    return Prosody(tmp_path_factory.mktemp("prosody"))


@pytest.fixture(scope="session")
def prosody(stopped_prosody: Prosody) -> Iterator[Prosody]:
    """A running Prosody without TLS."""
    with stopped_prosody:
        yield stopped_prosody


@pytest.fixture(scope="session")
def stopped_jabberd2(tmp_path_factory: pytest.TempPathFactory) -> Jabberd2:
    """A jabberd2 that is not started, but whose port is known."""
    return Jabberd2(tmp_path_factory.mktemp("jabberd2"))


@pytest.fixture(scope="session")
def jabberd2(stopped_jabberd2: Jabberd2) -> Iterator[Jabberd2]:
    """A running jabberd2 without TLS."""
    with stopped_jabberd2:
        yield stopped_jabberd2


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Prosody | Jabberd2 | Ejabberd:
    """The running server whose fixture the test is parametrised with."""
    program: Prosody | Jabberd2 | Ejabberd = request.getfixturevalue(request.param)
    return program


@pytest.fixture(scope="session")
def front(
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    stopped_prosody: Prosody,
    stopped_jabberd2: Jabberd2,
) -> Iterator[Front]:
    """A running Bascule in front of both servers; a test starts those it needs by their fixtures.

    Its certificates come from an intermediate authority; clients know only the root.
    """
    issuing = Authority(
        tmp_path_factory.mktemp("issuing"), name="Bascule test authority", parent=authority
    )
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and does not listen: connections are refused
        down = taken.getsockname()[1]
        ports = {PROSODY: stopped_prosody.port, JABBERD2: stopped_jabberd2.port}
        domains = [
            Served(name, [issuing.issue(name, key=key) for key in keys], ports.get(name, down))
            for name, keys in KEYS.items()
        ]
        with Bascule(tmp_path_factory.mktemp("bascule"), domains) as bascule:
            yield Front(bascule, authority)


@pytest.fixture
def lone_front(tmp_path: Path, authority: Authority, server: Prosody | Jabberd2) -> Iterator[Front]:
    """A running Bascule for the domain of one server only."""
    served = Served(server.domain, [authority.issue(server.domain)], server.port)
    with Bascule(tmp_path, [served]) as bascule:
        yield Front(bascule, authority)


@pytest.fixture(scope="session")
def stopped_tls_prosody(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Prosody:
    """A Prosody that requires TLS for its domains, not started; see `tests.servers.network`."""
    certificates = {
        domain: authority.issue(network.ELSEWHERE if domain == network.STRANGER else domain)
        for domain in network.OF_PROSODY
    }
    return Prosody(tmp_path_factory.mktemp("tls-prosody"), certificates=certificates)


@pytest.fixture(scope="session")
def tls_prosody(stopped_tls_prosody: Prosody) -> Iterator[Prosody]:
    """A running Prosody that requires TLS."""
    with stopped_tls_prosody:
        yield stopped_tls_prosody


@pytest.fixture(scope="session")
def stopped_ejabberd(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Ejabberd:
    """An ejabberd that requires TLS for its domains, not started."""
    certificates = {domain: authority.issue(domain) for domain in network.OF_EJABBERD}
    return Ejabberd(tmp_path_factory.mktemp("ejabberd"), certificates)


@pytest.fixture(scope="session")
def ejabberd(stopped_ejabberd: Ejabberd) -> Iterator[Ejabberd]:
    """A running ejabberd that requires TLS."""
    with stopped_ejabberd:
        yield stopped_ejabberd


@pytest.fixture(scope="session")
def names(
    tmp_path_factory: pytest.TempPathFactory,
    stopped_tls_prosody: Prosody,
    stopped_ejabberd: Ejabberd,
) -> Iterator[NameServer]:
    """A running name server for all domains of `tests.servers.network`."""
    with socket.socket() as dead, socket.create_server((HOST, 0)) as silent:
        dead.bind((HOST, 0))  # and does not listen
        targets = network.Targets(
            stopped_tls_prosody, stopped_ejabberd, dead.getsockname()[1], silent.getsockname()[1]
        )
        with NameServer(
            tmp_path_factory.mktemp("unbound"),
            targets.signed(),
            unsigned=targets.unsigned(),
            bogus=targets.bogus(),
        ) as server:
            yield server


@pytest.fixture(scope="session")
def forward(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, names: NameServer
) -> Iterator[ForwardBascule]:
    """A running Bascule that carries clients without TLS to the domains of the network.

    A test starts the servers that it needs by their fixtures.
    """
    with ForwardBascule(
        tmp_path_factory.mktemp("forward"),
        [*network.OF_PROSODY, *network.OF_EJABBERD],
        names=names.address,
        authority=authority.ca_path,
    ) as bascule:
        yield bascule
