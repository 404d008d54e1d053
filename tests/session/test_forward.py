"""The initiating role on a forward listener: RFC 3920 section 5, steps and rules, in memory."""

from typing import Any

import pytest

from proxy.session.ceilings import STRANGER_BYTES
from proxy.session.commands import (
    Abort,
    Arm,
    Connect,
    ConnectNext,
    Deadline,
    Disarm,
    Hold,
    Join,
    Reconnect,
    Redirect,
    Resume,
    Send,
    StartServerTLS,
)
from proxy.session.hooks import Condition
from proxy.session.outward import MOST_REDIRECTIONS
from proxy.session.securing import STARTTLS
from proxy.session.ways import Trouble
from proxy.trust.policy import Level
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.forward import (
    DISTRUSTED,
    GIVEN_UP,
    NO_OFFER,
    OFFER,
    OPENING,
    PROCEED,
    WHY,
    ForwardPlaybook,
    Rules,
)
from tests.session.playbook import (
    AUTH,
    CLIENT,
    DOMAIN,
    MECHANISMS,
    OTHER_DOMAIN,
    SERVER,
    SUCCESS,
    answer,
    finished,
    header,
    iq_auth,
    own,
    refused,
)

POLICY, FAILED = Condition.POLICY_VIOLATION, Condition.REMOTE_CONNECTION_FAILED
GONE = ""


def elsewhere(place: str) -> bytes:
    return (
        f"<stream:error><see-other-host xmlns='{ns.STREAM_ERRORS}'>{place}</see-other-host>"
        "</stream:error>"
    ).encode()


def test_the_client_is_carried_to_its_server() -> None:
    """Before TLS only our own header and <starttls/>; after it the client's own, verbatim."""
    book = ForwardPlaybook().to_server_open()
    book.client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())
    [line] = book.reports
    assert line.message == (
        f"Verified TLS connection established to {DOMAIN}[192.0.2.1]:5222: "
        "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 key-exchange X25519"
    )
    assert line.fields["matched"] == f"DNS-ID {DOMAIN}"
    assert line.fields["policy"] == "secure"


def test_direct_tls_begins_with_the_first_byte() -> None:
    book = ForwardPlaybook().to_connecting_abroad()
    book.reached(direct=True).then(StartServerTLS(DOMAIN, direct=True))
    book.server_secured().then(Send(SERVER, header()))


def test_our_first_header_says_what_it_must_and_no_more() -> None:
    """RFC 3920 section 5.1, rule 1, and no ``from`` before TLS (RFC 6120, section 4.7.1)."""
    assert b"version='1.0'" in OPENING
    assert f'to="{DOMAIN}"'.encode() in OPENING
    assert b"from=" not in OPENING


def test_starttls_is_asked_for_though_it_is_not_offered() -> None:
    book = ForwardPlaybook().to_opening()
    book.server(answer("remote-1") + NO_OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))


def test_starttls_is_asked_for_where_the_version_was_taken_away() -> None:
    book = ForwardPlaybook().to_opening()
    book.server(answer("remote-1", version=None)).then(Send(SERVER, STARTTLS))


@pytest.mark.parametrize("space", [b" ", b"\r\n"])
def test_white_space_between_starttls_and_proceed_is_let_pass(space: bytes) -> None:
    book = ForwardPlaybook().to_asked()
    book.server(space + PROCEED).then(StartServerTLS(DOMAIN, direct=False))


@pytest.mark.parametrize("ahead", [b" ", MECHANISMS, b"<", b"\x16\x03\x03"])
def test_whatever_comes_with_proceed_ends_this_way(ahead: bytes) -> None:
    book = ForwardPlaybook().to_asked()
    book.server(PROCEED + ahead).then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE)
    book.then(*abandoned("sent plaintext after its consent to TLS"))


