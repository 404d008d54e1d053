"""What listeners for servers allow and demand: policies, proofs, and which domains are whose."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon import federating
from proxy.daemon.federating import InboundRules, OutboundRules, Peers
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.trusting.judge import MOST_REMEMBERED, REMEMBERED, Judge
from proxy.net.peer import Verifier
from proxy.net.tls import TLSSetupError
from proxy.session.dialback import Ledger
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback, Policy, pin_of
from proxy.trust.verdict import Status, UntrustedError
from tests.authority import CLIENT, SERVER, Authority
from tests.daemon.conf_fakes import (
    bare_table,
    conf_of,
    domain_table,
    federation,
    forward_table,
    in_table,
    out_table,
    policy_table,
)
from tests.daemon.trusting.judged import ask_site, tell
from tests.trust.showing import chain_of, issued

REMOTE, OTHER = "example.net", "other.example"
UNKNOWN = (b"not a certificate",)

MakePeers = Callable[..., Peers]
Chain = tuple[bytes, ...]


@attrs.define
class Clock:
    """Stands in for the class `datetime`."""

    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    def now(self, _zone: object) -> datetime:
        return self.time


@attrs.define
class Verified:
    """Which chains OpenSSL was asked about, each with the roots; it is asked all the same."""

    asked: list[tuple[Path | None, Chain]] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.asked)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(federating, "datetime", clock)
    return clock


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Verified:
    verified = Verified()
    evidence = Verifier.evidence

    def noted(self: Verifier, policy: Policy, chain: Chain) -> Evidence:
        verified.asked.append((policy.anchors, chain))
        return evidence(self, policy, chain)

    monkeypatch.setattr(Verifier, "evidence", noted)
    return verified


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another root."""
    return Authority(tmp_path_factory.mktemp("second"), name="second")


@pytest.fixture(scope="module")
def chain(middle: Authority) -> Chain:
    """What the server of `REMOTE` shows."""
    return issued(middle, REMOTE)


@pytest.fixture(scope="module")
def chains(middle: Authority) -> list[Chain]:
    """As many chains as are remembered, of one certificate and ever others above it."""
    leaf = issued(middle, REMOTE)
    return [(*leaf, b"%d" % number) for number in range(MOST_REMEMBERED)]


def trusting(authority: Authority, domain: str = "*", **more: Any) -> dict[str, Any]:
    """A policy that knows one root."""
    return policy_table(domain=domain, ca_file=str(authority.ca_path), **more)


def present() -> datetime:
    """The time by the clock that the tests turn."""
    told: datetime = vars(federating)["datetime"].now(UTC)
    return told


def made(conf: Conf) -> Peers:
    """Who judges, without a keyring and without web sites."""
    return Peers(conf, Judge(object(), keyring=None, tell=tell, ask_site=ask_site, clock=present))


def peers_of(*policies: dict[str, Any]) -> Peers:
    return made(conf_of(federation(policy=[*policies])))


@pytest.fixture
def peers(authority: Authority) -> Peers:
    return peers_of(trusting(authority))


# Policies and proofs


def test_the_roots_of_the_domains_own_policy_count(authority: Authority, second: Authority) -> None:
    peers = peers_of(trusting(authority), trusting(second, f"*.{OTHER}"))
    roots = {REMOTE: authority, OTHER: authority, f"a.{OTHER}": second}
    for domain, right in roots.items():
        wrong = second if right is authority else authority
        assert peers.judge(domain, issued(right, domain)).status is Status.VERIFIED
        with pytest.raises(UntrustedError) as caught:
            peers.judge(domain, issued(wrong, domain))
        assert caught.value.status is Status.UNTRUSTED


def test_where_no_policy_is_the_roots_of_the_system_count(chain: Chain) -> None:
    with pytest.raises(UntrustedError):
        peers_of().judge(REMOTE, chain)


@pytest.mark.parametrize("chain", [(), UNKNOWN], ids=["nothing", "nonsense"])
def test_what_is_no_certificate_proves_nothing(peers: Peers, chain: Chain) -> None:
    with pytest.raises(UntrustedError):
        peers.judge(REMOTE, chain)


@pytest.mark.parametrize("usages", [(SERVER,), (CLIENT,), (SERVER, CLIENT)])
def test_who_connects_may_show_a_certificate_for_either_use(
    peers: Peers, authority: Authority, usages: Any
) -> None:
    shown = issued(authority, REMOTE, usages=usages)
    assert peers.judge(REMOTE, shown).status is Status.VERIFIED


