"""Which domains a forward listener serves, and which connections it takes for our own."""

import contextlib
import socket
from collections.abc import Iterator

import attrs
import pytest

from proxy.daemon.endpoints import Endpoint
from proxy.daemon.forwarding import ForwardRules, Remote
from proxy.daemon.model import ORIGINAL, Conf, Deadlines, Listener
from proxy.daemon.remote import Resolver
from proxy.daemon.trusting.judge import Judge
from proxy.net.redirected import NotRedirectedError
from proxy.session.hooks import Address
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.policy import Ladder, Pattern
from tests.daemon.trusting.judged import ask_site, tell
from tests.servers.program import HOST


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
    judge = Judge(object(), keyring=None, tell=tell, ask_site=ask_site)
    return ForwardRules(listener, Ladder([]), judge)


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