def test_whatever_comes_after_proceed_ends_this_way() -> None:
    ForwardPlaybook().to_handshaking().server(MECHANISMS).then(*GIVEN_UP)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"<failure xmlns='{ns.TLS}'/>".encode(), "refused to begin TLS"),
        (b"<stream:error><unsupported-stanza-type/></stream:error>", "before TLS"),
        (FOOTER, "before TLS"),
    ],
)
def test_a_server_without_tls_is_refused(said: bytes, why: str) -> None:
    book = ForwardPlaybook().to_asked().server(said).then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE).then(*abandoned(why, POLICY))


@pytest.mark.parametrize("said", [OFFER, MECHANISMS, SUCCESS, b"<message/>", b"x", b"</a>"])
def test_nothing_but_an_answer_to_starttls_is_taken(said: bytes) -> None:
    ForwardPlaybook().to_asked().server(said).then(*GIVEN_UP)


@pytest.mark.parametrize("said", [b"<html>", b"HTTP/1.1 400 Bad Request\r\n", FOOTER, b"\xff"])
def test_a_server_that_speaks_something_else_is_given_up(said: bytes) -> None:
    book = ForwardPlaybook().to_opening().server(said).then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE)
    book.then(*abandoned("does not speak XMPP for clients"))


def abandoned(text: str, condition: Condition = FAILED) -> Any:
    """What the client gets when no way is left."""
    return (
        Disarm(Deadline.WAY),
        Abort(SERVER),
        *refused(condition, text, before=own(sender=DOMAIN)),
    )


def test_a_certificate_that_proves_nothing_ends_every_way() -> None:
    book = ForwardPlaybook().to_handshaking(more=True)
    book.server_secured(DISTRUSTED).then(*GIVEN_UP)
    established, given_up = book.reports
    assert established.message.startswith("Untrusted TLS connection established to example.com[")
    assert given_up.message == f"server given up: {WHY}"
    book.reached().then(Send(SERVER, OPENING))
    book.lost(SERVER).then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE).then(*abandoned(WHY, POLICY))


def test_the_next_server_serves_if_the_first_does_not() -> None:
    book = ForwardPlaybook().to_handshaking(more=True)
    book.server_tls_failed().then(*GIVEN_UP)
    book.reached(direct=True).then(StartServerTLS(DOMAIN, direct=True))
    book.server_secured().then(Send(SERVER, header()))


def test_a_server_that_is_silent_makes_room_for_the_next() -> None:
    book = ForwardPlaybook().to_asked(more=True)
    book.expired(Deadline.WAY).then(*GIVEN_UP)


def test_a_server_that_is_lost_after_tls_makes_room_for_the_next() -> None:
    book = ForwardPlaybook().to_server_secured(more=True)
    book.lost(SERVER).then(*GIVEN_UP)
    book.reached(direct=True).then(StartServerTLS(DOMAIN, direct=True))
    book.server_secured().then(Send(SERVER, header()))


@pytest.mark.parametrize(
    ("trouble", "condition"),
    [
        (Trouble.ABSENT, Condition.HOST_UNKNOWN),
        (Trouble.UNREACHABLE, FAILED),
        (Trouble.FORBIDDEN, POLICY),
    ],
)
def test_what_is_found_out_before_connecting_is_told(
    trouble: Trouble, condition: Condition
) -> None:
    book = ForwardPlaybook().to_connecting_abroad().stranded(trouble, "so it is")
    book.then(*abandoned("so it is", condition))


def test_all_of_it_has_one_deadline() -> None:
    book = ForwardPlaybook().to_asked(more=True).expired(Deadline.CONNECT)
    book.then(*refused(FAILED, "did not answer in time", before=own()))


def test_a_domain_that_is_not_allowed_is_not_looked_up() -> None:
    book = ForwardPlaybook()
    book.connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header("example.net"))
    book.then(*refused(Condition.HOST_UNKNOWN, "not among the domains of", before=own(sender="")))


@pytest.mark.parametrize(
    "raised", [ValueError, KeyError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError]
)
def test_a_check_that_fails_refuses(raised: type[BaseException]) -> None:
    def fail() -> None:
        raise raised("inside the check")

    book = ForwardPlaybook(Rules(verdict=fail)).to_handshaking()
    book.server_secured().then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE)
    book.then(*abandoned("could not be checked", POLICY))


