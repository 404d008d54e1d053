"""What a real validating name server says of real zones, and what the resolver makes of it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dns.rdatatype import RdataType

from proxy.net.resolver import Security, TLSARecords
from proxy.net.targets import Target
from proxy.net.validating import Validating
from proxy.trust.dane.records import TLSA
from tests.net.asking import Asking
from tests.net.conftest import Turning
from tests.servers.dns.unbound import NameServer
from tests.servers.dns.zones import State, srv

pytestmark = pytest.mark.server("unbound")

SIGNED, UNSIGNED, BOGUS, EXPIRED = "signed.test", "unsigned.test", "bogus.test", "expired.test"
RECORD = TLSA(3, 1, 1, hashlib.sha256(b"key").digest())
TLSA_DATA = f"3 1 1 {RECORD.data.hex()}"

SECURE, INSECURE = Security.SECURE, Security.INSECURE

HOST = ["xmpp IN A 192.0.2.1", "xmpp IN AAAA 2001:db8::1", f"_5222._tcp.xmpp IN TLSA {TLSA_DATA}"]

RECORDS = {
    SIGNED: [
        srv("_xmpp-client", 5222),
        *HOST,
        # Services of domains that are named for what is at their targets.
        *(
            f"_xmpp-client._tcp.at-{name} IN SRV 0 0 5222 xmpp.{name}.test."
            for name in ("unsigned", "bogus", "expired")
        ),
        # unbound 1.17 does not prove rightly that names beside these do not exist.
        *(
            f"_xmpps-client._tcp.{name} IN TXT none"
            for name in ("at-unsigned", "at-bogus", "at-expired", "aliased", "renamed")
        ),
        "to-signed IN CNAME xmpp",
        "to-unsigned IN CNAME xmpp.unsigned.test.",
        "_xmpp-client._tcp.aliased IN CNAME _xmpp-client._tcp.unsigned.test.",
        "_xmpp-client._tcp.renamed IN CNAME _xmpp-client._tcp",
        "shared IN A 192.0.2.1",
        "_5222._tcp.shared IN CNAME _5222._tcp.xmpp",
        "_5223._tcp.shared IN CNAME _5222._tcp.xmpp.unsigned.test.",
        "_5224._tcp.shared IN CNAME _5222._tcp.xmpp.bogus.test.",
    ],
    UNSIGNED: [
        srv("_xmpp-client", 5222),
        "_xmpp-client._tcp.at-signed IN SRV 0 0 5222 xmpp.signed.test.",
        *HOST,
        "to-signed IN CNAME xmpp.signed.test.",
    ],
    BOGUS: [srv("_xmpp-client", 5222), *HOST],
    EXPIRED: [srv("_xmpp-client", 5222), *HOST],
}


class ExplainingNameServer(NameServer):
    """One with a zone whose signatures have expired, that says why it fails (RFC 8914)."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory,
            {SIGNED: RECORDS[SIGNED]},
            unsigned={UNSIGNED: RECORDS[UNSIGNED]},
            bogus={BOGUS: RECORDS[BOGUS]},
        )
        self._records[State.EXPIRED] = {EXPIRED: RECORDS[EXPIRED]}

    def launch(self, *arguments: str | Path, **options: object) -> None:
        """Start it with that option."""
        assert not options
        configuration = self.directory / "unbound.conf"
        text = configuration.read_text()
        configuration.write_text(text.replace("server:\n", "server:\n  ede: yes\n", 1))
        super().launch(*arguments)


@pytest.fixture(scope="module")
def unbound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    with ExplainingNameServer(tmp_path_factory.mktemp("unbound")) as server:
        yield server


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.stop()


@pytest.fixture
def asking(turning: Turning, unbound: NameServer) -> Iterator[Asking]:
    asking = Asking(turning, ("127.0.0.1", unbound.port))
    yield asking
    asking.resolver.close()


def at(host: str, port: int = 5222, *, secure: bool = True) -> Target:
    return Target(host, port, direct=False, secure=secure)


@pytest.mark.parametrize(
    ("name", "kind", "security", "exists"),
    [
        ("_xmpp-client._tcp.signed.test", "SRV", SECURE, True),
        ("xmpp.signed.test", "AAAA", SECURE, True),
        ("xmpp.signed.test", "TLSA", SECURE, True),
        ("nowhere.signed.test", "TLSA", SECURE, False),
        ("_xmpp-client._tcp.unsigned.test", "SRV", INSECURE, True),
        ("nowhere.unsigned.test", "TLSA", INSECURE, False),
        ("to-signed.signed.test", "A", SECURE, True),
        ("to-unsigned.signed.test", "A", INSECURE, True),
        ("to-signed.unsigned.test", "A", INSECURE, True),
        ("nowhere.test", "SRV", SECURE, False),
    ],
)
def test_what_is_secure_and_what_is_not(
    asking: Asking, name: str, kind: str, security: Security, exists: bool
) -> None:
    """Aliases into and out of a signed zone are not, and what is denied may be."""
    records = asking.records(name, RdataType[kind])
    assert (records.security, records.exists) == (security, exists)


