"""proxy.daemon.probe: what the keyring makes of what was found, which does not change it."""

import datetime as dt
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from proxy.daemon.probe import rehearsal
from proxy.daemon.probe.memory import Memory, Standing, recall
from proxy.daemon.probe.outcome import Carried, JudgedTarget, Outcome
from proxy.daemon.probe.printing import print_report
from proxy.daemon.probe.running import DEFAULTS
from proxy.daemon.probe.structure import structure
from proxy.daemon.state import StateTable
from proxy.daemon.trusting.judge import Judge
from proxy.net.probed import Probed, Vouched
from proxy.session.kinds import Kind
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.exchange import exported
from proxy.trust.keyring.facts import facts_of
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import Level, OnChange, Policy, pin_of
from proxy.trust.proof import Case
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import UntrustedError
from tests.authority import Authority, now
from tests.daemon.probe_fakes import (
    DOMAIN,
    HUNG_UP,
    OTHER,
    PLAIN,
    TARGET,
    decide,
    report,
    shaken,
    under,
)
from tests.daemon.trusting.judged import ask_site, tell
from tests.trust.showing import believed, issued

NOBODY = 65534
CONF = Path("/etc/bascule/bascule.toml")
KEYRING = under(Level.KEYRING)
HOLDING = under(Level.KEYRING, on_change=OnChange.HOLD)
DANE = under(Level.DANE)
PLACE = DOMAIN, "c2s"

