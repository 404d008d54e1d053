"""What is known of answers by DNSSEC: who is believed, and what follows for targets and TLSA."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from dns.edns import EDECode
from dns.rdatatype import RdataType
from twisted.internet.defer import CancelledError

from proxy.net import name_servers
from proxy.net.resolver import MOST_RECORDS, Security, TLSARecords
from proxy.net.targets import Target
from proxy.net.tlsa import references
from proxy.net.validating import Validating
from proxy.trust.dane.records import TLSA, effective
from proxy.trust.dane.references import References
from tests.net.asking import Asking
from tests.net.name_server import NameServer
from tests.net.steady import SteadyTurning, turning

__all__ = ["turning"]

STARTTLS = "_xmpp-client._tcp.example.net"
DIRECT = "_xmpps-client._tcp.example.net"
HOST = "xmpp.example.org"
OWNER = f"_5222._tcp.{HOST}"
DIGEST = "ab" * 32
RECORD = TLSA(3, 1, 1, bytes.fromhex(DIGEST))
TARGET = Target(HOST, 5222, direct=False, secure=True)

SECURE, INSECURE = Security.SECURE, Security.INSECURE
NONE = TLSARecords((), INSECURE)

NEAR, FAR = "127.0.0.1", "127.0.0.2"
"""Name servers of this machine and, for `_far`, of elsewhere."""


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        names.authenticated = True
        names.add(HOST, "AAAA", "2001:db8::1")
        names.add(HOST, "A", "192.0.2.1")
        names.add(OWNER, "TLSA", f"3 1 1 {DIGEST}")
        yield names


Make = Callable[..., Asking]


@pytest.fixture
def make(turning: SteadyTurning, names: NameServer) -> Iterator[Make]:
    """Make resolvers that are closed in the end."""
    with ExitStack() as stack:

        def made(*servers: NameServer, validating: Validating = Validating.AUTO) -> Asking:
            addresses = [server.address for server in servers or (names,)]
            asking = Asking(turning, *addresses, validating=validating)
            stack.callback(asking.resolver.close)
            return asking

        yield made


@pytest.fixture
def asking(make: Make) -> Asking:
    return make()


@pytest.fixture
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_servers, "_is_loopback", lambda address: address == NEAR)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What takes the place of the system's ``resolv.conf``."""
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(name_servers, "_SYSTEM", path)
    return path


# Who is believed


@pytest.mark.parametrize("vouched", [True, False])
def test_it_is_kept_whether_the_name_server_vouches(
    asking: Asking, names: NameServer, vouched: bool
) -> None:
    """The AD bit is asked for and kept, of empty answers too; signatures are not asked for."""
    names.authenticated = vouched
    for name in (HOST, "nowhere.example.org"):
        for _ in ("asked", "from the cache"):
            records = asking.records(name, RdataType.A)
            assert records.security is (SECURE if vouched else INSECURE)
    assert all(asked.flags & 0x20 and not asked.dnssec for asked in names.asked)
    assert len(names.asked) == 2


@pytest.mark.parametrize(
    ("validating", "security"),
    [(Validating.AUTO, SECURE), (Validating.YES, SECURE), (Validating.NO, INSECURE)],
)
def test_a_name_server_of_this_machine_is_believed_unless_the_conf_says_no(
    make: Make, validating: Validating, security: Security
) -> None:
    assert make(validating=validating).records(HOST, RdataType.A).security is security


@pytest.mark.usefixtures("_far")
@pytest.mark.parametrize(
    ("validating", "security"),
    [(Validating.AUTO, INSECURE), (Validating.YES, SECURE), (Validating.NO, INSECURE)],
)
def test_attack_the_ad_bit_from_elsewhere_is_believed_only_if_the_conf_says_so(
    make: Make, validating: Validating, security: Security
) -> None:
    with NameServer(FAR) as far:
        far.authenticated = True
        far.add(HOST, "A", "192.0.2.1")
        asking = make(far, validating=validating)
        assert asking.records(HOST, RdataType.A).security is security
        far.add(OWNER, "TLSA", f"3 1 1 {DIGEST}")
        assert asking.tlsa(TARGET).values == ((RECORD,) if security is SECURE else ())