@pytest.mark.parametrize("verdict", [None, True, "Verified", object()])
def test_a_check_that_gives_no_verdict_refuses(verdict: object) -> None:
    book = ForwardPlaybook(Rules(verdict=lambda: verdict)).to_handshaking()
    book.server_secured().then(*GIVEN_UP)


# Levels that demand less


def test_level_none_speaks_no_tls() -> None:
    book = ForwardPlaybook(Rules(Level.NONE)).to_connecting_abroad()
    book.reached().then(Send(SERVER, header()))


def test_level_none_goes_by_no_way_of_direct_tls() -> None:
    book = ForwardPlaybook(Rules(Level.NONE)).to_connecting_abroad()
    book.reached(direct=True).then(*GIVEN_UP)


def test_level_may_takes_tls_of_anybody() -> None:
    book = ForwardPlaybook(Rules(Level.MAY)).to_handshaking()
    book.server_secured(DISTRUSTED).then(Send(SERVER, header()))
    assert book.reports[0].message.startswith("Untrusted TLS connection")
    assert book.reports[0].fields["problem"] == WHY


LEFT = (Disarm(Deadline.WAY), Abort(SERVER))
AGAIN = (Disarm(Deadline.WAY), Abort(SERVER), Reconnect())


def test_level_may_makes_do_without_tls() -> None:
    """On a new connection, for our own header stands on this one."""
    book = ForwardPlaybook(Rules(Level.MAY)).to_opening()
    book.server(answer("remote-1") + NO_OFFER).then(*AGAIN)
    book.reached().then(Send(SERVER, header()))


def test_level_may_makes_do_without_tls_that_fails() -> None:
    ForwardPlaybook(Rules(Level.MAY)).to_handshaking().server_tls_failed().then(*AGAIN)


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.PIN, Level.SECURE])
def test_no_other_level_falls_back_to_plaintext(level: Level) -> None:
    ForwardPlaybook(Rules(level)).to_handshaking().server_tls_failed().then(*GIVEN_UP)
    book = ForwardPlaybook(Rules(level)).to_asked()
    book.server(f"<failure xmlns='{ns.TLS}'/>".encode()).then(*GIVEN_UP)


def test_level_encrypt_takes_tls_of_anybody() -> None:
    book = ForwardPlaybook(Rules(Level.ENCRYPT)).to_handshaking()
    book.server_secured(DISTRUSTED).then(Send(SERVER, header()))


def test_report_refuses_nobody_and_names_whom_it_would() -> None:
    book = ForwardPlaybook(Rules(report=True)).to_handshaking()
    book.server_secured(DISTRUSTED).then(Send(SERVER, header()))
    assert book.reports[0].message == f"would be refused: {WHY}"
    book = ForwardPlaybook(Rules(report=True)).to_opening()
    book.server(answer("remote-1") + NO_OFFER).then(*AGAIN)
    [line] = book.reports
    assert line.message == f"would be refused: the server of {DOMAIN} offers no TLS"
    book.reached().then(Send(SERVER, header()))


# Redirections


def test_a_server_may_point_to_another_after_tls() -> None:
    book = ForwardPlaybook().to_server_secured()
    book.server(answer("remote-2") + elsewhere("other.example.com:5222"))
    book.then(Disarm(Deadline.WAY), Abort(SERVER), Redirect("other.example.com", 5222, proved=True))
    book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote-3") + OFFER + b" ").then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    book.server_secured().then(Send(SERVER, header()))
    book.server(answer("remote-4") + MECHANISMS).then(
        Disarm(Deadline.CONNECT),
        Disarm(Deadline.WAY),
        Send(CLIENT, answer("remote-4")),
        Send(CLIENT, MECHANISMS),
        Resume(),
    )


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("other.example.com", "other.example.com", None),
        ("192.0.2.7:5300", "192.0.2.7", 5300),
        ("[2001:db8::7]:5300", "2001:db8::7", 5300),
        ("[2001:db8::7]", "2001:db8::7", None),
        ("2001:db8::7", "2001:db8::7", None),
    ],
)
def test_where_a_server_points(place: str, host: str, port: int | None) -> None:
    book = ForwardPlaybook().to_opening().server(answer("remote-1") + elsewhere(place))
    book.then(Disarm(Deadline.WAY), Abort(SERVER), Redirect(host, port, proved=False))