Prepare = Callable[[Keyring, bytes, bytes], object]
"""Has a keyring say something of a certificate, and of another one of the same domain."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def remembered(directory: Path, policy: Policy = KEYRING, kind: Kind = Kind.C2S) -> Memory:
    """What the probe reads of the keyring in a directory."""
    conf = attrs.evolve(DEFAULTS, state=StateTable(state_directory=directory))
    memory = recall(conf, CONF, DOMAIN, policy, kind)
    assert memory is not None
    return memory


def prepared(directory: Path, prepare: Prepare, *shown: Evidence) -> None:
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        prepare(keyring, *(each.chain[0] for each in shown))


def judged(directory: Path, policy: Policy, shown: Evidence) -> tuple[JudgedTarget, Outcome]:
    memory = remembered(directory, policy)
    (target,), result = decide(policy, Probed(TARGET, (shaken(shown),)), memory=memory)
    return target, result


def held_id(keyring: Keyring, certificate: bytes) -> str:
    return keyring.hold(*PLACE, certificate, "it is self-signed", now()).id


def nothing(_keyring: Keyring, *_certificates: bytes) -> None:
    """Know nothing."""


def held(keyring: Keyring, one: bytes, _other: bytes) -> None:
    held_id(keyring, one)


def approved(keyring: Keyring, one: bytes, _other: bytes) -> None:
    keyring.approve(held_id(keyring, one), "alice", now())


def rejected(keyring: Keyring, one: bytes, _other: bytes) -> None:
    keyring.reject(held_id(keyring, one), "alice", now())


def known(keyring: Keyring, one: bytes, _other: bytes) -> None:
    keyring.remember(*PLACE, one, now(), how=How.PKIX)


def revoked(keyring: Keyring, one: bytes, other: bytes) -> None:
    known(keyring, one, other)
    keyring.revoke(DOMAIN, "alice", now())


def another(keyring: Keyring, _one: bytes, other: bytes) -> None:
    keyring.remember(*PLACE, other, now(), how=How.PKIX)


def another_approved(keyring: Keyring, _one: bytes, other: bytes) -> None:
    keyring.approve(held_id(keyring, other), "alice", now())


def held_beside(keyring: Keyring, one: bytes, other: bytes) -> None:
    another(keyring, one, other)
    held(keyring, one, other)


def of_servers(keyring: Keyring, one: bytes, _other: bytes) -> None:
    keyring.remember(DOMAIN, "s2s", one, now(), how=How.PKIX)
    keyring.revoke(DOMAIN, "alice", now())


CASES: list[tuple[Prepare, Policy, bool, Standing, str]] = [
    (nothing, KEYRING, True, Standing.NEW, "as the first of the domain"),
    (nothing, KEYRING, False, Standing.UNSEEN, "it would be held for an operator"),
    (held, KEYRING, False, Standing.HELD, "held as "),
    (held, KEYRING, True, Standing.NEW, "as the first of the domain"),
    (approved, KEYRING, False, Standing.KNOWN, " by alice"),
    (rejected, KEYRING, False, Standing.REJECTED, "rejected on "),
    (rejected, KEYRING, True, Standing.REJECTED, "rejected on "),
    (known, KEYRING, True, Standing.KNOWN, "(pkix)"),
    (known, HOLDING, True, Standing.KNOWN, "(pkix)"),
    (known, KEYRING, False, Standing.UNSEEN, "it would be held for an operator"),
    (revoked, KEYRING, True, Standing.REVOKED, " by alice"),
    (another, KEYRING, True, Standing.NEW, "beside 1 other, and operators told"),
    (another, HOLDING, True, Standing.UNSEEN, "breach; it would be held for an operator"),
    (another, KEYRING, False, Standing.UNSEEN, "breach; it would be held for an operator"),
    (another_approved, KEYRING, True, Standing.UNSEEN, "breach; it would be held for an operator"),
    (held_beside, KEYRING, False, Standing.HELD, "possible security breach; held as "),
    (of_servers, KEYRING, True, Standing.NEW, "as the first of the domain"),
]


@pytest.mark.parametrize("each", CASES)
def test_what_the_keyring_says_and_what_the_daemon_does(
    directory: Path,
    authority: Authority,
    each: tuple[Prepare, Policy, bool, Standing, str],
) -> None:
    """The probe decides as the daemon's judge does afterwards, and leaves the keyring as it was."""
    prepare, policy, proved, standing, text = each
    one, other = (believed(*issued(authority, DOMAIN)) for _ in range(2))
    shown = one if proved else attrs.evolve(one, error=18, error_text="self-signed", verified=())
    prepared(directory, prepare, one, other)
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        before = exported(keyring), keyring.pending(), keyring.all_held(DOMAIN)
        target, result = judged(directory, policy, shown)
        assert (exported(keyring), keyring.pending(), keyring.all_held(DOMAIN)) == before
        assert not keyring.changed()
        judge = Judge(Clock(), keyring=keyring, tell=tell, ask_site=ask_site)
        try:
            judge.judge(Case(DOMAIN, "_xmpp-client", policy, shown))
        except UntrustedError as error:
            reason = str(error)
        else:
            reason = ""
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    assert decision.kept.standing is standing
    assert text in decision.kept.text
    assert result.carried is (Carried.NOT if reason else Carried.BY_TLS)
    if decision.kept.id:
        assert decision.refusal == reason, "by the id that it has in the keyring"
    elif reason:
        assert "(the keyring would hold it)" in decision.refusal
    for word in ("approve", "keyring"):
        assert (word in decision.remedy) is bool(reason)


def test_two_new_certificates_are_judged_apart(directory: Path, authority: Authority) -> None:
    """As nothing is remembered, the second one is no change."""
    shown = [believed(*issued(authority, DOMAIN)) for _ in range(2)]
    (target,), _ = decide(
        HOLDING, Probed(TARGET, tuple(map(shaken, shown))), memory=remembered(directory)
    )
    assert [address.carried for address in target.addresses] == [Carried.BY_TLS] * 2


def test_a_keyring_that_is_not_there_is_not_made(directory: Path, good: Evidence) -> None:
    memory = remembered(directory)
    assert (memory.exists, memory.problem) == (False, "")
    assert not remembered(directory / "below").exists
    made = report(KEYRING, Probed(TARGET, (shaken(good),)), memory=memory)
    assert made.outcome.carried is Carried.BY_TLS
    assert not list(directory.iterdir())
    assert structure(made)["keyring"]["exists"] is False


