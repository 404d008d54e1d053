"""An alert as it is written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.daemon.alerting.told import DOMAINS_SHOWN, LONGEST, MOST_DOMAINS, Others, Told
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


def others(**numbers: dict[str, int]) -> Others:
    """So many of each kind, about each domain."""
    counted = Others()
    for kind, domains in numbers.items():
        for domain, number in domains.items():
            for _ in range(number):
                counted.add(kind, domain)
    return counted


def test_a_sum_says_how_many_of_what() -> None:
    one = Told.summing_up(Severity.CRITICAL, others(change={"": 1}), NOON)
    assert one.text.startswith("1 more alert within an hour")
    assert "about" not in one.text
    assert one.fields == {"change": "1"}
    numbers = {"a.example": 1, "b.example": 1}
    many = Told.summing_up(Severity.WARNING, others(unknown=numbers, expiry={"b.example": 3}), NOON)
    assert "5 more alerts within an hour" in many.text
    assert "(3 of expiry, 2 of unknown)" in many.text
    assert "about b.example, a.example;" in many.text
    assert json.loads(many.json())["count"] == 5
    assert many.fields == {"unknown": "2", "expiry": "3", "domains": "b.example, a.example"}


def test_a_sum_names_so_many_domains() -> None:
    numbers = {f"d{number}.example": 1 for number in range(MOST_DOMAINS + 5)}
    counted = others(unknown=numbers | {"d3.example": 2})
    assert len(counted.domains) == MOST_DOMAINS
    assert counted.kinds == {"unknown": MOST_DOMAINS + 6}
    text = Told.summing_up(Severity.WARNING, counted, NOON).text
    assert "about d3.example, d0.example, d1.example, d2.example, d4.example, " in text
    assert f", d9.example and {MOST_DOMAINS - DOMAINS_SHOWN} more;" in text
