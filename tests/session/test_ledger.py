"""Keys of the proxy's own, and what it writes itself."""

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from proxy.session import dialback
from proxy.session.commands import Deadline, Disarm, Send
from proxy.session.counts import LocalCounts
from proxy.session.dialback import Ledger, Pair
from tests.session.federation import OutboundPlaybook
from tests.session.federation_words import LOCAL, REMOTE, VICTIM, own_answer, own_result, result
from tests.session.playbook import CLIENT

PAIR = Pair(REMOTE, LOCAL)


def test_a_key_is_good_for_what_it_was_issued_for() -> None:
    ledger = Ledger()
    key = ledger.issue(PAIR, "s1")
    assert ledger.check(PAIR, "s1", key) is True
    assert ledger.check(PAIR, "s1", key.upper()) is False
    assert ledger.check(PAIR, "s1", "") is False
    assert ledger.check(PAIR, "s1", "\u00e9") is False
    assert ledger.check(PAIR, "s2", key) is None
    assert ledger.check(PAIR.turned, "s1", key) is None
    assert ledger.check(Pair(VICTIM, LOCAL), "s1", key) is None


def test_a_key_that_is_withdrawn_is_unknown() -> None:
    ledger = Ledger()
    key = ledger.issue(PAIR, "s1")
    ledger.withdraw(PAIR, "s1")
    assert ledger.check(PAIR, "s1", key) is None
    ledger.withdraw(PAIR, "s1")
    assert len(ledger) == 0


def test_what_is_issued_twice_is_in_the_ledger_once() -> None:
    counts = LocalCounts()
    ledger = Ledger(b"secret" * 6, counts)
    key = ledger.issue(PAIR, "s1")
    assert ledger.issue(PAIR, "s1") == key
    assert (len(ledger), len(counts)) == (1, 1)
    ledger.withdraw(PAIR, "s1")
    assert ledger.check(PAIR, "s1", key) is None
    assert (len(ledger), len(counts)) == (0, 0)


def test_what_was_never_issued_cannot_be_withdrawn_from_others() -> None:
    counts = LocalCounts()
    one, other = (Ledger(b"secret" * 6, counts) for _ in range(2))
    key = one.issue(PAIR, "s1")
    other.withdraw(PAIR, "s1")
    assert other.check(PAIR, "s1", key) is True
    one.withdraw(PAIR, "s1")
    assert other.check(PAIR, "s1", key) is None


def test_no_two_ledgers_issue_the_same_key() -> None:
    assert Ledger().issue(PAIR, "s1") != Ledger().issue(PAIR, "s1")


NAMES = st.text("ab.-", max_size=6)


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_no_two_triples_have_the_same_key(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    """CVE-2016-0756: where the parts of what is hashed have no borders, they can be shifted."""
    ledger = Ledger()
    keys = [ledger.issue(Pair(sender, to), stream_id) for stream_id, sender, to in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


def test_the_proxys_own_request_is_well_formed_anywhere() -> None:
    written = etree.fromstring(dialback.request(REMOTE, LOCAL, "k"))
    assert (written.tag, written.text) == (dialback.RESULT, "k")
    assert (written.get("from"), written.get("to")) == (REMOTE, LOCAL)
    assert dialback.request(REMOTE, LOCAL, "k") == own_result(REMOTE, LOCAL, "k")


def test_pairs_read_as_what_they_are() -> None:
    assert str(PAIR) == "remote.example -> example.com"
    assert PAIR.turned == Pair(LOCAL, REMOTE)


def test_an_answer_of_ours_is_the_answer_of_a_server() -> None:
    play = OutboundPlaybook().to_accepted()
    asked = result(LOCAL.upper(), REMOTE)
    play.client(asked).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL.upper(), "valid")), Disarm(Deadline.AUTHENTICATION)
    )