def test_levels_that_have_no_use_for_it_do_not_ask_it(directory: Path) -> None:
    conf = attrs.evolve(DEFAULTS, state=StateTable(state_directory=directory))
    for level in Level:
        found = recall(conf, CONF, DOMAIN, under(level), Kind.C2S)
        assert (found is not None) is (level in {Level.MAY, Level.DANE, Level.KEYRING})
        assert recall(conf, None, DOMAIN, under(level), Kind.C2S) is None


def test_a_pin_is_permission_beforehand(directory: Path, good: Evidence, wrong: Evidence) -> None:
    policy = attrs.evolve(HOLDING, pins=frozenset({pin_of(wrong.chain[0])}))
    prepared(directory, another, good, good)
    assert judged(directory, policy, wrong)[1].carried is Carried.BY_TLS
    assert judged(directory, policy, good)[1].carried is Carried.NOT


def test_sessions_that_would_wait_are_refused_and_told_of(directory: Path, wrong: Evidence) -> None:
    policy = attrs.evolve(KEYRING, approval_timeout=30.0)
    target, result = judged(directory, policy, wrong)
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    assert decision.kept.text.endswith("; sessions wait 30 s for an operator")
    assert result.carried is Carried.NOT
    judge = Judge(Clock(), keyring=Keyring(directory / FILE_NAME), tell=tell, ask_site=ask_site)
    with pytest.raises(UndecidedError):
        judge.judge(Case(DOMAIN, "_xmpp-client", policy, wrong))


def test_the_fingerprint_to_compare_is_shown(directory: Path, wrong: Evidence, capsys: Any) -> None:
    prepared(directory, held, wrong, wrong)
    made = report(KEYRING, Probed(TARGET, (shaken(wrong),)), memory=remembered(directory))
    fingerprint = facts_of(wrong.chain[0]).fingerprint
    found = structure(made)["targets"][0]["addresses"][0]["tls"]
    assert found["fingerprint"] == fingerprint
    print_report(made)
    printed = "".join(capsys.readouterr().out.split())
    assert f"SHA-256{fingerprint}" in printed
    assert f"keyringheldas{found['by_keyring']['id']}since" in printed


def test_no_certificate_is_nothing_for_the_keyring(directory: Path) -> None:
    target, result = judged(directory, KEYRING, Evidence((), 0, "ok"))
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is None
    assert "showed no certificate" in result.text


# What the domain was reached with


def seen(directory: Path, *, dane: bool = False) -> None:
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        keyring.note_seen(*PLACE, now(), tls=True, dane=dane)


def test_a_domain_that_had_tls_is_not_reached_without(directory: Path, capsys: Any) -> None:
    may = under(Level.MAY)
    plain = Probed(TARGET, (PLAIN,))
    _, result = decide(may, plain, memory=remembered(directory, may))
    assert result.carried is Carried.IN_PLAINTEXT
    seen(directory)
    made = report(may, plain, memory=remembered(directory, may))
    assert made.outcome.carried is Carried.NOT
    assert "was reached with TLS before, and has none now" in made.outcome.text
    assert made.targets[0].addresses[0].by_report is Carried.IN_PLAINTEXT
    remedy = structure(made)["targets"][0]["addresses"][0]["remedy"]
    assert remedy.startswith(f"bascule keyring forget {DOMAIN} lets")
    assert structure(made)["keyring"]["tls_since"]
    print_report(made)
    assert "reached with TLS since" in capsys.readouterr().out
    for target, attempt in ((OTHER, PLAIN), (TARGET, HUNG_UP)):
        (found,), _ = decide(may, Probed(target, (attempt,)), memory=remembered(directory, may))
        assert "before, and has none" not in found.addresses[0].reason


