"""Sessions that wait for a verdict: nobody is believed meanwhile, and nothing is held for them."""

import pytest

from proxy.session.commands import (
    Abort,
    Arm,
    Await,
    ConnectNext,
    Deadline,
    Disarm,
    Reconnect,
    Send,
    Severity,
    StartServerTLS,
)
from proxy.session.hooks import Condition
from proxy.session.outward import MOST_WAITS
from proxy.session.securing import STARTTLS
from proxy.session.ways import Trouble
from proxy.trust.policy import Level
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from tests.session.forward import (
    NO_OFFER,
    OFFER,
    OPENING,
    PROCEED,
    ForwardPlaybook,
    Rules,
)
from tests.session.playbook import CLIENT, DOMAIN, SERVER, answer, header, own, refused
from tests.trust.deciding import NeverDecided

WHY = f"the certificate of {DOMAIN} is not permitted (abcdefgh in the keyring)"


DECISION = NeverDecided()
SHUTDOWN = f"<stream:error><system-shutdown xmlns='{ns.STREAM_ERRORS}'/></stream:error>".encode()
REDIRECTION = (
    f"<stream:error><see-other-host xmlns='{ns.STREAM_ERRORS}'>evil.example</see-other-host>"
    "</stream:error>"
).encode()
WAITS = (
    Disarm(Deadline.WAY),
    Abort(SERVER),
    Disarm(Deadline.CONNECT),
    Disarm(Deadline.WAY),
    Disarm(Deadline.AUTHENTICATION),
    Await(DECISION),
)
GOES_ON = (Arm(Deadline.CONNECT), Arm(Deadline.AUTHENTICATION))


class Judge:
    """Says one thing after the other; an error is raised."""

    def __init__(self, *said: Verdict | Exception) -> None:
        self.said = list(said)

    def __call__(self) -> Verdict:
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        return said


UNDECIDED = UndecidedError(WHY, DECISION)
GOOD = Verdict(Status.VERIFIED, "keyring", "")


def waiting(*said: Verdict | Exception, report: bool = False) -> ForwardPlaybook:
    rules = Rules(Level.KEYRING, report=report, verdict=Judge(*said))
    return ForwardPlaybook(rules).to_handshaking().server_secured()


def again(book: ForwardPlaybook) -> ForwardPlaybook:
    """From a new connection to its handshake."""
    book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote-2") + OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    return book.server_secured()


def test_a_session_waits_without_its_server_and_goes_on_with_a_new_handshake() -> None:
    """Nothing of the client's is sent before the certificate of that handshake is believed."""
    book = waiting(UNDECIDED, GOOD).then(*WAITS)
    assert f"the session waits: {WHY}" in [report.message for report in book.reports]
    book.decided(in_time=True).then(*GOES_ON, Reconnect())
    again(book).then(Send(SERVER, header()))


def test_what_is_not_decided_in_time_is_refused() -> None:
    book = waiting(UNDECIDED).then(*WAITS)
    book.decided(in_time=False).then(*GOES_ON, Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
    book.stranded(Trouble.UNREACHABLE, "").then(
        Disarm(Deadline.WAY),
        Abort(SERVER),
        *refused(Condition.POLICY_VIOLATION, WHY, before=own()),
    )


def test_what_is_decided_against_is_refused() -> None:
    book = waiting(UNDECIDED, UntrustedError("rejected")).then(*WAITS)
    book.decided(in_time=True).then(*GOES_ON, Reconnect())
    again(book).then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())


def test_nobody_waits_without_end() -> None:
    book = waiting(UNDECIDED).then(*WAITS)
    for _ in range(MOST_WAITS - 1):
        book.decided(in_time=True).then(*GOES_ON, Reconnect())
        again(book).then(*WAITS)
    book.decided(in_time=True).then(*GOES_ON, Reconnect())
    again(book).then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())


def test_a_client_that_leaves_is_not_waited_for() -> None:
    book = waiting(UNDECIDED).then(*WAITS)
    book.lost(CLIENT)
    assert book.session.decided(in_time=True) == []


def test_a_verdict_that_nobody_waits_for_is_a_fault() -> None:
    book = ForwardPlaybook(Rules()).to_server_secured()
    book.decided(in_time=True)
    assert any(report.severity is Severity.ERROR for report in book.reports)


def test_nobody_waits_where_nobody_is_refused() -> None:
    book = waiting(UNDECIDED, report=True).then(Send(SERVER, header()))
    assert f"would be refused: {WHY}" in [report.message for report in book.reports]


# What has had TLS


PLAIN = (Disarm(Deadline.WAY), Abort(SERVER), Reconnect())


@pytest.mark.parametrize("report", [False, True])
def test_a_domain_that_had_tls_is_not_reached_without(report: bool) -> None:
    rules = Rules(Level.MAY, report=report, objection=lambda: "it had TLS")
    book = ForwardPlaybook(rules).to_opening().server(answer("remote-1") + NO_OFFER)
    if report:
        book.then(*PLAIN)
        assert "would be refused: it had TLS" in [each.message for each in book.reports]
    else:
        book.then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
        assert "server given up: it had TLS" in [each.message for each in book.reports]


def test_a_memory_that_fails_permits_nothing() -> None:
    def fail() -> str:
        raise OSError("no disk")

    book = ForwardPlaybook(Rules(Level.MAY, objection=fail)).to_opening()
    book.server(answer("remote-1") + NO_OFFER)
    book.then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
    assert any(report.severity is Severity.ERROR for report in book.reports)


def test_one_that_never_had_tls_is_reached_without() -> None:
    book = ForwardPlaybook(Rules(Level.MAY)).to_opening()
    book.server(answer("remote-1") + NO_OFFER).then(*PLAIN)
    book.reached().then(Send(SERVER, header()))


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.SECURE, Level.KEYRING])
def test_that_tls_is_gone_is_told_at_every_level(level: Level) -> None:
    """Where it is demanded anyway, too: somebody may be keeping it from being used."""
    asked: list[str] = []

    def objection() -> str:
        asked.append("objection")
        return "it had TLS"

    rules = Rules(level, objection=objection)
    book = ForwardPlaybook(rules).to_asked()
    book.server(f"<failure xmlns='{ns.TLS}'/>".encode())
    book.then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
    assert asked == ["objection"]


def test_a_handshake_that_fails_is_no_sign_of_that() -> None:
    def objection() -> str:
        raise AssertionError("it was asked")

    book = ForwardPlaybook(Rules(objection=objection)).to_handshaking()
    book.server_tls_failed().then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())


@pytest.mark.parametrize("level", [Level.DANE, Level.DANE_ONLY, Level.KEYRING])
def test_attack_where_records_count_nobody_else_says_where_the_server_is(level: Level) -> None:
    """A redirection leads to names of which those records say nothing."""
    book = ForwardPlaybook(Rules(level)).to_opening()
    book.server(answer("remote-1") + REDIRECTION)
    book.then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
    assert any("redirects, which is not followed" in each.message for each in book.reports)


@pytest.mark.parametrize("end", [b"</stream:stream>", SHUTDOWN])
def test_a_server_that_only_ends_has_not_said_that_it_has_no_tls(end: bytes) -> None:
    """As in each restart."""

    def objection() -> str:
        raise AssertionError("it was asked")

    book = ForwardPlaybook(Rules(objection=objection)).to_asked()
    book.server(end).then(Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
