"""Limits: connections and handshakes by address, and what is announced of sizes (XEP-0478)."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins import limits
from plugins.limits import Limits, LimitsConfig
from proxy.session.hooks import (
    Bounds,
    ClientHello,
    Condition,
    Continue,
    Kind,
    LocalCounts,
    Reject,
    Replace,
    Verdict,
)
from proxy.xmpp import namespaces as ns
from tests.plugins.views import features, view
from tests.xmpp.streams import HEADER, read

HELLO = ClientHello(server_name=None, protocols=(), direct=True)


@attrs.define
class Clock:
    """A clock that stands still until it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def plugin(clock: Clock | None = None, **config: int) -> Limits:
    return Limits(LimitsConfig(**config), clock=clock or Clock())


def condition(verdict: Verdict) -> Condition | None:
    """Why a verdict refuses; None if it does not."""
    if isinstance(verdict, Reject):
        return verdict.condition
    assert verdict == Continue()
    return None


def test_the_core_is_told_the_bounds_of_the_conf() -> None:
    made = plugin(stanza_bytes=20_000, unauthenticated_bytes=15_000, unauthenticated_elements=9)
    assert made.bounds() == Bounds(20_000, 15_000, 9)


# Connections


def connect(made: Limits, *hosts: str) -> list[Condition | None]:
    """Connect from each of these addresses; session ids count up."""
    return [
        condition(made.on_client_connected(view(host, session_id=str(number))))
        for number, host in enumerate(hosts)
    ]


FULL = Condition.RESOURCE_CONSTRAINT


@pytest.mark.parametrize(
    ("hosts", "verdicts"),
    [
        (["192.0.2.1"] * 3, [None, None, FULL]),
        (["192.0.2.1", "192.0.2.1", "192.0.2.2"], [None, None, None]),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"], [None, None, FULL]),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], [None, None, None]),
        (["::ffff:192.0.2.1", "192.0.2.1", "::ffff:c000:201"], [None, None, FULL]),
        (["::ffff:192.0.2.1", "::ffff:192.0.2.2", "::ffff:192.0.2.3"], [None, None, None]),
        (["fe80::1%eth0", "fe80::2%eth1", "fe80::3"], [None, None, FULL]),
    ],
)
def test_connections_count_by_address(hosts: list[str], verdicts: list[Condition | None]) -> None:
    assert connect(plugin(connections_per_address=2), *hosts) == verdicts


def test_a_connection_that_ends_makes_room() -> None:
    made = plugin(connections_per_address=1)
    assert connect(made, "192.0.2.1") == [None]
    made.on_session_closed(view("192.0.2.1", session_id="0"))
    assert connect(made, "192.0.2.1") == [None]


def test_a_refused_connection_does_not_count() -> None:
    made = plugin(connections_per_address=1)
    assert connect(made, "192.0.2.1", "192.0.2.1") == [None, FULL]
    made.on_session_closed(view("192.0.2.1", session_id="1"))
    assert connect(made, "192.0.2.1") == [FULL]


def test_a_session_that_ends_twice_counts_once() -> None:
    made = plugin(connections_per_address=2)
    connect(made, "192.0.2.1", "192.0.2.1")
    for _ in range(2):
        made.on_session_closed(view("192.0.2.1", session_id="0"))
    again = [made.on_client_connected(view("192.0.2.1", session_id=one)) for one in "xy"]
    assert list(map(condition, again)) == [None, FULL]


def test_no_limit_on_connections() -> None:
    made = plugin(connections_per_address=0)
    assert set(connect(made, *["192.0.2.1"] * 500)) == {None}
    made.on_session_closed(view(session_id="0"))


@pytest.mark.parametrize(
    ("kind", "outward", "last"),
    [
        (Kind.S2S, True, None),
        (Kind.S2S, False, FULL),
        (Kind.C2S, True, FULL),
    ],
)
def test_a_server_of_ours_may_reach_many_domains(
    kind: Kind, *, outward: bool, last: Condition | None
) -> None:
    made = plugin(connections_per_address=1)
    one, other = (
        attrs.evolve(view("127.0.0.1", session_id=number), kind=kind, outward=outward)
        for number in "12"
    )
    assert condition(made.on_client_connected(one)) is None
    assert condition(made.on_client_connected(other)) is last


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:192.0.2.1"]),
            st.integers(0, 20),
        )
    )
)
def test_what_is_counted_is_what_is_open_and_nothing_is_left_behind(
    events: list[tuple[str, int]],
) -> None:
    made, counts = plugin(connections_per_address=3), LocalCounts()
    made.share(counts)
    there: dict[str, str] = {}
    for number, (host, old) in enumerate(events):
        made.on_session_closed(view(session_id=str(old)))
        there.pop(str(old), None)
        network = host.removeprefix("::ffff:")
        verdict = condition(made.on_client_connected(view(host, session_id=str(number))))
        assert (verdict is FULL) == (list(there.values()).count(network) >= 3)
        if verdict is None:
            there[str(number)] = network
    for session_id in list(there):
        made.on_session_closed(view(session_id=session_id))
    assert (len(counts), made._sessions) == (0, {})