def claims() -> Vouched:
    return Vouched(Claims(References(DOMAIN, "_xmpp-client", TARGET.host)), secure=True)


def test_a_domain_that_had_dane_is_not_reached_without(directory: Path, good: Evidence) -> None:
    bare = Probed(TARGET, (shaken(good),), vouched=claims())
    for policy in (DANE, KEYRING):
        _, result = decide(policy, bare, memory=remembered(directory, policy))
        assert result.carried is Carried.BY_TLS
    seen(directory, dane=True)
    for policy in (DANE, KEYRING):
        made = report(policy, bare, memory=remembered(directory, policy))
        assert made.outcome.carried is Carried.NOT
        assert "had TLSA records before" in made.outcome.text
        assert "has given up its TLSA records" in made.outcome.text
        assert structure(made)["keyring"]["dane_since"]


# A keyring that cannot be used


@pytest.fixture
def spoilt(directory: Path) -> Path:
    prepared(directory, nothing)
    (directory / FILE_NAME).chmod(0o644)
    return directory


def test_what_a_keyring_must_say_is_refused_if_it_cannot(
    spoilt: Path, good: Evidence, wrong: Evidence, capsys: Any
) -> None:
    memory = remembered(spoilt)
    assert "is open to others" in memory.problem
    for shown in (good, wrong):
        made = report(KEYRING, Probed(TARGET, (shaken(shown),)), memory=memory)
        assert made.outcome.carried is Carried.NOT
        assert memory.problem in made.outcome.text
        found = structure(made)
        assert (found["keyring"]["problem"], found["keyring"]["exists"]) == (memory.problem, None)
        assert found["targets"][0]["addresses"][0]["tls"]["by_keyring"] is None
        print_report(made)
        printed = " ".join(capsys.readouterr().out.split())
        assert "is open to others" in printed
        assert "would be held" not in printed
        assert "the keyring would hold" not in printed


def test_without_it_nothing_is_known_of_what_a_domain_had(spoilt: Path, good: Evidence) -> None:
    may = under(Level.MAY)
    memory = remembered(spoilt)
    _, result = decide(may, Probed(TARGET, (PLAIN,)), memory=memory)
    assert (result.carried, memory.problem in result.text) == (Carried.NOT, True)
    _, result = decide(may, Probed(TARGET, (shaken(good),)), memory=memory)
    assert result.carried is Carried.BY_TLS
    bare = Probed(TARGET, (shaken(good),), vouched=claims())
    _, result = decide(DANE, bare, memory=memory)
    assert (result.carried, memory.problem in result.text) == (Carried.NOT, True)


def test_no_place_for_a_copy_is_an_error_in_words(
    directory: Path, good: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rehearsal, "TemporaryDirectory", full)
    with pytest.raises(KeyringError, match="to copy the keyring to: No space left on device"):
        judged(directory, KEYRING, good)


@pytest.fixture
def of_the_daemon() -> Iterator[Path]:
    """A state directory of another user's, with nothing in its way."""
    with TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has others' files")
def test_root_leaves_no_files_of_its_own(of_the_daemon: Path, good: Evidence) -> None:
    prepared(of_the_daemon, known, good, good)
    assert len(remembered(of_the_daemon).entries) == 1
    files = list(of_the_daemon.iterdir())
    assert files
    assert {each.stat().st_uid for each in files} == {NOBODY}


def test_an_ended_permission_waits_anew(directory: Path, authority: Authority) -> None:
    """As does one that an operator gave before the certificate's life ended."""
    moment = now()
    one = believed(*issued(authority, DOMAIN, not_after=moment - dt.timedelta(hours=1)))
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        found = keyring.hold(*PLACE, one.chain[0], "why", moment - dt.timedelta(days=2))
        keyring.approve(found.id, "alice", moment - dt.timedelta(days=2))
    target, result = judged(directory, KEYRING, one)
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    assert decision.kept.standing is Standing.UNSEEN
    assert result.carried is Carried.NOT
