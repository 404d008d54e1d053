"""A divider: one connection of a server of ours, and those to its branches."""

import contextlib
import errno
import gc
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from proxy.net import closing
from proxy.session import division
from proxy.session.commands import Deadline
from proxy.xmpp.errors import FOOTER
from tests.net.divided import LOCAL, MOST, ONE, THREE, TWO, UNADDRESSED, Ends, told
from tests.net.legacy import reset
from tests.net.server_streams import answer, message, result
from tests.net.steady import SteadyTurning, turning

__all__ = ["turning"]

PATIENT = dict.fromkeys((Deadline.NEGOTIATION, Deadline.ENDING), 300.0)

Begin = Callable[..., Ends]


@pytest.fixture
def begin(turning: SteadyTurning) -> Iterator[Begin]:
    """Makes dividers; whatever happened, they end when their server leaves."""
    made: list[Ends] = []

    def begin(rest: str = "", **seconds: float) -> Ends:
        deadlines = PATIENT | {Deadline[name.upper()]: each for name, each in seconds.items()}
        ends = Ends(turning, deadlines, rest.encode())
        made.append(ends)
        ends.hears(ends.legacy, "waiting")
        return ends

    yield begin
    for ends in made:
        ends.close()
        ends.summary()


# What passes


def test_what_was_read_ahead_is_the_beginning(begin: Begin) -> None:
    ends = begin(result(LOCAL, ONE))
    ends.hears(ends.made(1), UNADDRESSED + result(LOCAL, ONE))


def test_what_is_said_is_divided_and_counted(begin: Begin) -> None:
    ends = begin()
    one, two = ends.proved(ONE, TWO)
    for number in range(5):
        first, second = message(LOCAL, ONE, f"{number}"), message(LOCAL, TWO, f"ü {number}")
        ends.says(first + second + " ")
        ends.hears(one, first)
        ends.hears(two, second)
    ends.says(FOOTER)
    ends.hears(ends.legacy, FOOTER)
    for branch in (one, two):
        ends.hears(branch, FOOTER)
    ends.close()
    summary = ends.summary()
    said = [result(LOCAL, each) + message(LOCAL, each, "0") * 5 for each in (ONE, TWO)]
    assert summary.from_client == len("".join(said).encode()) + 5 * len("ü ".encode()) + 5 + 16
    assert summary.from_server == len(told(ONE, LOCAL) + told(TWO, LOCAL)) + 16
    assert summary.reason == "the client closed the stream"


def test_a_domain_that_is_asked_again_is_not_taken_for_the_one_that_went(
    begin: Begin, turning: SteadyTurning
) -> None:
    ends = begin(result(LOCAL, ONE))
    first = ends.made(1)
    first.sendall(UNADDRESSED.encode() + FOOTER)  # but it stays
    turning.until(lambda: b"remote-server-timeout" in ends.read(ends.legacy))
    ends.got.clear()
    (second,) = ends.proved(ONE)
    with contextlib.suppress(OSError):
        first.sendall(answer(ONE, LOCAL, "invalid").encode() + FOOTER)
    first.close()
    turning.turn()
    ends.says(message(LOCAL, ONE))
    ends.hears(second, message(LOCAL, ONE))
    assert not ends.closed