# Handshakes


def shake(made: Limits, host: str = "192.0.2.1") -> Condition | None:
    return condition(made.on_client_hello(view(host), HELLO))


REFUSED = Condition.POLICY_VIOLATION


def test_handshakes_of_the_last_minute_count() -> None:
    clock = Clock()
    made = plugin(clock, handshakes_per_minute=6)
    assert [shake(made) for _ in range(7)] == [None] * 6 + [REFUSED]
    clock.now += 60
    assert shake(made) is REFUSED  # all that was in these ten seconds may have been at their end
    clock.now += 4.9
    assert [shake(made) for _ in range(3)] == [None, None, REFUSED]
    clock.now += 0.2
    assert [shake(made), shake(made)] == [None, REFUSED]
    clock.now += 5
    assert [shake(made) for _ in range(4)] == [None] * 3 + [REFUSED]


@pytest.mark.parametrize("offset", [0.0, 0.5, 9.9])
def test_a_steady_pace_is_never_refused(offset: float) -> None:
    clock = Clock(1000.0 + offset)
    made = plugin(clock, handshakes_per_minute=60)
    for _ in range(600):
        assert shake(made) is None
        clock.now += 1.02


@given(st.lists(st.tuples(st.floats(0, 15), st.integers(1, 9)), max_size=60))
def test_no_six_slices_have_more_than_the_limit(events: list[tuple[float, int]]) -> None:
    clock, begun = Clock(), list[int]()
    made = plugin(clock, handshakes_per_minute=5)
    for pause, times in events:
        clock.now += pause
        begun += [int(clock.now / 10) for _ in range(times) if shake(made) is None]
        assert sum(each > clock.now / 10 - 6 for each in begun) <= 5


def test_the_allowance_never_grows_beyond_a_minutes() -> None:
    clock = Clock()
    made = plugin(clock, handshakes_per_minute=2)
    assert shake(made) is None
    clock.now += 100_000
    assert [shake(made) for _ in range(3)] == [None, None, REFUSED]


def test_those_who_were_refused_lose_nothing_by_asking() -> None:
    clock = Clock()
    made = plugin(clock, handshakes_per_minute=1)
    assert shake(made) is None
    for _ in range(69):
        clock.now += 1
        assert shake(made) is REFUSED
    clock.now += 1.01
    assert shake(made) is None


def test_handshakes_count_by_address() -> None:
    made = plugin(handshakes_per_minute=1)
    hosts = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    assert [shake(made, host) is None for host in hosts] == [True, False, True, True, False]


def test_no_limit_on_handshakes() -> None:
    made = plugin(handshakes_per_minute=0)
    assert {shake(made) for _ in range(1000)} == {None}
    assert not made._handshakes


def test_what_is_remembered_of_handshakes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_SLICES", 10)
    made, counts = plugin(handshakes_per_minute=1), LocalCounts()
    made.share(counts)
    for last in range(50):
        shake(made, f"192.0.2.{last}")
    assert len(made._handshakes) == len(counts) == 10
    assert shake(made, "192.0.2.49") is REFUSED
    assert shake(made, "192.0.2.1") is None  # forgotten


def test_old_handshakes_are_removed_a_few_at_a_time() -> None:
    clock, counts = Clock(), LocalCounts()
    made = plugin(clock, handshakes_per_minute=5)
    made.share(counts)
    for last in range(20):
        shake(made, f"192.0.2.{last}")
    clock.now += 69
    shake(made)
    assert len(counts) == 21  # of the first ten seconds one is left
    clock.now += 1
    shake(made)
    assert len(counts) == 18
    for last in range(10):
        made.on_session_closed(view(session_id=str(last)))
    assert len(counts) == 2


def test_the_clock_of_a_plugin_made_without_one_goes_on() -> None:
    made = Limits(LimitsConfig(handshakes_per_minute=1))
    assert [shake(made), shake(made)] == [None, REFUSED]