@pytest.mark.usefixtures("_far")
def test_attack_what_is_bogus_is_not_asked_of_those_who_are_not_believed(
    make: Make, names: NameServer
) -> None:
    """They check nothing, so that from them it would come as merely insecure."""
    with NameServer(FAR) as far:
        for kind in ("A", "AAAA"):
            names.fail(HOST, kind)
        far.add(HOST, "A", "192.0.2.66")
        refusal = make(names, far).refusal(lambda: make(names, far).addresses(HOST))
        assert not refusal.absent
        assert far.asked == []
        everyone = make(names, far, validating=Validating.NO)
        assert everyone.addresses(HOST) == ("192.0.2.66",)


REMOTE, LOCAL = "192.0.2.53", "127.0.0.53"


@pytest.mark.parametrize(
    ("text", "validating", "asked", "believed"),
    [
        (f"nameserver {LOCAL}\n", Validating.AUTO, [LOCAL], [LOCAL]),
        (f"nameserver {REMOTE}\n", Validating.AUTO, [REMOTE], []),
        (f"nameserver {REMOTE}\noptions edns0 trust-ad\n", Validating.AUTO, [REMOTE], [REMOTE]),
        (f"nameserver {REMOTE}\noptions trust-ad\n", Validating.NO, [REMOTE], []),
        (f"nameserver {REMOTE}\n# options trust-ad\n", Validating.AUTO, [REMOTE], []),
        (f"nameserver {REMOTE}\nsearch trust-ad\n", Validating.AUTO, [REMOTE], []),
        (f"nameserver {REMOTE}\n", Validating.YES, [REMOTE], [REMOTE]),
        (f"nameserver {REMOTE}\nnameserver {LOCAL}\n", Validating.AUTO, [LOCAL], [LOCAL]),
        (f"nameserver {REMOTE}\nnameserver {LOCAL}\n", Validating.NO, [REMOTE, LOCAL], []),
        ("nameserver ::1\n", Validating.AUTO, ["::1"], ["::1"]),
        ("nameserver ::ffff:127.0.0.1\n", Validating.AUTO, *[["::ffff:127.0.0.1"]] * 2),
        ("nameserver fe80::1%lo\n", Validating.AUTO, ["fe80::1%lo"], []),
        ("nameserver 0.0.0.0\n", Validating.AUTO, ["0.0.0.0"], []),
    ],
)
def test_which_of_the_systems_name_servers_are_asked_and_believed(
    system: Path,
    text: str,
    validating: Validating,
    asked: list[str],
    believed: list[str],
) -> None:
    system.write_text(text)
    servers = name_servers.NameServers((), validating)
    found = servers._asked()
    assert [address for address, _ in found[0]] == asked
    assert {address for address, _ in found[1]} == set(believed)
    assert servers.servers() == found[0]


def test_trust_ad_of_the_system_says_nothing_of_the_confs_name_servers(system: Path) -> None:
    system.write_text("options trust-ad\n")
    assert name_servers.NameServers([(REMOTE, 53)])._asked()[1] == frozenset()


@pytest.mark.parametrize(
    ("code", "bogus"),
    [
        *((EDECode(number), True) for number in range(6, 13)),
        (EDECode.OTHER, False),
        (EDECode.DNSSEC_INDETERMINATE, False),
        (EDECode.NETWORK_ERROR, False),
        (None, False),
    ],
)
def test_bogus_is_told_from_broken_where_the_name_server_says_so(
    asking: Asking, names: NameServer, code: EDECode | None, bogus: bool
) -> None:
    """Both are failures, and neither says that there is nothing."""
    names.fail(HOST, "A")
    names.bogus = code is not None
    names.explanation = code or EDECode.OTHER
    for _ in ("asked", "from the cache"):
        refusal = asking.refusal(lambda: asking.records(HOST, RdataType.A))
        assert (refusal.bogus, refusal.absent, refusal.overload) == (bogus, False, False)
    assert len(names.asked) == 1


# Targets


def test_targets_are_as_secure_as_the_answer_that_names_them(
    asking: Asking, names: NameServer
) -> None:
    names.add(STARTTLS, "SRV", f"1 0 5222 {HOST}.")
    names.add(DIRECT, "SRV", f"2 0 5223 {HOST}.")
    names.distrust(DIRECT)
    assert [(target.direct, target.secure) for target in asking.targets()] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize("unsigned", [[], [STARTTLS], [DIRECT], [STARTTLS, DIRECT]])
