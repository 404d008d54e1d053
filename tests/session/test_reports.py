"""What the operator is told of a session: refused logins, faults of the server, reasons."""

from typing import Any

import pytest

from plugins.require_tls import RequireTLS, RequireTLSConfig
from proxy.session import ceilings
from proxy.session.commands import Finish, Report, Send, Severity
from proxy.session.hooks import Condition, Continue, Direction, Stanzas, TLSRule
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND,
    BOUND,
    CLIENT,
    MECHANISMS,
    SERVER,
    STARTTLS,
    Playbook,
    answer,
    client_hello,
    facts,
    finished,
    header,
    iq_auth,
    new_session,
)
from tests.session.sessions import authenticated, is_over, opened, to_client
from tests.session.test_chain import plugin

SASL2_AUTH = f"<authenticate xmlns='{ns.SASL2}' mechanism='PLAIN'/>".encode()
FAILURES = {
    "SASL": (AUTH, f"<failure xmlns='{ns.SASL}'><not-authorized/></failure>".encode()),
    "SASL2": (SASL2_AUTH, f"<failure xmlns='{ns.SASL2}'><not-authorized/></failure>".encode()),
    "iq:auth": (iq_auth("set"), b"<iq type='error' id='a'/>"),
}


@pytest.mark.parametrize(("said", "answered"), FAILURES.values(), ids=FAILURES)
def test_refused_logins_are_counted(said: bytes, answered: bytes) -> None:
    session = opened(list)
    for count in (1, 2, 3):
        session.received(CLIENT, said)
        assert to_client(session.received(SERVER, answered)) == answered
        assert session.view.failed_logins == count
        assert not session.view.authenticated


def test_refused_logins_before_starttls_count_too() -> None:
    said, answered = FAILURES["SASL"]
    session = new_session(TLSRule.REPORT, [RequireTLS(RequireTLSConfig())])
    session.connected()
    session.received(CLIENT, header())
    session.server_connected()
    session.received(SERVER, answer() + MECHANISMS)
    session.received(CLIENT, said)
    session.received(SERVER, answered)
    session.received(CLIENT, STARTTLS)
    session.hello(client_hello())
    session.secured(facts())
    session.received(CLIENT, header())
    session.server_connected()
    session.received(SERVER, answer() + MECHANISMS)
    session.received(CLIENT, said)
    session.received(SERVER, answered)
    assert session.view.failed_logins == 2


def test_a_login_that_succeeds_counts_as_none_refused() -> None:
    assert authenticated(list).view.failed_logins == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (f"<conflict xmlns='{ns.STREAM_ERRORS}'/>", ": conflict"),
        (
            f"<host-gone xmlns='{ns.STREAM_ERRORS}'/><text xmlns='{ns.STREAM_ERRORS}'>"  # noqa: ISC004
            "moved\n away</text><more xmlns='urn:x'/>",
            ": host-gone: moved\\n away",
        ),
        (None, ""),
    ],
)
def test_the_reason_says_why_the_server_closed_the_stream(
    play: Play, error: str | None, words: str
) -> None:
    said = b"" if error is None else f"<stream:error>{error}</stream:error>".encode()
    book = play().to_open().server(said + FOOTER)
    (end,) = [command for command in book.commands if isinstance(command, Finish)]
    assert end.reason == "the server closed the stream" + words
    sent = [Send(CLIENT, part) for part in (said, FOOTER) if part]
    book.then(*sent, *finished(end.reason, close=[CLIENT, SERVER]))


@pytest.mark.parametrize(
    ("features", "warns"),
    [
        (b"<stream:features/>", True),
        (f"<stream:features><bind xmlns='{ns.BIND}'/></stream:features>".encode(), True),
        (MECHANISMS, False),
        (
            f"<stream:features><authentication xmlns='{ns.SASL2}'/></stream:features>".encode(),
            False,
        ),
        (f"<stream:features><auth xmlns='{ns.AUTH_FEATURE}'/></stream:features>".encode(), False),
    ],
)
def test_a_server_that_offers_no_way_to_log_in_is_warned_of(
    play: Play, features: bytes, *, warns: bool
) -> None:
    book: Playbook = play().to_connecting()
    session = book.session
    session.server_connected()
    out = session.received(SERVER, answer() + features)
    reports = [command for command in out if isinstance(command, Report)]
    assert [report.message for report in reports] == warns * ["the server offers no way to log in"]
    assert all(report.severity is Severity.WARNING for report in reports)


def test_no_way_to_log_in_is_right_after_login() -> None:
    session = opened(list)
    session.received(CLIENT, AUTH)
    session.received(SERVER, f"<success xmlns='{ns.SASL}'/>".encode())
    session.received(CLIENT, header())
    out = session.received(SERVER, answer("s2") + b"<stream:features/>")
    assert not [command for command in out if isinstance(command, Report)]


def test_a_server_that_cannot_be_reached_is_a_warning(play: Play) -> None:
    book = play().to_connecting().server_unreachable("Connection refused")
    end = book.commands[-1]
    assert isinstance(end, Finish)
    assert end.severity is Severity.WARNING
    assert Condition.REMOTE_CONNECTION_FAILED.value in end.reason
    book.ending(end)


def test_a_client_that_goes_away_is_no_warning(play: Play) -> None:
    book = play().to_open().lost(CLIENT)
    end = book.commands[-1]
    assert isinstance(end, Finish)
    assert end.severity is Severity.INFO
    book.ending(end)


# What the server may send

MOST_FEATURES = 262_144
"""Bytes of one element while the server negotiates."""


def test_features_without_end_are_refused() -> None:
    session = opened(list)
    part = b"<a>" + b"x" * 1000 + b"</a>"
    out = session.received(SERVER, b"<stream:features>")
    for _ in range(MOST_FEATURES // len(part)):
        assert not is_over(out)
        out = session.received(SERVER, part)
    out = out or session.received(SERVER, part)
    assert is_over(out)
    assert f"<{Condition.REMOTE_CONNECTION_FAILED.value} ".encode() in to_client(out)


def test_large_stanzas_pass_where_an_established_session_is_watched() -> None:
    watching = plugin("watching", "stanza", Continue())
    assert Stanzas(Direction.TO_CLIENT) in watching.stanzas
    session: Any = authenticated(lambda: [watching])
    session.received(CLIENT, BIND)
    session.received(SERVER, BOUND)
    stanza = b"<message><body>" + b"x" * (2 * ceilings.SERVER.element) + b"</body></message>"
    assert to_client(session.received(SERVER, stanza)) == stanza


def test_white_space_of_the_server_has_no_end() -> None:
    session = opened(list)
    for _ in range(20):
        out = session.received(SERVER, b" \n" * 1000)
        assert to_client(out) == b" \n" * 1000
    assert not is_over(out)
