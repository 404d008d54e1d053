"""What a forward listener remembers of verdicts, and which connections it takes for our own."""

import contextlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from proxy.daemon import forwarding
from proxy.daemon.endpoints import Endpoint
from proxy.daemon.forwarding import MOST_REMEMBERED, REMEMBERED, ForwardRules, Remote
from proxy.daemon.model import ORIGINAL, Conf, Deadlines, Listener
from proxy.daemon.remote import Resolver
from proxy.net.redirected import NotRedirectedError
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Ladder, Level, Pattern, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.servers.program import HOST

GOOD = Evidence((b"leaf", b"authority"), 0, "ok")
POLICY = Policy(Pattern("*"))


@attrs.define
class Clock:
    """Stands in for the class `datetime`."""

    time: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    def now(self, _zone: object) -> datetime:
        return self.time


@attrs.define
class Judge:
    """Counts what it is asked; trusts `GOOD` and nothing else."""

    asked: list[tuple[str, Policy, Evidence]] = attrs.field(factory=list)

    def __call__(
        self, domain: str, _service: str, policy: Policy, evidence: Evidence, _now: datetime
    ) -> Verdict:
        self.asked.append((domain, policy, evidence))
        if evidence != GOOD:
            raise UntrustedError("not this one")
        return Verdict(Status.VERIFIED, f"DNS-ID {domain}", "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(forwarding, "datetime", clock)
    return clock


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge()
    monkeypatch.setattr(forwarding, "judge", judge)
    return judge


@pytest.fixture
def rules() -> ForwardRules:
    listener = Listener(
        name="legacy",
        direction="forward",
        stream=Kind.C2S,
        address=Endpoint("127.0.0.1", 5222),
        tls=TLSRule.REQUIRED,
        domains=(Pattern.parse("*.example.org"), Pattern.parse("example.net")),
    )
    return ForwardRules(listener, Ladder([]))


def test_the_same_certificates_are_judged_once_a_minute(
    rules: ForwardRules, judge: Judge, clock: Clock
) -> None:
    for _ in range(3):
        assert rules.judge("example.net", POLICY, GOOD).status is Status.VERIFIED
    clock.time += REMEMBERED - timedelta(seconds=1)
    rules.judge("example.net", POLICY, GOOD)
    assert len(judge.asked) == 1
    clock.time += timedelta(seconds=1)
    rules.judge("example.net", POLICY, GOOD)
    assert len(judge.asked) == 2


def test_a_clock_that_goes_back_has_it_judged_anew(
    rules: ForwardRules, judge: Judge, clock: Clock
) -> None:
    rules.judge("example.net", POLICY, GOOD)
    clock.time -= timedelta(seconds=1)
    rules.judge("example.net", POLICY, GOOD)
    assert len(judge.asked) == 2


@pytest.mark.parametrize(
    ("domain", "policy"),
    [
        ("www.example.org", POLICY),
        ("example.net", attrs.evolve(POLICY, level=Level.PIN)),
        ("example.net", attrs.evolve(POLICY, domain=Pattern("example.net"))),
    ],
)
@pytest.mark.usefixtures("clock")
def test_nothing_is_remembered_for_another_domain_or_policy(
    rules: ForwardRules, judge: Judge, domain: str, policy: Policy
) -> None:
    rules.judge("example.net", POLICY, GOOD)
    rules.judge(domain, policy, GOOD)
    assert len(judge.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(GOOD, chain=(b"leaf",)),
        attrs.evolve(GOOD, chain=(b"other", b"authority")),
        attrs.evolve(GOOD, error=10),
        attrs.evolve(GOOD, error_text="?"),
    ],
)
@pytest.mark.usefixtures("clock", "judge")
def test_nothing_is_remembered_for_other_certificates(rules: ForwardRules, other: Evidence) -> None:
    rules.judge("example.net", POLICY, GOOD)
    for _ in range(2):
        with pytest.raises(UntrustedError):
            rules.judge("example.net", POLICY, other)


