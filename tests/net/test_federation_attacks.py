"""Attacks on streams between servers: misused SASL EXTERNAL, torn streams, floods of pairs."""

import base64
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import attrs
import pytest

from proxy.session.federation import MOST_PAIRS, MOST_REFUSALS
from tests.authority import Authority
from tests.net.client import read_all
from tests.net.federation import APART, DIRECT, LEGACY, REMOTE, SISTER, Grounds, believe
from tests.net.legacy import Connection
from tests.net.server_streams import (
    AUTH,
    END,
    Sender,
    anew,
    answer,
    message,
    result,
)
from tests.servers.stream import STARTTLS

SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
COMPRESS = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"
BIDI = "<bidi xmlns='urn:xmpp:bidi'/>"
DEADLINES = {"authentication": 8, "connect": 4}
"""Short, for tests that wait for them, but no shorter than what has to come before may take."""


def auth(identity: str, mechanism: str = "EXTERNAL") -> str:
    """Return a request to be authenticated as something."""
    text = base64.b64encode(identity.encode()).decode() if identity else "="
    return f"<auth {SASL} mechanism='{mechanism}'>{text}</auth>"


@pytest.fixture(scope="module")
def _grounds(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Grounds]:
    with Grounds.made(tmp_path_factory.mktemp("federation-attacks"), authority) as grounds:
        yield grounds


@pytest.fixture
def grounds(_grounds: Grounds) -> Grounds:
    """All of them, as new for each test."""
    _grounds.renew()
    return _grounds


def accept(grounds: Grounds, stream: Sender) -> Connection:
    """Open a stream of a server without a certificate; return our server's end."""
    stream.open()
    stream.read_features()
    return grounds.legacy.next()


# SASL EXTERNAL


MISUSED = {
    "another domain": (auth("another.example"), "invalid-authzid"),
    "ours": (auth(LEGACY), "invalid-authzid"),
    "a user": (auth(f"admin@{REMOTE}"), "invalid-authzid"),
    "a domain below": (auth(f"x.{REMOTE}"), "invalid-authzid"),
    "no Base64": (AUTH.replace(">=<", ">%%%<"), "incorrect-encoding"),
    "no UTF-8": (AUTH.replace(">=<", ">/w==<"), "incorrect-encoding"),
    "PLAIN": (auth("\0x\0y", "PLAIN"), "invalid-mechanism"),
    "a response": (f"<response {SASL}>=</response>", "malformed-request"),
    "nothing": (f"<abort {SASL}/>", "aborted"),
}


@pytest.mark.parametrize("what", MISUSED)
def test_a_certificate_proves_its_own_domain_alone(grounds: Grounds, what: str) -> None:
    sent, condition = MISUSED[what]
    with grounds.incoming(pair=grounds.certificates[REMOTE]) as stream:
        ours = accept(grounds, stream)
        for _ in range(2):
            stream.send(sent)
            assert f"<{condition}" in stream.read_until("</failure>")
        stream.send(sent)
        assert "<policy-violation " in stream.read_to_end()
        assert ours.got == stream.header().encode()


@pytest.mark.parametrize("identity", ["", REMOTE, REMOTE.upper()])
def test_its_own_domain_may_be_named_or_not(grounds: Grounds, identity: str) -> None:
    with grounds.incoming(pair=grounds.certificates[REMOTE]) as stream:
        accept(grounds, stream)
        stream.send(auth(identity))
        stream.read_until("<success [^>]*/>")


def test_external_is_not_there_for_who_proves_nothing(grounds: Grounds) -> None:
    for pair in (None, grounds.certificates[DIRECT]):
        grounds.renew()
        with grounds.incoming(pair=pair) as stream:
            accept(grounds, stream)
            stream.send(auth(REMOTE))
            assert "<failure " in stream.read_until("</failure>")
            stream.send(message(REMOTE, LEGACY))
            assert "<not-authorized " in stream.read_to_end()


@pytest.mark.parametrize("to", [SISTER, APART, "nobody.example"])
def test_who_is_authenticated_at_one_domain_is_not_at_another(grounds: Grounds, to: str) -> None:
    with grounds.incoming(pair=grounds.certificates[REMOTE]) as stream:
        accept(grounds, stream)
        stream.send(AUTH)
        stream.read_until("<success [^>]*/>")
        stream.to = to
        stream.send(stream.header())
        assert "<not-authorized " in stream.read_to_end()


def test_external_is_done_once(grounds: Grounds) -> None:
    with grounds.authenticated() as stream:
        stream.send(AUTH)
        assert "<unsupported-stanza-type " in stream.read_to_end()


def test_before_tls_there_is_no_external(grounds: Grounds) -> None:
    with grounds.connecting(grounds.service.ports["in"], REMOTE, LEGACY) as stream:
        stream.open()
        assert "EXTERNAL" not in stream.read_features()
        stream.send(AUTH)
        assert "<encryption-required" in stream.read_until("</failure>")
    assert grounds.legacy.connections == []


@pytest.mark.parametrize("sent", [COMPRESS, BIDI, STARTTLS.decode()])
@pytest.mark.parametrize("proved", [True, False])
def test_what_was_not_on_offer_is_refused(grounds: Grounds, sent: str, proved: bool) -> None:
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        if proved:
            stream.let_pass(ours)
        heard = ours.got
        stream.send(sent)
        assert re.search("<unsupported-stanza-type |<failure ", stream.read_to_end())
        ours.read_to_end()
        assert ours.got == heard


def test_stream_management_is_between_the_two_servers(grounds: Grounds) -> None:
    enable = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
    enabled = "<enabled xmlns='urn:xmpp:sm:3'/>"
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.send(enable)
        assert "<not-authorized " in stream.read_to_end()
        assert b"enable" not in ours.got
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.let_pass(ours)
        stream.send(enable)
        assert ours.read_until(rb"<enable [^>]*>") == enable.encode()
        ours.send(enabled.encode())
        assert stream.read_until("<enabled [^>]*>") == enabled