def test_the_service_is_that_of_servers(peers: Peers, authority: Authority) -> None:
    def shown(service: str) -> Chain:
        return issued(authority, REMOTE, dns=(), srv=[f"{service}.{REMOTE}"])

    assert peers.judge(REMOTE, shown("_xmpp-server")).status is Status.VERIFIED
    with pytest.raises(UntrustedError):
        peers.judge(REMOTE, shown("_xmpp-client"))


def test_a_pin_of_the_policy_counts(second: Authority, chain: Chain) -> None:
    pinned = peers_of(policy_table(domain=REMOTE, level="pin", pins=[str(pin_of(chain[0]))]))
    assert pinned.judge(REMOTE, chain).status is Status.VERIFIED
    with pytest.raises(UntrustedError):
        pinned.judge(REMOTE, issued(second, REMOTE, key="rsa"))


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_a_policy_that_demands_no_proof_does_not_make_one(chain: Chain, level: str) -> None:
    tolerant = peers_of(policy_table(domain="*", level=level))
    assert tolerant.judge(REMOTE, chain).status is Status.UNTRUSTED
    assert tolerant.judge(REMOTE, ()).status is Status.ANONYMOUS


def test_the_ladder_is_that_of_the_conf(authority: Authority) -> None:
    peers = peers_of(trusting(authority), policy_table(domain=REMOTE, dialback="never"))
    assert peers.ladder.find(REMOTE).dialback is Dialback.NEVER
    assert peers.ladder.find(OTHER).anchors == authority.ca_path


# Memory of verified chains


def test_a_chain_is_verified_once_a_minute(
    peers: Peers, chain: Chain, verified: Verified, clock: Clock
) -> None:
    for _ in range(3):
        assert peers.judge(REMOTE, chain).status is Status.VERIFIED
    clock.time += REMEMBERED - timedelta(seconds=1)
    peers.judge(REMOTE, chain)
    assert len(verified) == 1
    clock.time += timedelta(seconds=1)
    for _ in range(3):
        peers.judge(REMOTE, chain)
    assert len(verified) == 2


def test_a_clock_that_goes_back_has_it_verified_anew(
    peers: Peers, chain: Chain, verified: Verified, clock: Clock
) -> None:
    peers.judge(REMOTE, chain)
    clock.time -= timedelta(seconds=1)
    peers.judge(REMOTE, chain)
    assert len(verified) == 2


@pytest.mark.usefixtures("clock")
def test_nothing_is_remembered_for_other_chains(
    peers: Peers, authority: Authority, chain: Chain, verified: Verified
) -> None:
    leaf, *above = chain
    others = [(leaf,), (leaf, *above, *above), (leaf, leaf, *above), issued(authority, REMOTE)]
    for shown in (chain, *others):
        peers.judge(REMOTE, chain)
        try:
            peers.judge(REMOTE, shown)
        except UntrustedError:
            assert shown == (leaf,)
    assert [shown for _, shown in verified.asked] == [chain, *others]


@pytest.mark.usefixtures("clock")
def test_nothing_is_remembered_for_other_roots(
    authority: Authority, second: Authority, verified: Verified
) -> None:
    peers = peers_of(trusting(authority), trusting(second, OTHER))
    shown = issued(authority, REMOTE, dns=[REMOTE, OTHER])
    for _ in range(2):
        assert peers.judge(REMOTE, shown).status is Status.VERIFIED
        with pytest.raises(UntrustedError):
            peers.judge(OTHER, shown)
    assert verified.asked == [(authority.ca_path, shown), (second.ca_path, shown)]


@pytest.mark.usefixtures("clock")
def test_what_is_remembered_of_a_chain_is_no_verdict(
    peers: Peers, chain: Chain, verified: Verified
) -> None:
    """Two domains have the same roots: the chain is verified once, the name looked at twice."""
    for _ in range(2):
        assert peers.judge(REMOTE, chain).status is Status.VERIFIED
        with pytest.raises(UntrustedError) as caught:
            peers.judge(OTHER, chain)
        assert caught.value.status is Status.TRUSTED
    assert len(verified) == 1


def test_a_certificate_that_expires_meanwhile_is_refused(
    peers: Peers, authority: Authority, verified: Verified, clock: Clock
) -> None:
    end = clock.time + timedelta(seconds=30)
    shown = issued(authority, REMOTE, not_after=end)
    assert peers.judge(REMOTE, shown).status is Status.VERIFIED
    clock.time += timedelta(seconds=40)
    with pytest.raises(UntrustedError):
        peers.judge(REMOTE, shown)
    assert len(verified) == 1


