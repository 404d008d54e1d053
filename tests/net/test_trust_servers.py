"""The keyring between servers: streams outward and inward, real handshakes."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import Held, State
from proxy.trust.keyring.store import Keyring
from tests.authority import Authority
from tests.net.federation import HOSTING, LEGACY, REMOTE, FederationFront, Grounds, zone
from tests.net.hostile import Hostile
from tests.net.legacy import LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import AUTH, END, script, taking
from tests.net.test_federation_outward import refused, told_nothing
from tests.net.trusting import OPERATOR, PATIENCE, alone

WAITING = "waiting.example"

Pair = tuple[Path, Path]


@attrs.frozen
class _Ports:
    """All that `Grounds` needs of a service that is a process."""

    ports: Mapping[str, int]


@attrs.frozen
class Around:
    """The daemon, and what is around it."""

    front: FederationFront
    grounds: Grounds


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    return state


@pytest.fixture
def around(tmp_path: Path, state: Path, authority: Authority) -> Iterator[Around]:
    kept = {"level": "keyring"}
    policies = [
        {"domain": REMOTE, "dialback": "never", **kept},
        {"domain": WAITING, "approval_timeout": PATIENCE, **kept},
    ]
    tables = {"bascule": {"state_directory": str(state)}}
    with LegacyServer() as legacy, Hostile() as remote, NameServer() as names:
        legacy.script = taking()
        zone(names, remote.port)
        target = f"0 5 {remote.port} {HOSTING}."
        names.add(f"_xmpp-server._tcp.{WAITING}", "SRV", target)
        front = FederationFront(
            tmp_path,
            authority,
            {LEGACY: legacy.port},
            names.port,
            policies=policies,
            tables=tables,
        )
        with front:
            ports: Any = _Ports(front.named)
            yield Around(front, Grounds(authority, ports, legacy, legacy, remote, names, {}))
            assert front.alive()


@pytest.fixture
def front(around: Around) -> FederationFront:
    """The daemon as a process."""
    return around.front


@pytest.fixture
def grounds(around: Around) -> Grounds:
    """What is around it."""
    return around.grounds


def held(state: Path, domain: str) -> list[Held]:
    with closing(Keyring(state / FILE_NAME, create=False)) as keyring:
        return list(keyring.all_held(domain))


def approve(state: Path, held_id: str) -> None:
    with closing(Keyring(state / FILE_NAME, create=False)) as keyring:
        keyring.approve(held_id, OPERATOR, dt.datetime.now(dt.UTC))


def passes(grounds: Grounds, to: str) -> None:
    """Open a stream that the other server lets pass."""
    with grounds.outgoing(to=to) as stream:
        stream.send(stream.header())
        stream.read_features()
        peer = grounds.remote.next()
        assert peer.secured
        stream.let_pass(peer)
        stream.send(END)
        peer.read_until(END.encode())
        peer.close()


def test_a_server_that_nobody_vouches_for_is_held_and_then_permitted(
    front: FederationFront, grounds: Grounds, state: Path, tmp_path: Path
) -> None:
    pair = alone(tmp_path, WAITING)
    grounds.remote.play(script(pair))
    with grounds.outgoing(to=WAITING) as stream:
        stream.send(stream.header())
        front.wait_for_log("the session waits: ")
        for peer in grounds.remote.settle():
            told_nothing(peer, LEGACY, WAITING)
        [found] = held(state, WAITING)
        assert (found.stream, found.state) == ("s2s", State.PENDING)
        assert f"({found.id} in the keyring)" in front.log()
        assert stream.is_silent()
        approve(state, found.id)
        stream.read_features()
        peer = grounds.remote.next()
        stream.let_pass(peer)
        peer.close()
    grounds.remote.play(script(pair))
    passes(grounds, WAITING)


def test_where_nobody_waits_it_is_refused_at_once(
    front: FederationFront, grounds: Grounds, state: Path, tmp_path: Path
) -> None:
    pair = alone(tmp_path, REMOTE)
    grounds.remote.play(script(pair))
    assert refused(grounds) == "policy-violation"
    [found] = held(state, REMOTE)
    [alert] = [line for line in front.log().split("\n") if " alert=unknown " in line]
    assert f" id={found.id} " in alert


def test_what_was_permitted_counts_when_the_server_connects(
    grounds: Grounds, state: Path, tmp_path: Path
) -> None:
    """And what nobody has permitted is not held there, or anybody could fill the keyring.

    Nor is an operator waited for there, whatever the policy: the test would not end in time.
    """
    permitted, other = alone(tmp_path, REMOTE), alone(tmp_path, REMOTE)
    assert not authenticates(grounds, permitted)
    assert held(state, REMOTE) == []
    grounds.remote.play(script(permitted))
    assert refused(grounds) == "policy-violation"
    approve(state, held(state, REMOTE)[0].id)
    assert authenticates(grounds, permitted)
    assert not authenticates(grounds, other)
    assert len(held(state, REMOTE)) == 1
    assert not authenticates(grounds, alone(tmp_path, WAITING), WAITING)
    assert held(state, WAITING) == []


def authenticates(grounds: Grounds, pair: Pair, domain: str = REMOTE) -> bool:
    """Connect with a certificate; return whether that is enough."""
    with grounds.incoming(domain, pair=pair) as stream:
        stream.send(stream.header())
        said = stream.read_until("</stream:features>|</stream:error>")
        if "<mechanism>EXTERNAL</mechanism>" not in said:
            assert re.search("<policy-violation|<not-authorized", said) or "mechanism" not in said
            return False
        stream.send(AUTH)
        return "<success" in stream.read_until("<success [^>]*/>|</failure>")
