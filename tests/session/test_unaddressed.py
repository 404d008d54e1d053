"""A server of ours opens a stream and does not say to whom, as jabberd2 does."""

from collections.abc import Callable

import pytest
from lxml import etree

from proxy.session.commands import (
    Arm,
    Deadline,
    Disarm,
    Resume,
    Send,
)
from proxy.session.hooks import Condition
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.federation import (
    GOING_OUT,
    OPENING_FOR_UNADDRESSED,
    UNADDRESSED,
    InboundPlaybook,
    OutboundPlaybook,
    Peers,
    key_of,
    never,
)
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    SUCCESS,
    WITH_EXTERNAL,
    anew,
    answer,
    answered,
    auth,
    message,
    own_answer,
    own_error,
    own_result,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, finished, refused
from tests.session.sessions import to_client, to_server

REQUEST, VALID = result(LOCAL, REMOTE), answer(REMOTE, LOCAL, "valid")
SHOWN = (Disarm(Deadline.CONNECT), Disarm(Deadline.WAY))
STANZA = message(f"b@{LOCAL}", f"a@{REMOTE}")


def rules_out() -> Peers:
    return Peers(policies=never(REMOTE))


def test_an_unaddressed_stream_is_opened_by_what_is_asked_on_it() -> None:
    play = OutboundPlaybook().to_vouching()
    play.server(VALID).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "valid")), Disarm(Deadline.AUTHENTICATION)
    )
    assert play.issued == 0
    play.client(STANZA).then(Send(SERVER, STANZA))


@pytest.mark.parametrize("kind", ["invalid", "error"])
def test_the_other_server_does_not_believe_our_key(kind: str) -> None:
    play = OutboundPlaybook().to_vouching()
    said = own_answer(REMOTE, LOCAL, "invalid")
    if kind == "error":
        said = own_error(REMOTE, LOCAL, "undefined-condition")
    play.server(answer(REMOTE, LOCAL, kind)).then(Send(CLIENT, said))
    assert play.issued == 0
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


def test_the_other_server_asks_about_our_key_on_its_way_in() -> None:
    play = OutboundPlaybook().to_vouching()
    key = key_of(play.commands)
    inside = InboundPlaybook(play.rules)
    play.rules.outgoing = False
    inside.to_streams()
    inside.client(verify(REMOTE, LOCAL, "r2", key)).then(
        Send(CLIENT, own_answer(LOCAL, REMOTE, "valid", "r2"))
    )
    inside.client(verify(REMOTE, LOCAL, "r2", "x" + key[1:])).then(
        Send(CLIENT, own_answer(LOCAL, REMOTE, "invalid", "r2"))
    )


def test_an_unaddressed_stream_goes_by_external_where_that_is_taken() -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(REQUEST).then(*GOING_OUT)
    play.to_handshake().proved(REMOTE).then(Send(SERVER, OPENING_FOR_UNADDRESSED))
    play.server(answered("r2", REMOTE) + WITH_EXTERNAL).then(Send(SERVER, auth(LOCAL)))
    play.server(SUCCESS).then(Send(SERVER, OPENING_FOR_UNADDRESSED))
    play.server(answered("r3", REMOTE) + FEATURES).then(
        *SHOWN,
        Send(CLIENT, own_answer(REMOTE, LOCAL, "valid")),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
    )
    play.client(STANZA).then(Send(SERVER, STANZA))


def test_an_unaddressed_stream_asks_about_keys() -> None:
    play = OutboundPlaybook().to_unaddressed()
    asked = verify(LOCAL, REMOTE, "L1")
    play.client(asked).then(*GOING_OUT)
    play.to_handshake().proved(REMOTE).then(Send(SERVER, OPENING_FOR_UNADDRESSED))
    play.server(answered("r2", REMOTE) + FEATURES).then(*SHOWN, Send(SERVER, anew(asked)), Resume())
    play.server(answer(REMOTE, LOCAL, "valid", "L1")).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "valid", "L1"))
    )


def test_what_an_unaddressed_stream_gets_is_namespace_well_formed() -> None:
    """The other server's header does not reach ours there, so its prefixes must not either."""
    play = OutboundPlaybook().to_unaddressed()
    play.client(verify(LOCAL, REMOTE, "L1")).gave()
    play.to_handshake().proved(REMOTE).gave()
    play.server(answered("r2", REMOTE) + FEATURES).gave()
    play.server(answer(REMOTE, LOCAL, "valid", "L1")).gave()
    read = etree.fromstring(to_client(play.commands) + FOOTER)
    assert read[0].tag == f"{{{ns.DIALBACK}}}verify"


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        (STANZA, Condition.IMPROPER_ADDRESSING),
        (auth(), Condition.IMPROPER_ADDRESSING),
        (result("other.example", REMOTE), Condition.INVALID_FROM),
        (result(LOCAL, "b@c"), Condition.IMPROPER_ADDRESSING),
        (b"<db:other from='a' to='b'/>", Condition.BAD_FORMAT),
    ],
)
def test_what_does_not_address_an_unaddressed_stream_ends_it(
    said: bytes, condition: Condition
) -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(said).then(*refused(condition))
    assert to_server(play.commands) == b""


