"""Attack 16: a key of the proxy's own is used for something else (CVE-2016-0756)."""

from collections.abc import Callable

import pytest

from proxy.session.commands import Deadline, Send
from proxy.session.dialback import Pair
from proxy.xmpp.errors import FOOTER
from tests.session.federation import InboundPlaybook, OutboundPlaybook, Peers, key_of
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    VICTIM,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    own_answer,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER
from tests.session.sessions import to_client, to_server

VALID = answer(LOCAL, REMOTE, "valid")


def convincing(rules: Peers, sender: str = REMOTE, stream_id: str = "L2") -> InboundPlaybook:
    """A session in which our server has been given a key for ``sender``."""
    play = InboundPlaybook(rules)
    rules.outgoing = False
    play.to_tls(sender, sender=sender).to_stream(opened(sender, LOCAL))
    play.client(auth()).gave()
    play.to_stream(opened(sender, LOCAL), stream_id=stream_id)
    return play.to_convincing(message(f"a@{sender}"), (sender, LOCAL))


def asking(rules: Peers) -> OutboundPlaybook:
    return OutboundPlaybook(rules).to_streams()


@pytest.mark.parametrize(
    ("sender", "to", "stream_id"),
    [
        (LOCAL, REMOTE, "L1"),
        (LOCAL, REMOTE, "L22"),
        (LOCAL, REMOTE, "l2"),
        (LOCAL_2, REMOTE, "L2"),
    ],
)
def test_a_key_is_not_answered_for_anything_else(sender: str, to: str, stream_id: str) -> None:
    """What we have not issued, the other server is asked about; we say nothing."""
    rules = Peers()
    key = key_of(convincing(rules).commands)
    asked = verify(sender, to, stream_id, key)
    asking(rules).client(asked).then(Send(SERVER, anew(asked)))


@pytest.mark.parametrize("key", ["k3y", "0" * 64, "\u00e9", "valid"])
def test_a_forged_key_is_answered_here_and_the_other_server_is_not_asked(key: str) -> None:
    rules = Peers()
    convincing(rules)
    asking(rules).client(verify(LOCAL, REMOTE, "L2", key)).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "invalid", "L2"))
    )


def test_the_key_of_one_server_is_not_that_of_another() -> None:
    rules = Peers()
    keys = {
        sender: key_of(convincing(rules, sender, "L2").commands) for sender in (REMOTE, REMOTE_2)
    }
    play = OutboundPlaybook(rules).to_streams(REMOTE_2)
    play.client(verify(LOCAL, REMOTE, "L2", keys[REMOTE_2])).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "invalid", "L2"))
    )
    play.client(verify(LOCAL, REMOTE_2, "L2", keys[REMOTE_2])).then(
        Send(CLIENT, own_answer(REMOTE_2, LOCAL, "valid", "L2"))
    )


def test_the_key_of_one_stream_is_not_that_of_another() -> None:
    rules = Peers()
    one, two = (key_of(convincing(rules, stream_id=each).commands) for each in ("La", "Lb"))
    play = asking(rules)
    play.client(verify(LOCAL, REMOTE, "La", two)).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "invalid", "La"))
    )
    play.client(verify(LOCAL, REMOTE, "Lb", one)).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "invalid", "Lb"))
    )


def test_domains_and_ids_cannot_be_shifted_into_one_another() -> None:
    """CVE-2016-0756: the id "sl" and "x.example" together are "s" and "lx.example"."""
    rules = Peers()
    key = key_of(convincing(rules, "x.example", "sl").commands)
    play = convincing(rules, "lx.example", "s")
    assert key != key_of(play.commands)


def test_a_withdrawn_key_is_none_of_ours() -> None:
    rules = Peers()
    play = convincing(rules)
    key = key_of(play.commands)
    play.server(VALID).gave()
    asked = verify(LOCAL, REMOTE, "L2", key)
    asking(rules).client(asked).then(Send(SERVER, anew(asked)))


def test_a_key_that_the_other_server_gets_is_good_for_itself_alone() -> None:
    """It chooses the id that the key is made of, and may choose somebody else's."""
    rules = Peers()
    play = OutboundPlaybook(rules).to_unaddressed().client(result(LOCAL, REMOTE))
    play.gave()
    play.to_handshake().proved(REMOTE).gave()
    play.server(answered("id-of-the-victims-stream", REMOTE) + FEATURES)
    key = key_of(play.gave())
    assert rules.ledger.check(Pair(LOCAL, REMOTE), "id-of-the-victims-stream", key) is True
    assert rules.ledger.check(Pair(LOCAL, VICTIM), "id-of-the-victims-stream", key) is None
    rules.outgoing = False
    victim = InboundPlaybook(rules).to_tls().to_stream(opened(VICTIM, LOCAL))
    asked = verify(VICTIM, LOCAL, "id-of-the-victims-stream", key)
    victim.client(asked).then(Send(SERVER, anew(asked)))


def test_a_key_for_one_direction_is_none_for_the_other() -> None:
    rules = Peers()
    key = key_of(convincing(rules).commands)
    rules.outgoing = False
    inside = InboundPlaybook(rules).to_streams()
    asked = verify(REMOTE, LOCAL, "L2", key)
    inside.client(asked).then(Send(SERVER, anew(asked)))


def test_an_id_that_was_issued_to_nobody_brings_no_key() -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(result(LOCAL, REMOTE)).gave()
    play.to_handshake().proved(REMOTE).gave()
    play.server(answered("", REMOTE).replace(b" id=''", b"") + FEATURES).gave()
    assert b"<db:result" not in to_server(play.commands)
    assert b"type='error'" in to_client(play.commands)
    assert play.issued == 0


def test_a_session_that_is_over_has_no_keys() -> None:
    ends: list[Callable[[InboundPlaybook], object]] = [
        lambda play: play.lost(CLIENT).gave(),
        lambda play: play.lost(SERVER).gave(),
        lambda play: play.shut_down().gave(),
        lambda play: play.server(FOOTER).gave(),
        lambda play: play.server(b"</x>").gave(),
        lambda play: play.server(message()).gave(),
        lambda play: play.expired(Deadline.CONNECT).gave(),
        lambda play: play.expired(Deadline.AUTHENTICATION).gave(),
        lambda play: play.tls_failed().gave(),
    ]
    for end in ends:
        play = InboundPlaybook().to_authenticated().to_convincing()
        assert play.issued == 1
        end(play)
        assert play.issued == 0