@pytest.mark.usefixtures("clock")
def test_a_chain_that_does_not_do_stays_refused(
    peers: Peers, second: Authority, verified: Verified
) -> None:
    shown = issued(second, REMOTE)
    reasons = set()
    for _ in range(3):
        with pytest.raises(UntrustedError) as caught:
            peers.judge(REMOTE, shown)
        reasons.add(str(caught.value))
    assert len(verified) == 1
    assert len(reasons) == 1


@pytest.mark.usefixtures("clock")
def test_a_chain_that_does_not_do_is_verified_once_whatever_is_claimed(
    peers: Peers, second: Authority, verified: Verified
) -> None:
    shown = issued(second, REMOTE)
    for number in range(20):
        with pytest.raises(UntrustedError):
            peers.judge(f"d{number}.example", shown)
    assert len(verified) == 1


def test_little_is_remembered_of_a_large_chain(peers: Peers, second: Authority) -> None:
    large = issued(second, REMOTE, dns=[f"d{number}.example" for number in range(500)])
    for shown in ((*large, b"x" * 50_000), large * 50):
        with pytest.raises(UntrustedError):
            peers.judge(REMOTE, shown)
    assert len(repr(peers._verified)) < 1_000


@pytest.mark.usefixtures("clock")
def test_what_is_remembered_does_not_grow(
    peers: Peers, chain: Chain, chains: list[Chain], verified: Verified
) -> None:
    def show(shown: Chain) -> int:
        """Show a chain; return for how many chains OpenSSL has been asked since the test began."""
        with pytest.raises(UntrustedError):
            peers.judge(REMOTE, shown)
        return len(verified)

    peers.judge(REMOTE, chain)
    for shown in chains:
        show(shown)
        if shown is chains[0]:
            peers.judge(REMOTE, chain)
    asked = len(verified)
    assert asked == MOST_REMEMBERED + 1
    # Who was there last stays longest: the first of the others has gone.
    peers.judge(REMOTE, chain)
    assert show(chains[-1]) == asked
    assert show(chains[0]) == asked + 1
    assert show(chains[1]) == asked + 2
    peers.judge(REMOTE, chain)
    assert len(verified) == asked + 2


# Renewals


@pytest.fixture
def roots(tmp_path: Path, authority: Authority) -> Path:
    """A file of roots that a test may change."""
    path = tmp_path / "roots.pem"
    path.write_bytes(authority.ca_path.read_bytes())
    return path


@pytest.mark.usefixtures("clock")
def test_renewal_takes_the_roots_as_they_are_then(
    roots: Path, authority: Authority, second: Authority
) -> None:
    peers = peers_of(policy_table(domain="*", ca_file=str(roots)))
    old, new = issued(authority, REMOTE), issued(second, REMOTE)

    def believes(chain: Chain) -> bool:
        try:
            return peers.judge(REMOTE, chain).status is Status.VERIFIED
        except UntrustedError:
            return False

    roots.write_bytes(second.ca_path.read_bytes())
    assert (believes(old), believes(new)) == (True, False)
    peers.renew()
    # What is remembered of either chain is that of the old roots, and is not believed again.
    assert (believes(old), believes(new)) == (False, True)


@pytest.mark.parametrize("damage", ["gone", "nonsense", "empty"])
@pytest.mark.usefixtures("clock")
def test_roots_that_cannot_be_read_change_nothing(roots: Path, chain: Chain, damage: str) -> None:
    peers = peers_of(policy_table(domain="*", ca_file=str(roots)))
    if damage == "gone":
        roots.unlink()
    else:
        roots.write_text("" if damage == "empty" else "nonsense")
    with pytest.raises(TLSSetupError):
        peers.renew()
    assert peers.judge(REMOTE, chain).status is Status.VERIFIED
    with pytest.raises(TLSSetupError):
        peers_of(policy_table(domain="*", ca_file=str(roots)))


# Which domains are whose

LOCAL, NEIGHBOUR, ELSEWHERE, CLIENTS_ONLY = "a.example", "b.example", "c.example", "d.example"

SEVERAL = federation(
    domain=[
        domain_table(name=LOCAL, s2s_server="127.0.0.1:15269"),
        domain_table(name=NEIGHBOUR, s2s_server="127.0.0.1:15269"),
        domain_table(name=ELSEWHERE, s2s_server="127.0.0.1:15270"),
        domain_table(name=CLIENTS_ONLY),
    ],
    listener=[in_table(), out_table(domains=["example.net", "*.example.org"])],
    policy=[policy_table(domain=REMOTE, dialback="never")],
)


def inbound(conf: Conf) -> InboundRules:
    return InboundRules(conf, made(conf), Ledger())


