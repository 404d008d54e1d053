"""What a daemon tells of itself: the values, on their way, and in words."""

import json

import attrs
import pytest

from proxy.daemon.control.decoding import decoded
from proxy.daemon.control.facts import SessionFacts, State, Status, state_of
from proxy.daemon.control.protocol import NotUnderstoodError
from proxy.daemon.control.shown import counted, duration, octets
from proxy.session.hooks import View
from proxy.session.kinds import Kind
from tests.daemon.control.fakes import STATUS, between_servers, session, view


def test_the_facts_of_a_session_between_servers() -> None:
    facts = between_servers()
    assert (facts.direction, facts.stream, facts.state) == ("forward", "s2s", "negotiating")
    assert (facts.origin, facts.domain) == ("example.com", "example.net")
    assert (facts.client, facts.server) == ("[2001:db8::7]:40123", None)
    assert facts.client_tls is None
    assert facts.server_tls is not None
    assert facts.server_tls.start == "starttls"
    assert facts.server_identity == "DNS-ID example.net"


@pytest.mark.parametrize(
    ("seen", "joined", "over", "state"),
    [
        (view(), False, False, State.NEGOTIATING),
        (view(authenticated=True), False, False, State.AUTHENTICATED),
        (view(kind=Kind.S2S, authenticated=True), False, False, State.NEGOTIATING),
        (view(kind=Kind.S2S, proof="dialback"), False, False, State.AUTHENTICATED),
        (view(authenticated=True), True, False, State.JOINED),
        (view(authenticated=True), False, True, State.ENDING),
    ],
)
def test_how_far_a_session_has_come(seen: View, joined: bool, over: bool, state: State) -> None:
    assert state_of(seen, joined=joined, over=over) is state
    waiting = state if joined or over else State.WAITING
    assert state_of(seen, joined=joined, over=over, waiting=True) is waiting


@pytest.mark.parametrize("value", [STATUS, session(), between_servers()])
def test_values_survive_the_way(value: Status | SessionFacts) -> None:
    assert decoded(type(value), json.loads(json.dumps(attrs.asdict(value)))) == value


def test_a_later_version_may_say_more_and_an_older_one_less() -> None:
    structure = json.loads(json.dumps(attrs.asdict(STATUS))) | {"weather": "fine"}
    structure["listeners"] = []
    del structure["alerts"]
    assert decoded(Status, structure) == attrs.evolve(STATUS, listeners=(), alerts=())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", True),
        ("pid", 7.5),
        ("pid", None),
        ("version", 1),
        ("pending", "2"),
        ("seconds", "long"),
        ("sessions", {"joined": "2"}),
        ("sessions", [2]),
        ("listeners", {}),
        ("listeners", [7]),
        ("listeners", [{}]),
    ],
)
def test_what_is_no_status_is_none(name: str, value: object) -> None:
    with pytest.raises(NotUnderstoodError):
        decoded(Status, {**json.loads(json.dumps(attrs.asdict(STATUS))), name: value})


def test_a_whole_number_may_stand_for_any_number() -> None:
    structure = json.loads(json.dumps(attrs.asdict(STATUS))) | {"seconds": 7}
    seconds = decoded(Status, structure).seconds
    assert (seconds, type(seconds)) == (7.0, float)


def test_numbers_in_words() -> None:
    assert [duration(each) for each in (0, 59.9, 60, 3_599, 3_600, 86_399, 86_400, 200_000)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "23 h 59 min",
        "1 d 0 h",
        "2 d 7 h",
    ]
    assert [octets(each) for each in (0, 999, 1_000, 1_500_000, 2_000_000_000, 4e13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "40000.0 GB",
    ]


def test_sessions_are_counted_by_how_far_they_have_come() -> None:
    assert counted({}) == "0"
    assert counted({"joined": 2, "negotiating": 1, "divided": 0}) == "3: 1 negotiating, 2 joined"
    assert counted({"asleep": 1, "joined": 1}) == "2: 1 joined, 1 asleep"
