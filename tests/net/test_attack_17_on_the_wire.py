"""Attack 17 on the wire: our servers believe what comes from us, so nobody else may speak as us."""

import re
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.federation import APART, LEGACY, REMOTE, SISTER, Grounds
from tests.net.server_streams import (
    message,
    result,
    verify,
)

OURS = [LEGACY, SISTER, APART, "LEGACY.Example", "legacy.example.", "\uff4cegacy.example"]
"""Domains that are ours, however they are written."""

NOBODY = ["", "user@legacy.example", "legacy.example/x", "127.0.0.1", "-"]


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("attack-17"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


@pytest.mark.parametrize("sender", OURS)
@pytest.mark.parametrize("way", ["starttls", "direct"])
def test_attack_17_nobody_opens_a_stream_as_one_of_ours(
    grounds: Grounds, sender: str, way: str
) -> None:
    """Not even with a certificate for it."""
    pair = grounds.authority.issue(LEGACY, dns=[LEGACY, SISTER, APART])
    with grounds.incoming(REMOTE, pair=pair, way=way) as stream:
        stream.sender = sender
        stream.send(stream.header())
        assert "<invalid-from " in stream.read_to_end()
    assert grounds.legacy.connections == grounds.apart.connections == []


@pytest.mark.parametrize("sender", OURS)
def test_attack_17_nor_in_plaintext(grounds: Grounds, sender: str) -> None:
    with grounds.connecting(grounds.service.ports["in"], sender, LEGACY) as stream:
        stream.send(stream.header())
        said = stream.read_to_end()
        assert "<invalid-from " in said
        assert "starttls" not in said


@pytest.mark.parametrize("sender", OURS)
def test_attack_17_nobody_asks_for_a_pair_as_one_of_ours(grounds: Grounds, sender: str) -> None:
    for proved in (False, True):
        grounds.renew()
        for asked in (result(sender, LEGACY), verify(sender, LEGACY, "legacy-1")):
            with grounds.incoming() as stream:
                stream.open()
                stream.read_features()
                ours = grounds.legacy.next()
                if proved:
                    stream.let_pass(ours)
                heard = ours.got
                stream.send(asked)
                assert re.search("<(invalid-from|improper-addressing) ", stream.read_to_end())
                assert ours.got == heard
                assert ours.read_to_end() == b""


@pytest.mark.parametrize("sender", [*OURS, *NOBODY, "another.example"])
def test_attack_17_no_stanza_passes_as_from_one_of_ours(grounds: Grounds, sender: str) -> None:
    with grounds.incoming() as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        stream.let_pass(ours)
        stream.send(message(REMOTE, LEGACY))
        ours.read_until(b"</message>")
        forged = f"<message from='{sender}' to='a@{LEGACY}'><body>forged</body></message>"
        stream.send(forged)
        assert re.search("<(invalid-from|improper-addressing) ", stream.read_to_end())
        assert ours.read_to_end() == b""


TRICKS = {
    "no from": "<message to='a@legacy.example'><body>forged</body></message>",
    "no to": "<message from='a@remote.example'><body>forged</body></message>",
    "an entity": "<message from='&#x6C;egacy.example' to='a@legacy.example'/>",
    "a prefix": (
        "<message xmlns:x='urn:x' x:from='a@remote.example' from='a@legacy.example' "
        "to='a@legacy.example'/>"
    ),
    "a slash": "<message from='legacy.example/a@remote.example' to='a@legacy.example'/>",
    "two": "<message from='a@remote.example@legacy.example' to='a@legacy.example'/>",
    "quotation marks": (
        """<message id="from='a@remote.example'" from='a@legacy.example' to='a@legacy.example'/>"""
    ),
    "a comment": "<message><!-- <message from='a@remote.example'/> --></message>",
    "twice": "<message from='a@remote.example' from='a@legacy.example' to='a@legacy.example'/>",
    "an end": "</stream:stream><message from='a@remote.example' to='a@legacy.example'/>",
    "another namespace": (
        "<message xmlns='jabber:client' from='a@legacy.example' to='a@legacy.example'/>"
    ),
    "behind a stanza that may pass": (
        "<message from='a@remote.example' to='a@legacy.example'/>"
        "<message from='a@legacy.example' to='a@legacy.example'/>"
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_attack_17_whatever_the_trick(grounds: Grounds, trick: str) -> None:
    with grounds.incoming() as stream:
        stream.open()
        stream.read_features()
        ours = grounds.legacy.next()
        stream.let_pass(ours)
        stream.send(message(REMOTE, LEGACY))
        ours.read_until(b"</message>")
        stream.send(TRICKS[trick])
        if trick == "an end":
            assert ours.read_until(b"</stream:stream>") == b"</stream:stream>"
            ours.send(b"</stream:stream>")
            stream.read_to_end()
            assert ours.read_to_end() == b""
            return
        assert "<stream:error>" in stream.read_to_end()
        passed = b"<message from='a@remote.example' to='a@legacy.example'/>"
        rest = ours.read_to_end()
        assert rest == (passed if trick.startswith("behind") else b"")


@pytest.mark.parametrize("sender", [REMOTE, "another.example", "127.0.0.1"])
def test_attack_17_what_is_for_our_servers_alone_leads_nobody_else_out(
    grounds: Grounds, sender: str
) -> None:
    """Who gets at the forward listener can at least not speak as others than ours."""
    with grounds.outgoing(sender) as stream:
        stream.send(stream.header())
        assert "<invalid-from " in stream.read_to_end()
    assert grounds.remote.peers == []


@pytest.mark.parametrize("sent", [result(REMOTE, REMOTE), message(REMOTE, REMOTE)])
def test_attack_17_nor_in_the_middle_of_a_stream(grounds: Grounds, sent: str) -> None:
    with grounds.outgoing() as stream:
        stream.open()
        stream.read_features()
        peer = grounds.remote.next()
        stream.let_pass(peer)
        heard = peer.sealed
        stream.send(sent)
        assert "<invalid-from " in stream.read_to_end()
        assert peer.read_to_end() == b""
        assert peer.sealed == heard


def test_attack_17_our_server_is_not_told_that_it_is_itself(grounds: Grounds) -> None:
    """Its stream comes back to it through us: from our address, but not with its word."""
    port = grounds.service.ports["in"]
    grounds.names.add(f"_xmpp-server._tcp.{APART}", "SRV", f"0 5 {port} xmpp.hosting.example.")
    with grounds.outgoing(LEGACY, APART) as stream:
        stream.send(stream.header())
        assert "<stream:error>" in stream.read_to_end()
    assert grounds.apart.connections == []
