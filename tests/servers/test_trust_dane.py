"""DANE in sessions: real zones, a name server that validates them, and real handshakes."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import pytest

from proxy.trust.dane.records import TLSA
from tests.authority import Authority, now, self_signed
from tests.net.hostile import Hostile, showing, upgraded
from tests.net.trusting import Operated
from tests.servers.dns.unbound import NameServer
from tests.servers.dns.zones import State
from tests.servers.program import HOST
from tests.trust.dane import der, record
from tests.trust.showing import chain_of

pytestmark = pytest.mark.server("unbound")

Pair = tuple[Path, Path]
DAY = dt.timedelta(days=1)

LEVELS = ("dane", "dane-only", "keyring")
SIGNED, UNSIGNED, BOGUS, EXPIRED = "signed.test", "unsigned.test", "bogus.test", "expired.test"


class Issuing:
    """Who issues certificates: an authority that is trusted, one that is not, and nobody.

    Args:
        directory: where files go.
        root: the one that is trusted.
    """

    def __init__(self, directory: Path, root: Authority) -> None:
        self.directory = directory
        self.root = root
        stranger = Authority(directory / "stranger", name="Stranger")
        self.middle = Authority(directory / "middle", name="Stranger's", parent=stranger)

    def alone(self, name: str) -> Pair:
        return self_signed(self.directory, name)


def leaf(pair: Pair) -> bytes:
    return chain_of(pair[0])[0]


@attrs.frozen
class Case:
    """A domain, its TLSA records, and the certificates that its server shows.

    Attributes:
        name: its label.
        shown: the certificates, each shown in turn; gets domain and target.
        records: the records; gets the certificates.
        proves: the beginning of what is matched; empty if nothing is.
        problem: else a regular expression for why it is refused.
    """

    name: str
    shown: Callable[[Issuing, str, str], Sequence[Pair]]
    records: Callable[[Issuing, Sequence[Pair]], Sequence[TLSA]]
    proves: str = ""
    problem: str = ""


def _outdated(who: Issuing, _domain: str, _target: str) -> Sequence[Pair]:
    begin, end = now() - 9 * DAY, now() - DAY
    return [who.middle.issue("elsewhere.example", not_before=begin, not_after=end)]


CASES = (
    Case(
        "ee",
        lambda who, domain, _: [who.alone(domain)],
        lambda _, pairs: [record(leaf(pairs[0]), 3)],
        "DANE-EE 3 1 1 ",
    ),
    Case(
        "ee-outdated",
        _outdated,
        lambda _, pairs: [record(leaf(pairs[0]), 3, 0, 2)],
        "DANE-EE 3 0 2 ",
    ),
    Case(
        "ta",
        lambda who, domain, _: [who.middle.issue(domain)],
        lambda who, _: [record(der(who.middle), 2, 0)],
        "DNS-ID ",
    ),
    Case(
        "ta-target",
        lambda who, _, target: [who.middle.issue(target)],
        lambda who, _: [record(der(who.middle), 2)],
        "DNS-ID xmpp-ta-target",
    ),
    Case(
        "ta-stranger",
        lambda who, *_: [who.middle.issue("elsewhere.example")],
        lambda who, _: [record(der(who.middle), 2)],
        problem=r".*elsewhere\.example.*",
    ),
    Case(
        "pkix-ta",
        lambda who, domain, _: [who.root.issue(domain)],
        lambda who, _: [record(der(who.root), 0)],
        "DNS-ID ",
    ),
    Case(
        "pkix-ee",
        lambda who, domain, _: [who.root.issue(domain)],
        lambda _, pairs: [record(leaf(pairs[0]), 1)],
        "DNS-ID ",
    ),
    Case(
        "pkix-ee-untrusted",
        lambda who, domain, _: [who.middle.issue(domain)],
        lambda _, pairs: [record(leaf(pairs[0]), 1)],
        problem=r'.* lead to "CN=Stranger", which is not a tr.*',
    ),
    Case(
        "rollover",
        lambda who, domain, _: [who.root.issue(domain), who.middle.issue(domain)],
        lambda _, pairs: [record(leaf(pair), 3) for pair in pairs],
        "DANE-EE 3 1 1 ",
    ),
    Case(
        "wrong",
        lambda who, domain, _: [who.root.issue(domain)],
        lambda who, _: [record(leaf(who.alone("other.example")), 3)],
        problem=r".*TLSA.*",
    ),
    Case("absent", lambda who, domain, _: [who.root.issue(domain)], lambda *_: [], "DNS-ID "),
    Case(
        "absent-unknown",
        lambda who, domain, _: [who.alone(domain)],
        lambda *_: [],
        problem=r".*self-signed.*",
    ),
)

OUTSIDE = (
    Case(
        "proved",
        lambda who, domain, _: [who.root.issue(domain)],
        lambda who, _: [record(leaf(who.alone("other.example")), 3)],
        "DNS-ID ",
    ),
    Case(
        "alone",
        lambda who, domain, _: [who.alone(domain)],
        lambda _, pairs: [record(leaf(pairs[0]), 3)],
        problem=r".*self-signed.*",
    ),
    Case(
        "target",
        lambda who, _, target: [who.root.issue(target)],
        lambda _, pairs: [record(leaf(pairs[0]), 3)],
        problem=r".*xmpp-target.*, not for .*",
    ),
    Case(
        "at-signed",
        lambda who, domain, _: [who.alone(domain)],
        lambda _, pairs: [record(leaf(pairs[0]), 3)],
        problem=r".*self-signed.*",
    ),
)
"""Domains whose zone is not signed; that of the last one's server is."""


