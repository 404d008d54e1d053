"""proxy.daemon.probe: certificates that are others than before, and what is to be done about it."""

import datetime as dt
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.probe.printing import print_report
from proxy.net.probed import Probed
from proxy.trust.evidence import Evidence
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.facts import facts_of
from proxy.trust.keyring.store import Keyring
from tests.authority import Authority, now
from tests.daemon.probe_fakes import DOMAIN, TARGET, report, shaken
from tests.daemon.test_probe_keyring import KEYRING, PLACE, judged, prepared, remembered, revoked
from tests.trust.showing import believed, issued


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_another_certificate_than_before_is_told_of_as_a_change(
    directory: Path, authority: Authority, wrong: Evidence, capsys: Any
) -> None:
    old = believed(*issued(authority, DOMAIN)).chain[0]
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        keyring.remember(*PLACE, old, now() - dt.timedelta(days=2), how=How.PKIX)
        found = keyring.hold(*PLACE, wrong.chain[0], "it is self-signed", now())
    made = report(KEYRING, Probed(TARGET, (shaken(wrong),)), memory=remembered(directory))
    decision = made.targets[0].addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    begin = facts_of(old).fingerprint[:9]
    last = now() - dt.timedelta(days=2)
    assert decision.kept.text == (
        f"another certificate than the 1 in the keyring ({begin}…, last seen {last:%Y-%m-%d}): "
        f"possible security breach; held as {found.id}"
    )
    assert decision.remedy == (
        "ask the domain's operator by another way whether its certificate has changed; only then "
        f"bascule keyring approve {found.id}"
    )
    print_report(made)
    assert "possible security breach" in " ".join(capsys.readouterr().out.split())


def test_of_several_before_the_latest_is_named(
    directory: Path, authority: Authority, wrong: Evidence
) -> None:
    olds = [believed(*issued(authority, DOMAIN)).chain[0] for _ in range(2)]
    with closing(Keyring(directory / FILE_NAME)) as keyring:
        for days, old in enumerate(olds):
            keyring.remember(*PLACE, old, now() - dt.timedelta(days=days), how=How.PKIX)
    target, _ = judged(directory, KEYRING, wrong)
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    begin = facts_of(olds[0]).fingerprint[:9]
    assert f"the 2 in the keyring (the latest {begin}…, last" in decision.kept.text
    assert "whether its certificate has changed; only then approve the id" in decision.remedy


def test_a_revoked_one_is_not_to_be_approved_lightly(directory: Path, good: Evidence) -> None:
    prepared(directory, revoked, good, good)
    target, _ = judged(directory, KEYRING, good)
    decision = target.addresses[0].decision
    assert decision is not None
    assert decision.kept is not None
    assert decision.remedy == (
        "you have revoked it: ask the operator for the server's new certificate; "
        f'"bascule keyring approve {decision.kept.id}" only if revoking was a mistake'
    )
