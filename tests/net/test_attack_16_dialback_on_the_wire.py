"""Attack 16 on the wire: what nobody asked for, what another one asked for, and forged keys."""

import re
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.net.federation import (
    APART,
    LEGACY,
    REMOTE,
    SISTER,
    STRICT,
    Grounds,
    believe,
)
from tests.net.hostile import Peer
from tests.net.legacy import Connection
from tests.net.server_streams import (
    AUTH,
    DIALBACK,
    KEY,
    Sender,
    accepting,
    anew,
    answer,
    message,
    result,
    script,
    verify,
)
from tests.servers.stream import STARTTLS

VICTIM = "victim.example"
"""A domain whose server is not asked for anything here."""


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("attack-16"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


def accept(grounds: Grounds, stream: Sender) -> Connection:
    """Open a stream of a server without a certificate; return our server's end."""
    stream.open()
    stream.read_features()
    return grounds.legacy.next()


def invite(grounds: Grounds, stream: Sender) -> Peer:
    """Open a stream of ours; return the other server's end."""
    stream.open()
    stream.read_features()
    return grounds.remote.next()


UNASKED = {
    "result": answer(REMOTE, LEGACY),
    "result, invalid": answer(REMOTE, LEGACY, "invalid"),
    "result, error": answer(REMOTE, LEGACY, "error"),
    "result of ours": answer(REMOTE, SISTER),
    "result of another": answer(VICTIM, LEGACY),
    "verify": answer(REMOTE, LEGACY, "valid", "legacy-1"),
    "verify of another": answer(VICTIM, LEGACY, "valid", "legacy-1"),
}


@pytest.mark.parametrize("what", UNASKED)
def test_attack_16_what_nobody_asked_for_does_not_come_in(grounds: Grounds, what: str) -> None:
    """CVE-2012-3525: servers that believed such an answer took stanzas from anybody."""
    since = grounds.now()
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        heard = ours.got
        stream.send(UNASKED[what])
        grounds.service.wait_for_line("dropped: an answer of dialback", since)
        assert stream.is_silent()
        # What is asked then, passes; what was answered is not proved.
        stream.send(result(REMOTE, LEGACY))
        ours.read_until(b"</db:result>")
        assert ours.got == heard + anew(result(REMOTE, LEGACY)).encode()
        stream.send(message(REMOTE, LEGACY))
        assert "<not-authorized " in stream.read_to_end()
        assert b"<message" not in ours.read_to_end()


@pytest.mark.parametrize("what", UNASKED)
def test_attack_16_nor_does_it_come_back(grounds: Grounds, what: str) -> None:
    """Nor from a server that ours has asked for something else."""
    since = grounds.now()
    with grounds.outgoing() as stream:
        peer = invite(grounds, stream)
        stream.send(result(LEGACY, REMOTE) + verify(LEGACY, REMOTE, "legacy-9"))
        peer.read_until(rb"</db:verify>")
        asked_for = answer(REMOTE, LEGACY)
        if not UNASKED[what].startswith("<db:result from='remote.example' to='legacy.example'"):
            peer.send(UNASKED[what].encode())
            grounds.service.wait_for_line("dropped: an answer of dialback", since)
            assert stream.is_silent()
        peer.send(asked_for.encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(asked_for)
        peer.send(asked_for.encode())  # once more
        assert stream.is_silent()


def test_attack_16_an_answer_must_come_from_the_domain_asked(grounds: Grounds) -> None:
    since = grounds.now()
    with grounds.outgoing() as stream:
        peer = invite(grounds, stream)
        stream.send(verify(LEGACY, REMOTE, "legacy-7"))
        peer.read_until(rb"</db:verify>")
        for wrong in (
            answer(VICTIM, LEGACY, "valid", "legacy-7"),
            answer(REMOTE, SISTER, "valid", "legacy-7"),
            answer(REMOTE, LEGACY, "valid", "legacy-8"),
            answer(REMOTE, LEGACY),
        ):
            peer.send(wrong.encode())
        right = answer(REMOTE, LEGACY, "invalid", "legacy-7")
        peer.send(right.encode())
        assert stream.read_until("<db:verify [^>]*/>") == anew(right)
        peer.send(right.encode())  # nobody asks any more
        assert stream.is_silent()
    dropped = [line for line in grounds.service.lines(since) if "dropped: an answer" in line]
    assert len(dropped) == 5


def test_attack_16_ours_does_not_ask_one_server_for_another(grounds: Grounds) -> None:
    """It would get the victim's answer from whoever has made it connect."""
    with grounds.outgoing() as stream:
        peer = invite(grounds, stream)
        stream.send(verify(LEGACY, VICTIM, "legacy-7") + result(LEGACY, VICTIM))
        said = stream.read_until("</db:verify>.*</db:result>")
        assert said.count("<not-authorized ") == 2
        stream.send(result(LEGACY, REMOTE))
        peer.read_until(b"</db:result>")
        assert b"victim" not in peer.sealed


def test_attack_16_a_piggybacked_domain_needs_a_proof_of_its_own(grounds: Grounds) -> None:
    with grounds.authenticated() as stream:
        stream.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        believe(grounds, ours, "legacy-2")
        ours.read_until(b"</message>")
        # It is in the policy of one that dialback does not do...
        stream.send(result(STRICT, LEGACY))
        assert "<not-authorized " in stream.read_until("</db:result>")
        # ... while ours is asked for the other one, and is not convinced.
        stream.send(result(VICTIM, LEGACY))
        assert ours.read_until(b"</db:result>") == anew(result(VICTIM, LEGACY)).encode()
        ours.send(answer(LEGACY, VICTIM, "invalid").encode())
        assert "type='invalid'" in stream.read_until("<db:result [^>]*/>")
        stream.send(message(VICTIM, LEGACY))
        assert "<invalid-from " in stream.read_to_end()
        assert b"<message" not in ours.read_to_end()


@pytest.mark.parametrize("to", [SISTER, APART, "nobody.example"])
def test_attack_16_what_is_proved_to_one_is_not_proved_to_another(
    grounds: Grounds, to: str
) -> None:
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.let_pass(ours)
        stream.send(message(REMOTE, to))
        assert "<not-authorized " in stream.read_to_end()
        assert b"<message" not in ours.read_to_end()


@pytest.mark.parametrize("to", [APART, "nobody.example"])
def test_attack_16_ours_is_not_asked_for_what_it_does_not_serve(grounds: Grounds, to: str) -> None:
    """Not even for what another server of ours does."""
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.send(result(REMOTE, to) + verify(REMOTE, to, "remote-7"))
        said = stream.read_until("</db:result>.*</db:verify>")
        assert said.count("<item-not-found ") == 2
        assert stream.is_silent()
        assert ours.got == stream.header().encode()


@pytest.mark.parametrize("wrong", ["key", "id", "pair"])
def test_attack_16_only_what_was_issued_is_vouched_for(grounds: Grounds, wrong: str) -> None:
    """Ours asks about something near a key that is live: the other server has to answer that."""
    with grounds.authenticated() as stream, grounds.outgoing() as back:
        stream.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        asked = ours.read_until(b"</db:result>").decode()
        [key] = re.findall(">([^<]+)</db:result>", asked)
        grounds.service.secrets.add(key)
        peer = invite(grounds, back)
        if wrong == "key":
            changed = ("0" if key[-1] != "0" else "1").join((key[:-1], ""))
            back.send(verify(LEGACY, REMOTE, "legacy-2", changed))
            assert "type='invalid'" in back.read_until("<db:verify [^>]*/>")
        else:
            # The same text, cut elsewhere (CVE-2016-0756).
            stream_id = "legacy-2" + REMOTE[:1] if wrong == "id" else "legacy-2"
            sender = SISTER if wrong == "pair" else LEGACY
            back.send(verify(sender, REMOTE, stream_id, key))
            peer.read_until(b"</db:verify>")
            assert back.is_silent()
        back.send(verify(LEGACY, REMOTE, "legacy-2", key))
        assert "type='valid'" in back.read_until("<db:verify [^>]*/>")


def test_attack_16_a_key_lives_no_longer_than_its_stream(grounds: Grounds) -> None:
    with grounds.outgoing() as back:
        peer = invite(grounds, back)
        since = grounds.now()
        with grounds.authenticated() as stream:
            stream.send(message(REMOTE, LEGACY))
            grounds.legacy.next()
            asked = grounds.legacy.next().read_until(b"</db:result>").decode()
        [key] = re.findall(">([^<]+)</db:result>", asked)
        grounds.ended("in", since)
        back.send(verify(LEGACY, REMOTE, "legacy-2", key))
        peer.read_until(b"</db:verify>")  # it is for the other server to say


def test_attack_16_nobody_outside_is_vouched_for_by_our_key(grounds: Grounds) -> None:
    """A server that has got at the key of another stream does not pass with it."""
    with grounds.authenticated() as stream:
        stream.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        told = grounds.legacy.next().read_until(b"</db:result>").decode()
        [key] = re.findall(">([^<]+)</db:result>", told)
        grounds.service.secrets.add(key)
        with grounds.incoming() as other:
            other.open()
            other.read_features()
            third = grounds.legacy.next()
            other.send(result(REMOTE, LEGACY, key))
            asked = anew(result(REMOTE, LEGACY, key))
            assert third.read_until(b"</db:result>").endswith(asked.encode())
            with grounds.outgoing() as back:
                peer = invite(grounds, back)
                back.send(verify(LEGACY, REMOTE, "legacy-3", key))  # the other stream's id
                peer.read_until(b"</db:verify>")
                assert back.is_silent()


def test_attack_16_before_tls_there_is_no_dialback(grounds: Grounds) -> None:
    sent = (result(REMOTE, LEGACY), verify(REMOTE, LEGACY, "x"), answer(REMOTE, LEGACY))
    for element in sent:
        with grounds.connecting(grounds.service.ports["in"], REMOTE, LEGACY) as stream:
            stream.open()
            stream.read_features()
            stream.send(element)
            assert "<policy-violation " in stream.read_to_end()
    assert grounds.legacy.connections == []


def test_attack_16_dialback_before_tls_is_not_found_after_it(grounds: Grounds) -> None:
    """It is in one segment with the order to begin TLS, as CVE-2011-0411 has it."""
    with grounds.connecting(grounds.service.ports["in"], REMOTE, LEGACY) as stream:
        stream.open()
        stream.read_features()
        stream.send(STARTTLS + result(REMOTE, LEGACY).encode())
        said = stream.read_to_end()
        assert "<failure " in said
        assert "<proceed" not in said
    assert grounds.legacy.connections == []


def test_attack_16_broken_dialback_is_refused(grounds: Grounds) -> None:
    broken = [
        f"<db:result from='{REMOTE}'>{KEY}</db:result>",
        f"<db:result to='{LEGACY}'>{KEY}</db:result>",
        f"<db:result from='a@{REMOTE}' to='{LEGACY}'>{KEY}</db:result>",
        f"<db:result from='{REMOTE}' to='{LEGACY}'/>",
        f"<db:result from='{REMOTE}' to='{LEGACY}' type='granted'/>",
        f"<db:verify from='{REMOTE}' to='{LEGACY}'>{KEY}</db:verify>",
        f"<db:grant from='{REMOTE}' to='{LEGACY}'/>",
        f"<db:result from='{REMOTE}' to='{LEGACY}'>{'k' * 2000}</db:result>",
        f"<other:result xmlns:other='{DIALBACK[10:-1]}' from='{REMOTE}' to='{LEGACY}'/>",
    ]
    for element in broken:
        with grounds.incoming() as stream:
            ours = accept(grounds, stream)
            stream.send(element)
            assert "<stream:error>" in stream.read_to_end()
            assert ours.got == stream.header().encode()


def test_attack_16_the_other_server_asks_for_nothing_on_our_stream(grounds: Grounds) -> None:
    """A stream is for one direction, and so are the requests on it."""
    grounds.remote.play(script(grounds.certificates[REMOTE], accepting()))
    with grounds.outgoing() as stream:
        peer = invite(grounds, stream)
        peer.send((result(REMOTE, LEGACY) + verify(REMOTE, LEGACY, "remote-2")).encode())
        assert stream.is_silent()
        peer.send(message(REMOTE, LEGACY).encode())
        said = stream.read_to_end()
        assert "<remote-connection-failed " in said
        assert "<message" not in said


def test_attack_16_our_proof_is_not_said_twice(grounds: Grounds) -> None:
    """Who restarts a stream as another one has proved nothing."""
    with grounds.incoming(pair=grounds.certificates[REMOTE]) as stream:
        stream.open()
        stream.read_features()
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        stream.sender = VICTIM
        stream.send(stream.header() + message(VICTIM, LEGACY))
        assert "<not-authorized " in stream.read_to_end()
    assert all(b"victim" not in each.got for each in grounds.legacy.connections)
