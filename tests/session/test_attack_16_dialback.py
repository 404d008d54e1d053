"""Attack 16: answers nobody asked for, keys for something else, proofs of somebody else."""

import pytest

from proxy.session.commands import Deadline, Disarm, Join, Send
from proxy.session.hooks import Condition, TLSRule
from proxy.xmpp import namespaces as ns
from tests.session.federation import InboundPlaybook, OutboundPlaybook
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
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server

REQUEST, VALID = result(REMOTE, LOCAL), answer(LOCAL, REMOTE, "valid")


# Answers that nobody has asked for (CVE-2012-3525)


@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
@pytest.mark.parametrize("stream_id", [None, "L1"])
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated", "to_convinced"])
def test_a_server_that_connects_answers_nothing(
    kind: str, stream_id: str | None, start: str
) -> None:
    """Our server asks on its own stream; on this one every answer is a forgery."""
    play = getattr(InboundPlaybook(), start)()
    play.client(answer(REMOTE, LOCAL, kind, stream_id)).then()
    play.client(answer(VICTIM, LOCAL, kind, stream_id)).then()
    assert play.told("nobody has asked for")


@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
@pytest.mark.parametrize("stream_id", [None, "r2"])
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_accepted"])
def test_a_server_that_is_connected_to_answers_what_it_was_asked(
    kind: str, stream_id: str | None, start: str
) -> None:
    play = getattr(OutboundPlaybook(), start)()
    play.server(answer(REMOTE, LOCAL, kind, stream_id)).then()
    play.server(answer(VICTIM, LOCAL, kind, stream_id)).then()
    assert play.told("nobody has asked for")


def test_an_answer_comes_once() -> None:
    play = OutboundPlaybook().to_dialled()
    play.server(answer(REMOTE, LOCAL, "valid")).then()
    play.client(verify(LOCAL, REMOTE, "L1")).then(Send(SERVER, anew(verify(LOCAL, REMOTE, "L1"))))
    said = answer(REMOTE, LOCAL, "invalid", "L1")
    play.server(said).then(Send(CLIENT, anew(said)))
    play.server(answer(REMOTE, LOCAL, "valid", "L1")).then()


@pytest.mark.parametrize(
    "forged",
    [
        answer(REMOTE, LOCAL, "valid", "L2"),
        answer(REMOTE, LOCAL, "valid", "l1"),
        answer(REMOTE, LOCAL, "valid", "L1 "),
        answer(REMOTE, LOCAL, "valid"),
        answer(REMOTE_2, LOCAL, "valid", "L1"),
        answer(REMOTE, LOCAL_2, "valid", "L1"),
        answer(LOCAL, REMOTE, "valid", "L1"),
    ],
)
def test_an_answer_to_another_question_is_none(forged: bytes) -> None:
    play = OutboundPlaybook().to_streams(REMOTE_2)
    play.client(verify(LOCAL, REMOTE, "L1")).gave()
    play.server(forged).then()
    said = answer(REMOTE, LOCAL, "invalid", "L1")
    play.server(said).then(Send(CLIENT, anew(said)))


@pytest.mark.parametrize(
    "forged",
    [
        answer(REMOTE_2, LOCAL, "valid"),
        answer(REMOTE, LOCAL_2, "valid"),
        answer(LOCAL, REMOTE, "valid"),
        answer(REMOTE, LOCAL, "valid", "k3y"),
        answer(VICTIM, LOCAL, "valid"),
    ],
)
def test_an_answer_for_another_pair_proves_nothing(forged: bytes) -> None:
    play = OutboundPlaybook().to_streams(REMOTE_2)
    play.client(result(LOCAL, REMOTE)).gave()
    play.server(forged).then()
    stanza = message(f"b@{LOCAL}", f"a@{REMOTE}")
    play.client(stanza).then(*refused(Condition.NOT_AUTHORIZED))


@pytest.mark.parametrize(
    "forged", [answer(LOCAL_2, REMOTE, "valid"), answer(LOCAL, VICTIM, "valid")]
)
def test_our_server_confuses_its_answers(forged: bytes) -> None:
    """While it is to be convinced, only the answer about that very pair lets anything pass."""
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.server(forged).then()
    assert play.issued == 1
    assert b"<message" not in to_server(play.commands)


def test_an_answer_about_a_key_convinces_nobody() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.server(answer(LOCAL, REMOTE, "valid", "L2")).then()
    assert b"<message" not in to_server(play.commands)


def test_an_answer_does_not_outlive_the_connection_it_was_asked_on() -> None:
    """EXTERNAL leaves our server; what that was asked before, the next one is not."""
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(result(VICTIM, LOCAL)).gave()
    play.client(auth()).gave()
    play.to_stream(stream_id="L2")
    play.server(answer(LOCAL, VICTIM, "valid")).then()
    play.client(message(f"a@{VICTIM}")).then(*refused(Condition.NOT_AUTHORIZED))


def test_the_server_a_proof_was_given_by_is_not_the_next_one() -> None:
    play = InboundPlaybook().to_dialled(REMOTE)
    play.client(result(VICTIM, LOCAL)).gave()
    play.server(answer(LOCAL, VICTIM, "valid")).gave()
    play.client(auth()).gave()
    play.to_stream(stream_id="L2")
    play.client(message(f"a@{VICTIM}")).then(*refused(Condition.NOT_AUTHORIZED))


# Requests from the wrong side


@pytest.mark.parametrize(
    "asked", [result(LOCAL, REMOTE), verify(LOCAL, REMOTE, "L1"), result(VICTIM, LOCAL)]
)
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated"])
def test_our_server_asks_nothing_on_a_stream_of_the_other_direction(
    asked: bytes, start: str
) -> None:
    play = getattr(InboundPlaybook(), start)()
    play.server(asked).then()
    assert play.told("from the wrong side")


