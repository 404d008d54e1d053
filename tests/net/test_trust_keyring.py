"""The keyring and its operator: the daemon as a process, the real commands, real handshakes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from proxy.daemon.control.client import ask
from proxy.net.openssl import was_resumed
from proxy.trust.keyring.entry import How, State
from proxy.trust.policy import pin_of
from tests.authority import Authority
from tests.net.forward import told_nothing
from tests.net.hostile import Hostile, direct, login, showing, upgraded
from tests.net.peers import agree
from tests.net.trusting import (
    OPERATOR,
    PATIENCE,
    SHORT,
    Operated,
    alone,
    answering,
    fresh,
    go_on,
    refusal_in,
    server_context,
    with_level,
)
from tests.servers.program import HOST
from tests.trust.showing import chain_of

PINNED = "pinned.example"
BREACH = "possible security breach"

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture(scope="module")
def known(authority: Authority) -> Pair:
    """The certificate of `PINNED`, which does not even name that domain."""
    return authority.issue("other.example")


@pytest.fixture(scope="module")
def bascule(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, hostile: Hostile, known: Pair
) -> Iterator[Operated]:
    kept: dict[str, object] = {"level": "keyring", "ca_file": str(authority.ca_path)}
    pin = str(pin_of(chain_of(known[0])[0]))
    policies = [
        with_level("kept", hostile.port, **kept),
        with_level("direct", hostile.port, direct_tls=True, **kept),
        with_level("waiting", hostile.port, approval_timeout=PATIENCE, **kept),
        with_level("short", hostile.port, approval_timeout=SHORT, **kept),
        with_level("held", hostile.port, on_change="hold", **kept),
        {"domain": PINNED, "server": f"{HOST}:{hostile.port}", "pins": [pin], **kept},
    ]
    with Operated(tmp_path_factory.mktemp("keyring"), policies) as bascule:
        yield bascule
        assert bascule.alive()
        assert "fault" not in bascule.log()


@pytest.fixture(autouse=True)
def _afterwards(hostile: Hostile) -> Iterator[None]:
    yield
    hostile.play(login)


# Who is not known


@pytest.mark.parametrize("kind", ["kept", "direct"])
def test_an_unknown_certificate_is_refused_until_the_command_permits_it(
    bascule: Operated, hostile: Hostile, tmp_path: Path, kind: str
) -> None:
    domain = fresh(kind)
    begin = direct if kind == "direct" else upgraded
    script = begin(showing(alone(tmp_path, domain)))
    hostile.play(script)
    said = bascule.refused(hostile, domain)
    assert said.condition == "policy-violation"
    assert said.text.startswith(f"the certificate of {domain} is not permitted (")
    assert "is self-signed" in said.text

    [waiting] = [each for each in bascule.commanded("pending") if each["domain"] == domain]
    assert waiting["id"] == said.held_id
    [alert] = bascule.alerts(domain)
    for told in (" warning ", said.held_id, waiting["fingerprint"], f"CN={domain}", "self-signed"):
        assert told in alert

    printed = bascule.command("approve", said.held_id, "--by", OPERATOR)
    assert printed == f"approved for {domain} (c2s): {waiting['fingerprint']}\n"
    hostile.play(script)
    bascule.login(hostile, domain)
    assert f'matched="keyring {waiting["fingerprint"]}, permitted by {OPERATOR}"' in bascule.log()


def test_one_that_was_rejected_stays_out(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("kept")
    script = upgraded(showing(alone(tmp_path, domain)))
    hostile.play(script)
    said = bascule.refused(hostile, domain)
    bascule.command("reject", said.held_id)
    for _ in range(2):
        hostile.play(script)
        assert bascule.refused(hostile, domain).held_id == said.held_id
    assert [" alert=rejected " in line for line in bascule.alerts(domain)] == [False, True]


def test_however_often_it_is_met_it_is_one_event(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("kept")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    ids = {bascule.refused(hostile, domain).held_id for _ in range(5)}
    assert len(ids) == 1
    assert len(bascule.alerts(domain)) == 1
    [held] = bascule.held(domain)
    assert held.count == 5


def test_what_is_permitted_for_one_domain_is_not_for_another(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    mine, other = fresh("kept"), fresh("kept")
    script = upgraded(showing(alone(tmp_path, mine)))
    hostile.play(script)
    bascule.decide(bascule.refused(hostile, mine).held_id)
    hostile.play(script)
    assert bascule.refused(hostile, other).condition == "policy-violation"
    hostile.play(script)
    bascule.login(hostile, mine)


def test_a_listener_that_reports_never_waits(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("waiting")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    bascule.login(hostile, domain, "report")
    line = f"would be refused: the certificate of {domain} is not permitted ("
    assert line in bascule.log()
    assert bascule.held(domain)[0].state is State.PENDING


# Who waits for an operator


def states(bascule: Operated, domain: str) -> list[str]:
    """How far the sessions to a domain have come, as the control socket tells it."""
    return [each["state"] for each in ask(bascule.control, "sessions", {"domain": domain})]


def test_sessions_wait_together_and_go_on_when_it_is_permitted(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("waiting")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    streams = [bascule.waiting(domain) for _ in range(20)]
    for peer in hostile.settle():  # no server is kept waiting
        told_nothing(peer, domain)
    [held] = bascule.held(domain)
    assert held.count == 20
    assert states(bascule, domain) == ["waiting"] * 20
    bascule.command("approve", held.id)
    for stream in streams:
        go_on(stream)
    assert "waiting" not in states(bascule, domain)
    for stream in streams:
        stream.connection.close()
    assert len(bascule.alerts(domain)) == 1


@pytest.mark.parametrize("kind", ["waiting", "short"])
def test_a_session_that_waits_is_refused_when_it_is_rejected_or_the_time_is_over(
    bascule: Operated, hostile: Hostile, tmp_path: Path, kind: str
) -> None:
    domain = fresh(kind)
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    stream = bascule.waiting(domain)
    [held] = bascule.held(domain)
    if kind == "waiting":
        bascule.decide(held.id, permitted=False)
    said = refusal_in(stream.read_to_end().encode())
    stream.connection.close()
    assert (said.condition, said.held_id) == ("policy-violation", held.id)
    assert not any(peer.established for peer in hostile.settle())


def test_a_client_that_leaves_while_it_waits_is_gone(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("waiting")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    bascule.waiting(domain).connection.close()
    bascule.until(lambda: any(each.get("domain") == domain for each in bascule.summaries()))
    [held] = bascule.held(domain)
    bascule.decide(held.id)
    bascule.login(hostile, domain)  # and nobody else comes
    assert sum(peer.established for peer in hostile.peers) == 1


def test_a_daemon_that_stops_does_not_wait_for_operators(
    authority: Authority, hostile: Hostile, tmp_path: Path
) -> None:
    """Or the test would not end in time."""
    domain = fresh("waiting")
    policy = with_level("waiting", hostile.port, level="keyring", approval_timeout=PATIENCE)
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    with Operated(tmp_path / "daemon", [policy]) as bascule:
        stream = bascule.waiting(domain)
        bascule.processes[0].terminate()
        said = stream.read_to_end()
        stream.connection.close()
        bascule.processes[0].wait(60)
    assert "<system-shutdown " in said


def test_attack_a_client_that_goes_on_talking_while_it_waits_is_not_kept_in_memory(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("waiting")
    hostile.play(upgraded(showing(alone(tmp_path, domain))))
    streams = [bascule.waiting(domain) for _ in range(4)]
    before = bascule.resident()
    for stream in streams:
        stream.connection.settimeout(0.5)
        with contextlib.suppress(OSError):  # it is not read, or refused
            for _ in range(200):
                stream.connection.sendall(b"<message/>" * 10_000)
    assert bascule.resident() - before < 16 * 2**20
    for stream in streams:
        stream.connection.close()
    for peer in hostile.settle():
        told_nothing(peer, domain)


def test_attack_what_is_shown_after_the_permission_is_judged_and_not_what_was_before(
    bascule: Operated, hostile: Hostile, tmp_path: Path
) -> None:
    domain = fresh("waiting")
    scripts = [upgraded(showing(alone(tmp_path, domain))) for _ in range(2)]
    hostile.play(*scripts)
    stream = bascule.waiting(domain)
    [held] = bascule.held(domain)
    bascule.decide(held.id)
    bascule.until(lambda: len(bascule.alerts(domain)) == 2)
    assert BREACH in bascule.alerts(domain)[-1]
    [other] = [each.id for each in bascule.held(domain) if each.id != held.id]
    bascule.decide(other, permitted=False)
    said = refusal_in(stream.read_to_end().encode())
    stream.connection.close()
    assert said.held_id == other
    for peer in hostile.settle():
        told_nothing(peer, domain)


# Who is known


def test_attack_a_certificate_that_was_swapped_between_reconnects_is_a_possible_breach(
    bascule: Operated, hostile: Hostile, authority: Authority, tmp_path: Path
) -> None:
    """Even with one that an authority vouches for: an operator has permitted the other one."""
    domain = fresh("kept")
    permitted = upgraded(showing(alone(tmp_path, domain)))
    hostile.play(permitted)
    first = bascule.refused(hostile, domain)
    bascule.decide(first.held_id)
    hostile.play(permitted)
    bascule.login(hostile, domain)
    for pair in (alone(tmp_path, domain), authority.issue(domain)):
        hostile.play(upgraded(showing(pair)))
        said = bascule.refused(hostile, domain)
        assert said.held_id != first.held_id
        assert BREACH in bascule.alerts(domain)[-1]
        assert " critical " in bascule.alerts(domain)[-1]
        assert said.held_id in bascule.alerts(domain)[-1]
    hostile.play(permitted)
    bascule.login(hostile, domain)


def test_a_renewal_is_let_in_and_told_of(
    bascule: Operated, hostile: Hostile, authority: Authority
) -> None:
    domain = fresh("kept")
    for _ in range(2):
        hostile.play(upgraded(showing(authority.issue(domain))))
        bascule.login(hostile, domain)
    [alert] = bascule.alerts(domain)
    assert " info " in alert
    assert " alert=renewal " in alert
    assert [entry.how for entry in bascule.entries(domain)] == [How.PKIX] * 2


def test_or_is_held(bascule: Operated, hostile: Hostile, authority: Authority) -> None:
    domain = fresh("held")
    old, new = (upgraded(showing(authority.issue(domain))) for _ in range(2))
    hostile.play(old)
    bascule.login(hostile, domain)
    hostile.play(new)
    said = bascule.refused(hostile, domain)
    assert BREACH in bascule.alerts(domain)[0]
    hostile.play(old)
    bascule.login(hostile, domain)
    bascule.decide(said.held_id)
    for script in (new, old):
        hostile.play(script)
        bascule.login(hostile, domain)


def test_a_pinned_key_is_permitted_beforehand_and_every_other_one_waits(
    bascule: Operated, hostile: Hostile, authority: Authority, known: Pair
) -> None:
    hostile.play(upgraded(showing(known)))
    bascule.login(hostile, PINNED)
    assert [entry.how for entry in bascule.entries(PINNED)] == [How.PIN]
    hostile.play(upgraded(showing(authority.issue(PINNED))))
    said = bascule.refused(hostile, PINNED)
    assert "is not one of its pins" in said.text
    assert BREACH in bascule.alerts(PINNED)[0]


def test_one_that_is_revoked_is_refused_at_once(
    bascule: Operated, hostile: Hostile, authority: Authority
) -> None:
    domain = fresh("kept")
    script = upgraded(showing(authority.issue(domain)))
    hostile.play(script)
    bascule.login(hostile, domain)
    bascule.command("revoke", domain)
    hostile.play(script)
    bascule.refused(hostile, domain)
    assert " alert=revoked " in bascule.alerts(domain)[0]


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_attack_no_session_is_resumed_so_that_each_connection_shows_its_certificate(
    bascule: Operated, hostile: Hostile, authority: Authority, tmp_path: Path, newest: int
) -> None:
    """A server that would resume, and then has another certificate (section 23.2)."""
    domain = fresh("kept")
    context = server_context(authority.issue(domain))
    context.set_max_proto_version(newest)
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_session_id(b"bascule")
    assert _resumes(context)
    for _ in range(2):
        hostile.play(upgraded(answering(context)))
        bascule.login(hostile, domain)
        assert not was_resumed(hostile.peers[0].socket)
    swapped = server_context(alone(tmp_path, domain))
    swapped.set_max_proto_version(newest)
    hostile.play(upgraded(answering(swapped)))
    bascule.refused(hostile, domain)
    assert BREACH in bascule.alerts(domain)[0]


def _resumes(server: SSL.Context) -> bool:
    """Whether a server resumes with a client that wants it."""
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    session = None
    for _ in range(2):
        ours = SSL.Connection(client, None)
        if session is not None:
            ours.set_session(session)
        theirs, ours = agree(server, ours)
        with contextlib.suppress(SSL.WantReadError):
            ours.recv(1)  # takes the tickets in
        session = ours.get_session()
        for end in (ours, theirs):  # a session that ends otherwise is not resumed
            end.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
    return was_resumed(ours)


def test_a_reason_that_is_too_long_is_seen_to_go_on(
    bascule: Operated, hostile: Hostile, authority: Authority
) -> None:
    domain = f"{'x' * 60}.{fresh('kept')}"
    hostile.play(upgraded(showing(authority.issue("other.example"))))
    said = bascule.refused(hostile, domain)
    assert said.held_id == bascule.held(domain)[0].id
    assert len(said.text) == 200
    assert said.text.endswith("…")