@attrs.frozen
class Grounds:
    """All that there is: the daemon, its name server, and what domains' servers show."""

    bascule: Operated
    unbelieving: Operated
    hostile: Hostile
    certificates: Mapping[str, Sequence[Pair]]

    def show(self, domain: str, turn: int = 0) -> None:
        self.hostile.play(upgraded(showing(self.certificates[domain][turn])))


def domain_of(case: Case, level: str, zone: str = SIGNED) -> str:
    return f"{case.name}.{level}.{zone}"


class Zones:
    """The records of zones, as they are put together."""

    def __init__(self, who: Issuing, port: int) -> None:
        self._who = who
        self._port = port
        self.records: dict[str, list[str]] = {
            zone: [] for zone in (SIGNED, UNSIGNED, BOGUS, EXPIRED)
        }
        self.certificates: dict[str, Sequence[Pair]] = {}

    def add(self, case: Case, level: str, zone: str, *, host: str = "") -> None:
        """Add a domain; ``host`` is the zone of its server where that is another one."""
        domain = domain_of(case, level, zone)
        target = f"xmpp-{case.name}.{level}"
        there = host or zone
        pairs = case.shown(self._who, domain, f"{target}.{there}")
        self.certificates[domain] = pairs
        name = domain.removesuffix(f".{zone}")
        self.records[zone] += [
            f"_xmpp-client._tcp.{name} IN SRV 5 0 {self._port} {target}.{there}.",
            # unbound 1.17 does not prove rightly that a name beside that one does not exist.
            f"_xmpps-client._tcp.{name} IN TXT none",
        ]
        self.records[there] += [
            f"{target} IN A {HOST}",
            f"_{self._port}._tcp.{target} IN TXT none",
        ]
        for each in case.records(self._who, pairs):
            data = f"{each.usage} {each.selector} {each.matching} {each.data.hex()}"
            self.records[there].append(f"_{self._port}._tcp.{target} IN TLSA {data}")


class Validating(NameServer):
    """A name server with a zone whose signatures have expired, too."""

    def __init__(self, directory: Path, records: Mapping[str, list[str]]) -> None:
        super().__init__(
            directory,
            {SIGNED: records[SIGNED]},
            unsigned={UNSIGNED: records[UNSIGNED]},
            bogus={BOGUS: records[BOGUS]},
        )
        self._records[State.EXPIRED] = {EXPIRED: records[EXPIRED]}


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    directory = tmp_path_factory.mktemp("dane")
    with Hostile() as hostile:
        zones = Zones(Issuing(directory, authority), hostile.port)
        for level in LEVELS:
            for case in CASES:
                zones.add(case, level, SIGNED)
            for case in OUTSIDE:
                zones.add(case, level, UNSIGNED, host=SIGNED if case is OUTSIDE[-1] else "")
            for zone in (BOGUS, EXPIRED):
                zones.add(CASES[0], level, zone)
                zones.add(attrs.evolve(CASES[0], name=f"at-{zone[:-5]}"), level, SIGNED, host=zone)
        with Validating(directory / "unbound", zones.records) as names:
            policies: list[dict[str, object]] = [
                {
                    "domain": f"*.{level}.{zone}",
                    "level": level,
                    "ca_file": str(authority.ca_path),
                    "private_addresses": True,
                }
                for level in LEVELS
                for zone in zones.records
            ]
            dns = {"servers": [names.address]}
            with (
                Operated(directory / "a", policies, tables={"dns": dns}) as bascule,
                Operated(
                    directory / "b", policies, tables={"dns": {**dns, "validating": "no"}}
                ) as unbelieving,
            ):
                yield Grounds(bascule, unbelieving, hostile, zones.certificates)