@pytest.mark.parametrize("asked", [result(REMOTE, LOCAL), verify(REMOTE, LOCAL, "r2")])
def test_nor_does_the_other_server(asked: bytes) -> None:
    """Not even about a key of ours: it would learn what it has to ask on its way in."""
    play = OutboundPlaybook().to_vouching()
    play.server(asked).then()


STANZAS = [
    message(f"b@{LOCAL}", f"a@{REMOTE}"),
    message(),
    b"<iq/>",
    b"<presence xmlns='jabber:client'/>",
    b"<message xmlns='jabber:component:accept' from='a@victim.example' to='b@example.com'/>",
    b"<message xmlns='' from='a@victim.example' to='b@example.com'/>",
    b"<message xmlns='urn:xmpp:sm:3' from='a@victim.example' to='b@example.com'/>",
    b"<x:message xmlns:x='urn:x' from='a@victim.example' to='b@example.com'/>",
    b"<x:iq xmlns:x='jabber:client' from='a@victim.example' to='b@example.com'/>",
    b"<route xmlns='http://jabberd.jabberstudio.org/ns/component/1.0'><message/></route>",
]
"""Stanzas, and what a server might take for some that does not mind namespaces."""


@pytest.mark.parametrize("stanza", STANZAS)
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated"])
def test_no_stanza_comes_back_on_a_stream_of_one_direction(stanza: bytes, start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_client(play.commands)
    play.server(stanza).gave()
    assert stanza not in to_client(play.commands).removeprefix(before)


@pytest.mark.parametrize("stanza", STANZAS)
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_accepted", "to_vouching"])
def test_nor_to_our_server(stanza: bytes, start: str) -> None:
    """A server that was connected to says nothing for anybody."""
    play = getattr(OutboundPlaybook(), start)()
    before = to_client(play.commands)
    play.server(stanza).gave()
    assert stanza not in to_client(play.commands).removeprefix(before)


@pytest.mark.parametrize("stanza", [each for each in STANZAS if each != message()])
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated", "to_convinced"])
def test_no_stanza_hides_behind_another_namespace(stanza: bytes, start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(stanza).gave()
    assert to_server(play.commands) == before
    assert b"<stream:error>" in to_client(play.commands)


# Before TLS


@pytest.mark.parametrize(
    "said",
    [REQUEST, verify(REMOTE, LOCAL, "L1"), answer(REMOTE, LOCAL, "valid"), message()],
)
def test_before_tls_there_is_no_dialback(said: bytes) -> None:
    play = InboundPlaybook()
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.client(said).then(*refused(Condition.POLICY_VIOLATION))
    assert to_server(play.commands) == b""


@pytest.mark.parametrize("said", [REQUEST, message(), b"<x/>"])
def test_nor_between_starttls_and_tls(said: bytes) -> None:
    """CVE-2011-0411: plaintext that is pipelined is not taken for what comes under TLS."""
    play = InboundPlaybook()
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL) + f"<starttls xmlns='{ns.TLS}'/>".encode() + said).gave()
    assert b"<proceed" not in to_client(play.commands)
    assert to_server(play.commands) == b""


def test_what_another_server_says_before_tls_reaches_nobody() -> None:
    play = OutboundPlaybook().to_way()
    play.reached().gave()
    play.server(answered("r1", REMOTE) + FEATURES + answer(REMOTE, LOCAL, "valid")).gave()
    assert to_client(play.commands) == b""


# Stanzas in a row, some of which may pass


@pytest.mark.parametrize("bad", [message(f"a@{VICTIM}"), message(to=f"b@{LOCAL_2}"), b"<x/>"])
def test_of_stanzas_in_one_segment_those_before_the_first_bad_one_pass(bad: bytes) -> None:
    good = [message(body=str(number)) for number in range(3)]
    play = InboundPlaybook().to_dialled()
    play.client(b"".join([*good, bad, message(body="after")])).gave()
    passed = to_server(play.commands).removeprefix(opened(REMOTE, LOCAL) + anew(REQUEST))
    assert passed == b"".join(good)
    assert b"<stream:error>" in to_client(play.commands)


def test_a_pair_that_is_taken_back_in_the_middle_passes_no_more() -> None:
    play = InboundPlaybook().to_dialled()
    play.client(message(body="before") + result(REMOTE, LOCAL, "again")).gave()
    play.server(answer(LOCAL, REMOTE, "invalid")).gave()
    play.client(message(body="after")).gave()
    assert b"before" in to_server(play.commands)
    assert b"after" not in to_server(play.commands)


def test_a_session_between_servers_is_never_joined() -> None:
    """A relay that looks at nothing would let any pair pass."""
    play = InboundPlaybook().to_dialled()
    play.client(message()).gave()
    play.server(b" ").gave()
    out = OutboundPlaybook().to_dialled()
    out.client(message(f"b@{LOCAL}", f"a@{REMOTE}")).gave()
    assert not any(isinstance(each, Join) for each in (*play.commands, *out.commands))


def test_a_plaintext_stream_proves_nothing_for_the_one_under_tls() -> None:
    play = InboundPlaybook(rule=TLSRule.REPORT)
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).gave()
    play.client(REQUEST).gave()
    play.server(VALID).then(Send(CLIENT, anew(VALID)), Disarm(Deadline.AUTHENTICATION))
    play.client(f"<starttls xmlns='{ns.TLS}'/>".encode()).gave()
    assert b"<proceed" not in to_client(play.commands)