# Our server is not to hear of what it has not been convinced of


def test_what_follows_waits_until_ours_is_convinced(grounds: Grounds) -> None:
    with grounds.authenticated() as stream:
        many = "".join(message(REMOTE, LEGACY, f"{number}") + " " for number in range(2_000))
        grounds.legacy.next()
        ours = grounds.legacy.next()
        stream.send(many)
        believe(grounds, ours, "legacy-2")
        assert ours.read(len(many.encode())) == many.encode()


@attrs.frozen
class Waiting:
    """Servers of the network that wait, beside each other.

    Attributes:
        unanswered: one of which ours has been asked, which does not answer.
        asked: our end of that.
        unopened: one to which ours has not opened a stream.
        unproved: one that proves nothing.
    """

    unanswered: Sender
    asked: Connection
    unopened: Sender
    unproved: Sender


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Waiting]:
    tables = {"deadlines": DEADLINES}
    directory = tmp_path_factory.mktemp("waiting")
    with Grounds.made(directory, authority, tables=tables) as grounds, ExitStack() as stack:
        grounds.renew()
        grounds.apart.script = lambda _connection: None
        unproved = stack.enter_context(grounds.incoming())
        accept(grounds, unproved)
        unopened = stack.enter_context(grounds.incoming(to=APART))
        unopened.send(unopened.header())
        unanswered = stack.enter_context(grounds.authenticated())
        unanswered.send(message(REMOTE, LEGACY))
        grounds.legacy.next()
        yield Waiting(unanswered, grounds.legacy.next(), unopened, unproved)


def test_ours_does_not_answer(waiting: Waiting) -> None:
    assert "<remote-connection-failed " in waiting.unanswered.read_to_end()
    assert b"<message" not in waiting.asked.read_to_end()


def test_neither_does_ours_open_a_stream(waiting: Waiting) -> None:
    assert "<remote-connection-failed " in waiting.unopened.read_to_end()


def test_who_proves_nothing_in_time_is_left(waiting: Waiting) -> None:
    assert "<connection-timeout " in waiting.unproved.read_to_end()


@pytest.mark.parametrize("size", [1, 20, 60, -1])
def test_a_torn_stanza_does_not_pass(grounds: Grounds, size: int) -> None:
    whole = message(REMOTE, LEGACY, "whole")
    for ending in ("close_notify", "end of the connection"):
        grounds.renew()
        with grounds.incoming() as stream:
            ours = accept(grounds, stream)
            stream.let_pass(ours)
            heard = ours.got
            stream.send(whole + whole[:size])
            ours.read_until(b"</message>")
            if ending == "close_notify":
                stream.connection.close()
            else:
                stream.connection.shutdown(socket.SHUT_RDWR)
            assert ours.read_to_end() == b""
            assert ours.got == heard + whole.encode()


def test_a_torn_stanza_does_not_go_out(grounds: Grounds) -> None:
    with grounds.outgoing() as stream:
        stream.open()
        stream.read_features()
        peer = grounds.remote.next()
        stream.let_pass(peer)
        stream.send(message(LEGACY, REMOTE)[:-3])
        stream.connection.close()
        assert peer.read_to_end() == b""


@pytest.mark.parametrize(
    "broken",
    [
        "<message <",
        "</message>",
        "<!-- x -->",
        "<?x y?>",
        "text",
        "<a></b>",
        "\0",
        "<a xmlns:b=''/>",
    ],
)
def test_what_is_broken_ends_the_stream_both_ways(grounds: Grounds, broken: str) -> None:
    good = message(REMOTE, LEGACY)
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.let_pass(ours)
        stream.send(good + broken + good)
        said = stream.read_to_end()
        assert re.search("<(not-well-formed|restricted-xml|bad-format) ", said), said
        assert said.endswith(END)
        assert ours.read_to_end() == good.encode()


# Floods


def test_a_flood_of_pairs_before_any_is_proved(grounds: Grounds) -> None:
    """What a stranger may say is bounded in any case."""
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        for number in range(1_000):
            stream.send(result(f"{number}.example", LEGACY))
        assert b"<policy-violation " in read_all(stream.connection)
        assert ours.read_to_end().count(b"</db:result>") <= 256


def test_a_flood_of_pairs_that_nobody_answers(grounds: Grounds) -> None:
    with grounds.incoming() as stream:
        ours = accept(grounds, stream)
        stream.let_pass(ours)
        more = MOST_REFUSALS - 1
        flood = "".join(result(f"{n}.example", LEGACY) for n in range(MOST_PAIRS + more))
        stream.send(flood)
        for _ in range(more + 1):
            assert "<resource-constraint " in stream.read_until("</db:result>")
        assert stream.is_silent()
        ours.read_until(f"{MOST_PAIRS - 2}.example.*</db:result>".encode())
        assert f"{MOST_PAIRS - 1}.example".encode() not in ours.got
        # The pair that is proved is as good as before, and so is who is answered now.
        stream.send(message(REMOTE, LEGACY))
        assert ours.read_until(b"</message>") == message(REMOTE, LEGACY).encode()
        ours.send(answer(LEGACY, "0.example").encode())
        assert stream.read_until("<db:result [^>]*/>") == anew(answer(LEGACY, "0.example"))
        stream.send(message("0.example", LEGACY))
        assert ours.read_until(b"</message>") == message("0.example", LEGACY).encode()
        # But who goes on asking is let go.
        stream.send(result("more.example", LEGACY))
        assert "<policy-violation " in stream.read_to_end()
