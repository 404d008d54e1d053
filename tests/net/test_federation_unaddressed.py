"""Streams that our servers open without saying to whom, as jabberd 1.4 does."""

import re
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.federation import DIRECT, LEGACY, REMOTE, SISTER, Grounds
from tests.net.hostile import Peer
from tests.net.server_streams import KEY, Sender, answer, message, result, script, verify


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("unaddressed"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


def key_of(peer: Peer) -> str:
    """Return the key with which the proxy asks another server for a pair."""
    asked = peer.read_until(rb"</db:result>").decode()
    [key] = re.findall(">([^<]+)</db:result>", asked)
    assert isinstance(key, str)
    return key


def unaddressed(stream: Sender) -> None:
    """Open a stream without an address, and be answered at once."""
    opening = re.sub(" (to|from)='[^']*'", "", stream.header(version=None))
    stream.send(opening)
    said = stream.read_until("<stream:stream [^>]*>")
    assert re.search(" id=['\"]([^'\"]{10,})", said)
    assert "version" not in said.replace("<?xml version", "")


def test_a_stream_without_an_address_is_led_by_its_first_pair(grounds: Grounds) -> None:
    with grounds.outgoing() as stream:
        unaddressed(stream)
        assert grounds.remote.peers == []
        stream.send(result(LEGACY, REMOTE))
        peer = grounds.remote.next()
        key = key_of(peer)
        grounds.service.secrets.add(key)
        assert key != KEY
        with grounds.incoming(pair=grounds.certificates[REMOTE]) as back:
            back.open()
            back.send(verify(REMOTE, LEGACY, "remote-1", key))
            assert "type='valid'" in back.read_until("<db:verify [^>]*>")
            back.send(verify(REMOTE, LEGACY, "remote-1", key[::-1]))
            assert "type='invalid'" in back.read_until("<db:verify [^>]*>")
        peer.send(answer(REMOTE, LEGACY).encode())
        assert "type='valid'" in stream.read_until("<db:result [^>]*/>")
        stream.send(message(LEGACY, REMOTE))
        assert peer.read_until(rb"</message>") == message(LEGACY, REMOTE).encode()
        assert KEY.encode() not in peer.sealed


def test_without_an_address_nobody_else_may_be_named(grounds: Grounds) -> None:
    for sent in (result(REMOTE, DIRECT), message(LEGACY, REMOTE), result(LEGACY, LEGACY)):
        with grounds.outgoing() as stream:
            unaddressed(stream)
            stream.send(sent)
            said = stream.read_until("</db:result>|</stream:stream>")
            assert "<stream:error>" in said or "type='error'" in said
    assert grounds.remote.peers == []


def test_one_such_stream_may_lead_to_several_servers(grounds: Grounds) -> None:
    """What is said to one of them, or is proved to it, is nothing to the other."""
    grounds.remote.play(
        script(grounds.certificates[REMOTE]), script(grounds.certificates[DIRECT], direct=True)
    )
    with grounds.outgoing() as stream:
        unaddressed(stream)
        peers = {}
        for to in (REMOTE, DIRECT):
            stream.send(result(LEGACY, to))
            peers[to] = grounds.remote.next()
            grounds.service.secrets.add(key_of(peers[to]))
            peers[to].send(answer(to, LEGACY).encode())
            assert "type='valid'" in stream.read_until("<db:result [^>]*/>")
        for number in range(5):
            for to, peer in peers.items():
                stanza = message(LEGACY, to, f"{number}")
                stream.send(stanza)
                assert peer.read_until(b"</message>") == stanza.encode()
        assert DIRECT.encode() not in peers[REMOTE].sealed
        assert REMOTE.encode() not in peers[DIRECT].sealed
        stream.send(message(SISTER, REMOTE))
        assert b"sister" not in peers[REMOTE].read_to_end()
