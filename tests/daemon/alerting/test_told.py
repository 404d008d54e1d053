"""An alert as it is written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon.alerting.told import LONGEST, Told
from proxy.trust.keyring.alerts import Severity
from tests.daemon.alerting.made import NOON, alert, told


def test_the_json_has_all_there_is_on_one_line() -> None:
    written = told(3).json()
    assert json.loads(written) == {
        "version": 1,
        "time": "2023-11-14T22:13:20Z",
        "kind": "unknown",
        "severity": "warning",
        "domain": "example.net",
        "stream": "s2s",
        "text": "something is wrong",
        "fields": {"id": "a1"},
        "count": 3,
    }


@given(st.text(), st.text())
def test_whatever_is_in_it_the_json_is_one_line_of_ascii(text: str, value: str) -> None:
    written = Told.of(alert(text=text, field=value), NOON, 1).json()
    assert written.isascii()
    assert written.count(b"\n") == 1
    assert json.loads(written)["fields"] == {"field": value}


def test_what_is_long_is_cut() -> None:
    cut = Told.of(alert(text="x" * 10_000, names="y" * 10_000), NOON, 1)
    assert cut.text == "x" * LONGEST + "…"
    assert cut.fields["names"] == "y" * LONGEST + "…"


def test_a_sum_says_how_many_of_what() -> None:
    one = Told.summing_up(Severity.CRITICAL, {"change": 1}, NOON)
    assert one.text.startswith("1 more alert within an hour")
    many = Told.summing_up(Severity.WARNING, {"unknown": 2, "expiry": 3}, NOON)
    assert "5 more alerts within an hour" in many.text
    assert "(3 of expiry, 2 of unknown)" in many.text
    assert json.loads(many.json())["count"] == 5
