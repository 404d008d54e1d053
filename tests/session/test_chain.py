"""The plugin chain: who is asked, in which order, and what becomes of the verdicts."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.session.chain import Chain, ChainError
from proxy.session.hooks import (
    Address,
    Bounds,
    ClientHello,
    Condition,
    Continue,
    Direction,
    Element,
    Plugin,
    Reject,
    Replace,
    Reply,
    Stanzas,
    StreamHeader,
    TLSRule,
    View,
)
from proxy.xmpp import namespaces as ns
from tests.xmpp.streams import element

VIEW = View(id="1", listener="c2s", rule=TLSRule.REQUIRED, client=Address("192.0.2.1", 5))
HEADER = StreamHeader(to="example.com", sender=None, id=None, version=(1, 0), language=None)
HELLO = ClientHello(server_name=None, protocols=(), direct=True)
MESSAGE = element(b"<message id='1'><body/></message>")
TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
NO = Reject(Condition.POLICY_VIOLATION, "no")

JUDGED: dict[str, Callable[[Chain], object]] = {
    "client_connected": lambda chain: chain.client_connected(VIEW),
    "stream_opened": lambda chain: chain.stream_opened(VIEW, HEADER),
    "client_hello": lambda chain: chain.client_hello(VIEW, HELLO),
    "tls_established": lambda chain: chain.tls_established(VIEW),
    "authenticated": lambda chain: chain.authenticated(VIEW),
}
PASSED: dict[str, Callable[[Chain], object]] = {
    "element": lambda chain: chain.element(VIEW, TO_SERVER, MESSAGE),
    "stanza": lambda chain: chain.stanza(VIEW, TO_SERVER, MESSAGE),
    "features": lambda chain: chain.features(VIEW, MESSAGE),
}
ASKED = JUDGED | PASSED
asked = pytest.mark.parametrize("hook", ASKED)
passed = pytest.mark.parametrize("hook", PASSED)


def plugin(name: str, hook: str, verdict: Any, told: list[Any] | None = None) -> Plugin:
    """A plugin that gives this verdict (or calls it, or raises it) at this hook."""

    def on(_self: Plugin, *arguments: Any) -> Any:
        if told is not None:
            told.append((name, *arguments))
        if isinstance(verdict, Exception):
            raise verdict
        return verdict(*arguments) if callable(verdict) else verdict

    wishes = (Stanzas(TO_SERVER), Stanzas(TO_CLIENT))
    made: Plugin = type("Made", (Plugin,), {"name": name, f"on_{hook}": on, "stanzas": wishes})()
    return made


@asked
def test_nobody_has_anything_against_it(hook: str) -> None:
    assert ASKED[hook](Chain([])) == Continue()
    assert ASKED[hook](Chain([plugin("a", hook, Continue())])) == Continue()


@asked
def test_plugins_are_asked_in_their_order(hook: str) -> None:
    told: list[Any] = []
    ASKED[hook](Chain([plugin(name, hook, Continue(), told) for name in "cab"]))
    assert [name for name, *_ in told] == ["c", "a", "b"]


@asked
def test_the_first_reject_wins_and_ends_the_asking(hook: str) -> None:
    told: list[Any] = []
    later = Reject(Condition.CONFLICT, "later")
    chain = Chain(
        [
            plugin("a", hook, Continue(), told),
            plugin("b", hook, NO, told),
            plugin("c", hook, later, told),
        ]
    )
    assert ASKED[hook](chain) == NO
    assert [name for name, *_ in told] == ["a", "b"]


@asked
def test_a_plugin_that_raises_is_a_refusal_and_told_of(hook: str) -> None:
    failures: list[Any] = []
    error = RuntimeError("a bug")
    chain = Chain([plugin("bad", hook, error)], lambda *failure: failures.append(failure))
    assert ASKED[hook](chain) == Reject(
        Condition.INTERNAL_SERVER_ERROR, "the plugin bad failed; see the proxy's log"
    )
    assert failures == [("bad", f"on_{hook} raised", error)]


class MyContinue(Continue):
    """No verdict, but derived from one."""


@asked
@pytest.mark.parametrize("wrong", [None, True, "Continue", Continue, MyContinue(), NO.condition])
def test_what_is_no_verdict_is_a_refusal_and_told_of(hook: str, wrong: object) -> None:
    failures: list[Any] = []
    chain = Chain(
        [plugin("bad", hook, lambda *_: wrong)], lambda *failure: failures.append(failure)
    )
    verdict = ASKED[hook](chain)
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.INTERNAL_SERVER_ERROR
    ((name, text, error),) = failures
    assert (name, error) == ("bad", None)
    assert f"on_{hook} gave" in text


@pytest.mark.parametrize(
    ("hook", "wrong"),
    [(hook, verdict) for hook in JUDGED for verdict in (Replace(b"<a/>"), Reply(b"<a/>"))]
    + [("features", Reply(b"<a/>"))],
)
def test_a_verdict_that_the_hook_does_not_allow_is_a_refusal(hook: str, wrong: object) -> None:
    verdict = ASKED[hook](Chain([plugin("bad", hook, wrong)]))
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.INTERNAL_SERVER_ERROR


def seen(told: list[Any]) -> list[Element]:
    return [arguments[-1] for arguments in told]


@passed
def test_the_next_plugin_sees_the_replacement(hook: str) -> None:
    told: list[Any] = []
    chain = Chain(
        [
            plugin("a", hook, Replace(b"<message id='2'><x/></message>"), told),
            plugin("b", hook, lambda *found: Replace(found[-1].raw.replace(b"x", b"y")), told),
            plugin("c", hook, Continue(), told),
        ]
    )
    assert PASSED[hook](chain) == Replace(b"<message id='2'><y/></message>")
    assert [one.raw for one in seen(told)] == [
        b"<message id='1'><body/></message>",
        b"<message id='2'><x/></message>",
        b"<message id='2'><y/></message>",
    ]
    assert [dict(one.attributes) for one in seen(told)] == [{"id": "1"}, {"id": "2"}, {"id": "2"}]
    assert seen(told)[-1].tree[0].tag == "{jabber:client}y"


@passed
def test_a_replacement_by_another_element_has_its_name(hook: str) -> None:
    told: list[Any] = []
    chain = Chain([plugin("a", hook, Replace(b"<presence/>")), plugin("b", hook, Continue(), told)])
    PASSED[hook](chain)
    assert seen(told)[0].name == ns.PRESENCE


@passed
def test_a_replacement_by_nothing_ends_the_asking(hook: str) -> None:
    told: list[Any] = []
    chain = Chain([plugin("a", hook, Replace(b"")), plugin("b", hook, NO, told)])
    assert PASSED[hook](chain) == Replace(b"")
    assert not told


@passed
@pytest.mark.parametrize("raw", [b"<a>", b"text", b"<a/><b/>", b"<a/>text", b"<x:y/>", b"\xff"])
def test_a_replacement_that_is_no_element_is_a_refusal_and_told_of(hook: str, raw: bytes) -> None:
    failures: list[Any] = []
    chain = Chain([plugin("bad", hook, Replace(raw))], lambda *failure: failures.append(failure))
    verdict = PASSED[hook](chain)
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.INTERNAL_SERVER_ERROR
    assert [name for name, *_ in failures] == ["bad"]


@pytest.mark.parametrize("hook", ["element", "stanza"])
def test_a_reply_ends_the_asking(hook: str) -> None:
    told: list[Any] = []
    chain = Chain([plugin("a", hook, Reply(b"<x/>")), plugin("b", hook, NO, told)])
    assert PASSED[hook](chain) == Reply(b"<x/>")
    assert not told


@passed
def test_a_reject_after_a_replacement_wins(hook: str) -> None:
    chain = Chain([plugin("a", hook, Replace(b"<a/>")), plugin("b", hook, NO)])
    assert PASSED[hook](chain) == NO


# Who is asked


class Interested(Plugin):
    """Refuses what it is asked about."""

    name = "interested"
    elements = frozenset({ns.IQ})
    stanzas = (Stanzas(TO_SERVER, frozenset({ns.MESSAGE})), Stanzas(TO_CLIENT))

    def on_element(self, _view: View, _direction: Direction, _element: Element) -> Reject:
        return NO

    def on_stanza(self, _view: View, _direction: Direction, _stanza: Element) -> Reject:
        return NO


IQ = element(b"<iq/>")


@pytest.mark.parametrize("direction", Direction)
def test_elements_go_to_plugins_that_want_their_name(direction: Direction) -> None:
    chain = Chain([Interested()])
    assert chain.element(VIEW, direction, IQ) == NO
    assert chain.element(VIEW, direction, MESSAGE) == Continue()


def test_stanzas_go_to_plugins_that_want_their_direction_and_name() -> None:
    chain = Chain([Interested()])
    assert chain.stanza(VIEW, TO_SERVER, MESSAGE) == NO
    assert chain.stanza(VIEW, TO_SERVER, IQ) == Continue()
    assert chain.stanza(VIEW, TO_CLIENT, IQ) == NO


def test_whether_anybody_wants_stanzas() -> None:
    class OneWay(Plugin):
        name = "one way"
        stanzas = (Stanzas(TO_SERVER),)

        def on_stanza(self, _view: View, _direction: Direction, _stanza: Element) -> Reject:
            return NO

    class Mute(Plugin):
        """Wants stanzas, but has no method to be asked by."""

        name = "mute"
        stanzas = (Stanzas(TO_SERVER),)

    assert not Chain([]).wants_stanzas(TO_SERVER)
    assert not Chain([Mute()]).wants_stanzas(TO_SERVER)
    assert Chain([Mute(), OneWay()]).wants_stanzas(TO_SERVER)
    assert not Chain([OneWay()]).wants_stanzas(TO_CLIENT)


def test_the_direction_is_told() -> None:
    told: list[Any] = []
    Chain([plugin("a", "element", Continue(), told)]).element(VIEW, TO_CLIENT, MESSAGE)
    assert told == [("a", VIEW, TO_CLIENT, MESSAGE)]


# The end of a session


def test_the_end_is_told_to_all_even_if_one_fails() -> None:
    told: list[Any] = []
    failures: list[Any] = []
    error = RuntimeError("a bug")
    chain = Chain(
        [
            plugin("a", "session_closed", error, told),
            plugin("b", "session_closed", None, told),
        ],
        lambda *failure: failures.append(failure),
    )
    chain.session_closed(VIEW)
    assert told == [("a", VIEW), ("b", VIEW)]
    assert failures == [("a", "on_session_closed raised", error)]


# Chains that cannot be built


def test_a_hook_that_does_not_exist_is_an_error_at_start() -> None:
    with pytest.raises(ChainError, match="plugin typo: there is no hook for on_elemnt"):
        Chain([plugin("typo", "elemnt", Continue())])


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_plugin_needs_a_name(name: object) -> None:
    nameless: Plugin = type("Nameless", (Plugin,), {"name": name})()
    with pytest.raises(ChainError, match="Nameless has no name"):
        Chain([nameless])


def test_a_plugin_without_a_name_at_all() -> None:
    with pytest.raises(ChainError, match="Plugin has no name"):
        Chain([Plugin()])


# Bounds


def bounded(**bounds: int) -> Plugin:
    class Bounded(Plugin):
        name = "bounded"

        def bounds(self) -> Bounds:
            return Bounds(**bounds)

    return Bounded()


def test_the_least_of_each_bound_holds() -> None:
    chain = Chain(
        [
            bounded(stanza_bytes=20, unauthenticated_bytes=5),
            bounded(stanza_bytes=10, unauthenticated_bytes=7),
            bounded(),
        ]
    )
    assert chain.bounds == Bounds(stanza_bytes=10, unauthenticated_bytes=5)


def test_without_plugins_there_is_no_bound() -> None:
    assert Chain([]).bounds == Bounds()
