"""What workers know of each other: connections, keys of dialback, ids of streams, counts."""

import gc
import secrets
import socket
import threading
from collections.abc import Iterator

import attrs
import pytest

from plugins.limits import Limits, LimitsConfig
from proxy.daemon.shared import SECRET, Shared
from proxy.net.board import MOST_WORKERS, Board
from proxy.net.outgoing import Ends
from proxy.session.chain import ChainError, share
from proxy.session.dialback import Pair
from proxy.session.hooks import Address, ClientHello, Continue, Counts, Plugin
from tests.plugins.views import view

PAIR = Pair("remote.example", "example.com")
HELLO = ClientHello(server_name=None, protocols=(), direct=True)


@attrs.frozen
class Workers:
    """Two workers of one daemon."""

    board: Board
    secret: bytes
    one: Shared
    other: Shared

    def killed(self) -> None:
        """The first one is gone, and has been cleared away."""
        self.board.clear(0)


@pytest.fixture
def workers() -> Iterator[Workers]:
    board, secret = Board.create(), secrets.token_bytes(SECRET)
    one, other = (Shared.among(board.descriptor, secret, number) for number in (0, 1))
    yield Workers(board, secret, one, other)
    board.close()


# Dialback


def test_a_key_of_one_worker_is_answered_for_by_another(workers: Workers) -> None:
    one, other = workers.one.ledger(), workers.other.ledger()
    key = one.issue(PAIR, "s1")
    assert other.check(PAIR, "s1", key) is True
    assert other.check(PAIR, "s2", key) is None
    assert other.check(PAIR.turned, "s1", key) is None
    assert len(other) == 0


def test_attack_a_forged_key_for_what_another_worker_has_issued(workers: Workers) -> None:
    one, other = workers.one.ledger(), workers.other.ledger()
    key = one.issue(PAIR, "s1")
    for forged in ("", key[:-1], key[::-1], Shared.alone().ledger().issue(PAIR, "s1")):
        assert other.check(PAIR, "s1", forged) is False


def test_attack_a_key_that_another_worker_has_withdrawn(workers: Workers) -> None:
    one, other = workers.one.ledger(), workers.other.ledger()
    key = one.issue(PAIR, "s1")
    one.withdraw(PAIR, "s1")
    assert other.check(PAIR, "s1", key) is None


def test_attack_a_key_of_a_worker_that_has_been_killed(workers: Workers) -> None:
    key = workers.one.ledger().issue(PAIR, "s1")
    workers.killed()
    assert workers.other.ledger().check(PAIR, "s1", key) is None


def test_attack_counts_of_a_plugin_do_not_make_a_key_good(workers: Workers) -> None:
    """Not even a plugin whose name is that of what the core counts."""
    ledger = workers.one.ledger()
    key = ledger.issue(PAIR, "s1")
    ledger.withdraw(PAIR, "s1")
    plugin = _Counting("dialback")
    share(plugin, workers.one.counts)
    plugin.given[0].add("s1", PAIR.sender, PAIR.to)
    assert workers.other.ledger().check(PAIR, "s1", key) is None


def test_the_ids_of_one_workers_streams_are_known_to_all(workers: Workers) -> None:
    made = workers.one.ids().new()
    assert workers.other.ids().issued(made)
    assert not Shared.alone().ids().issued(made)


# Connections of our own


def test_a_connection_of_one_worker_is_known_to_another(workers: Workers) -> None:
    one, other, remote = workers.one.outgoing(), workers.other.outgoing(), Address("::1", 5269)
    with socket.create_server(("127.0.0.1", 0)) as somewhere:
        ends = one.add(somewhere, remote)
    assert other.begins_at(ends.local)
    assert ends in other
    assert Ends(ends.local, Address("::1", 5222)) not in other
    other.discard(ends)  # which is not its own to forget
    assert ends in other
    one.discard(ends)
    assert not other.begins_at(ends.local)
    assert ends not in other


# Limits by address


def limits(shared: Shared, clock: float = 1000.0, **config: int) -> Limits:
    made = Limits(LimitsConfig(**config), clock=lambda: clock)
    share(made, shared.counts)
    return made


def connects(made: Limits, session_id: str) -> bool:
    return made.on_client_connected(view(session_id=session_id)) == Continue()


def shakes(made: Limits) -> bool:
    return made.on_client_hello(view(), HELLO) == Continue()


def test_connections_count_over_all_workers(workers: Workers) -> None:
    one, other = (limits(each, connections_per_address=3) for each in (workers.one, workers.other))
    assert [connects(one, "1"), connects(other, "1"), connects(one, "2")] == [True] * 3
    assert [connects(one, "3"), connects(other, "2")] == [False] * 2
    one.on_session_closed(view(session_id="2"))
    assert [connects(other, "3"), connects(one, "4")] == [True, False]


