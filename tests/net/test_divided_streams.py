"""A legacy server that opens one stream for all domains, as jabberd2 does, with real handshakes."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from proxy.session.chain import Chain
from proxy.session.hooks import View
from tests.authority import Authority
from tests.net.divided import ONE, THREE, TWO, UNADDRESSED, told
from tests.net.federation import DIRECT, HOSTING, LEGACY, STRICT, Federation, Grounds, zone
from tests.net.hostile import Hostile, Peer
from tests.net.legacy import LegacyServer, reset
from tests.net.name_server import NameServer
from tests.net.server_streams import (
    DIALBACK,
    END,
    Pair,
    Sender,
    accepting,
    answer,
    message,
    opened,
    result,
    script,
    verify,
)
from tests.servers.stream import SECONDS, plaintext

DOMAINS = (ONE, TWO, THREE)


def lead(names: NameServer, port: int) -> None:
    """Let a name server lead to the server of all domains of the network."""
    zone(names, port)
    for domain in DOMAINS:
        names.add(f"_xmpp-server._tcp.{domain}", "SRV", f"0 5 {port} {HOSTING}.")


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("divided"), authority) as grounds:
        lead(grounds.names, grounds.remote.port)
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A certificate for all domains of the network."""
    return authority.issue(ONE, dns=[*DOMAINS, DIRECT, STRICT])


@contextlib.contextmanager
def divided(grounds: Grounds) -> Iterator[Sender]:
    """Open a stream that does not say to whom, and be answered at once."""
    with grounds.outgoing() as stream:
        stream.send(UNADDRESSED)
        stream.read_until("<stream:stream [^>]*>")
        yield stream


def ask(stream: Sender, peers: Hostile, domain: str) -> Peer:
    """Have the legacy server ask for a domain; return that one's server, which has been asked."""
    stream.send(result(LEGACY, domain))
    peer = peers.next()
    asked = peer.read_until(rb"</db:result>").decode()
    assert f'to="{domain}"' in asked
    return peer


def prove(grounds: Grounds, stream: Sender, domain: str) -> Peer:
    """Have the legacy server's domain proved to another by dialback."""
    peer = ask(stream, grounds.remote, domain)
    peer.send(answer(domain, LEGACY).encode())
    assert stream.read_until("<db:result [^>]*/>") == told(domain, LEGACY)
    return peer


def summaries(grounds: Grounds, ports: Collection[int], count: int) -> list[str]:
    """Wait until so many sessions of the legacy server's have ended; return what is told of it.

    Args:
        grounds: all of them.
        ports: where it has connected from.
        count: how many there must be, one for each connection and one for each branch.
    """
    clients = {f"127.0.0.1:{port}" for port in ports}
    end = time.monotonic() + SECONDS
    while True:
        lines = grounds.service.lines()
        found = re.findall(r".* session ended .* client=(\S+).*", "\n".join(lines))
        if sum(client in clients for client in found) >= count:
            break
        assert time.monotonic() < end, lines
        time.sleep(0.01)
    ended = [line for line in lines if re.search(" session ended .* client=", line)]
    mine = [line for line, client in zip(ended, found, strict=True) if client in clients]
    assert len(mine) == count
    return mine


def port_of(stream: Sender) -> int:
    """Return where the legacy server's end of a stream is."""
    port = stream.connection.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, str]]:
    """How often plugins were told of the end of each session, by the client's port and its id."""
    told_of: Counter[tuple[int, str]] = Counter()
    before = Chain.session_closed

    def session_closed(self: Chain, view: View) -> None:
        told_of[view.client.port, view.id] += 1
        before(self, view)

    monkeypatch.setattr(Chain, "session_closed", session_closed)
    return told_of


