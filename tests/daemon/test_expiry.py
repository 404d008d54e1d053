"""proxy.daemon.expiry: warnings before certificates end, and when."""

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from proxy.daemon import expiry
from proxy.daemon.conf import load
from proxy.daemon.expiry import INTERVAL, ExpiryWatch, each, served
from proxy.daemon.model import Conf
from proxy.trust.keyring import watch
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.facts import facts_of
from proxy.trust.keyring.store import Keyring
from tests.authority import Authority
from tests.daemon.conf_fakes import PLUGINS
from tests.trust.showing import DAY, NAME, NOW, chain_of, issued

DOMAIN = "example.com"
SECOND = dt.timedelta(seconds=1)


def conf_of(directory: Path, pairs: list[tuple[Path, Path]]) -> Conf:
    """A conf whose domain has these certificates."""
    certificates = ", ".join(f'"{path}"' for path, _ in pairs)
    keys = ", ".join(f'"{path}"' for _, path in pairs)
    file = directory / "bascule.toml"
    file.write_text(
        f"""
        [[domain]]
        name = "{DOMAIN}"
        certificate = [{certificates}]
        private_key = [{keys}]
        c2s_server = "127.0.0.1:9"
        [[listener]]
        name = "c2s"
        direction = "reverse"
        stream = "c2s"
        address = "127.0.0.1:0"
        """
    )
    found = load(file, PLUGINS)
    assert found.conf is not None, found.mistakes
    return found.conf


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Keyring]:
    with closing(Keyring(tmp_path / FILE_NAME)) as opened:
        yield opened


def all_of(conf: Conf, keyring: Keyring | None, now: dt.datetime) -> list[Alert]:
    return [alert for told in each(conf, keyring, now) for alert in told]


@pytest.mark.parametrize(
    ("left", "warned"),
    [
        (21 * DAY + SECOND, None),
        (21 * DAY, "21"),
        (7 * DAY + SECOND, "21"),
        (7 * DAY, "7"),
        (DAY + SECOND, "7"),
        (DAY, "1"),
        (dt.timedelta(), "1"),
        (-SECOND, "0"),
        (-400 * DAY, "0"),
    ],
)
def test_warnings_before_the_end_and_after(
    authority: Authority, left: dt.timedelta, warned: str | None
) -> None:
    path, _ = authority.issue(DOMAIN, not_after=NOW + DAY)
    end = facts_of(chain_of(path)[0]).not_after
    told = served(DOMAIN, path, end - left)
    assert [alert.fields["days"] for alert in told] == ([] if warned is None else [warned])


def test_what_a_warning_says(authority: Authority) -> None:
    path, _ = authority.issue(DOMAIN, not_after=NOW + 6 * DAY)
    facts = facts_of(chain_of(path)[0])
    (told,) = served(DOMAIN, path, NOW)
    assert (told.kind, told.severity) == (Kind.EXPIRY, Severity.WARNING)
    assert (told.domain, told.stream) == (DOMAIN, "")
    assert f"{path}, expires on {facts.not_after:%Y-%m-%d}, in 6 days. " in told.text
    for part in (facts.subject, facts.issuer, facts.fingerprint):
        assert part in told.text
    assert told.fields["fingerprint"] == facts.fingerprint
    (ended,) = served(DOMAIN, path, NOW + 7 * DAY)
    assert f"{path}, EXPIRED on {facts.not_after:%Y-%m-%d}: " in ended.text


def test_one_event_for_each_number_of_days(authority: Authority) -> None:
    path, _ = authority.issue(DOMAIN, not_after=NOW + 30 * DAY)
    asked = [NOW + hours * dt.timedelta(hours=6) for hours in range(4 * 33)]
    keys = {alert.key for now in asked for alert in served(DOMAIN, path, now)}
    assert len(keys) == 4
    assert {alert.key for alert in served("example.org", path, asked[-1])}.isdisjoint(keys)


def test_the_rest_of_the_chain_is_served_too(tmp_path: Path, authority: Authority) -> None:
    soon = (NOW - DAY, NOW + 3 * DAY)
    middle = Authority(tmp_path / "middle", name="middle", parent=authority, life=soon)
    path, _ = middle.issue(DOMAIN)
    (told,) = served(DOMAIN, path, NOW)
    assert told.fields["file"] == f"certificate 2 of {path}"


def test_every_certificate_of_every_domain(tmp_path: Path, authority: Authority) -> None:
    pairs = [authority.issue(DOMAIN, key=key, not_after=NOW + DAY) for key in ("ec", "rsa")]
    told = all_of(conf_of(tmp_path, pairs), None, NOW)
    assert [alert.fields["file"] for alert in told] == [str(path) for path, _ in pairs]
    assert len({alert.key for alert in told}) == 2


