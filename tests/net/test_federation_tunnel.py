"""A server of the network that knows no TLS: a policy for the way there, a listener for that back.

The guide describes it (An old server in a tunnel); dialback takes both ways.
"""

from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.federation import LEGACY, LISTENERS, REMOTE, Grounds
from tests.net.server_streams import anew, answer, message, opened, result, verify

RULES = {**LISTENERS, "tunnel": ("reverse", "none")}
POLICY = {"domain": REMOTE, "level": "none", "ca_file": "system"}


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    directory = tmp_path_factory.mktemp("tunnel")
    with Grounds.made(directory, authority, rules=RULES, policies=[POLICY]) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    _grounds.renew()
    _grounds.remote.play(opened())
    return _grounds


def test_dialback_goes_both_ways_in_plaintext(grounds: Grounds) -> None:
    since = grounds.now()
    with grounds.connecting(grounds.service.ports["tunnel"], REMOTE, LEGACY) as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        stream.send(result(REMOTE, LEGACY))
        ours.read_until(b"</db:result>")
        # Our server asks back, by the way there.
        with grounds.outgoing() as question:
            question.open()
            question.read_features()
            peer = grounds.remote.next()
            question.send(verify(LEGACY, REMOTE, "legacy-1"))
            peer.read_until(b"</db:verify>")
            peer.send(answer(REMOTE, LEGACY, stream_id="legacy-1").encode())
            assert "type='valid'" in question.read_until("<db:verify [^>]*/>")
            assert not peer.secured
        ours.send(answer(LEGACY, REMOTE).encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(answer(LEGACY, REMOTE))
        stream.send(message(REMOTE, LEGACY))
        assert ours.read_until(b"</message>") == message(REMOTE, LEGACY).encode()
    summary = grounds.ended("tunnel", since)
    assert (summary["tls"], summary["proof"]) == ("none", "dialback")


def test_stanzas_go_there_in_plaintext(grounds: Grounds) -> None:
    with grounds.outgoing() as stream:
        stream.open()
        stream.read_features()
        peer = grounds.remote.next()
        stream.let_pass(peer)
        stream.send(message(LEGACY, REMOTE))
        assert peer.read_until(b"</message>") == message(LEGACY, REMOTE).encode()
        assert not peer.secured
    # Its own question about the key comes by the way back.
    with grounds.connecting(grounds.service.ports["tunnel"], REMOTE, LEGACY) as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        stream.send(verify(REMOTE, LEGACY, "remote-1"))
        assert ours.read_until(b"</db:verify>").endswith(b"</db:verify>")
        ours.send(answer(LEGACY, REMOTE, stream_id="remote-1").encode())
        assert "type='valid'" in stream.read_until("<db:verify [^>]*/>")


def test_elsewhere_such_a_server_is_refused(grounds: Grounds) -> None:
    with grounds.connecting(grounds.service.ports["in"], REMOTE, LEGACY) as stream:
        stream.open()
        stream.read_features()
        stream.send(result(REMOTE, LEGACY))
        assert "TLS is required: send &lt;starttls/&gt; first" in stream.read_to_end()
    assert not grounds.legacy.connections
