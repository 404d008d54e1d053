"""What holds between servers whatever comes, in whatever order, and torn however."""

import re
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.session.commands import Send, Side
from proxy.session.hooks import Continue, Direction, Element, Plugin, Verdict, View
from tests.session.federation import Peers, inbound_session, outbound_session
from tests.session.federation_observers import Event, Inwards, Observer, Outwards
from tests.session.federation_stories import (
    HERE,
    INTO_DIALBACK,
    INTO_EXTERNAL,
    INWARD,
    LIKELY,
    OUT_DIALBACK,
    OUT_EXTERNAL,
    OUT_REFUSED,
    OUT_UNADDRESSED,
    OUTWARD,
    STANZAS,
    THERE,
    calm,
)
from tests.session.federation_words import message
from tests.session.playbook import CLIENT
from tests.xmpp.streams import cut_at


def inwards(events: Iterable[Event], plugins: Sequence[Plugin] = ()) -> Inwards:
    rules = Peers()
    observer = Inwards(rules, inbound_session(rules, plugins=plugins))
    for event in events:
        observer.take(event)
    return observer


def outwards(events: Iterable[Event], plugins: Sequence[Plugin] = ()) -> Outwards:
    rules = Peers()
    observer = Outwards(rules, outbound_session(rules, plugins))
    for event in events:
        observer.take(event)
    return observer


@settings(max_examples=max(200, settings().max_examples))
@given(events=INWARD)
def test_our_server_gets_nothing_that_it_has_not_agreed_to(events: list[Event]) -> None:
    inwards(events)


@settings(max_examples=max(200, settings().max_examples))
@given(events=OUTWARD)
def test_nor_does_another_server(events: list[Event]) -> None:
    outwards(events)


@pytest.mark.parametrize(
    ("observe", "well", "passed"),
    [
        (inwards, INTO_DIALBACK, 1),
        (inwards, INTO_EXTERNAL, 2),
        (outwards, OUT_DIALBACK, 1),
        (outwards, OUT_EXTERNAL, 1),
        (outwards, OUT_REFUSED, 1),
        (outwards, OUT_UNADDRESSED, 1),
    ],
)
def test_the_sessions_that_go_well_do(
    observe: Callable[[list[Event]], Observer], well: list[Event], passed: int
) -> None:
    """The stories above do start where they mean to, and the observers do see what passes."""
    observer = observe(well)
    assert observer.passed == passed
    assert not observer.over
    observer.take(("lost", CLIENT))
    assert observer.over


class Watching(Plugin):
    """Looks at every stanza, so that none is skimmed."""

    name = "watching"

    def on_stanza(self, view: View, direction: Direction, element: Element) -> Verdict:
        return Continue()


@given(
    well=st.sampled_from([INTO_DIALBACK, INTO_EXTERNAL]),
    bursts=st.lists(calm(THERE, HERE, LIKELY[0]), max_size=6),
)
def test_skimming_shows_in_the_speed_alone(well: list[Event], bursts: list[list[Event]]) -> None:
    events = [*well, *(event for burst in bursts for event in burst)]
    skimmed, parsed = inwards(events), inwards(events, [Watching()])
    for side in Side:
        assert sent(skimmed, side) == sent(parsed, side)


@given(data=st.data())
def test_how_a_session_is_torn_does_not_matter(data: st.DataObject) -> None:
    """The same bytes in other pieces bring the same bytes to either side."""
    well = data.draw(st.sampled_from([INTO_DIALBACK, INTO_EXTERNAL]))
    burst = data.draw(st.lists(st.one_of(STANZAS, st.just(message(*LIKELY[0]))), max_size=8))
    events = [
        (name, value.replace(b"MARK", b"text") if isinstance(value, bytes) else value)
        for name, value in [*well, ("client", b"".join(burst))]
    ]
    pieces: list[Event] = []
    for name, value in events:
        if isinstance(value, bytes):
            places = data.draw(st.lists(st.integers(0, len(value)), max_size=4))
            pieces += [(name, piece) for piece in cut_at(value, places)]
        else:
            pieces.append((name, value))
    whole, torn_apart = inwards(events), inwards(pieces)
    for side in Side:
        assert sent(whole, side) == sent(torn_apart, side)


def sent(observer: Observer, side: Side) -> bytes:
    """Return what a side was sent, but for keys, which are never the same twice."""
    data = b"".join(
        each.data for each in observer.commands if isinstance(each, Send) and each.side is side
    )
    return re.sub(rb">[0-9a-f]{64}<", b">key<", data)