@pytest.mark.parametrize(
    "place", ["", "a b", "a:0", "a:99999", "a:b", "&#x1F600;", "[x]", "::a:b:"]
)
def test_what_points_nowhere_is_a_stream_error_like_others(place: str) -> None:
    book = ForwardPlaybook().to_opening().server(answer("remote-1") + elsewhere(place))
    assert not any(isinstance(command, Redirect) for command in book.commands)
    book.ending(ConnectNext())


def test_redirections_are_not_followed_for_ever() -> None:
    book = ForwardPlaybook().to_opening()
    for number in range(MOST_REDIRECTIONS):
        book.server(answer("remote") + elsewhere(f"s{number}.example.com"))
        book.ending(Redirect(f"s{number}.example.com", None, proved=False))
        book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote") + elsewhere("last.example.com")).then(*GIVEN_UP)


def test_a_redirection_too_many_after_tls_is_the_clients() -> None:
    book = ForwardPlaybook().to_opening()
    for number in range(MOST_REDIRECTIONS):
        book.server(answer("remote") + elsewhere(f"s{number}.example.com"))
        book.ending(Redirect(f"s{number}.example.com", None, proved=False))
        book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote") + OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    book.server_secured().then(Send(SERVER, header()))
    error = elsewhere("last.example.com")
    book.server(answer("remote-2") + error).then(
        Disarm(Deadline.CONNECT),
        Disarm(Deadline.WAY),
        Send(CLIENT, answer("remote-2")),
        Send(CLIENT, error),
        Resume(),
    )


def test_a_stream_error_after_tls_is_the_clients() -> None:
    error = f"<stream:error><host-unknown xmlns='{ns.STREAM_ERRORS}'/></stream:error>".encode()
    book = ForwardPlaybook().to_server_secured().server(answer("remote-2") + error + FOOTER)
    book.then(
        Disarm(Deadline.CONNECT),
        Disarm(Deadline.WAY),
        Send(CLIENT, answer("remote-2")),
        Send(CLIENT, error),
        Send(CLIENT, FOOTER),
        *finished("host-unknown", close=[CLIENT, SERVER]),
    )


# Old clients


def test_a_client_without_a_version_is_carried_too() -> None:
    """Its header goes out as it is, and the server's comes back at once: no features follow."""
    book = ForwardPlaybook()
    book.connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header(version=None)).then(
        Disarm(Deadline.NEGOTIATION),
        Arm(Deadline.AUTHENTICATION),
        Arm(Deadline.CONNECT),
        Connect(DOMAIN),
        Hold(),
    )
    book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote-1") + OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    book.server_secured().then(Send(SERVER, header(version=None)))
    book.server(answer("remote-2", version=None)).then(
        Disarm(Deadline.CONNECT),
        Disarm(Deadline.WAY),
        Send(CLIENT, answer("remote-2", version=None)),
        Resume(),
    )
    book.client(iq_auth("set")).then(Send(SERVER, iq_auth("set")), Hold())
    book.server(b"<iq type='result' id='a'/>")
    assert isinstance(book.commands[-1], Join)


def test_what_the_client_says_too_early_waits_for_tls() -> None:
    book = ForwardPlaybook()
    book.connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header() + AUTH).then(
        Disarm(Deadline.NEGOTIATION),
        Arm(Deadline.AUTHENTICATION),
        Arm(Deadline.CONNECT),
        Connect(DOMAIN),
        Hold(),
    )
    book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote-1") + OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    book.server_secured().then(Send(SERVER, header()))
    book.server(answer("remote-2") + MECHANISMS).ending(Send(SERVER, AUTH), Hold())


