"""Attack 26: a plugin may do whatever it likes; what comes of it ends its session and no more."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.session.chain import Chain
from proxy.session.faults import located
from proxy.session.hooks import (
    Condition,
    Continue,
    Direction,
    Element,
    Plugin,
    Reject,
    Replace,
    Reply,
    Verdict,
    View,
)
from proxy.session.receiving import Receiving
from tests.session.conftest import Play
from tests.session.playbook import CLIENT, SERVER, Playbook, finished, header, new_session
from tests.session.sessions import is_over
from tests.session.test_chain import ASKED, MESSAGE, TO_SERVER, VIEW, plugin

WAYS_OUT = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
ways_out = pytest.mark.parametrize("way_out", WAYS_OUT)
SECRET = "exceedingly"

Failed = tuple[str, str, BaseException | None]


def raising(error: BaseException) -> Callable[..., Any]:
    def ask(*_arguments: object) -> Any:
        raise error

    return ask


@ways_out
@pytest.mark.parametrize("hook", ASKED)
def test_attack_26_a_plugin_that_exits_is_a_refusal_and_told_of(
    hook: str, way_out: type[BaseException]
) -> None:
    failures: list[Failed] = []
    error = way_out()
    chain = Chain([plugin("bad", hook, raising(error))], lambda *failure: failures.append(failure))
    verdict = ASKED[hook](chain)
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.INTERNAL_SERVER_ERROR
    assert failures == [("bad", f"on_{hook} raised", error)]


@ways_out
def test_attack_26_a_plugin_that_exits_at_the_end_ends_nothing_else(
    way_out: type[BaseException],
) -> None:
    told: list[Any] = []
    bad = plugin("bad", "session_closed", raising(way_out()))
    good = plugin("good", "session_closed", None, told)
    Chain([bad, good]).session_closed(VIEW)
    assert told == [("good", VIEW)]


@ways_out
@pytest.mark.parametrize("hook", ["client_connected", "stream_opened"])
def test_attack_26_a_plugin_that_exits_ends_its_session_in_good_order(
    hook: str, way_out: type[BaseException]
) -> None:
    session = new_session(plugins=[plugin("bad", hook, raising(way_out()))])
    out = session.connected()
    out += session.received(CLIENT, header())
    assert is_over(out)


@ways_out
def test_attack_26_a_fault_of_our_own_ends_its_session_in_good_order(
    play: Play, monkeypatch: pytest.MonkeyPatch, way_out: type[BaseException]
) -> None:
    book = play().to_offer()
    monkeypatch.setattr(Receiving, "event", raising(way_out(SECRET)))
    out = book.session.received(CLIENT, b"<starttls/>")
    assert is_over(out)
    assert SECRET not in repr(out)


# What it returns


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reply("<a/>"),  # type: ignore[arg-type]
        lambda: Reply(None),  # type: ignore[arg-type]
        lambda: Replace(None),  # type: ignore[arg-type]
        lambda: Replace("<a/>"),  # type: ignore[arg-type]
        lambda: Reject("conflict", "no"),  # type: ignore[arg-type]
        lambda: Reject(Condition.CONFLICT, 1),  # type: ignore[arg-type]
        lambda: Reject(Condition.CONFLICT, b"no"),  # type: ignore[arg-type]
    ],
)
def test_attack_26_a_verdict_of_wrong_parts_is_not_made(make: Callable[[], Verdict]) -> None:
    with pytest.raises(TypeError):
        make()
    failures: list[Failed] = []
    chain = Chain(
        [plugin("bad", "element", lambda *_: make())],
        lambda *failure: failures.append(failure),
    )
    verdict = chain.element(VIEW, TO_SERVER, MESSAGE)
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.INTERNAL_SERVER_ERROR
    ((name, text, error),) = failures
    assert (name, text) == ("bad", "on_element raised")
    assert isinstance(error, TypeError)


@pytest.mark.parametrize("hook", ["element", "features", "stanza"])
@pytest.mark.parametrize(
    "verdict",
    [
        SECRET,
        SECRET.encode(),
        [SECRET],
        raising(ValueError(SECRET)),
        raising(SystemExit(SECRET)),
        lambda *_: Reply(SECRET),  # type: ignore[arg-type]
        lambda *_: Reject(SECRET, SECRET),  # type: ignore[arg-type]
        Replace(f"<{SECRET}".encode()),
        Replace(f"<a></{SECRET}>".encode()),
        Replace(f"<a>&{SECRET};</a>".encode()),
        Replace(f"<a/>{SECRET}".encode()),
        Replace(b"<a " + SECRET.encode() + b"='\xff'/>"),
    ],
)
def test_attack_26_what_a_plugin_says_of_an_element_is_not_logged(
    hook: str, verdict: object
) -> None:
    """A password may stand in it."""
    failures: list[Failed] = []
    chain = Chain([plugin("bad", hook, verdict)], lambda *failure: failures.append(failure))
    given = ASKED[hook](chain)
    assert isinstance(given, Reject)
    assert given.condition is Condition.INTERNAL_SERVER_ERROR
    ((_, text, error),) = failures
    # As the service logs it.
    logged = text + ("" if error is None else located(error))
    assert SECRET not in logged + given.text


def test_attack_26_a_fault_is_told_by_its_kind_and_place() -> None:
    with pytest.raises(ValueError, match=SECRET) as raised:
        raising(ValueError(SECRET))()
    assert located(raised.value).startswith("ValueError at test_attack_26_strange_plugins.py:")


# What it makes of an element


class Inspector(Plugin):
    """Notes what is inside of what it sees."""

    name = "inspector"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_element(self, _view: View, _direction: Direction, element: Element) -> Verdict:
        self.seen.append(element.child)
        return Continue()


@pytest.mark.parametrize(
    ("raw", "child"),
    [
        (b"<iq/>", ""),
        (b"<iq>text</iq>", ""),
        (b"<iq><a xmlns='urn:a'/><b/></iq>", "{urn:a}a"),
        (b"<iq>text<b><c/></b></iq>", "{jabber:client}b"),
    ],
)
def test_attack_26_the_next_plugin_sees_the_child_of_the_replacement(
    raw: bytes, child: str
) -> None:
    inspector = Inspector()
    Chain([plugin("a", "element", Replace(raw)), inspector]).element(VIEW, TO_SERVER, MESSAGE)
    assert inspector.seen == [child]


# What is told of the end


def test_a_client_hello_that_a_plugin_refuses_is_refused_with_its_reason(play: Play) -> None:
    no = Reject(Condition.RESOURCE_CONSTRAINT, "too many handshakes")
    book: Playbook = play(plugins=[plugin("bad", "client_hello", no)]).to_hello().hello()
    book.ending(*finished("TLS refused: resource-constraint: too many handshakes", close=[SERVER]))


def test_a_client_that_may_not_stay_is_told_and_left_soon() -> None:
    no = Reject(Condition.RESOURCE_CONSTRAINT, "too many")
    out = new_session(plugins=[plugin("bad", "client_connected", no)]).connected()
    assert any(getattr(command, "brief", False) for command in out)
