"""What holds for a stream for several domains, whatever comes in whatever order, torn however."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
from hypothesis import given
from hypothesis import strategies as st

from proxy.xmpp.errors import FOOTER
from tests.session.division import ONE, THREE, TWO, Divided, to
from tests.session.federation import UNADDRESSED
from tests.session.federation_words import (
    LOCAL,
    LOCAL_2,
    answer,
    message,
    own_answer,
    result,
    verify,
)
from tests.xmpp.streams import cut_at

DOMAINS = (ONE, TWO, THREE)
OURS = (LOCAL, LOCAL_2)
PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)
ONE_OF_THEM = st.sampled_from(DOMAINS)

BODIES = st.text("a<&>'ü€ \n", max_size=20).map(
    lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
)
SPELLINGS = {each: (each, each.upper(), f"b@{each}", f"b@{each}/@{ONE}") for each in DOMAINS}


@st.composite
def stanzas(draw: st.DrawFn) -> tuple[str, bytes]:
    """A stanza, simple or not, and the domain that it is for."""
    domain = draw(ONE_OF_THEM)
    place = draw(st.sampled_from(SPELLINGS[domain]))
    said = message(f"a@{draw(st.sampled_from(OURS))}", place, draw(BODIES))
    if draw(st.booleans()):
        said = said.replace(b"<message ", b"<message\n ").replace(b"<body>", b"<body><![CDATA[<]]>")
    return domain, said


# What is for a domain


@given(st.lists(stanzas(), max_size=30), st.lists(st.sampled_from([b"", b" ", b"\n\t"])), PLACES)
def test_each_domain_gets_its_own_in_order_byte_for_byte(
    sent: Sequence[tuple[str, bytes]], spaces: Sequence[bytes], places: Sequence[int]
) -> None:
    divided = Divided().proved(*DOMAINS)
    between = [*spaces, *[b""] * len(sent)]
    said = b"".join(space + stanza for space, (_, stanza) in zip(between, sent, strict=False))
    divided.says(*cut_at(said, places)).hears()
    for domain in DOMAINS:
        mine = b"".join(stanza for each, stanza in sent if each == domain)
        assert divided.got(domain) == result(LOCAL, domain) + mine
    assert divided.closed is None


@given(st.lists(st.tuples(st.sampled_from(OURS), ONE_OF_THEM, st.booleans())), PLACES)
def test_requests_are_told_apart_by_the_domain_asked(
    asked: Sequence[tuple[str, str, bool]], places: Sequence[int]
) -> None:
    requests = [
        (to, verify(sender, to, "id-1") if key else result(sender, to)) for sender, to, key in asked
    ]
    divided = Divided().says(*cut_at(b"".join(request for _, request in requests), places))
    for domain in DOMAINS:
        mine = b"".join(request for to, request in requests if to == domain)
        assert divided.heard.get(domain, [UNADDRESSED]) == [UNADDRESSED + mine]
    assert set(divided.heard) == {to for to, _ in requests}


# What comes back


@attrs.frozen
class Question:
    """A request of dialback, or an answer."""

    sender: str
    to: str
    id: str | None

    def asked(self) -> bytes:
        if self.id is None:
            return result(self.sender, self.to)
        return verify(self.sender, self.to, self.id)

    def answered(self) -> bytes:
        return answer(self.to, self.sender, "invalid", self.id)

    def told(self) -> bytes:
        return own_answer(self.to, self.sender, "invalid", self.id)


QUESTIONS = st.builds(
    Question, st.sampled_from(OURS), ONE_OF_THEM, st.sampled_from([None, "id-1", "id-2"])
)


@given(
    st.lists(QUESTIONS),
    st.lists(st.tuples(ONE_OF_THEM, QUESTIONS)),
    PLACES,
)
def test_only_the_domain_asked_answers_and_as_often_as_it_was_asked(
    asked: Sequence[Question], said: Sequence[tuple[str, Question]], places: Sequence[int]
) -> None:
    divided = Divided().says(b"".join(each.asked() for each in asked))
    left = Counter(asked)
    started = set()
    for domain, question in said:
        expected = b""
        if question.to == domain and left[question]:
            left[question] -= 1
            expected = question.told()
        header = b"" if domain in started else UNADDRESSED
        started.add(domain)
        divided.branch(domain, *cut_at(header + question.answered(), places)).hears(expected)


# Whatever happens

SAID = st.one_of(
    QUESTIONS.map(Question.asked),
    stanzas().map(lambda each: each[1]),
    st.sampled_from([b" ", b"<", b"\xff", b"<a/>", FOOTER, UNADDRESSED, b"<stream:error/>"]),
    QUESTIONS.map(Question.answered),
)
ANSWERED = st.one_of(
    st.just(UNADDRESSED),
    st.builds(
        answer,
        ONE_OF_THEM,
        st.sampled_from(OURS),
        st.sampled_from(["valid", "invalid", "error"]),
        st.sampled_from([None, None, "id-1"]),
    ),
    st.sampled_from([FOOTER, b"<", b" ", b"<stream:error/>", to(ONE), b"<db:result/>"]),
)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("says"), SAID),
        st.tuples(ONE_OF_THEM, ANSWERED),
        st.tuples(ONE_OF_THEM, st.none()),
    ),
    max_size=40,
)


Moves = Sequence[tuple[str, bytes | None]]


def played(divided: Divided, moves: Moves) -> Iterator[tuple[str, bytes]]:
    """Do one thing after the other; yield who has done it, and what our server is told of it.

    `Divided` sees to the order of things.
    """
    for who, data in moves:
        if data is None:
            divided.ends(who)
        elif who == "says":
            divided.says(data)
        else:
            divided.branch(who, data)
        yield who, divided.told
        divided.told = b""
        if divided.closed is not None:
            return


@given(MOVES)
def test_whatever_comes_no_branch_gets_what_is_anothers(moves: Moves) -> None:
    divided = Divided()
    for _ in played(divided, moves):
        pass
    for domain, lives in divided.heard.items():
        assert all(life.startswith(UNADDRESSED) for life in lives)
        for other in set(DOMAINS) - {domain}:
            heard = b"".join(lives)
            assert f"to='{other}".encode() not in heard
            assert f"to='b@{other}".encode() not in heard


@given(MOVES)
def test_whatever_comes_no_branch_speaks_for_another(moves: Moves) -> None:
    divided = Divided()
    for who, told in played(divided, moves):
        for domain in re.findall(rb'<db:[^>]* from="([^"]*)"', told):
            assert domain.decode() == who
            assert who in divided.heard


@given(MOVES)
def test_whatever_comes_no_stanza_passes_without_a_proof(moves: Moves) -> None:
    divided = Divided()
    proved: set[str] = set()
    stanzas = dict.fromkeys(DOMAINS, 0)
    for who, told in played(divided, moves):
        if f'from="{who}" to="{LOCAL}" type=\'valid\''.encode() in told.replace(
            LOCAL_2.encode(), LOCAL.encode()
        ):
            proved.add(who)
        proved &= divided.open
        for domain, lives in divided.heard.items():
            passed = b"".join(lives).count(b"<message")
            assert passed == stanzas[domain] or domain in proved
            stanzas[domain] = passed
