"""Attack 16: a server that wears out its proof: the log, the memory, the time of ours, the keys."""

import tracemalloc
from collections.abc import Iterable

import pytest

from proxy.session.commands import Arm, Command, Deadline, Disarm, Send
from proxy.session.dialback import Pair
from proxy.session.federation import MOST_DROPPED, MOST_REFUSALS
from proxy.session.hooks import Condition
from proxy.xmpp import namespaces as ns
from tests.session.federation import (
    FederationPlaybook,
    InboundPlaybook,
    OutboundPlaybook,
    Peers,
    never,
)
from tests.session.federation_words import (
    LOCAL,
    REMOTE,
    REMOTE_2,
    VICTIM,
    anew,
    answer,
    auth,
    message,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import is_over, to_client, to_server

VALID = answer(LOCAL, REMOTE, "valid")


def lines(play: FederationPlaybook) -> int:
    """How many lines have gone to the log."""
    return len(play.reports)


# Requests that are refused, and elements out of place


@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_convinced"])
@pytest.mark.parametrize("stream_id", [None, "X"])
def test_a_server_that_goes_on_asking_for_the_impossible_is_let_go(
    stream_id: str | None, start: str
) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = lines(play)
    for number in range(MOST_REFUSALS):
        to = f"n{number}.example"
        asked = result(REMOTE, to) if stream_id is None else verify(REMOTE, to, stream_id)
        play.client(asked).then(Send(CLIENT, own_error(to, REMOTE, "item-not-found", stream_id)))
    assert lines(play) == before + MOST_REFUSALS
    play.client(result(REMOTE, "one.more.example")).then(
        *refused(Condition.POLICY_VIOLATION, "were refused")
    )
    assert lines(play) == before + MOST_REFUSALS


def test_so_is_one_that_asks_in_one_segment() -> None:
    play = InboundPlaybook().to_dialled()
    play.client(result(REMOTE, "nobody.example") * 5_000).gave()
    assert to_client(play.commands).count(b"type='error'") == MOST_REFUSALS
    assert is_over(play.commands)


def test_our_own_server_is_told_too_that_it_goes_on_in_vain() -> None:
    play = OutboundPlaybook().to_dialled()
    for number in range(MOST_REFUSALS):
        to = f"n{number}.example"
        play.client(result(LOCAL, to))
        play.then(Send(CLIENT, own_error(to, LOCAL, "not-authorized")))
    play.client(verify(LOCAL, "one.more.example", "X")).then(
        *refused(Condition.POLICY_VIOLATION, "were refused")
    )


def test_what_is_granted_is_no_refusal() -> None:
    play = InboundPlaybook().to_dialled()
    for number in range(3 * MOST_REFUSALS):
        asked = result(f"r{number}.example", LOCAL)
        play.client(asked).then(Send(SERVER, anew(asked)))
        play.server(answer(LOCAL, f"r{number}.example", "invalid")).gave()
    play.client(message()).then(Send(SERVER, message()))


@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_convinced"])
def test_answers_that_nobody_wants_end_the_stream_at_last(start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    forged, before = answer("a.example", LOCAL, "valid"), lines(play)
    for _ in range(MOST_DROPPED):
        play.client(forged).then()
    assert lines(play) == before + 5
    play.client(forged).then(*refused(Condition.POLICY_VIOLATION, "out of place"))
    assert lines(play) == before + 5


@pytest.mark.parametrize("side", ["inbound", "outbound"])
@pytest.mark.parametrize("forged", [b"<x/>", b"<r xmlns='urn:xmpp:sm:3'/>", result(REMOTE, LOCAL)])
def test_so_do_elements_that_no_server_may_send(forged: bytes, side: str) -> None:
    play: FederationPlaybook
    play = InboundPlaybook().to_dialled() if side == "inbound" else OutboundPlaybook().to_dialled()
    before = lines(play)
    for _ in range(MOST_DROPPED):
        play.server(forged).then()
    assert lines(play) == before + 5
    play.server(forged).gave()
    assert is_over(play.commands)
    assert lines(play) == before + 5


def test_a_pair_that_is_proved_again_and_again_is_told_of_once() -> None:
    play = InboundPlaybook().to_dialled()
    before = lines(play)
    for _ in range(10):
        play.client(result(REMOTE, LOCAL)).gave()
        play.server(VALID).gave()
    assert lines(play) == before
    play.client(result(REMOTE_2, LOCAL)).gave()
    play.server(answer(LOCAL, REMOTE_2, "valid")).gave()
    assert lines(play) == before + 1


# What is remembered of a stream


@pytest.mark.parametrize("chain", [(REMOTE,), (REMOTE, VICTIM)])
def test_a_chain_is_judged_once_for_each_domain(chain: tuple[str, ...]) -> None:
    """To judge one takes a thousand times what it takes to ask for that."""
    rules = Peers(policies=never(VICTIM, REMOTE_2))
    play = InboundPlaybook(rules).to_dialled(*chain)
    for number in range(MOST_REFUSALS // 2):
        play.client(result(VICTIM, LOCAL, f"k{number}") + result(REMOTE_2, LOCAL)).gave()
    assert not is_over(play.commands)
    assert [rules.asked.count(each) for each in (REMOTE, VICTIM, REMOTE_2)] == [1, 1, 1]
    assert (anew(result(VICTIM, LOCAL, "k1")) in to_server(play.commands)) is (VICTIM in chain)
    assert anew(result(REMOTE_2, LOCAL)) not in to_server(play.commands)


def test_long_addresses_are_not_remembered() -> None:
    session = InboundPlaybook().to_dialled().session
    length, many = 8_000, 400

    def say(number: int) -> None:
        sender = f"a@{REMOTE}/{number:0{length}}"
        stanza = f"<message from='{sender}' to='b@{LOCAL}'/>".encode()
        assert to_server(session.received(CLIENT, stanza)) == stanza

    say(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(many):
            say(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < length * many / 10


# Time


def running(commands: Iterable[Command]) -> set[Deadline]:
    """The deadlines that run after these commands."""
    found: set[Deadline] = set()
    for each in commands:
        if isinstance(each, Arm):
            found.add(each.deadline)
        elif isinstance(each, Disarm):
            found.discard(each.deadline)
    return found


@pytest.mark.parametrize("start", ["to_external", "to_authenticated"])
def test_a_server_that_only_does_external_does_not_stay(start: str) -> None:
    """Its certificate is enough for that; what our server makes of it is still open."""
    play = getattr(InboundPlaybook(), start)()
    assert running(play.commands) == {Deadline.AUTHENTICATION}
    play.client(b" ").gave()
    assert running(play.commands) == {Deadline.AUTHENTICATION}
    play.expired(Deadline.AUTHENTICATION).gave()
    assert b"<connection-timeout" in to_client(play.commands)
    assert is_over(play.commands)


def test_while_our_server_is_to_be_convinced_both_may_run_out() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    assert running(play.commands) == {Deadline.AUTHENTICATION, Deadline.CONNECT}
    play.expired(Deadline.AUTHENTICATION).then(*refused(Condition.CONNECTION_TIMEOUT))
    assert play.issued == 0


def test_once_it_is_nothing_runs_any_more() -> None:
    assert running(InboundPlaybook().to_convinced().commands) == set()
    assert running(InboundPlaybook().to_dialled().commands) == set()
    assert running(OutboundPlaybook().to_dialled().commands) == set()


def test_dialback_after_external_is_proof_enough() -> None:
    play = InboundPlaybook().to_authenticated()
    play.client(result(VICTIM, LOCAL)).gave()
    said = answer(LOCAL, VICTIM, "valid")
    play.server(said).then(Send(CLIENT, anew(said)), Disarm(Deadline.AUTHENTICATION))
    assert running(play.commands) == set()


def test_external_after_dialback_begins_to_run_anew() -> None:
    play = InboundPlaybook().to_dialled(REMOTE)
    assert running(play.commands) == set()
    play.client(auth()).gave()
    assert running(play.commands) == {Deadline.AUTHENTICATION}
    play.to_stream(stream_id="L2").to_convincing().server(VALID).gave()
    assert running(play.commands) == set()


# Stream management (XEP-0198), which has no addresses

ENABLE, ENABLED = b"<enable xmlns='urn:xmpp:sm:3'/>", b"<enabled xmlns='urn:xmpp:sm:3'/>"
GONE = f"<item-not-found xmlns='{ns.STANZA_ERRORS}'/>"
WITH_ADDRESSES = [
    f"<r xmlns='urn:xmpp:sm:3' from='x@{VICTIM}' to='b@{LOCAL}'/>",
    f"<r xmlns='urn:xmpp:sm:3' from='x@{VICTIM}'/>",
    f"<a xmlns='urn:xmpp:sm:3' h='1' to='b@{LOCAL}'/>",
    f"<r xmlns='urn:xmpp:sm:3'><message from='x@{VICTIM}' to='b@{LOCAL}'/></r>",
    f"<r xmlns='urn:xmpp:sm:3'><iq xmlns='jabber:server' from='x@{VICTIM}' to='b@{LOCAL}'/></r>",
    f"<r xmlns='urn:xmpp:sm:3'><x/><iq from='x@{VICTIM}' to='b@{LOCAL}'/></r>",
    f"<r xmlns='urn:xmpp:sm:3'><x><iq from='x@{VICTIM}' to='b@{LOCAL}'/></x></r>",
    f"<failed xmlns='urn:xmpp:sm:3'>{GONE}<iq from='x@{VICTIM}' to='b@{LOCAL}'/></failed>",
]


@pytest.mark.parametrize("said", WITH_ADDRESSES)
def test_stream_management_is_nobodys_stanza(said: str) -> None:
    for start in ("to_dialled", "to_authenticated", "to_convinced"):
        play = getattr(InboundPlaybook(), start)()
        play.client(said.encode()).then(*refused(Condition.UNSUPPORTED_STANZA_TYPE))
    play = OutboundPlaybook().to_dialled()
    play.client(ENABLE).then(Send(SERVER, ENABLE))
    play.server(ENABLED).then(Send(CLIENT, ENABLED))
    play.server(said.encode()).then()


def test_a_server_does_not_begin_to_count_of_itself() -> None:
    play = OutboundPlaybook().to_dialled()
    play.server(ENABLED).then()
    play.server(b"<r xmlns='urn:xmpp:sm:3'/>").then()
    assert play.told("dropped: <enabled/>")
    play.client(ENABLE).then(Send(SERVER, ENABLE))
    play.server(ENABLED).then(Send(CLIENT, ENABLED))


def test_of_what_is_inside_only_errors_pass() -> None:
    resume = b"<resume xmlns='urn:xmpp:sm:3' h='1' previd='x'/>"
    text = f"<text xmlns='{ns.STANZA_ERRORS}'>gone</text>"
    failed = f"<failed xmlns='urn:xmpp:sm:3' h='1'>{GONE}{text}</failed>".encode()
    play = OutboundPlaybook().to_dialled()
    play.client(resume).then(Send(SERVER, resume))
    play.server(failed).then(Send(CLIENT, failed))


# Keys of the proxy's own


def test_a_key_between_others_is_asked_about_in_vain() -> None:
    """What was issued for a pair of which neither is ours is no business of who asks."""
    play = InboundPlaybook().to_streams()
    key = play.rules.ledger.issue(Pair(REMOTE_2, REMOTE), "X")
    for tried in (key, "wrong"):
        play.client(verify(REMOTE, REMOTE_2, "X", tried)).then(
            Send(CLIENT, own_error(REMOTE_2, REMOTE, "item-not-found", "X"))
        )


@pytest.mark.parametrize("live", [True, False])
def test_whether_a_key_of_another_session_lives_is_not_told(live: bool) -> None:
    play = InboundPlaybook().to_streams()
    if live:
        play.rules.ledger.issue(Pair(REMOTE_2, LOCAL), "X")
    asked = verify(REMOTE, LOCAL, "X", "wrong")
    play.client(asked).then(Send(SERVER, anew(asked)))
    play.client(verify(LOCAL, REMOTE_2, "X", "wrong")).then(*refused(Condition.INVALID_FROM))


def test_a_session_that_is_abandoned_leaves_no_key_behind() -> None:
    """Where the code around it has failed, nobody asks it for anything any more."""
    inside = InboundPlaybook().to_authenticated().to_convincing()
    outside = OutboundPlaybook().to_vouching()
    assert (inside.issued, outside.issued) == (1, 1)
    inside.session.abandon()
    outside.session.abandon()
    assert (inside.issued, outside.issued) == (0, 0)
    assert inside.session.received(SERVER, VALID) == []
    assert outside.session.received(SERVER, answer(REMOTE, LOCAL, "valid")) == []
