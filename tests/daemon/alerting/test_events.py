"""What is one event, and when it is told of."""

from proxy.daemon.alerting.events import MOST, Events
from proxy.daemon.alerting.told import LONGEST
from tests.daemon.alerting.made import NOON, Times, alert

DAY = 86_400.0


def events(times: Times, repeat: float = DAY) -> Events:
    return Events(repeat, times.clock, times.monotonic)


def test_an_event_is_told_once_however_often_it_is_met() -> None:
    times = Times()
    known = events(times)
    first = known.meet(alert())
    assert first is not None
    assert first.count == 1
    assert first.time.timestamp() == NOON
    for _ in range(1000):
        times.advance(1)
        assert known.meet(alert()) is None
    [met] = known.recent(9)
    assert met.count == 1001
    assert (met.first.timestamp(), met.last.timestamp()) == (NOON, NOON + 1000)
    assert met.told == met.first


def test_other_keys_are_other_events() -> None:
    known = events(Times())
    assert [known.meet(alert(key)) is not None for key in "abab"] == [True, True, False, False]


def test_an_event_that_goes_on_is_told_again_with_how_often_it_was_met() -> None:
    times = Times()
    known = events(times)
    known.meet(alert())
    for _ in range(4):
        times.advance(DAY / 5)
        assert known.meet(alert()) is None
    times.advance(DAY / 5)
    again = known.meet(alert(text="it is still so"))
    assert again is not None
    assert (again.count, again.text) == (5, "it is still so")
    times.advance(DAY - 1)
    assert known.meet(alert()) is None
    times.advance(1)
    once_more = known.meet(alert())
    assert once_more is not None
    assert once_more.count == 2


def test_a_time_of_day_that_is_set_back_or_forward_changes_nothing() -> None:
    times = Times()
    known = events(times)
    known.meet(alert())
    for set_by in (-40 * DAY, 40 * DAY):
        times.set_by = set_by
        assert known.meet(alert()) is None
    assert known.recent(9)[0].count == 3
    times.set_by = -40 * DAY
    times.advance(DAY)
    again = known.meet(alert())
    assert again is not None
    assert again.time.timestamp() == NOON - 39 * DAY


def test_a_clock_that_goes_back_against_its_promise_silences_nothing() -> None:
    elapsed = [1000.0]
    known = Events(DAY, lambda: NOON, lambda: elapsed[0])
    known.meet(alert())
    elapsed[0] = 0.0
    assert known.meet(alert()) is not None


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    known = events(Times())
    for number in range(MOST + 1):
        assert known.meet(alert(f"key-{number}")) is not None
    assert len(known.recent(10 * MOST)) == MOST
    assert known.meet(alert("key-1")) is None
    assert known.meet(alert("key-0")) is not None


def test_what_is_kept_of_an_alert_is_cut() -> None:
    known = events(Times())
    for _ in range(2):
        known.meet(alert(text="x" * 10 * LONGEST, names="y" * 10 * LONGEST))
    (met,) = known.recent(1)
    assert met.alert.text == "x" * LONGEST + "…"
    assert met.alert.fields == {"names": "y" * LONGEST + "…"}


def test_recent_events_are_in_the_order_in_which_they_were_told() -> None:
    times = Times()
    known = events(times)
    for key in "abc":
        known.meet(alert(key))
    times.advance(DAY)
    known.meet(alert("a"))
    assert [met.alert.key for met in known.recent(2)] == ["c", "a"]
