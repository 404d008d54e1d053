"""From an alert to the log and the hooks, under floods too."""

import re
from typing import Any

import attrs
import pytest

from proxy.daemon.alerting import alerting
from proxy.daemon.alerting.alerting import (
    LOGGED_OF_ONE,
    LOGGED_PER_HOUR,
    RECENT,
    TOLD_OF_ONE,
    Alerting,
)
from proxy.daemon.alerting.allowance import WINDOW
from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.alerting.told import MORE, Told
from proxy.trust.keyring.alerts import Alert, Kind, Severity
from tests.daemon.alerting.made import Times, alert, memory_log, nowhere


@attrs.define
class Heard:
    """A hook that takes down what it is told."""

    told: list[Told] = attrs.field(factory=list)
    stopped: bool = False

    def tell(self, told: Told) -> None:
        self.told.append(told)

    def stop(self) -> None:
        self.stopped = True


class Setting:
    """An alerting of which the hook and the clocks are made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.times = Times()
        self.heard = Heard()
        log, self._stream = memory_log()
        monkeypatch.setattr(alerting, "Hook", lambda *_: self.heard)
        self.alerting = Alerting(
            AlertsTable(command=("/bin/notify",), **options),
            log,
            self.times.reactor,
            nowhere,
            clock=self.times.clock,
            monotonic=self.times.monotonic,
        )

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def critical(key: str = "change/x", domain: str = "example.net") -> Alert:
    return alert(key, kind=Kind.CHANGE, severity=Severity.CRITICAL, domain=domain)


def strangers(number: int) -> Alert:
    """Return one of many alerts, each about a domain of another owner."""
    return alert(f"unknown/{number}", domain=f"d{number}.test")


def test_an_alert_is_one_line_of_its_severity_with_its_fields(setting: Setting) -> None:
    setting.alerting.tell(alert(text="do this now", id="a1", subject="CN=x\ny"))
    assert setting.lines == [
        '<4>do this now alert=unknown domain=example.net stream=s2s id=a1 subject="CN=x\\ny"'
    ]
    assert [told.text for told in setting.heard.told] == ["do this now"]


@pytest.mark.parametrize(
    ("severity", "priority"),
    [(Severity.NOTICE, 6), (Severity.WARNING, 4), (Severity.CRITICAL, 2)],
)
def test_the_journal_gets_the_severity(setting: Setting, severity: Severity, priority: int) -> None:
    setting.alerting.tell(alert(severity=severity))
    assert setting.lines[0].startswith(f"<{priority}>something is wrong ")


def test_what_to_do_is_not_cut_off_the_line(setting: Setting) -> None:
    setting.alerting.tell(alert(text="x" * 2_000 + " approve a1"))
    assert " approve a1 alert=unknown " in setting.lines[0]


def test_retries_are_counted_and_not_told(setting: Setting) -> None:
    for _ in range(500):
        setting.alerting.tell(alert())
    assert len(setting.lines) == len(setting.heard.told) == 1
    [met] = setting.alerting.recent()
    assert met.count == 500
    assert setting.alerting.met == {("unknown", "warning"): 500}
    assert setting.alerting.told == {("unknown", "warning"): 1}


def test_an_event_that_goes_on_is_told_again_with_its_count(setting: Setting) -> None:
    for _ in range(3):
        setting.alerting.tell(alert())
    setting.times.advance(86_400)
    setting.alerting.tell(alert())
    assert setting.lines[1].endswith(" count=3")
    assert [told.count for told in setting.heard.told] == [1, 3]


def test_a_flood_of_events_reaches_nobody_but_as_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = Setting(monkeypatch, per_hour=5)
    for number in range(100):
        setting.alerting.tell(strangers(number))
    assert len(setting.heard.told) == 5
    assert len(setting.lines) == 100
    setting.times.advance(WINDOW)
    last = setting.heard.told[-1]
    assert len(setting.heard.told) == 6
    assert (last.kind, last.count, last.fields) == (
        MORE,
        95,
        {"unknown": "95", "domains": last.fields["domains"]},
    )
    assert last.fields["domains"].startswith("d5.test, d6.test, ")
    assert last.text.startswith("95 more alerts within an hour, too many to be told one by one")


def test_a_flood_of_others_does_not_displace_what_is_critical(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = Setting(monkeypatch, per_hour=5)
    setting.alerting.tell(critical("change/early"))
    for number in range(3_000):
        setting.alerting.tell(strangers(number))
    setting.alerting.tell(critical("change/early"))
    setting.alerting.tell(critical("change/late"))
    told = [each.kind for each in setting.heard.told]
    assert (told.count("change"), told.count("unknown")) == (2, 5)
    assert len([line for line in setting.lines if line.startswith("<2>")]) == 2
    shown = [met.alert.key for met in setting.alerting.recent()]
    assert {"change/early", "change/late"} < {*shown}
    assert len(shown) == RECENT + 2


def test_the_log_is_bounded_too(setting: Setting) -> None:
    for number in range(LOGGED_PER_HOUR + 30):
        setting.alerting.tell(strangers(number))
    assert len(setting.lines) == LOGGED_PER_HOUR
    setting.times.advance(WINDOW)
    expected = "<4>more alerts within an hour than are logged one by one alert=more unknown=30 "
    assert len(setting.lines) == LOGGED_PER_HOUR + 1
    assert setting.lines[-1].startswith(expected + 'domains="d1000.test, d1001.test, ')


def test_one_stranger_does_not_hide_an_attack_on_another_domain(setting: Setting) -> None:
    for number in range(2 * LOGGED_PER_HOUR):
        setting.alerting.tell(critical(f"change/{number}", "evil.test"))
    setting.alerting.tell(critical("change/victim", "victim.test"))
    assert len(setting.heard.told) == TOLD_OF_ONE + 1
    assert len(setting.lines) == LOGGED_OF_ONE + 1
    assert setting.heard.told[-1].domain == "victim.test"
    assert "domain=victim.test" in setting.lines[-1]
    setting.times.advance(WINDOW)
    assert " about evil.test;" in setting.heard.told[-1].text


def test_whoever_tells_of_an_alert_never_fails(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_heard: Heard, _told: Told) -> None:
        raise RuntimeError("broken\nhook")

    monkeypatch.setattr(Heard, "tell", broken)
    setting.alerting.tell(alert())
    assert setting.lines[1:] == [
        '<3>an alert could not be told error="RuntimeError: broken\\nhook" alert=unknown'
    ]


def test_stopping_logs_what_was_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(monkeypatch, per_hour=1)
    for number in range(3):
        setting.alerting.tell(alert(f"unknown/{number}"))
    setting.alerting.stop()
    assert setting.heard.stopped
    assert len(setting.heard.told) == 1
    assert re.search("<4>alerts were not passed on.* unknown=2", setting.lines[-1])
    assert not setting.times.reactor.getDelayedCalls()


def test_without_hooks_and_without_a_log_alerts_are_still_kept() -> None:
    times = Times()
    quiet = Alerting(
        AlertsTable(), None, times.reactor, nowhere, clock=times.clock, monotonic=times.monotonic
    )
    for number in range(50):
        quiet.tell(critical(f"change/{number}"))
    assert len(quiet.recent()) == 50
    assert not times.reactor.getDelayedCalls()