def test_without_sockets_for_a_branch_the_others_go_on(
    begin: Begin, turning: SteadyTurning, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = begin()
    (one,) = ends.proved(ONE)

    def none() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", none)
        ends.says(result(LOCAL, TWO) + message(LOCAL, ONE))
        ends.hears(one, message(LOCAL, ONE))
    turning.until(lambda: b"remote-server-timeout" in ends.read(ends.legacy))
    ends.got.clear()
    ends.proved(TWO)


# Ends


@pytest.mark.parametrize("how", [socket.socket.close, reset])
def test_when_our_server_vanishes_the_branches_are_left_without_a_word(
    begin: Begin, turning: SteadyTurning, how: Callable[[socket.socket], None]
) -> None:
    ends = begin()
    one, two = ends.proved(ONE, TWO)
    ends.says(message(LOCAL, ONE))
    turning.turn(5)
    how(ends.legacy)
    for branch, passed in ((one, message(LOCAL, ONE).encode()), (two, b"")):
        turning.until(partial(ends.ended, branch))
        assert ends.got.get(branch, b"") == passed
        branch.close()
    assert ends.summary().reason.startswith("the client went away: ")


def test_a_branch_that_ends_lets_the_others_finish(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin()
    one, two = ends.proved(ONE, TWO)
    one.close()
    ends.hears(ends.legacy, FOOTER)
    ends.says(message(LOCAL, TWO) + message(LOCAL, ONE) + message(LOCAL, TWO))
    ends.hears(two, message(LOCAL, TWO) * 2)
    assert not ends.closed
    ends.legacy.shutdown(socket.SHUT_WR)
    turning.until(lambda: ends.ended(two))
    two.close()
    reason = ends.summary().reason
    assert reason.startswith(f"the stream to {ONE} has ended: ")
    assert reason.endswith("; stanzas dropped meanwhile: 1")


def test_our_server_has_so_long_to_end_its_stream(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin(ending=0.2)
    one, two = ends.proved(ONE, TWO)
    one.close()
    ends.hears(ends.legacy, FOOTER)
    turning.until(lambda: ends.ended(two))
    two.close()
    turning.until(lambda: ends.ended(ends.legacy))
    ends.legacy.close()
    assert ends.summary().reason.startswith(f"the stream to {ONE} has ended: ")


def test_the_session_is_over_when_all_is_closed_and_not_before(
    begin: Begin, turning: SteadyTurning
) -> None:
    ends = begin()
    (one,) = ends.proved(ONE)
    assert ends.divider is not None
    ends.divider.shut_down()
    turning.until(lambda: ends.ended(ends.legacy))
    assert b"<system-shutdown " in ends.got[ends.legacy]
    turning.until(lambda: ends.ended(one))
    one.close()
    turning.turn()
    assert not ends.closed
    ends.legacy.close()
    assert ends.summary().reason == "system-shutdown: the proxy is shutting down"


def test_who_asks_for_nobody_is_left(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin(" ", negotiation=0.2)
    turning.until(lambda: ends.ended(ends.legacy))
    assert b"<connection-timeout " in ends.got[ends.legacy]
    ends.legacy.close()
    assert ends.summary().reason.startswith("connection-timeout: ")


def test_who_has_nobody_left_to_reach_is_left(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin(result(LOCAL, ONE), negotiation=0.2)
    ends.made(1).close()
    turning.until(lambda: b"remote-server-timeout" in ends.read(ends.legacy))
    turning.until(lambda: ends.ended(ends.legacy))
    assert ends.got[ends.legacy].endswith(b"</stream:error>" + FOOTER)
    ends.legacy.close()
    assert ends.summary().reason.startswith("connection-timeout: ")


def test_who_reaches_somebody_may_be_idle(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin(negotiation=1, ending=1)
    (one,) = ends.proved(ONE)
    turning.reactor.advance(2)
    turning.turn()
    ends.says(" " + message(LOCAL, ONE))
    ends.hears(one, message(LOCAL, ONE))
    assert not ends.closed


# Bounds


def test_a_branch_that_does_not_read_stops_our_server(begin: Begin, turning: SteadyTurning) -> None:
    ends = begin()
    one, two = ends.proved(ONE, TWO)
    stanza = message(LOCAL, ONE, "x" * 50_000).encode()
    sent = ends.stuffed(stanza)
    assert sent < MOST
    rest = ends.rest
    # Whatever was taken comes out, in order, as soon as it is read; and then all goes on.
    after = message(LOCAL, TWO)
    ends.goes_on(after, lambda: ends.read(one))
    turning.until(lambda: ends.read(one) and ends.read(two))
    ends.hears(two, after)
    ends.hears(one, stanza * ((sent + len(rest)) // len(stanza)))


@pytest.mark.parametrize("proved", [True, False])
def test_a_full_branch_that_ends_holds_nobody_up(
    begin: Begin, turning: SteadyTurning, proved: bool
) -> None:
    ends = begin()
    (two,) = ends.proved(TWO)
    if proved:
        ends.proved(ONE)
        assert ends.stuffed(message(LOCAL, ONE, "x" * 50_000).encode()) < MOST
    else:
        assert ends.stuffed(result(LOCAL, ONE, "k" * 1_000).encode()) < MOST
        ends.made(2)

    def leave() -> None:
        for branch in ends.branches[1:]:  # there may be more to ask of the same domain
            branch.close()

    ends.goes_on(message(LOCAL, TWO), leave)

    def passed() -> bool:
        leave()
        return message(LOCAL, TWO).encode() in ends.read(two)

    turning.until(passed)
    end = FOOTER if proved else b"</db:result>"
    turning.until(lambda: ends.read(ends.legacy).endswith(end))


def test_who_does_not_read_the_answers_is_not_heard_any_more(
    begin: Begin, turning: SteadyTurning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "MOST_BRANCHES", 0)
    ends = begin()
    request = result(LOCAL, ONE, "k").encode()
    sent = ends.stuffed(request * 100)
    assert sent < MOST
    rest = ends.rest
    ends.goes_on(result(LOCAL, TWO), lambda: ends.read(ends.legacy))
    turning.until(lambda: f'from="{TWO}"'.encode() in ends.read(ends.legacy))
    assert ends.got[ends.legacy].count(b"</db:result>") == (sent + len(rest)) // len(request) + 1


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_of_many_divisions(
    begin: Begin, turning: SteadyTurning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither descriptors nor memory, though nobody collects what holds itself alive."""
    monkeypatch.setattr(closing, "LINGER", 0.1)
    gc.collect()
    before = descriptors()
    gc.disable()
    try:
        for number in range(30):
            ends = begin()
            one, _ = ends.proved(ONE, TWO)
            ends.says(result(LOCAL, THREE))
            ends.made(3).close()
            if number % 3 == 0:
                ends.says(FOOTER)
            elif number % 3 == 1:
                one.close()
            ends.close()
            ends.summary()
            kept = weakref.ref(ends.divider)
            ends.divider = None
            assert kept() is None
    finally:
        gc.enable()
    assert descriptors() == before