each_level = pytest.mark.parametrize("level", LEVELS)


def matched(bascule: Operated, domain: str) -> str:
    """Return what was matched in the latest session of a domain."""
    found = re.findall(
        rf'Verified TLS .* to {re.escape(domain)}\[.* matched="([^"]*)"', bascule.log()
    )
    return str(found[-1])


@each_level
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_records_in_a_signed_zone_prove(grounds: Grounds, case: Case, level: str) -> None:
    domain = domain_of(case, level)
    bascule = grounds.bascule
    only_records = level == "dane-only" and case.name.startswith("absent")
    for turn in range(len(grounds.certificates[domain])):
        grounds.show(domain, turn)
        if case.proves and not only_records:
            bascule.login(grounds.hostile, domain)
            assert matched(bascule, domain).startswith(case.proves)
            continue
        said = bascule.refused(grounds.hostile, domain)
        assert said.condition == "policy-violation"
        if only_records:
            assert said.text.startswith(f"{domain} has no TLSA records that DNSSEC vouches for")
            continue
        assert re.fullmatch(case.problem, said.text), said.text
        held = [each.id for each in bascule.held(domain)]
        assert held == ([said.held_id] if level == "keyring" else [])


def test_records_that_change_are_followed_without_an_operators_word(grounds: Grounds) -> None:
    """With level keyring what records prove is remembered as proved by them, and told of."""
    [case] = [case for case in CASES if case.name == "rollover"]
    domain = domain_of(case, "keyring")
    for turn in (0, 1):
        grounds.show(domain, turn)
        grounds.bascule.login(grounds.hostile, domain)
    assert [entry.how.value for entry in grounds.bascule.entries(domain)] == ["dane", "dane"]
    [alert] = grounds.bascule.alerts(domain)
    assert " alert=renewal " in alert


@each_level
@pytest.mark.parametrize("case", OUTSIDE, ids=lambda case: case.name)
def test_attack_records_and_targets_of_an_unsigned_zone_count_for_nothing(
    grounds: Grounds, case: Case, level: str
) -> None:
    domain = domain_of(case, level, UNSIGNED)
    grounds.show(domain)
    if case.proves and level != "dane-only":
        grounds.bascule.login(grounds.hostile, domain)
        assert matched(grounds.bascule, domain).startswith(case.proves)
        return
    said = grounds.bascule.refused(grounds.hostile, domain)
    assert said.condition == "policy-violation"
    if level == "dane-only":
        assert said.text.startswith(f"{domain} has no TLSA records that DNSSEC vouches for")
    else:
        assert re.fullmatch(case.problem, said.text), said.text


@each_level
@pytest.mark.parametrize("zone", [BOGUS, EXPIRED])
@pytest.mark.parametrize("where", ["domain", "server"])
def test_attack_what_is_bogus_ends_the_attempt(
    grounds: Grounds, zone: str, level: str, where: str
) -> None:
    """Be it that of the domain or only that of its server; nothing is connected to."""
    case = CASES[0] if where == "domain" else attrs.evolve(CASES[0], name=f"at-{zone[:-5]}")
    domain = domain_of(case, level, zone if where == "domain" else SIGNED)
    grounds.show(domain)
    said = grounds.bascule.refused(grounds.hostile, domain)
    assert said.condition == "remote-connection-failed"
    assert grounds.hostile.peers == []
    assert grounds.bascule.held(domain) == []


def test_where_nobody_is_believed_there_are_no_records(grounds: Grounds) -> None:
    bascule = grounds.unbelieving
    assert "no DNS server is believed about DNSSEC" in bascule.log()
    by_name = {case.name: case for case in CASES}
    for name, level, passes in (
        ("ee", "dane", False),
        ("ta-target", "dane", False),
        ("absent", "dane", True),
        ("wrong", "dane", True),
        ("absent", "dane-only", False),
        ("ee", "dane-only", False),
    ):
        domain = domain_of(by_name[name], level)
        grounds.show(domain)
        if passes:
            bascule.login(grounds.hostile, domain)
            assert matched(bascule, domain).startswith("DNS-ID ")
        else:
            assert bascule.refused(grounds.hostile, domain).condition == "policy-violation"
