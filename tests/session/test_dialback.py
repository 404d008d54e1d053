"""Server dialback: its elements, its errors, its pairs, and the keys of the proxy's own."""

import pytest
from lxml import etree

from proxy.session import dialback
from proxy.session.commands import Deadline, Disarm, Send
from proxy.session.dialback import Dialback, Pair
from proxy.session.federation import MOST_PAIRS
from proxy.session.hooks import Condition
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError
from proxy.xmpp.events import Element
from proxy.xmpp.framing import Framer, Limits
from tests.session.federation import InboundPlaybook, OutboundPlaybook
from tests.session.federation_words import (
    ELSEWHERE,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    VICTIM,
    anew,
    answer,
    message,
    opened,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server

PAIR = Pair(REMOTE, LOCAL)


def element(raw: bytes) -> Element:
    framer = Framer(Limits())
    framer.feed(opened(REMOTE, LOCAL) + raw)
    framer.next_event()
    event = framer.next_event()
    assert isinstance(event, Element)
    return event


# Elements


def test_a_request_is_read() -> None:
    read = dialback.read(element(result("Remote.Example.", LOCAL, " k3y\n")))
    assert read == Dialback(dialback.RESULT, PAIR, "Remote.Example.", LOCAL, None, "", "k3y")
    assert "k3y" not in repr(read)


def test_a_question_about_a_key_is_read() -> None:
    read = dialback.read(element(verify(REMOTE, LOCAL, "s1")))
    assert read == Dialback(dialback.VERIFY, PAIR, REMOTE, LOCAL, None, "s1", "k3y")


@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
def test_answers_are_read(kind: str) -> None:
    read = dialback.read(element(answer(REMOTE, LOCAL, kind, "s1")))
    assert (read.kind, read.id, read.key) == (kind, "s1", "")
    assert dialback.read(element(answer(REMOTE, LOCAL, kind))).kind == kind


@pytest.mark.parametrize(
    ("raw", "condition"),
    [
        (b"<db:other from='a' to='b'/>", Condition.BAD_FORMAT),
        (b"<db:result to='example.com'>k</db:result>", Condition.IMPROPER_ADDRESSING),
        (b"<db:result from='remote.example'>k</db:result>", Condition.IMPROPER_ADDRESSING),
        (result("", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result(f"a@{REMOTE}", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result(f"{REMOTE}/x", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result(f"{VICTIM}/@{REMOTE}", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result(REMOTE, f"b@{LOCAL}"), Condition.IMPROPER_ADDRESSING),
        (result("*.example", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result("fa\u00df.example", LOCAL), Condition.IMPROPER_ADDRESSING),
        (result("a\u200d.example", LOCAL), Condition.IMPROPER_ADDRESSING),
        (answer(REMOTE, LOCAL, "maybe"), Condition.BAD_FORMAT),
        (answer(REMOTE, LOCAL, ""), Condition.BAD_FORMAT),
        (answer(REMOTE, LOCAL, "VALID"), Condition.BAD_FORMAT),
        (result(REMOTE, LOCAL, ""), Condition.BAD_FORMAT),
        (result(REMOTE, LOCAL, " \n"), Condition.BAD_FORMAT),
        (verify(REMOTE, LOCAL, ""), Condition.BAD_FORMAT),
        (verify(REMOTE, LOCAL, "x" * 1025), Condition.POLICY_VIOLATION),
        (result(REMOTE, LOCAL, "x" * 1025), Condition.POLICY_VIOLATION),
    ],
)
def test_what_is_not_dialback_is_refused(raw: bytes, condition: Condition) -> None:
    with pytest.raises(StreamError) as caught:
        dialback.read(element(raw))
    assert caught.value.condition is condition


def test_a_type_in_another_namespace_is_none() -> None:
    raw = result(REMOTE, LOCAL).replace(b" from=", b" db:type='valid' from=", 1)
    assert dialback.read(element(raw)).kind is None


def test_addresses_in_another_namespace_are_none() -> None:
    raw = result(REMOTE, LOCAL).replace(b" from=", b" db:from=", 1)
    with pytest.raises(StreamError):
        dialback.read(element(raw))


@pytest.mark.parametrize("stream_id", [None, "s&1'\""])
@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
def test_an_answer_is_addressed_as_it_was_asked(stream_id: str | None, kind: str) -> None:
    """XEP-0220, section 2.4: the answer is told by its addresses, so these come back as written."""
    name = dialback.RESULT if stream_id is None else dialback.VERIFY
    asked = Dialback(name, PAIR, "REMOTE.example", "Example.com", None, stream_id or "", "key")
    written = etree.fromstring(dialback.answer(asked, kind, "forbidden"))
    assert written.get("from") == "Example.com"
    assert written.get("to") == "REMOTE.example"
    assert (written.get("id"), written.get("type")) == (stream_id, kind)
    assert bool(len(written)) is (kind == "error")
    assert not written.text


def test_the_condition_of_an_error_is_one_of_stanzas() -> None:
    asked = Dialback(dialback.RESULT, PAIR, REMOTE, LOCAL, None, "", "key")
    written = etree.fromstring(
        b"<s xmlns='jabber:server'>" + dialback.answer(asked, "error", "forbidden") + b"</s>"
    )
    (error,) = written.iter("{jabber:server}error")
    assert error[0].tag == f"{{{ns.STANZA_ERRORS}}}forbidden"


# Errors in place of answers (XEP-0220, section 2.4.2)


@pytest.mark.parametrize("to", ["nobody.example", ELSEWHERE, REMOTE])
@pytest.mark.parametrize("stream_id", [None, "s1"])
def test_a_domain_that_is_not_behind_the_server_is_not_found(
    to: str, stream_id: str | None
) -> None:
    asked = result(REMOTE, to) if stream_id is None else verify(REMOTE, to, stream_id)
    play = InboundPlaybook().to_streams()
    play.client(asked).then(Send(CLIENT, own_error(to, REMOTE, "item-not-found", stream_id)))
    before = to_server(play.commands)
    play.server(answer(to, REMOTE, "valid", stream_id)).then()
    play.client(message(to=f"b@{to}")).gave()
    assert to_server(play.commands) == before


def test_another_domain_behind_the_same_server_is_asked_for() -> None:
    play = InboundPlaybook().to_streams()
    asked = result(REMOTE, LOCAL_2)
    play.client(asked).then(Send(SERVER, anew(asked)))


def test_after_an_error_the_stream_goes_on() -> None:
    play = InboundPlaybook().to_streams()
    play.client(result(REMOTE, "nobody.example")).gave()
    asked, said = result(REMOTE, LOCAL), answer(LOCAL, REMOTE, "valid")
    play.client(asked).then(Send(SERVER, anew(asked)))
    play.server(said).then(Send(CLIENT, anew(said)), Disarm(Deadline.AUTHENTICATION))


def test_an_error_of_our_servers_passes_as_it_is() -> None:
    said = (
        answer(LOCAL, REMOTE, "error")[:-2]
        + f"><error type='cancel'><item-not-found xmlns='{ns.STANZA_ERRORS}'/></error>".encode()
        + b"</db:result>"
    )
    play = InboundPlaybook().to_streams()
    play.client(result(REMOTE, LOCAL)).gave()
    play.server(said).then(Send(CLIENT, anew(said)))


def test_malformed_dialback_ends_the_stream() -> None:
    play = InboundPlaybook().to_streams()
    play.client(result(f"a@{REMOTE}", LOCAL)).then(*refused(Condition.IMPROPER_ADDRESSING))


def test_malformed_answers_are_our_servers_fault() -> None:
    play = InboundPlaybook().to_streams()
    play.client(result(REMOTE, LOCAL)).gave()
    play.server(answer(LOCAL, REMOTE, "maybe")).then(
        *refused(Condition.REMOTE_CONNECTION_FAILED, "does not speak XMPP for servers")
    )


# Pairs


def test_every_pair_counts_for_itself() -> None:
    """XEP-0220, section 2.5: two senders and two targets are four pairs."""
    play = InboundPlaybook().to_dialled()
    for sender, to in ((REMOTE, LOCAL_2), (REMOTE_2, LOCAL)):
        play.client(result(sender, to)).then(Send(SERVER, anew(result(sender, to))))
        play.server(answer(to, sender, "valid")).then(
            Send(CLIENT, anew(answer(to, sender, "valid")))
        )
    for sender, to in ((REMOTE, LOCAL), (REMOTE, LOCAL_2), (REMOTE_2, LOCAL)):
        stanza = message(f"a@{sender}", f"b@{to}")
        play.client(stanza).then(Send(SERVER, stanza))
    play.client(message(f"a@{REMOTE_2}", f"b@{LOCAL_2}")).then(*refused(Condition.NOT_AUTHORIZED))


@pytest.mark.parametrize(
    ("sender", "to", "condition"),
    [
        (VICTIM, LOCAL, Condition.INVALID_FROM),
        (f"a@{VICTIM}", LOCAL, Condition.INVALID_FROM),
        (f"sub.{REMOTE}", LOCAL, Condition.INVALID_FROM),
        (f"{VICTIM}/@{REMOTE}", LOCAL, Condition.INVALID_FROM),
        (f"{VICTIM}/{REMOTE}", LOCAL, Condition.INVALID_FROM),
        (f"a@{VICTIM}/@{REMOTE}", LOCAL, Condition.INVALID_FROM),
        (f"a@{VICTIM}@{REMOTE}", LOCAL, Condition.IMPROPER_ADDRESSING),
        (f"a@{REMOTE}@{VICTIM}", LOCAL, Condition.IMPROPER_ADDRESSING),
        (f"@{VICTIM}", LOCAL, Condition.INVALID_FROM),
        ("", LOCAL, Condition.IMPROPER_ADDRESSING),
        ("a@", LOCAL, Condition.IMPROPER_ADDRESSING),
        ("/x", LOCAL, Condition.IMPROPER_ADDRESSING),
        (f"{REMOTE}\t", LOCAL, Condition.IMPROPER_ADDRESSING),
        (f"{REMOTE}..", LOCAL, Condition.IMPROPER_ADDRESSING),
        (REMOTE, "", Condition.IMPROPER_ADDRESSING),
        (REMOTE, f"b@{LOCAL_2}", Condition.NOT_AUTHORIZED),
        (REMOTE, f"b@{ELSEWHERE}", Condition.NOT_AUTHORIZED),
        (REMOTE, f"b@{LOCAL}@{LOCAL}", Condition.IMPROPER_ADDRESSING),
    ],
)
@pytest.mark.parametrize("kind", ["message", "presence", "iq"])
def test_addresses_that_lie_are_refused(
    sender: str, to: str, condition: Condition, kind: str
) -> None:
    play = InboundPlaybook().to_dialled()
    play.client(f"<{kind} from='{sender}' to='{to}'/>".encode()).then(*refused(condition))


@pytest.mark.parametrize("lacking", ["from='a@remote.example'", "to='b@example.com'", ""])
def test_a_stanza_without_both_addresses_is_refused(lacking: str) -> None:
    play = InboundPlaybook().to_dialled()
    play.client(f"<message {lacking}/>".encode()).then(*refused(Condition.IMPROPER_ADDRESSING))


@pytest.mark.parametrize(
    "sender",
    [
        REMOTE,
        f"a@{REMOTE}",
        f"a@{REMOTE}/x",
        f"{REMOTE}/x@{VICTIM}",
        f"a@{REMOTE}/b@{VICTIM}/c",
        f"A@{REMOTE.upper()}",
        f"a@{REMOTE}.",
        f"a@{REMOTE}/&lt;&#x40;",
    ],
)
def test_addresses_are_full_or_bare(sender: str) -> None:
    play = InboundPlaybook().to_dialled()
    stanza = message(sender)
    play.client(stanza).then(Send(SERVER, stanza))


@pytest.mark.parametrize(
    ("header", "asked", "sender"),
    [
        ("b\u00fccher.example", "xn--bcher-kva.example", "a@B\u00dcCHER.example"),
        ("xn--bcher-kva.example", "b\u00fccher.example", "a@XN--BCHER-KVA.example"),
        ("xn--fa-hia.example", "xn--fa-hia.example", "a@xn--fa-hia.example"),
    ],
)
def test_internationalised_domains_are_the_same_in_either_form(
    header: str, asked: str, sender: str
) -> None:
    play = InboundPlaybook().to_tls().to_stream(opened(header, LOCAL))
    play.client(result(asked, LOCAL)).then(Send(SERVER, anew(result(asked, LOCAL))))
    told = answer(LOCAL, asked, "valid")
    play.server(answer(LOCAL, header, "valid"))
    play.then(Send(CLIENT, anew(told)), Disarm(Deadline.AUTHENTICATION))
    play.client(message(sender)).then(Send(SERVER, message(sender)))


@pytest.mark.parametrize("sender", ["fa\u00df.example", "fa\u1e9e.example", "a\u200d.example"])
def test_domains_that_old_servers_read_otherwise_are_refused(sender: str) -> None:
    """IDNA 2003 makes "ss" of a sharp s: the owner of one must not be taken for the other's."""
    play = InboundPlaybook().to_tls()
    play.client(opened(sender, LOCAL))
    assert b"<invalid-from" in to_client(play.gave())
    play = InboundPlaybook().to_dialled()
    play.client(message(f"a@{sender}")).then(*refused(Condition.IMPROPER_ADDRESSING))


def test_a_pair_that_is_taken_back_passes_no_more() -> None:
    play = InboundPlaybook().to_dialled()
    play.client(message()).then(Send(SERVER, message()))
    play.client(result(REMOTE, LOCAL, "other")).then(
        Send(SERVER, anew(result(REMOTE, LOCAL, "other")))
    )
    play.server(answer(LOCAL, REMOTE, "invalid")).then(
        Send(CLIENT, anew(answer(LOCAL, REMOTE, "invalid")))
    )
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_one_of_two_pairs_that_is_taken_back_passes_no_more() -> None:
    """Not even by what is remembered of its addresses as they were written."""
    play = InboundPlaybook().to_dialled()
    play.client(result(REMOTE_2, LOCAL)).gave()
    play.server(answer(LOCAL, REMOTE_2, "valid")).gave()
    stanza = message(f"a@{REMOTE_2}")
    play.client(stanza).then(Send(SERVER, stanza))
    play.client(result(REMOTE_2, LOCAL, "again")).gave()
    play.server(answer(LOCAL, REMOTE_2, "invalid")).gave()
    play.client(message()).then(Send(SERVER, message()))
    play.client(stanza).then(*refused(Condition.INVALID_FROM))


def test_of_two_answers_the_last_one_counts() -> None:
    play = InboundPlaybook().to_streams()
    play.client(result(REMOTE, LOCAL, "good") + result(REMOTE, LOCAL, "bad")).gave()
    play.server(answer(LOCAL, REMOTE, "valid")).gave()
    said = answer(LOCAL, REMOTE, "invalid")
    play.server(said).then(Send(CLIENT, anew(said)))
    play.server(said).then()
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_while_a_pair_is_asked_for_again_its_stanzas_pass() -> None:
    """XEP-0220, section 2.1.1: what is proved goes on."""
    play = InboundPlaybook().to_dialled()
    play.client(result(REMOTE, LOCAL, "again")).gave()
    play.client(message()).then(Send(SERVER, message()))


def test_a_stanza_before_the_answer_is_refused() -> None:
    play = InboundPlaybook().to_streams()
    play.client(result(REMOTE, LOCAL) + message()).ending(*refused(Condition.NOT_AUTHORIZED))
    assert b"<message" not in to_server(play.commands)


def test_there_is_an_end_to_what_may_wait() -> None:
    play = InboundPlaybook().to_dialled()
    for number in range(MOST_PAIRS - 1):
        play.client(result(f"r{number}.example", LOCAL)).gave()
    asked = result("last.example", LOCAL)
    error = own_error(LOCAL, "last.example", "resource-constraint")
    play.client(asked).then(Send(CLIENT, error))
    play.client(verify(REMOTE, LOCAL, "s1")).then(
        Send(CLIENT, own_error(LOCAL, REMOTE, "resource-constraint", "s1"))
    )
    # An answer makes room.
    play.server(answer(LOCAL, "r0.example", "invalid")).gave()
    play.client(asked).then(Send(SERVER, anew(asked)))
    play.client(message()).then(Send(SERVER, message()))


def test_there_is_an_end_to_what_is_proved() -> None:
    play = InboundPlaybook().to_dialled()
    for number in range(MOST_PAIRS - 1):
        sender = f"r{number}.example"
        play.client(result(sender, LOCAL)).gave()
        play.server(answer(LOCAL, sender, "valid")).gave()
    play.client(result("last.example", LOCAL)).then(
        Send(CLIENT, own_error(LOCAL, "last.example", "resource-constraint"))
    )


def test_there_is_an_end_to_what_is_vouched_for() -> None:
    play = OutboundPlaybook().to_vouching()
    play.server(answer(REMOTE, LOCAL, "valid")).gave()
    senders = [f"l{number}.example" for number in range(MOST_PAIRS)]
    play.rules.locals += tuple(senders)
    for sender in senders[:-1]:
        play.client(result(sender, REMOTE)).gave()
    assert play.issued == MOST_PAIRS - 1
    play.client(result(senders[-1], REMOTE)).then(
        Send(CLIENT, own_error(REMOTE, senders[-1], "resource-constraint"))
    )
    play.lost(CLIENT).gave()
    assert play.issued == 0