def test_a_file_that_cannot_be_read(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue(DOMAIN, not_after=NOW + DAY)
    other = authority.issue(DOMAIN, key="rsa", not_after=NOW + DAY)
    conf = conf_of(tmp_path, [pair, other])
    pair[0].write_text("nothing")
    first, second = all_of(conf, None, NOW)
    assert str(pair[0]) in first.text
    assert first.kind is Kind.EXPIRY
    assert second.fields["days"] == "1"


def test_what_is_remembered_is_warned_of_once_whatever_the_steps(
    tmp_path: Path, authority: Authority, keyring: Keyring
) -> None:
    step = expiry.STEP
    offsets = [SECOND, step - SECOND, step, step + SECOND, 20 * DAY, 21 * DAY, 21 * DAY + SECOND]
    for number, offset in enumerate(offsets):
        der = issued(authority, not_after=NOW + offset)[0]
        keyring.remember(f"{number}.example", "s2s", der, NOW, how=How.PKIX)
    conf = conf_of(tmp_path, [authority.issue(DOMAIN)])
    now = NOW + dt.timedelta(microseconds=1)
    told = all_of(conf, keyring, now)
    assert sorted(alert.domain for alert in told) == [f"{number}.example" for number in range(6)]
    assert {alert.key for alert in told} == {alert.key for alert in watch.endings(keyring, now)}


def test_a_keyring_that_cannot_be_asked_is_asked_no_more(
    tmp_path: Path, authority: Authority, keyring: Keyring
) -> None:
    keyring._file.path.unlink()
    (told,) = all_of(conf_of(tmp_path, [authority.issue(DOMAIN)]), keyring, NOW)
    assert told.kind is Kind.FAULT


class Turns(Clock):
    """A clock that calls no more in one turn than what was due when it began, as reactors do."""

    def turn(self) -> bool:
        """Whether anything was due."""
        due = [call for call in self.calls if call.getTime() <= self.rightNow]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        return bool(due)


class Watched:
    """A watch with a clock that is turned by hand."""

    def __init__(self, conf: Conf, keyring: Keyring | None) -> None:
        self.clock = Turns()
        self.told: list[Alert] = []
        self.watch = ExpiryWatch(conf, keyring, self.clock, self._tell, self._present)
        self.fails = False

    def _present(self) -> dt.datetime:
        return NOW + dt.timedelta(seconds=self.clock.seconds())

    def _tell(self, alert: Alert) -> None:
        self.told.append(alert)
        if self.fails:
            raise RuntimeError("no")

    def until_idle(self) -> int:
        """Do what is to be done now; returns in how many turns."""
        turns = 0
        while self.clock.turn():
            turns += 1
        return turns


@pytest.fixture
def watched(tmp_path: Path, authority: Authority, keyring: Keyring) -> Watched:
    keyring.remember(NAME, "s2s", issued(authority, not_after=NOW + 7 * DAY)[0], NOW, how=How.PKIX)
    return Watched(conf_of(tmp_path, [authority.issue(DOMAIN, not_after=NOW + DAY)]), keyring)


def test_at_the_start_and_every_few_hours(watched: Watched) -> None:
    watched.watch.start()
    assert watched.told == [], "not before the reactor has time"
    watched.until_idle()
    assert [alert.domain for alert in watched.told] == [DOMAIN, NAME]
    watched.clock.pump([INTERVAL])
    watched.until_idle()
    assert [alert.domain for alert in watched.told] == [DOMAIN, NAME] * 2
    assert len({alert.key for alert in watched.told}) == 2
    watched.watch.stop()
    assert not watched.clock.getDelayedCalls()


def test_others_get_their_turn(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "SLICE", 0)
    watched.watch.start()
    assert watched.until_idle() > 21 * DAY / expiry.STEP
    assert [alert.domain for alert in watched.told] == [DOMAIN, NAME]


def test_stopped_halfway(watched: Watched, keyring: Keyring) -> None:
    watched.watch.start()
    watched.clock.turn()
    watched.watch.stop()
    keyring.close()
    watched.clock.advance(INTERVAL * 2)
    assert [alert.domain for alert in watched.told] == [DOMAIN]


def test_who_is_told_may_fail(watched: Watched) -> None:
    watched.fails = True
    watched.watch.start()
    with pytest.raises(RuntimeError):
        watched.clock.turn()
    watched.fails = False
    watched.until_idle()
    assert [alert.domain for alert in watched.told] == [DOMAIN, NAME]


def test_what_nobody_expects_ends_one_round_only(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(expiry, "served", fail)
        watched.watch.start()
        with pytest.raises(RuntimeError):
            watched.clock.turn()
    watched.clock.pump([INTERVAL])
    watched.until_idle()
    assert [alert.domain for alert in watched.told] == [DOMAIN, NAME]