# Sizes announced


def own(size: int) -> str:
    return f"<max-bytes xmlns='{ns.STREAM_LIMITS}'>{size}</max-bytes>"


def announced(inside: str, *, authenticated: bool) -> str:
    made = plugin(stanza_bytes=200_000, unauthenticated_bytes=50_000)
    offered = features(inside)
    match made.on_features(view(secured=True, authenticated=authenticated), offered):
        case Continue():
            raw = offered.raw
        case Replace(raw):
            assert raw != offered.raw
        case verdict:
            pytest.fail(f"{verdict}")
    return raw.decode().removeprefix("<stream:features>").removesuffix("</stream:features>")


BIND = f"<bind  xmlns='{ns.BIND}' />"
START = f"<limits xmlns='{ns.STREAM_LIMITS}'>"
whenever = pytest.mark.parametrize(
    ("authenticated", "ours"), [(False, 50_000), (True, 200_000)], ids=["before", "after"]
)


@whenever
@pytest.mark.parametrize("inside", ["", BIND, f"\n {BIND}\n"])
def test_a_limit_is_announced_where_there_is_none(
    inside: str, authenticated: bool, ours: int
) -> None:
    whole = f"{inside}{START}{own(ours)}</limits>"
    assert announced(inside, authenticated=authenticated) == whole


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize(
    ("kind", "ours"), [(Kind.C2S, 50_000), (Kind.S2S, 200_000), (Kind.COMPONENT, 50_000)]
)
def test_servers_are_told_what_holds_later(kind: Kind, ours: int, authenticated: bool) -> None:
    """They are sent no features once a domain is proved."""
    made = plugin(stanza_bytes=200_000, unauthenticated_bytes=50_000)
    shown = attrs.evolve(view(secured=True, authenticated=authenticated), kind=kind)
    assert made.on_features(shown, features("")) == Replace(
        f"<stream:features>{START}{own(200_000 if authenticated else ours)}</limits>"
        "</stream:features>".encode()
    )


@whenever
def test_a_limit_is_announced_in_features_without_any(authenticated: bool, ours: int) -> None:
    (offered,) = read([HEADER + b"<stream:features/>"]).elements
    made = plugin(stanza_bytes=200_000, unauthenticated_bytes=50_000)
    assert made.on_features(view(authenticated=authenticated), offered) == Replace(
        f"<stream:features>{START}{own(ours)}</limits></stream:features>".encode()
    )


@whenever
@pytest.mark.parametrize("more", [1, 5_000_000])
def test_a_higher_limit_is_lowered(more: int, authenticated: bool, ours: int) -> None:
    said = f"{BIND}{START}\n<max-bytes>{ours + more}</max-bytes><idle-seconds>9</idle-seconds>"
    assert announced(said + "</limits>", authenticated=authenticated) == (
        f"{BIND}{START}\n{own(ours)}<idle-seconds>9</idle-seconds></limits>"
    )


@whenever
@pytest.mark.parametrize("less", [0, 1, 40_000])
def test_a_limit_that_is_not_higher_stays(less: int, authenticated: bool, ours: int) -> None:
    said = f"{START}<max-bytes> {ours - less}\n</max-bytes></limits>{BIND}"
    assert announced(said, authenticated=authenticated) == said


@whenever
@pytest.mark.parametrize("number", ["", "many", "-5", "1e3", "٣", "9" * 30])
def test_what_is_no_number_limits_nothing(number: str, authenticated: bool, ours: int) -> None:
    said = f"{START}<max-bytes>{number}</max-bytes></limits>"
    assert announced(said, authenticated=authenticated) == f"{START}{own(ours)}</limits>"


@whenever
@pytest.mark.parametrize(
    ("said", "start", "end"),
    [
        (f"{START}<idle-seconds>9</idle-seconds></limits>", f"{START}<idle-seconds>9", "</limits>"),
        (f"{START}</limits>", START, "</limits>"),
        (f"<limits xmlns='{ns.STREAM_LIMITS}'/>", START, "</limits>"),
        (f"<l:limits xmlns:l='{ns.STREAM_LIMITS}' />", "<l:limits xmlns:l=", "</l:limits>"),
    ],
)
def test_limits_that_say_nothing_of_sizes_are_completed(
    said: str, start: str, end: str, authenticated: bool, ours: int
) -> None:
    whole = announced(f"{said}{BIND}", authenticated=authenticated)
    assert whole.startswith(start)
    assert whole.endswith(f"{own(ours)}{end}{BIND}")
