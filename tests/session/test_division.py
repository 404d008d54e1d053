"""A stream for several domains: what each of them gets, and what comes back."""

import pytest

from proxy.session import division
from proxy.session.chain import Chain
from proxy.session.commands import Divide, Send
from proxy.session.dialback import LONGEST
from proxy.session.federation import MOST_PAIRS
from proxy.session.hooks import Address, TLSRule
from proxy.session.kinds import Kind
from proxy.session.outbound import Outbound
from proxy.session.session import Session
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, Condition, StreamError
from proxy.xmpp.framing import Limits
from proxy.xmpp.headers import response
from tests.session.division import ONE, THREE, TWO, Divided, to
from tests.session.federation import UNADDRESSED, Peers
from tests.session.federation_words import (
    LOCAL,
    LOCAL_2,
    answer,
    message,
    opened,
    own,
    own_answer,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, CountedIds

TIMEOUT = "remote-server-timeout"
STREAM_ERROR = f"<stream:error><reset xmlns='{ns.STREAM_ERRORS}'/></stream:error>".encode()


def failed(domain: str, sender: str = LOCAL) -> bytes:
    """What our server is told of a request to a domain that came to nothing."""
    return own_error(domain, sender, TIMEOUT)


def refusal(told: bytes) -> str:
    """The condition of a stream error, after which the stream ends."""
    head, _, rest = told.partition(b"<stream:error><")
    assert head == b""
    assert rest.endswith(b"</stream:error>" + FOOTER)
    return rest.partition(b" ")[0].decode()


# The header


def test_a_stream_that_may_be_for_several_domains_is_handed_over() -> None:
    rules = Peers(outgoing=True)
    session = Session(
        session_id="session",
        listener="s2s-out",
        kind=Kind.S2S,
        rule=TLSRule.NONE,
        client=Address("127.0.0.1", 5000),
        domains=rules,
        chain=Chain(()),
        ids=CountedIds(),
        passage=lambda view, chain, out: Outbound(view, chain, out, rules),
        outward=rules,
        divides=True,
    )
    session.connected()
    assert session.received(CLIENT, UNADDRESSED + result(LOCAL, ONE)) == [
        Send(CLIENT, own(1, version=False)),
        Divide(UNADDRESSED, result(LOCAL, ONE)),
    ]
    assert session.received(CLIENT, result(LOCAL, TWO)) == []


def test_its_own_header_lets_our_server_speak_dialback() -> None:
    said = response(stream_id="x", sender="", to=None, version=False, content=ns.SERVER)
    assert f"xmlns:db='{ns.DIALBACK}'".encode() in said
    assert b"version='1" not in said.replace(b"<?xml version='1.0'?>", b"")


# Each domain and its branch


def test_nothing_is_opened_before_somebody_asks() -> None:
    divided = Divided().says(b" ", b"\n")
    assert divided.heard == {}
    assert divided.closed is None


def test_each_branch_gets_the_header_and_what_is_for_its_domain() -> None:
    divided = Divided().says(result(LOCAL, ONE))
    assert divided.heard == {ONE: [UNADDRESSED + result(LOCAL, ONE)]}
    divided.says(result(LOCAL, TWO, "other"))
    assert divided.got(TWO) == result(LOCAL, TWO, "other")
    assert divided.got(ONE) == result(LOCAL, ONE)


def test_three_domains_take_turns() -> None:
    divided = Divided().proved(ONE, TWO, THREE)
    order = [ONE, TWO, ONE, THREE, THREE, TWO, ONE, TWO, THREE]
    stanzas = [(domain, to(domain, f"ü {number}")) for number, domain in enumerate(order)]
    divided.says(b" \n".join(stanza for _, stanza in stanzas))
    for domain in (ONE, TWO, THREE):
        mine = b"".join(stanza for each, stanza in stanzas if each == domain)
        assert divided.got(domain) == result(LOCAL, domain) + mine
    divided.hears()


ODD = {
    "resource": message(f"a@{LOCAL}/x", f"b@{ONE}/@{TWO}"),
    "domain alone": message(LOCAL, ONE),
    "capitals": message(f"a@{LOCAL}", "b@ONE.Example"),
    "not simple": f"<message  to='b@{ONE}'\n from='a@{LOCAL}'><![CDATA[<]]></message>".encode(),
    "prefixes": f"<presence xmlns:x='urn:x' x:to='b@{TWO}' to='{ONE}' from='{LOCAL}'/>".encode(),
    "large": message(f"a@{LOCAL}", f"b@{ONE}", "x" * 100_000),
}


@pytest.mark.parametrize("how", ODD)
def test_a_stanza_goes_where_its_address_says_byte_for_byte(how: str) -> None:
    divided = Divided().proved(TWO, ONE)
    before = divided.got(TWO)
    divided.says(to(ONE), ODD[how], to(ONE))
    assert divided.got(ONE) == result(LOCAL, ONE) + to(ONE) + ODD[how] + to(ONE)
    assert divided.got(TWO) == before


def test_a_second_domain_of_ours_shares_the_branch() -> None:
    divided = Divided().proved(ONE).says(result(LOCAL_2, ONE))
    assert divided.got(ONE) == result(LOCAL, ONE) + result(LOCAL_2, ONE)
    divided.branch(ONE, answer(ONE, LOCAL_2, "valid"))
    divided.hears(own_answer(ONE, LOCAL_2, "valid"))
    assert len(divided.heard[ONE]) == 1


def test_white_space_keeps_an_idle_stream_alive() -> None:
    divided = Divided().proved(ONE)
    for _ in range(10_000):
        divided.says(b" \n")
    divided.says(to(ONE)).hears()
    assert divided.got(ONE) == result(LOCAL, ONE) + to(ONE)


# Answers


@pytest.mark.parametrize("kind", ["valid", "invalid"])
def test_an_answer_comes_back_once_with_its_prefix_declared(kind: str) -> None:
    divided = Divided().says(result(LOCAL, ONE), verify(LOCAL, ONE, "id-1"))
    said = answer(ONE, LOCAL, kind) + answer(ONE, LOCAL, kind, "id-1")
    divided.branch(ONE, UNADDRESSED, said)
    divided.hears(own_answer(ONE, LOCAL, kind), own_answer(ONE, LOCAL, kind, "id-1"))
    divided.branch(ONE, said).hears()


def test_an_error_is_told_with_its_condition_and_nothing_else() -> None:
    divided = Divided().says(result(LOCAL, ONE), verify(LOCAL, ONE, "id-1"))
    error = own_error(ONE, LOCAL, "forbidden", "id-1")
    more = error.replace(b"</error>", b"<text>unheard of</text></error>")
    divided.branch(ONE, UNADDRESSED, own_error(ONE, LOCAL, "forbidden") + more)
    divided.hears(own_error(ONE, LOCAL, "forbidden"), error)


def test_an_answer_is_spelt_as_the_request_was() -> None:
    divided = Divided().says(result("EXAMPLE.com", "One.Example"))
    divided.branch(ONE, UNADDRESSED, answer(ONE, LOCAL, "valid"))
    divided.hears(own_answer("One.Example", "EXAMPLE.com", "valid"))


def test_who_asks_twice_is_answered_twice() -> None:
    divided = Divided().says(result(LOCAL, ONE) * 2)
    divided.branch(ONE, UNADDRESSED + answer(ONE, LOCAL, "valid") * 3)
    divided.hears(own_answer(ONE, LOCAL, "valid") * 2)


FOREIGN = {
    "another domain that was asked": answer(TWO, LOCAL, "valid"),
    "one that was not": answer(THREE, LOCAL, "valid"),
    "another pair": answer(ONE, LOCAL_2, "valid"),
    "the wrong way round": answer(LOCAL, ONE, "valid"),
    "a key that was not asked about": answer(ONE, LOCAL, "valid", "id-1"),
    "another domain's key": answer(TWO, LOCAL, "valid", "id-2"),
    "another id": answer(ONE, LOCAL, "valid", "id-2"),
    "a request": result(ONE, LOCAL),
    "a stanza": message(f"a@{ONE}", f"b@{LOCAL}"),
    "features": b"<stream:features/>",
    "an error": STREAM_ERROR,
    "white space": b"  ",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_branch_answers_what_it_was_asked_and_nothing_else(what: str) -> None:
    divided = Divided().says(result(LOCAL, ONE), result(LOCAL, TWO), verify(LOCAL, TWO, "id-2"))
    divided.branch(ONE, UNADDRESSED, FOREIGN[what]).hears()
    # Nothing is proved by it either.
    divided.says(to(TWO))
    assert refusal(divided.told) == "not-authorized"
    assert divided.got(TWO) == result(LOCAL, TWO) + verify(LOCAL, TWO, "id-2")


@pytest.mark.parametrize(
    "said",
    [
        b"<db:result type='valid'/>",
        b"<db:resul" * 10_000,
        b"<db:other/>",
        b"<",
        answer(ONE, LOCAL, "perhaps"),
        b"\xff",
        b"</x>",
    ],
)
def test_a_branch_that_breaks_the_rules_is_given_up(said: bytes) -> None:
    divided = Divided().proved(TWO).says(result(LOCAL, ONE))
    divided.branch(ONE, UNADDRESSED, said + b"<<>")
    divided.hears(failed(ONE))
    assert divided.open == {TWO}


def test_our_own_server_has_nothing_to_answer() -> None:
    divided = Divided().proved(ONE)
    divided.says(answer(LOCAL, ONE, "valid"), answer(LOCAL, TWO, "valid", "id-1")).hears()
    assert divided.got(ONE) == result(LOCAL, ONE)
    assert TWO not in divided.heard


# Branches that end


def test_a_branch_that_ends_before_a_proof_does_not_end_the_stream() -> None:
    divided = Divided().proved(TWO)
    divided.says(result(LOCAL, ONE), result(LOCAL_2, ONE), verify(LOCAL, ONE, "id-1"))
    divided.ends(ONE)
    answered = own_error(ONE, LOCAL, TIMEOUT, "id-1")
    divided.hears(failed(ONE), failed(ONE, LOCAL_2), answered)
    assert divided.open == {TWO}
    assert not divided.reason
    divided.says(to(TWO)).hears()
    assert divided.got(TWO) == result(LOCAL, TWO) + to(TWO)


def test_a_branch_that_has_said_no_ends_without_a_word() -> None:
    divided = Divided().says(result(LOCAL, ONE))
    divided.branch(ONE, UNADDRESSED, answer(ONE, LOCAL, "invalid"), FOOTER)
    divided.hears(own_answer(ONE, LOCAL, "invalid"))
    assert divided.open == set()
    assert not divided.reason


def test_the_same_domain_can_be_asked_again() -> None:
    divided = Divided().says(result(LOCAL, ONE)).ends(ONE).hears(failed(ONE))
    divided.says(result(LOCAL, ONE, "again"))
    assert divided.heard[ONE] == [
        UNADDRESSED + result(LOCAL, ONE),
        UNADDRESSED + result(LOCAL, ONE, "again"),
    ]
    divided.branch(ONE, UNADDRESSED, answer(ONE, LOCAL, "valid"))
    divided.hears(own_answer(ONE, LOCAL, "valid"))


@pytest.mark.parametrize("how", ["footer", "end"])
def test_a_branch_that_ends_after_a_proof_ends_the_stream(how: str) -> None:
    divided = Divided().proved(ONE, TWO)
    divided.says(result(LOCAL_2, ONE))
    if how == "footer":
        divided.branch(ONE, STREAM_ERROR + FOOTER)
    else:
        divided.ends(ONE)
    divided.hears(failed(ONE, LOCAL_2), FOOTER)
    assert divided.reason.startswith(f"the stream to {ONE} has ended: ")
    assert divided.closed is None


def test_a_pair_that_is_proved_does_not_fail_for_being_asked_again() -> None:
    divided = Divided().says(result(LOCAL, ONE) * 2, verify(LOCAL, ONE, "id-1"))
    divided.branch(ONE, UNADDRESSED, answer(ONE, LOCAL, "valid"))
    divided.hears(own_answer(ONE, LOCAL, "valid")).ends(ONE)
    divided.hears(own_error(ONE, LOCAL, TIMEOUT, "id-1"), FOOTER)


def test_what_was_under_way_to_others_still_passes() -> None:
    divided = Divided().proved(ONE, TWO).ends(ONE).hears(FOOTER)
    sent = [to(TWO, "1"), to(ONE), to(TWO, "2") + to(ONE) * 2 + to(TWO, "3"), to(THREE)]
    divided.says(*sent)
    divided.says(result(LOCAL, ONE), result(LOCAL, THREE), verify(LOCAL, TWO, "id-1"))
    divided.branch(TWO, answer(TWO, LOCAL, "valid", "id-1")).hears()
    question = verify(LOCAL, TWO, "id-1")
    passed = to(TWO, "1") + to(TWO, "2") + to(TWO, "3")
    assert divided.got(TWO) == result(LOCAL, TWO) + passed + question
    assert divided.got(ONE) == result(LOCAL, ONE)
    assert THREE not in divided.heard
    assert divided.division.dropped == 4
    divided.ends(TWO).says(to(TWO)).hears()
    assert divided.division.dropped == 5
    divided.says(FOOTER)
    assert divided.closed == f"the stream to {ONE} has ended: gone"


def test_what_a_branch_says_after_its_end_is_nobodys() -> None:
    divided = Divided().says(result(LOCAL, ONE)).ends(ONE).hears(failed(ONE))
    divided.branch(ONE, UNADDRESSED, answer(ONE, LOCAL, "valid")).ends(ONE).hears()
    divided.says(to(ONE))
    assert refusal(divided.told) == "not-authorized"


# What our server must not say


WRONG = {
    "a stanza to a domain that was not asked for": (to(THREE), "not-authorized"),
    "one to a domain that has not answered": (to(TWO), "not-authorized"),
    "one without an address": (b"<message/>", "improper-addressing"),
    "one to nowhere": (message(LOCAL, "a@/x"), "improper-addressing"),
    "a client's": (f"<message xmlns='{ns.CLIENT}'/>".encode(), "unsupported-stanza-type"),
    "starttls": (f"<starttls xmlns='{ns.TLS}'/>".encode(), "unsupported-stanza-type"),
    "auth": (f"<auth xmlns='{ns.SASL}'/>".encode(), "unsupported-stanza-type"),
    "stream management": (b"<enable xmlns='urn:xmpp:sm:3'/>", "unsupported-stanza-type"),
    "other dialback": (b"<db:other/>", "bad-format"),
    "a request to nobody": (f"<db:result from='{LOCAL}'>k</db:result>".encode(), "improper-addres"),
    "a request without a key": (f"<db:result from='{LOCAL}' to='{ONE}'/>".encode(), "bad-format"),
    "a long key": (result(LOCAL, ONE, "k" * (LONGEST + 1)), "policy-violation"),
    "a header": (UNADDRESSED, "bad-format"),
    "a comment": (b"<!-- -->", "restricted-xml"),
    "a declaration": (b"<?xml version='1.0'?>", "restricted-xml"),
    "text": (b"text", "bad-format"),
    "a wrong end": (b"</x>", "not-well-formed"),
    "not UTF-8": (b"<message a='\xff'/>", "unsupported-encoding"),
    "too much": (to(ONE, "x" * 2_000_000), "policy-violation"),
    "a long tag": (b"<message a='" + b"x" * 100_000, "policy-violation"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_our_server_must_not_say_ends_the_stream(what: str) -> None:
    said, condition = WRONG[what]
    divided = Divided().proved(ONE).says(result(LOCAL, TWO))
    divided.says(to(ONE) + said)
    assert refusal(divided.told).startswith(condition)
    assert divided.closed is not None
    assert divided.closed.startswith(condition)
    assert divided.got(ONE) == result(LOCAL, ONE) + to(ONE)
    assert divided.got(TWO) == result(LOCAL, TWO)
    # It is not even kept.
    divided.says(b"x" * 1_000_000)
    assert divided.division._framer.held < 3_000_000


def test_the_limits_are_those_that_are_given() -> None:
    divided = Divided(limits=Limits(element=1000)).proved(ONE)
    divided.says(to(ONE, "x" * 1000))
    assert refusal(divided.told) == "policy-violation"


def test_a_stream_is_for_so_many_domains_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "MOST_BRANCHES", 2)
    divided = Divided().proved(ONE, TWO).says(result(LOCAL, THREE))
    divided.hears(own_error(THREE, LOCAL, "resource-constraint"))
    assert divided.open == {ONE, TWO}
    divided.says(result(LOCAL_2, TWO), to(TWO), to(ONE)).hears()
    assert divided.got(TWO).endswith(result(LOCAL_2, TWO) + to(TWO))


def test_the_same_question_is_kept_once() -> None:
    divided = Divided().says(result(LOCAL, ONE) * (2 * MOST_PAIRS))
    divided.ends(ONE).hears(failed(ONE))


# The end


def test_our_server_ends_its_stream() -> None:
    divided = Divided().proved(ONE).says(result(LOCAL, TWO), to(ONE) + FOOTER)
    divided.hears(FOOTER)
    assert divided.closed == "the client closed the stream"
    assert divided.got(ONE) == result(LOCAL, ONE) + to(ONE) + FOOTER
    assert divided.got(TWO) == result(LOCAL, TWO) + FOOTER
    divided.says(to(ONE)).ends(ONE)  # of which nothing comes


def test_our_server_ends_its_stream_with_an_error() -> None:
    divided = Divided().proved(ONE).says(STREAM_ERROR).hears()
    assert divided.got(ONE) == result(LOCAL, ONE) + STREAM_ERROR
    divided.says(FOOTER).hears(FOOTER)
    assert divided.got(ONE).endswith(STREAM_ERROR + FOOTER)
    assert divided.closed == "the client closed the stream with an error"


def test_the_daemon_ends() -> None:
    divided = Divided().proved(ONE)
    divided.shut_down(StreamError(Condition.SYSTEM_SHUTDOWN, "it ends"))
    assert refusal(divided.told) == "system-shutdown"
    assert divided.closed == "system-shutdown: it ends"


def test_the_daemon_ends_while_the_stream_does() -> None:
    divided = Divided().proved(ONE).ends(ONE).hears(FOOTER)
    divided.shut_down(StreamError(Condition.SYSTEM_SHUTDOWN, "it ends")).hears()
    assert divided.closed == f"the stream to {ONE} has ended: gone"


def test_what_is_wrong_while_the_stream_ends_is_not_told() -> None:
    divided = Divided().proved(ONE, TWO).ends(ONE).hears(FOOTER)
    divided.says(to(TWO) + b"<!-- -->").hears()
    assert divided.closed == f"the stream to {ONE} has ended: gone"
    assert divided.got(TWO) == result(LOCAL, TWO) + to(TWO)


def test_a_header_with_prefixes_of_its_own_comes_to_each_branch() -> None:
    header = opened(None, None, None, more=" xmlns:x='urn:x'")
    divided = Divided(header)
    stanza = f"<message from='{LOCAL}' to='{ONE}'><x:y/></message>".encode()
    divided.says(result(LOCAL, ONE)).branch(ONE, UNADDRESSED + answer(ONE, LOCAL, "valid"))
    divided.says(stanza)
    assert divided.heard[ONE] == [header + result(LOCAL, ONE) + stanza]