def test_the_domain_itself_is_secure_if_that_there_are_no_srv_records_is(
    asking: Asking, names: NameServer, unsigned: list[str]
) -> None:
    for name in unsigned:
        names.distrust(name)
    [target] = asking.targets()
    assert target == Target("example.net", 5222, False, fallback=True, secure=not unsigned)
    assert asking.targets() == [target]  # from the cache


@pytest.mark.parametrize(
    ("unsigned", "secure"),
    [(None, True), ("example.net", False), ("alias.example", False), ("end.example", False)],
)
def test_attack_one_insecure_alias_makes_the_whole_answer_insecure(
    asking: Asking, names: NameServer, unsigned: str | None, secure: bool
) -> None:
    names.add(STARTTLS, "CNAME", "alias.example.")
    names.add("alias.example", "CNAME", "end.example.")
    names.add("end.example", "SRV", f"0 0 5222 {HOST}.")
    if unsigned is not None:
        names.distrust(unsigned)
    assert [target.secure for target in asking.targets()] == [secure]


@pytest.mark.parametrize("secure", [True, False])
def test_attack_only_a_secure_target_is_a_reference_identity(secure: bool) -> None:
    target = attrs.evolve(TARGET, secure=secure)
    expected = References("example.net", "_xmpp-client", HOST if secure else "")
    assert references("example.net", "_xmpp-client", target) == expected
    assert expected.names == (("example.net", HOST) if secure else ("example.net",))


def test_no_address_is_a_reference_identity() -> None:
    target = Target("192.0.2.1", 5222, direct=False, secure=True)
    assert references("example.net", "_xmpp-client", target).names == ("example.net",)


# TLSA records


def test_secure_records_are_found(asking: Asking, names: NameServer) -> None:
    for _ in ("asked", "from the cache"):
        assert asking.tlsa(TARGET) == TLSARecords((RECORD,), SECURE)
    assert names.questions()[-1:] == [(OWNER, "TLSA")]
    assert len(names.asked) == 3


def test_attack_the_records_of_another_port_do_not_count(asking: Asking) -> None:
    assert asking.tlsa(attrs.evolve(TARGET, port=5223)) == TLSARecords((), SECURE)


@pytest.mark.parametrize("exists", [True, False], ids=["NODATA", "NXDOMAIN"])
def test_that_there_are_none_may_be_secure(asking: Asking, names: NameServer, exists: bool) -> None:
    names.forget()
    names.add(HOST, "A", "192.0.2.1")
    if exists:
        names.add(OWNER, "TXT", "x")
    assert asking.tlsa(TARGET) == TLSARecords((), SECURE)


def test_attack_a_target_from_an_insecure_answer_has_no_records(
    asking: Asking, names: NameServer
) -> None:
    assert asking.tlsa(attrs.evolve(TARGET, secure=False)) == NONE
    assert names.asked == []


def test_an_address_has_no_records(asking: Asking, names: NameServer) -> None:
    assert asking.tlsa(attrs.evolve(TARGET, host="192.0.2.1")) == NONE
    assert names.asked == []


def test_records_are_not_asked_for_where_addresses_are_insecure(
    asking: Asking, names: NameServer
) -> None:
    """RFC 7673, section 3.2; the name servers of such zones may fail on the question."""
    names.distrust("example.org")
    names.fail(OWNER, "TLSA")
    assert asking.tlsa(TARGET) == NONE
    assert {kind for _, kind in names.questions()} == {"A", "AAAA"}


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_one_secure_address_is_enough(asking: Asking, names: NameServer, kind: str) -> None:
    names.forget()
    names.add(HOST, kind, "192.0.2.1" if kind == "A" else "2001:db8::1")
    names.add(OWNER, "TLSA", f"3 1 1 {DIGEST}")
    assert asking.tlsa(TARGET).values == (RECORD,)
    names.fail(HOST, "AAAA" if kind == "A" else "A")
    asking.now += 1000
    assert asking.tlsa(TARGET).values == (RECORD,)


def test_attack_an_alias_out_of_what_is_signed_has_no_records(
    asking: Asking, names: NameServer
) -> None:
    names.forget()
    names.add(HOST, "CNAME", "host.example.")
    names.add("host.example", "A", "192.0.2.1")
    names.add(OWNER, "TLSA", f"3 1 1 {DIGEST}")
    names.distrust("host.example")
    assert asking.tlsa(TARGET) == NONE