def test_three_domains_take_turns_on_one_stream(
    grounds: Grounds, pair: Pair, closed: Counter[tuple[int, str]]
) -> None:
    """Each is proved in its own way: dialback, SASL EXTERNAL, and that by direct TLS."""
    grounds.remote.play(
        script(pair), script(pair, accepting()), script(pair, accepting(), direct=True)
    )
    with divided(grounds) as stream:
        port = port_of(stream)
        peers = {ONE: prove(grounds, stream, ONE)}
        for domain in (STRICT, DIRECT):
            stream.send(result(LEGACY, domain))
            peers[domain] = grounds.remote.next()
            assert stream.read_until("<db:result [^>]*/>") == told(domain, LEGACY)
        for number in range(5):
            sent = {domain: message(LEGACY, domain, f"ü {number}") for domain in peers}
            stream.send("".join(sent.values()))
            for domain, peer in peers.items():
                assert peer.read_until(rb"</message>") == sent[domain].encode()
        for domain, peer in peers.items():
            passed = "".join(message(LEGACY, domain, f"ü {number}") for number in range(5))
            assert peer.sealed.decode().endswith(passed)
            assert peer.sealed.count(b"<message") == 5
            assert len(re.findall(rb"<stream:stream ", peer.sealed)) == (1 if domain == ONE else 2)
        stream.send(END)
        assert stream.read_to_end() == END
        for peer in peers.values():
            assert peer.read_to_end() == END.encode()
            peer.close()
    lines = summaries(grounds, [port], 4)
    for domain, proof in ((ONE, "dialback"), (STRICT, "external"), (DIRECT, "external")):
        [line] = [each for each in lines if f" domain={domain} " in each]
        assert f" origin={LEGACY} " in line
        assert f" proof={proof} " in line
    [trunk] = [each for each in lines if " domain=" not in each]
    assert trunk.endswith(' reason="the client closed the stream"')
    assert [times for (client, _), times in closed.items() if client == port] == [1] * 4


def test_a_domain_that_is_refused_leaves_the_others_be(
    grounds: Grounds, authority: Authority, pair: Pair
) -> None:
    wrong = authority.issue("elsewhere.example")
    grounds.remote.play(script(pair), script(wrong), script(wrong), script(pair))
    with divided(grounds) as stream:
        one = prove(grounds, stream, ONE)
        for domain in (TWO, "unknown.example", TWO):
            stream.send(result(LEGACY, domain) + message(LEGACY, ONE, domain))
            said = stream.read_until("</db:result>")
            assert said.startswith(f'<db:result {DIALBACK} from="{domain}" to="{LEGACY}" type=')
            assert "type='error'" in said
            stream.send(message(LEGACY, ONE))
            expected = message(LEGACY, ONE, domain) + message(LEGACY, ONE)
            assert one.read_until(rb"</message>.*</message>") == expected.encode()
        two = prove(grounds, stream, TWO)
        stream.send(message(LEGACY, TWO) + message(LEGACY, ONE))
        assert two.read_until(rb"</message>") == message(LEGACY, TWO).encode()
        assert one.read_until(rb"</message>") == message(LEGACY, ONE).encode()
    assert one.read_to_end() == b""


def test_no_domain_is_proved_by_another(grounds: Grounds, pair: Pair) -> None:
    """Nor does a server speak for another domain, though its certificate is for both."""
    grounds.remote.play(script(pair), script(pair, opened("remote-2")))
    with divided(grounds) as stream:
        one = prove(grounds, stream, ONE)
        two = ask(stream, grounds.remote, TWO)
        one.send((answer(TWO, LEGACY) + answer(TWO, LEGACY, stream_id="remote-2")).encode())
        assert stream.is_silent()
        stream.send(message(LEGACY, TWO))
        assert "<not-authorized " in stream.read_to_end()
    assert two.read_to_end() == b""


def test_questions_about_keys_go_to_the_domain_that_they_are_about(
    grounds: Grounds, pair: Pair
) -> None:
    grounds.remote.play(script(pair))
    with divided(grounds) as stream:
        stream.send(verify(LEGACY, TWO, "id-1"))
        two = grounds.remote.next()
        asked = two.read_until(rb"</db:verify>").decode()
        assert asked.replace(f" {DIALBACK}", "").replace('"', "'") == verify(LEGACY, TWO, "id-1")
        two.send(answer(TWO, LEGACY, "invalid", "id-1").encode())
        said = stream.read_until("<db:verify [^>]*/>")
        assert DIALBACK in said
        assert 'id="id-1"' in said
        assert "type='invalid'" in said


