"""What operators are shown of alerts: so much that all of it fits one answer."""

from typing import Any

import pytest

from proxy.daemon.alerting.alerting import RECENT
from proxy.daemon.alerting.events import Events
from proxy.daemon.control.protocol import LONGEST_ANSWER, item_line
from proxy.daemon.monitoring import LONGEST_ALERT, Monitored
from tests.daemon.alerting.made import Times, alert


def monitored(text: str, count: int = 1) -> Monitored:
    """A service that has told of so many alerts of that text."""
    times = Times()
    events = Events(86_400, times.clock, times.monotonic)
    for number in range(count):
        events.meet(alert(f"unknown/{number}", text=text))
    absent: Any = None
    return Monitored(absent, (), lambda: events.recent(count), absent, absent)


def test_an_alert_is_shown_whole() -> None:
    (row,) = monitored("do this now").alerts()
    assert (row.severity, row.text, row.count) == ("warning", "do this now", 1)
    (row,) = monitored("x" * LONGEST_ALERT).alerts()
    assert row.text == "x" * LONGEST_ALERT


@pytest.mark.parametrize(("character", "octets"), [("x", 1), ('"', 2), ("é", 6), ("😀", 12)])
def test_a_long_one_is_cut_by_what_it_takes_in_an_answer(character: str, octets: int) -> None:
    (row,) = monitored("id: abcd1234; " + character * 4_000).alerts()
    assert row.text.startswith("id: abcd1234; " + character)
    assert row.text.endswith(character + "…")
    assert 0 <= LONGEST_ALERT - len("id: abcd1234; ") - octets * row.text.count(character) < octets


def test_as_many_as_are_shown_fit_one_answer() -> None:
    rows = monitored("😀" * 4_000, 2 * RECENT).alerts()
    assert sum(len(item_line(row)) for row in rows) < LONGEST_ANSWER / 2