def outbound(conf: Conf) -> OutboundRules:
    listener = next(each for each in conf.listeners if each.direction == FORWARD)
    return OutboundRules(listener, conf, made(conf), Ledger())


each_direction = pytest.mark.parametrize("rules_of", [inbound, outbound])
MakeRules = Callable[[Conf], InboundRules]


@each_direction
def test_every_domain_of_the_conf_is_local(rules_of: MakeRules) -> None:
    rules = rules_of(conf_of(SEVERAL))
    ours = [LOCAL, NEIGHBOUR, ELSEWHERE, CLIENTS_ONLY]
    others = [REMOTE, "", f"sub.{LOCAL}", "example", LOCAL.upper()]
    assert [name for name in ours + others if rules.is_local(name)] == ours


@each_direction
def test_domains_are_together_behind_one_server(rules_of: MakeRules) -> None:
    rules = rules_of(conf_of(SEVERAL))
    names = [LOCAL, NEIGHBOUR, ELSEWHERE, CLIENTS_ONLY, REMOTE]
    found = {(one, other) for one in names for other in names if rules.together(one, other)}
    assert found == {
        (LOCAL, LOCAL),
        (LOCAL, NEIGHBOUR),
        (NEIGHBOUR, LOCAL),
        (NEIGHBOUR, NEIGHBOUR),
        (ELSEWHERE, ELSEWHERE),
    }


@each_direction
def test_the_only_domain_is_known_where_there_is_just_one(rules_of: MakeRules) -> None:
    one = conf_of(federation())
    assert rules_of(one).only_local() == "example.com"
    assert rules_of(conf_of(SEVERAL)).only_local() is None
    assert rules_of(attrs.evolve(one, domains=())).only_local() is None


def test_a_domain_without_a_server_for_servers_counts_among_ours() -> None:
    """Whose the stream is, is then not known without being said."""
    tables = [domain_table(name=LOCAL, s2s_server="127.0.0.1:15269"), bare_table(name=OTHER)]
    tables[1]["c2s_server"] = "none"
    assert inbound(conf_of(federation(domain=tables))).only_local() is None


def test_inwards_streams_reach_those_of_ours_that_have_a_server_for_them() -> None:
    rules = inbound(conf_of(SEVERAL))
    names = [LOCAL, NEIGHBOUR, ELSEWHERE, CLIENTS_ONLY, REMOTE, "a.example.org", ""]
    assert [name for name in names if rules.reaches(name)] == [LOCAL, NEIGHBOUR, ELSEWHERE]


def test_outwards_streams_reach_the_domains_of_the_listener() -> None:
    rules = outbound(conf_of(SEVERAL))
    names = [REMOTE, "a.example.org", "a.b.example.org", "example.org", LOCAL, OTHER, ""]
    assert [name for name in names if rules.reaches(name)] == names[:3]


@each_direction
def test_the_policy_is_that_of_the_conf(rules_of: MakeRules) -> None:
    rules = rules_of(conf_of(SEVERAL))
    assert rules.policy(REMOTE).dialback is Dialback.NEVER
    assert rules.policy(OTHER).dialback is Dialback.ALLOW


@each_direction
def test_servers_that_connect_are_judged_by_their_policy(
    rules_of: MakeRules, authority: Authority, second: Authority
) -> None:
    policies = [trusting(authority), trusting(second, OTHER)]
    rules = rules_of(conf_of(federation(policy=policies)))
    shown = chain_of(authority.issue(REMOTE, dns=[REMOTE, OTHER])[0])
    assert rules.judge_client(REMOTE, shown).status is Status.VERIFIED
    with pytest.raises(UntrustedError):
        rules.judge_client(OTHER, shown)


@pytest.mark.parametrize(
    ("listeners", "offers"),
    [
        ([in_table(), out_table()], True),
        ([in_table()], False),
        ([in_table(), forward_table()], False),
        ([in_table(), forward_table(), out_table()], True),
    ],
)
def test_external_is_offered_where_our_servers_verify_keys_through_us(
    listeners: list[dict[str, Any]], *, offers: bool
) -> None:
    # A conf without a way out is cautioned against, but is one.
    conf = conf_of(federation(listener=listeners))
    assert inbound(conf).offers_external is offers


def test_both_directions_share_the_ledger_that_they_are_given() -> None:
    conf = conf_of(SEVERAL)
    ledger, peers = Ledger(), made(conf)
    assert InboundRules(conf, peers, ledger).ledger is ledger
    assert OutboundRules(conf.listeners[-1], conf, peers, ledger).ledger is ledger