def test_an_unaddressed_stream_to_where_nothing_may_go_is_refused() -> None:
    play = OutboundPlaybook(Peers(unreachable=(REMOTE,))).to_unaddressed()
    play.client(REQUEST).then(*refused(Condition.HOST_UNKNOWN))


def test_an_unaddressed_stream_is_held_to_a_policy_without_dialback() -> None:
    play = OutboundPlaybook(rules_out()).to_unaddressed()
    play.client(REQUEST).then(*GOING_OUT)
    play.to_handshake().proved(REMOTE).then(Send(SERVER, OPENING_FOR_UNADDRESSED))
    error = own_error(REMOTE, LOCAL, "not-authorized")
    play.server(answered("r2", REMOTE) + FEATURES).then(*SHOWN, Send(CLIENT, error), Resume())
    assert play.issued == 0
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


def test_a_second_request_on_an_unaddressed_stream_is_vouched_for_too() -> None:
    play = OutboundPlaybook().to_vouching()
    play.client(result(LOCAL_2, REMOTE))
    key = key_of(play.gave())
    assert play.issued == 2
    assert to_server(play.commands).endswith(own_result(LOCAL_2, REMOTE, key))
    play.server(answer(REMOTE, LOCAL_2, "valid")).ending(Disarm(Deadline.AUTHENTICATION))
    stanza = message(f"b@{LOCAL}", f"a@{REMOTE}")
    play.client(stanza).then(*refused(Condition.INVALID_FROM))
    assert play.issued == 0


def test_a_pair_that_was_vouched_for_is_proved_no_longer_when_the_other_one_says_so() -> None:
    play = OutboundPlaybook().to_vouching()
    play.server(VALID).gave()
    play.client(REQUEST).gave()
    play.server(answer(REMOTE, LOCAL, "invalid")).gave()
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


@pytest.mark.parametrize(
    "end",
    [
        lambda play: play.lost(CLIENT),
        lambda play: play.lost(SERVER),
        lambda play: play.server(FOOTER),
        lambda play: play.server(b"<>"),
        lambda play: play.client(b"<>"),
        lambda play: play.shut_down(),
        lambda play: play.expired(Deadline.AUTHENTICATION),
    ],
)
def test_keys_are_withdrawn_however_the_session_ends(
    end: Callable[[OutboundPlaybook], OutboundPlaybook],
) -> None:
    play = OutboundPlaybook().to_vouching()
    assert play.issued == 1
    end(play).gave()
    assert play.issued == 0


def test_keys_are_withdrawn_when_the_stream_has_ended_in_good_order() -> None:
    play = OutboundPlaybook().to_vouching()
    play.client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    play.server(FOOTER).then(Send(CLIENT, FOOTER), *finished(close=(CLIENT, SERVER)))
    assert play.issued == 0


def test_an_answer_for_an_unaddressed_stream_opens_nothing() -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(answer(LOCAL, REMOTE, "valid")).gave()
    assert UNADDRESSED not in to_server(play.commands)
    assert not any(isinstance(each, type(GOING_OUT[3])) for each in play.commands)


# Before it has said to whom it is


def test_white_space_keeps_it_alive_and_goes_nowhere() -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(b" ").then()
    play.client(b"\n" + REQUEST).then(*GOING_OUT)


def test_it_may_end_at_once() -> None:
    play = OutboundPlaybook().to_unaddressed()
    play.client(FOOTER).then(
        Send(CLIENT, FOOTER), *finished("closed the stream", close=[CLIENT, SERVER])
    )


@pytest.mark.parametrize("asked", [result(LOCAL, REMOTE), verify(LOCAL, REMOTE, "L1")])
def test_it_goes_to_no_domain_that_may_not_be_reached(asked: bytes) -> None:
    play = OutboundPlaybook(Peers(unreachable=(REMOTE,))).to_unaddressed()
    play.client(asked).then(
        *refused(Condition.HOST_UNKNOWN, f"{REMOTE} is not among the domains of this listener")
    )