@pytest.mark.usefixtures("clock")
def test_what_is_remembered_does_not_grow(rules: ForwardRules, judge: Judge) -> None:
    for number in range(MOST_REMEMBERED + 10):
        rules.judge(f"d{number}.example.org", POLICY, GOOD)
    rules.judge(f"d{MOST_REMEMBERED + 9}.example.org", POLICY, GOOD)
    assert len(judge.asked) == MOST_REMEMBERED + 10
    rules.judge("d0.example.org", POLICY, GOOD)
    assert len(judge.asked) == MOST_REMEMBERED + 11


def test_a_listener_serves_the_domains_of_its_conf(rules: ForwardRules) -> None:
    served = ["example.net", "a.example.org", "a.b.example.org"]
    others = ["example.org", "a.example.net", "", "example.com", "badexample.net"]
    assert [name for name in served + others if rules.serves(name)] == served


# Own connections


@pytest.fixture
def remote() -> Iterator[Remote]:
    conf = Conf(
        plugins=(),
        deadlines=Deadlines(),
        domains=(),
        listeners=(),
        policies=(),
        dns=Resolver(servers=()),
    )
    remote = Remote(conf, object())
    yield remote
    remote.close()


@attrs.frozen
class Meeting:
    """A client whose address and port are also those of a connection of ours.

    Attributes:
        accepted: the client's connection, at the listener.
        client: where both come from.
        ours: our connection, to somewhere else.
        elsewhere: where it goes.
    """

    accepted: socket.socket
    client: Address
    ours: socket.socket
    elsewhere: Address


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    with contextlib.ExitStack() as stack:
        server, listening = (stack.enter_context(socket.create_server((HOST, 0))) for _ in range(2))
        ours, theirs = (stack.enter_context(socket.socket()) for _ in range(2))
        for connection in (ours, theirs):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind((HOST, 0))
        theirs.bind(ours.getsockname())
        ours.connect(server.getsockname())
        theirs.connect(listening.getsockname())
        accepted = stack.enter_context(listening.accept()[0])
        client = Address(*accepted.getpeername())
        assert client == Address(*ours.getsockname())
        yield Meeting(accepted, client, ours, Address(*server.getsockname()))


LISTENER = Listener(
    name="legacy",
    direction="forward",
    stream=Kind.C2S,
    address=Endpoint(HOST, 5222),
    tls=TLSRule.REQUIRED,
    domains=(Pattern.parse("*"),),
)

each_listener = pytest.mark.parametrize(
    "listener",
    [LISTENER, attrs.evolve(LISTENER, destination=ORIGINAL, tproxy=True)],
    ids=["srv", "tproxy"],
)

LED_BACK = "our own connection to a server was led back to us"
NOT_REDIRECTED = "the connection was not redirected"


def reason(remote: Remote, meeting: Meeting, listener: Listener) -> str | None:
    """Return why a connection is not served."""
    try:
        assert remote.original(meeting.accepted, meeting.client, listener) is None
    except NotRedirectedError as error:
        return str(error)
    return None


@each_listener
def test_attack_a_client_from_where_a_connection_of_ours_comes_from_is_served(
    remote: Remote, meeting: Meeting, listener: Listener
) -> None:
    """The kernel gives one address and port to connections that go to different places."""
    remote.outgoing.add(meeting.ours, meeting.elsewhere)
    served = NOT_REDIRECTED if listener.tproxy else None
    assert reason(remote, meeting, listener) == served


@each_listener
def test_a_connection_of_ours_is_not_served(
    remote: Remote, meeting: Meeting, listener: Listener
) -> None:
    ends = remote.outgoing.add(meeting.ours, Address(*meeting.accepted.getsockname()))
    remote.outgoing.add(meeting.ours, meeting.elsewhere)
    assert reason(remote, meeting, listener) == LED_BACK
    remote.outgoing.discard(ends)
    assert reason(remote, meeting, listener) != LED_BACK
