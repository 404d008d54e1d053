"""OpenSSL's own DANE, which Python cannot reach but a shell can, comes to the same verdicts."""

import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import attrs
import pytest

from proxy.trust.dane.matching import Proved
from proxy.trust.dane.records import TLSA, Matching, Selector, Usage
from tests.authority import Authority
from tests.servers.program import HOST, Program, free_port
from tests.trust.dane import der, matched, record
from tests.trust.showing import NAME, chain_of, evidence, issued

pytestmark = pytest.mark.server("openssl")

NAMES = [NAME, "elsewhere.example"]


PROVING = {Usage.PKIX_TA: 12, Usage.PKIX_EE: 6, Usage.DANE_TA: 8, Usage.DANE_EE: 6}
"""How many records of each usage prove a server for which all else speaks.

There are six about each certificate; of a root that is not sent, only those that have it in full
do for DANE-TA.
"""


class Server(Program):
    """``openssl s_server`` with a chain."""

    def __init__(self, directory: Path, certificate: Path, key: Path) -> None:
        self.port = free_port()
        self.files = certificate, key
        self.chain = chain_of(certificate)
        super().__init__("openssl", directory, [self.port])

    def start(self) -> None:
        """Start it."""
        certificate, key = self.files
        place = f"{HOST}:{self.port}"
        files = ("-cert", certificate, "-key", key, "-cert_chain", certificate)
        self.launch("openssl", "s_server", "-www", "-accept", place, *files)
        self.wait_until_ready()

    def verdict(self, roots: Path, records: list[TLSA]) -> bool:
        """Whether ``openssl s_client`` takes the server for the one that the records say."""
        arguments = ["-connect", f"{HOST}:{self.port}", "-CAfile", str(roots), "-no-CApath"]
        arguments += ["-dane_ee_no_namechecks", "-dane_tlsa_domain", NAME, "-verify_return_error"]
        for each in records:
            text = f"{each.usage} {each.selector} {each.matching} {each.data.hex()}"
            arguments += ["-dane_tlsa_rrdata", text]
        said = subprocess.run(
            ["openssl", "s_client", *arguments], input=b"", capture_output=True, check=False
        )
        agreed = b"Verification: OK" in said.stdout
        assert agreed is (said.returncode == 0), said
        return agreed


@attrs.frozen
class Around:
    """Servers, one with the right name and one with a wrong one, and what they could show."""

    servers: dict[str, Server]
    root: Authority
    other: bytes


@pytest.fixture(scope="module")
def around(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, middle: Authority
) -> Iterator[Around]:
    servers = {
        name: Server(tmp_path_factory.mktemp("openssl"), *middle.issue(name)) for name in NAMES
    }
    with servers[NAMES[0]], servers[NAMES[1]]:
        yield Around(servers, authority, issued(authority)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("usage", Usage)
@pytest.mark.parametrize("trusted", [True, False])
def test_the_same_records_prove_the_same(
    around: Around, tmp_path: Path, name: str, usage: Usage, trusted: bool
) -> None:
    """About each certificate of the chain, the root that is not sent, and another."""
    server = around.servers[name]
    root = around.root if trusted else Authority(tmp_path)
    shown = evidence(server.chain, [root])
    proved = 0
    subjects = [*server.chain, der(around.root), around.other]
    for selector, matching, subject in product(Selector, Matching, subjects):
        records = [record(subject, usage, selector, matching)]
        ours = isinstance(matched(records, shown), Proved)
        proved += ours
        assert ours is server.verdict(root.ca_path, records), records
    proves = (trusted or usage >= Usage.DANE_TA) and (name == NAME or usage == Usage.DANE_EE)
    assert proved == (PROVING[usage] if proves else 0)


@pytest.mark.parametrize("name", NAMES)
def test_several_records_prove_the_same(around: Around, name: str) -> None:
    server = around.servers[name]
    leaf, above = server.chain
    wrong_256, wrong_512 = TLSA(3, 1, 1, bytes(32)), TLSA(3, 1, 2, bytes(64))
    for records in (
        [wrong_256, record(leaf, 3)],
        [wrong_512, record(leaf, 3)],  # the stronger digest counts, which does not match
        [wrong_512, record(leaf, 3, 0)],
        [wrong_256, record(above, 2)],
        [record(above, 0), wrong_512],
    ):
        ours = isinstance(matched(records, evidence(server.chain, [around.root])), Proved)
        assert ours is server.verdict(around.root.ca_path, records), records