def test_what_the_client_says_too_early_is_for_the_server_that_answers() -> None:
    """Not for one that has sent a header and may still point to another."""
    book = ForwardPlaybook()
    book.connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header() + AUTH).ending(Hold())
    book.reached().then(Send(SERVER, OPENING))
    book.server(answer("remote-1") + OFFER).then(Send(SERVER, STARTTLS))
    book.server(PROCEED).then(StartServerTLS(DOMAIN, direct=False))
    book.server_secured().then(Send(SERVER, header()))
    book.server(answer("remote-2")).then()
    book.server(elsewhere("other.example.com"))
    book.then(*LEFT, Redirect("other.example.com", None, proved=True))
    book.reached(direct=True).then(StartServerTLS(DOMAIN, direct=True))
    book.server_secured().then(Send(SERVER, header()))
    book.server(answer("remote-3") + MECHANISMS).ending(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).ending(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())


def test_nothing_is_said_of_a_server_that_was_left() -> None:
    """The next one may have no TLS at all, where the policy lets it."""
    book = ForwardPlaybook(Rules(Level.MAY)).to_server_secured()
    before = book.session.view
    assert before.server_tls is not None
    assert before.server_identity
    book.server(answer("remote-2") + elsewhere("other.example.com"))
    book.then(*LEFT, Redirect("other.example.com", None, proved=False))
    after = book.session.view
    assert after.server_tls is None
    assert not after.server_identity


def test_a_server_may_not_say_much_before_login() -> None:
    book = ForwardPlaybook().to_server_open()
    features = MECHANISMS.replace(b"PLAIN", b"X" * 30_000)
    for _ in range(STRANGER_BYTES // len(features)):
        book.server(features).then(Send(CLIENT, features))
    book.server(features).ending(
        *refused(FAILED, f"more than {STRANGER_BYTES} bytes before authentication")
    )


def test_a_server_that_is_lost_without_an_answer_is_told_of_as_such() -> None:
    book = ForwardPlaybook().to_server_secured().lost(SERVER).then(*GIVEN_UP)
    book.stranded(Trouble.UNREACHABLE, GONE).then(*abandoned("without an answer"))


@pytest.mark.parametrize("level", list(Level))
def test_a_server_that_nobody_asked_for_gets_nothing(level: Level) -> None:
    book = ForwardPlaybook(Rules(level))
    book.connected().then(Arm(Deadline.NEGOTIATION))
    book.reached()
    assert not any(isinstance(each, Send) and each.side is SERVER for each in book.commands)
    book.ending(*refused(Condition.INTERNAL_SERVER_ERROR, before=own(sender="")))


def test_a_connection_to_nowhere_in_particular_gets_nothing() -> None:
    book = ForwardPlaybook().to_connecting_abroad().server_connected()
    book.ending(*refused(Condition.INTERNAL_SERVER_ERROR, before=own(sender=DOMAIN)))


def test_a_restart_keeps_to_the_domain() -> None:
    book = ForwardPlaybook().to_server_open()
    book.client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())
    book.client(header(OTHER_DOMAIN))
    book.then(*refused(Condition.NOT_AUTHORIZED, DOMAIN, before=own(sender=DOMAIN)))


def test_once_a_server_has_answered_no_other_is_tried() -> None:
    """Not even while the client's stream begins anew after authentication."""
    book = ForwardPlaybook().to_server_open()
    book.client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())
    book.client(header()).then(Arm(Deadline.CONNECT), Send(SERVER, header()), Hold())
    book.expired(Deadline.WAY).then()
    book.lost(SERVER).then(*finished("the server went away", close=[CLIENT, SERVER]))


def test_a_server_that_is_the_proxy_itself_is_given_up() -> None:
    """The id in its header is one of ours: the session runs in a circle."""
    book = ForwardPlaybook().to_opening().server(answer("own-7"))
    book.then(*refused(FAILED, "the server is this proxy itself", before=own(sender=DOMAIN)))


def test_starttls_under_tls_is_not_passed_on() -> None:
    book = ForwardPlaybook().to_server_secured()
    offered = MECHANISMS.replace(b"</stream", f"<starttls xmlns='{ns.TLS}'/></stream".encode())
    book.server(answer("remote-2") + offered)
    book.ending(Send(CLIENT, MECHANISMS), Resume())