def test_connections_of_a_worker_that_was_killed_count_no_more(workers: Workers) -> None:
    one, other = (limits(each, connections_per_address=2) for each in (workers.one, workers.other))
    assert [connects(one, "1"), connects(one, "2"), connects(other, "1")] == [True, True, False]
    workers.killed()
    assert [connects(other, "2"), connects(other, "3"), connects(other, "4")] == [True, True, False]


def test_handshakes_count_over_all_workers(workers: Workers) -> None:
    one, other = (limits(each, handshakes_per_minute=3) for each in (workers.one, workers.other))
    assert [shakes(one), shakes(other), shakes(other)] == [True] * 3
    assert [shakes(one), shakes(other)] == [False] * 2
    later = limits(workers.other, clock=1065.0, handshakes_per_minute=3)
    assert [shakes(later), shakes(later)] == [True, False]


def test_what_is_open_counts_on_when_the_conf_has_changed(workers: Workers) -> None:
    """Sessions end with the plugin that they began with, and are counted off once."""
    old = limits(workers.one, connections_per_address=0)
    assert [connects(old, "1"), connects(old, "2")] == [True] * 2
    new = limits(workers.one, connections_per_address=3)
    assert [connects(new, "3"), connects(new, "4")] == [True, False]
    for session_id in "1312":
        old.on_session_closed(view(session_id=session_id))
    assert workers.other.section("plugins").total("limits", "connections", "192.0.2.1") == 1
    new.on_session_closed(view(session_id="3"))
    assert workers.other.section("plugins").total("limits", "connections", "192.0.2.1") == 0


def test_handshakes_of_a_plugin_that_is_given_up_are_removed(workers: Workers) -> None:
    old = limits(workers.one, handshakes_per_minute=3)
    assert shakes(old)
    new = limits(workers.one, handshakes_per_minute=1)
    assert not shakes(new)
    del old
    gc.collect()
    assert shakes(new)


def test_attack_connections_to_all_workers_at_once_never_pass_the_limit(workers: Workers) -> None:
    made = [limits(each, connections_per_address=5) for each in (workers.one, workers.other)]
    passed = list[bool]()

    def connect(each: Limits, name: str) -> None:
        for turn in range(200):
            if connects(each, f"{name}{turn}"):
                passed.append(True)

    threads = [threading.Thread(target=connect, args=(each, str(each))) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(passed) <= 5


# The primitive


class _Counting(Plugin):
    """Keeps what it is given."""

    name = "counting"

    def __init__(self, name: str = "counting") -> None:
        self.name = name  # type: ignore[misc]
        self.given = list[Counts]()

    def share(self, counts: Counts) -> None:
        self.given.append(counts)


def test_plugins_of_one_name_count_together_and_apart_from_others(workers: Workers) -> None:
    plugins = [_Counting(), _Counting(), _Counting("different")]
    for plugin, shared in zip(plugins, (workers.one, workers.other, workers.one), strict=True):
        share(plugin, shared.counts)
        plugin.given[0].add("a")
    assert [plugin.given[0].total("a") for plugin in plugins] == [2, 2, 1]


def test_a_plugin_that_fails_to_take_counts_is_not_fit_for_the_chain() -> None:
    class Failing(_Counting):
        def share(self, counts: Counts) -> None:
            raise RuntimeError("no")

    with pytest.raises(ChainError, match=r"plugin counting: share raised RuntimeError\('no'\)"):
        share(Failing(), Shared.alone().counts)


def test_keys_are_of_one_purpose_and_one_daemon(workers: Workers) -> None:
    assert workers.one.key("a") == workers.other.key("a")
    assert workers.one.key("a") != workers.one.key("b")
    assert workers.one.key("a") != Shared.alone().key("a")
    assert len(workers.one.key("a")) == 32
    assert workers.secret.hex() not in repr(workers.one)
    assert repr(workers.secret) not in repr(workers.one)


def test_attack_who_does_not_know_the_secret_does_not_know_where_a_key_is(
    workers: Workers,
) -> None:
    stranger = Shared.among(workers.board.descriptor, bytes(SECRET), 2)
    workers.one.counts.add("a")
    stranger.counts.add("a", amount=-1)
    assert (workers.other.counts.total("a"), stranger.counts.total("a")) == (1, -1)


def test_a_process_that_is_alone_shares_nothing() -> None:
    one, other = Shared.alone(), Shared.alone()
    one.counts.add("a")
    assert (one.counts.total("a"), other.counts.total("a")) == (1, 0)
    assert one.secret != other.secret


@pytest.mark.parametrize("secret", [b"", bytes(SECRET - 1)])
def test_a_short_secret_is_none(workers: Workers, secret: bytes) -> None:
    with pytest.raises(ValueError, match="less than 32 bytes"):
        Shared.among(workers.board.descriptor, secret, 2)


def test_a_worker_that_there_may_not_be(workers: Workers) -> None:
    with pytest.raises(ValueError, match="no worker"):
        Shared.among(workers.board.descriptor, workers.secret, MOST_WORKERS)