def test_when_a_server_leaves_what_is_for_others_still_passes(grounds: Grounds, pair: Pair) -> None:
    grounds.remote.play(script(pair))
    with divided(grounds) as stream:
        port = port_of(stream)
        one, two = (prove(grounds, stream, domain) for domain in (ONE, TWO))
        one.close()
        assert stream.read_until(END) == END
        stream.send(message(LEGACY, ONE) + message(LEGACY, TWO))
        assert two.read_until(rb"</message>") == message(LEGACY, TWO).encode()
        stream.send(END)
        assert stream.read_to_end() == ""
        assert two.read_to_end() == END.encode()
        two.close()
    lines = summaries(grounds, [port], 3)
    [trunk] = [each for each in lines if " domain=" not in each]
    assert f"the stream to {ONE} has ended: " in trunk
    assert "stanzas dropped meanwhile: 1" in trunk
    # The next stream is as good as the first.
    with divided(grounds) as stream:
        prove(grounds, stream, ONE)


@pytest.mark.parametrize("how", [lambda each: each.close(), reset], ids=["end", "reset"])
def test_when_the_legacy_server_vanishes_no_end_is_invented(
    grounds: Grounds, pair: Pair, how: Callable[..., None]
) -> None:
    grounds.remote.play(script(pair))
    with divided(grounds) as stream:
        one, two = (prove(grounds, stream, domain) for domain in (ONE, TWO))
        how(stream.connection)
        assert one.read_to_end() == b""
        assert two.read_to_end() == b""


def test_a_server_that_does_not_read_is_waited_for(grounds: Grounds, pair: Pair) -> None:
    grounds.remote.play(script(pair))
    with divided(grounds) as stream:
        one = prove(grounds, stream, ONE)
        sent, large = 0, message(LEGACY, ONE, "x" * 100_000).encode()
        stream.connection.settimeout(0.5)
        left = memoryview(b"")
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                left = left or memoryview(large)
                count = stream.connection.send(left)
                sent, left = sent + count, left[count:]
        assert sent < 32 << 20
        stream.connection.settimeout(SECONDS)
        got = bytearray()
        while len(got) < sent - len(large):
            got += one.socket.recv(65536)
        stream.connection.sendall(left)
        while len(got) < sent + len(left):
            got += one.socket.recv(65536)
        assert got == large * (len(got) // len(large))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_of_many_streams(grounds: Grounds, pair: Pair) -> None:
    grounds.remote.play(script(pair))

    def play(times: int) -> None:
        ports = set()
        for _ in range(times):
            with divided(grounds) as stream:
                ports.add(port_of(stream))
                one, two = (prove(grounds, stream, domain) for domain in (ONE, TWO))
                one.close()
                stream.read_until(END)
            two.close()
        summaries(grounds, ports, 3 * times)

    play(2)
    before = descriptors()
    play(15)
    end = time.monotonic() + SECONDS
    while descriptors() > before:
        assert time.monotonic() < end, (before, descriptors())
        time.sleep(0.05)


def test_the_daemon_ends(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    with contextlib.ExitStack() as stack:
        legacy, remote = stack.enter_context(LegacyServer()), stack.enter_context(Hostile())
        names = stack.enter_context(NameServer())
        lead(names, remote.port)
        remote.play(script(pair))
        with Federation(tmp_path, authority, {LEGACY: legacy.port}, names.port) as service:
            bare = stack.enter_context(plaintext(service.ports["out"], ONE))
            stream = Sender(bare, LEGACY, ONE)
            stream.send(UNADDRESSED)
            stream.read_until("<stream:stream [^>]*>")
            peer = ask(stream, remote, ONE)
            service.secrets |= {re.findall(">([^<]+)</db", peer.sealed.decode())[0]}
            peer.send(answer(ONE, LEGACY).encode())
            assert stream.read_until("<db:result [^>]*/>") == told(ONE, LEGACY)
        said = stream.read_to_end()
        assert "<system-shutdown " in said
        assert said.endswith(f"</stream:error>{END}")
        assert peer.read_to_end() == b""
        ended = [each for each in service.lines() if " session ended " in each]
        assert len(ended) == 2
        assert not any(" error " in each for each in service.lines())
