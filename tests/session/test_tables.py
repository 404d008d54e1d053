"""The tables of both roles are total: an input is either in its state's row or refused."""

import pytest

from proxy.session import initiating, receiving
from proxy.session.hooks import Condition
from proxy.session.server_side import ServerSide
from proxy.xmpp.errors import StreamError
from proxy.xmpp.framing import Limits
from tests.session.playbook import new_session

RECEIVING = [(state, what) for state in receiving.State for what in receiving.Input]
INITIATING = [(state, what) for state in initiating.State for what in initiating.Input]


def test_every_state_has_its_row() -> None:
    assert set(receiving.TABLE) == set(receiving.State)
    assert set(initiating.TABLE) == set(initiating.State)


@pytest.mark.parametrize(
    ("state", "what"),
    [pair for pair in RECEIVING if pair[1] not in receiving.TABLE[pair[0]]],
    ids=lambda one: one.name,
)
def test_the_receiving_entity_refuses_what_is_not_in_the_row(
    state: receiving.State, what: receiving.Input
) -> None:
    client = receiving.Receiving(new_session())
    client.state = state
    with pytest.raises(StreamError) as refusal:
        client.take(what)
    assert refusal.value.condition is Condition.BAD_FORMAT
    assert client.state is state


@pytest.mark.parametrize(
    ("state", "what"),
    [pair for pair in INITIATING if pair[1] not in initiating.TABLE[pair[0]]],
    ids=lambda one: one.name,
)
def test_the_initiating_entity_refuses_what_is_not_in_the_row(
    state: initiating.State, what: initiating.Input
) -> None:
    server = initiating.Initiating(ServerSide(new_session(), None), Limits())
    server.state = state
    with pytest.raises(StreamError) as refusal:
        server.take(what)
    assert refusal.value.condition is Condition.BAD_FORMAT
    assert server.state is state


def test_every_state_can_be_reached() -> None:
    """By a row, or, where a session ends, from inside an action."""
    ends = {receiving.State.WAITING, initiating.State.ABSENT}
    reached = {to for row in receiving.TABLE.values() for to, _ in row.values()}
    assert reached | ends >= set(receiving.State)
    reached_there = {to for row in initiating.TABLE.values() for to, _ in row.values()}
    assert reached_there | ends >= set(initiating.State)


def test_every_input_is_in_some_row() -> None:
    assert {what for row in receiving.TABLE.values() for what in row} == set(receiving.Input)
    assert {what for row in initiating.TABLE.values() for what in row} == set(initiating.Input)


def test_no_plaintext_state_leads_to_a_stream_that_passes_but_by_tls_or_exemption() -> None:
    """What the invariant of a session rests on, seen in the table alone."""
    plaintext = {receiving.State.WAITING, receiving.State.HEADER, receiving.State.OFFERED}
    ways = {
        (state, what)
        for state in plaintext
        for what, (to, _) in receiving.TABLE[state].items()
        if to in (receiving.State.OPEN, receiving.State.SECURE_HEADER)
    }
    assert ways == {(receiving.State.HEADER, receiving.Input.EXEMPT_HEADER)}