@pytest.mark.parametrize("kind", ["SRV", "A", "TLSA"])
@pytest.mark.parametrize(
    ("zone", "words"), [(BOGUS, "DNSSEC BOGUS"), (EXPIRED, "SIGNATURE EXPIRED")]
)
def test_what_is_bogus_is_neither(asking: Asking, zone: str, words: str, kind: str) -> None:
    refusal = asking.refusal(lambda: asking.records(f"xmpp.{zone}", RdataType[kind]))
    assert refusal.bogus
    assert not refusal.absent
    assert "SERVFAIL (" in str(refusal)
    assert words in str(refusal)


@pytest.mark.parametrize(
    ("domain", "host", "secure"),
    [
        (SIGNED, "xmpp.signed.test", True),
        ("renamed.signed.test", "xmpp.signed.test", True),
        ("at-unsigned.signed.test", "xmpp.unsigned.test", True),
        (UNSIGNED, "xmpp.unsigned.test", False),
        ("at-signed.unsigned.test", "xmpp.signed.test", False),
        ("aliased.signed.test", "xmpp.unsigned.test", False),
        ("nowhere.signed.test", "nowhere.signed.test", True),
        ("nowhere.unsigned.test", "nowhere.unsigned.test", False),
    ],
)
def test_targets_are_as_secure_as_their_srv_records(
    asking: Asking, domain: str, host: str, secure: bool
) -> None:
    [target] = asking.targets(domain)
    assert (target.host, target.secure) == (host, secure)


@pytest.mark.parametrize("domain", [BOGUS, EXPIRED])
def test_attack_bogus_srv_records_end_the_attempt(asking: Asking, domain: str) -> None:
    assert asking.refusal(lambda: asking.targets(domain)).bogus


@pytest.mark.parametrize("host", ["bogus", "expired"])
def test_attack_a_secure_target_with_a_bogus_host_ends_the_attempt(
    asking: Asking, host: str
) -> None:
    [target] = asking.targets(f"at-{host}.signed.test")
    assert target.secure
    assert asking.refusal(lambda: asking.tlsa(target)).bogus
    assert asking.refusal(lambda: asking.addresses(target.host)).bogus


def test_a_secure_target_has_records(asking: Asking) -> None:
    [target] = asking.targets(SIGNED)
    assert asking.tlsa(target) == TLSARecords((RECORD,), SECURE)


@pytest.mark.parametrize(
    ("target", "records"),
    [
        (at("xmpp.signed.test", 5223), TLSARecords((), SECURE)),
        (at("shared.signed.test"), TLSARecords((RECORD,), SECURE)),
        (at("shared.signed.test", 5223), TLSARecords((), INSECURE)),
        (at("xmpp.unsigned.test"), TLSARecords((), INSECURE)),
        (at("to-unsigned.signed.test"), TLSARecords((), INSECURE)),
        (at("xmpp.signed.test", secure=False), TLSARecords((), INSECURE)),
    ],
)
def test_records_count_only_if_all_on_the_way_to_them_is_secure(
    asking: Asking, target: Target, records: TLSARecords
) -> None:
    assert asking.tlsa(target) == records


@pytest.mark.parametrize(
    "target",
    [at("xmpp.bogus.test"), at("xmpp.expired.test"), at("shared.signed.test", 5224)],
    ids=str,
)
def test_attack_bogus_addresses_or_records_end_the_attempt(asking: Asking, target: Target) -> None:
    """Never is what is bogus taken for insecure, nor for none."""
    refusal = asking.refusal(lambda: asking.tlsa(target))
    assert refusal.bogus
    assert not refusal.absent


def test_nothing_is_secure_where_nobody_is_believed(turning: Turning, unbound: NameServer) -> None:
    """What is bogus is a failure even so."""
    asking = Asking(turning, ("127.0.0.1", unbound.port), validating=Validating.NO)
    assert [target.secure for target in asking.targets(SIGNED)] == [False]
    assert asking.tlsa(at("xmpp.signed.test")) == TLSARecords((), INSECURE)
    assert asking.refusal(lambda: asking.targets(BOGUS)).bogus
    asking.resolver.close()