def test_attack_insecure_records_do_not_count(asking: Asking, names: NameServer) -> None:
    names.distrust(OWNER)
    assert asking.tlsa(TARGET) == NONE


@pytest.mark.parametrize(("end", "values"), [("", (RECORD,)), ("records.example", ())])
def test_records_may_be_elsewhere_if_the_alias_is_secure(
    asking: Asking, names: NameServer, end: str, values: tuple[TLSA, ...]
) -> None:
    names.add(OWNER, "CNAME", "records.example.")
    names.add("records.example", "TLSA", f"3 1 1 {DIGEST}")
    names.distrust(end or "other.example")
    assert asking.tlsa(TARGET).values == values


def test_attack_bogus_records_are_a_failure(asking: Asking, names: NameServer) -> None:
    names.fail(OWNER, "TLSA")
    names.bogus = True
    refusal = asking.refusal(lambda: asking.tlsa(TARGET))
    assert str(refusal) == f"the name server answered SERVFAIL (DNSSEC BOGUS) for {OWNER}"
    assert refusal.bogus
    assert not refusal.absent


def test_attack_records_that_are_suppressed_are_a_failure(
    asking: Asking, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.net.resolver.LIFETIME", 0.3)
    names.ignore(OWNER, "TLSA")
    assert not asking.refusal(lambda: asking.tlsa(TARGET)).absent


@pytest.mark.parametrize("secure", [True, False])
def test_attack_an_address_that_fails_is_not_one_that_is_insecure(
    asking: Asking, names: NameServer, secure: bool
) -> None:
    names.forget()
    names.authenticated = secure
    names.fail(HOST, "A")
    refusal = asking.refusal(lambda: asking.tlsa(TARGET))
    assert str(refusal) == f"the name server answered SERVFAIL for {HOST}"
    assert (OWNER, "TLSA") not in names.questions()


@pytest.mark.parametrize("bogus", [True, False])
def test_attack_addresses_of_which_some_are_bogus_are_a_failure(
    asking: Asking, names: NameServer, bogus: bool
) -> None:
    """Where they merely fail, an insecure one has shown that the zone is not signed."""
    names.distrust(HOST)
    names.fail(HOST, "AAAA")
    names.bogus = bogus
    if bogus:
        assert asking.refusal(lambda: asking.tlsa(TARGET)).bogus
    else:
        assert asking.tlsa(TARGET) == NONE


@pytest.mark.parametrize("tcp", [False, True])
def test_malformed_records_are_there_and_unusable(
    asking: Asking, names: NameServer, tcp: bool
) -> None:
    """One whose digest is too short must not hide the others, nor be taken for none."""
    good, short = bytes((3, 1, 1)) + RECORD.data, bytes((3, 1, 1, 0xAB))
    full = bytes((3, 0, 0)) + b"x" * 2000
    names.add_octets(OWNER, "TLSA", short, *([full] if tcp else []))
    records = asking.tlsa(TARGET)
    assert records.security is SECURE
    assert len(records.values) == (2 if tcp else 1)
    assert effective(records.values) == []
    names.add_octets(OWNER, "TLSA", short, good, *([full] if tcp else []))
    asking.now += 1000
    assert effective(asking.tlsa(TARGET).values) == [RECORD]
    assert {asked.tcp for asked in names.asked if asked.kind == "TLSA"} == {False, tcp}


def test_all_records_count_however_many(asking: Asking, names: NameServer) -> None:
    many = [f"3 1 1 {number:064x}" for number in range(2 * MOST_RECORDS)]
    names.add(OWNER, "TLSA", *many)
    assert {record.data.hex() for record in asking.tlsa(TARGET).values} == {
        each.rpartition(" ")[2] for each in many
    }


@pytest.mark.parametrize("known", [False, True], ids=["addresses", "records"])
def test_who_leaves_leaves_all_lookups(asking: Asking, names: NameServer, known: bool) -> None:
    if known:
        for kind in (RdataType.A, RdataType.AAAA):
            asking.records(HOST, kind)
    with names.hold():
        looking = asking.resolver.tlsa(TARGET)
        under_way = list(asking.resolver._under_way)
        assert [kind.name for _, kind in under_way] == (["TLSA"] if known else ["AAAA", "A"])
        looking.cancel()
        assert list(asking.resolver._unattended) == under_way
    with pytest.raises(CancelledError):
        asking.wait(looking)
