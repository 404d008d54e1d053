"""Sessions that cannot go on: what the client is told, whatever the fault, wherever it stands."""

from collections.abc import Callable

import pytest

from proxy.session.commands import (
    Arm,
    AwaitTLS,
    Close,
    Deadline,
    Disarm,
    Hold,
    Report,
    Send,
    Severity,
)
from proxy.session.hooks import Condition, Continue, Plugin, Reject, StreamHeader, TLSRule, View
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND,
    BOUND,
    CLIENT,
    MECHANISMS,
    MESSAGE,
    SERVER,
    STARTTLS,
    SUCCESS,
    TLS_UP,
    Playbook,
    answer,
    containing,
    finished,
    header,
    own,
    refused,
)

FAULT = Report(
    Severity.ERROR, "fault in the proxy", {"error": containing("RuntimeError at test_endings.py:")}
)
FAILED = Condition.REMOTE_CONNECTION_FAILED


# The server's faults: the client hears of them under a header


def test_a_server_that_is_down(play: Play) -> None:
    book = play().to_connecting().server_unreachable("connection refused")
    book.then(*refused(FAILED, "cannot be reached: connection refused", before=own(2)))


def test_a_server_that_does_not_answer_in_time(play: Play) -> None:
    book = play().to_connecting().expired(Deadline.CONNECT)
    book.then(*refused(FAILED, "did not answer in time", before=own(2)))


def test_a_server_that_connects_and_says_nothing(play: Play) -> None:
    book = play().to_connecting().server_connected().then(Send(SERVER, header()))
    book.expired(Deadline.CONNECT)
    book.then(*refused(FAILED, "did not answer in time", before=own(2)))


def test_a_server_that_closes_before_its_header(play: Play) -> None:
    book = play().to_connecting().server_connected().then(Send(SERVER, header()))
    book.lost(SERVER, "connection closed")
    book.then(*refused(FAILED, "closed the connection", before=own(2)))


def test_a_server_that_closes_before_authentication(play: Play) -> None:
    book = play().to_open().lost(SERVER).then(*refused(FAILED, "closed the connection"))
    assert book.session.view.authenticated is False


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"220 mail.example.com ESMTP\r\n", "no XML stream"),
        (b"HTTP/1.1 400 Bad Request\r\n", "no XML stream"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no XML stream"),
        (b"\xff\xfe", "not UTF-8"),
        (answer().replace(b"jabber:client", b"jabber:server"), "invalid-namespace"),
        (answer().replace(b"etherx.jabber.org", b"example.net"), "invalid-namespace"),
        (answer().replace(b"stream:stream", b"s:stream").replace(b":stream=", b":s="), "invalid"),
        (answer().replace(b"<stream:stream", b"<stream:other"), "invalid-namespace"),
        (b"<!DOCTYPE x><stream/>", "restricted-xml"),
        (FOOTER, "not-well-formed"),
    ],
)
def test_a_server_that_speaks_no_xmpp(play: Play, said: bytes, why: str) -> None:
    book = play().to_connecting().server_connected().then(Send(SERVER, header()))
    book.server(said).then(*refused(FAILED, why, before=own(2)))


def test_a_server_that_breaks_off_into_nonsense(play: Play) -> None:
    book = play().to_open().server(MESSAGE + b"<a></b>")
    book.then(Send(CLIENT, MESSAGE), *refused(FAILED, "not-well-formed"))


def test_a_server_that_speaks_before_it_is_asked(play: Play) -> None:
    book = play().to_connecting().server(answer())
    book.then(*refused(FAILED, "out of place", before=own(2)))


def test_a_server_that_opens_a_new_stream_before_the_client(play: Play) -> None:
    book = play().to_success().server(answer("s2"))
    book.then(*refused(FAILED, "out of place", before=own(2)))


def test_the_servers_own_stream_error_goes_to_the_client(play: Play) -> None:
    said = b"<stream:error><x xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    book = play().to_open().server(said + FOOTER)
    book.then(Send(CLIENT, said), Send(CLIENT, FOOTER), *finished(close=[CLIENT, SERVER]))


# Deadlines


def test_negotiation_takes_too_long_before_a_header(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION)).expired(Deadline.NEGOTIATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT, "TLS", before=own(sender="")))


def test_negotiation_takes_too_long_after_the_offer(play: Play) -> None:
    book = play().to_offer().expired(Deadline.NEGOTIATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT, "TLS"))


@pytest.mark.parametrize("step", [Playbook.to_hello, Playbook.to_handshake])
def test_a_handshake_takes_too_long(play: Play, step: Callable[[Playbook], Playbook]) -> None:
    book = step(play()).expired(Deadline.NEGOTIATION)
    book.then(*finished("not established in time", abort=[CLIENT, SERVER]))


def test_authentication_takes_too_long_before_a_header(play: Play) -> None:
    book = play().to_secured().expired(Deadline.AUTHENTICATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT, "authenticated", before=own(2)))


def test_authentication_takes_too_long_in_an_open_stream(play: Play) -> None:
    book = play().to_open().expired(Deadline.AUTHENTICATION)
    book.then(*refused(Condition.CONNECTION_TIMEOUT, "authenticated"))


def test_the_server_does_not_end_its_stream_in_time(play: Play) -> None:
    book = play().to_open().client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.expired(Deadline.ENDING).then(*finished("did not end", close=[CLIENT, SERVER]))


# The daemon ends


def waiting(play: Play) -> Playbook:
    return play().connected().then(Arm(Deadline.NEGOTIATION))


def awaiting_answer(play: Play) -> Playbook:
    return (
        play()
        .to_success()
        .client(header())
        .then(Arm(Deadline.CONNECT), Send(SERVER, header()), Hold())
    )


@pytest.mark.parametrize(
    ("there", "before"),
    [
        (waiting, own(sender="")),
        (lambda play: play().to_offer(), b""),
        (lambda play: play().to_secured(), own(2)),
        (lambda play: play().to_connecting(), own(2)),
        (lambda play: play().to_open(), b""),
        (lambda play: play().to_success(), own(2)),
        (awaiting_answer, own(2)),
        (lambda play: play().to_restarted(), b""),
    ],
    ids=[
        "waiting",
        "offered",
        "secured",
        "connecting",
        "open",
        "success",
        "restarting",
        "restarted",
    ],
)
def test_shutting_down(play: Play, there: Callable[[Play], Playbook], before: bytes) -> None:
    there(play).shut_down().then(*refused(Condition.SYSTEM_SHUTDOWN, before=before))


@pytest.mark.parametrize("step", [Playbook.to_hello, Playbook.to_handshake])
def test_shutting_down_during_tls(play: Play, step: Callable[[Playbook], Playbook]) -> None:
    step(play()).shut_down().then(*finished("system-shutdown", abort=[CLIENT, SERVER]))


def test_shutting_down_after_the_clients_goodbye(play: Play) -> None:
    book = play().to_open().client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.shut_down().then(*refused(Condition.SYSTEM_SHUTDOWN))


def test_shutting_down_after_the_join_is_the_relays_matter(play: Play) -> None:
    book = play().to_restarted().client(BIND).then(Send(SERVER, BIND))
    book.session.received(SERVER, BOUND)
    book.shut_down().then()


# The client's faults


@pytest.mark.parametrize(
    ("opening", "condition", "before"),
    [
        (header("example.net"), Condition.HOST_UNKNOWN, own(sender="")),
        (header("a b"), Condition.HOST_UNKNOWN, own(sender="")),
        (header(None), Condition.HOST_UNKNOWN, own(sender="")),
        (header(content="jabber:x"), Condition.INVALID_NAMESPACE, own(sender="")),
        (header(streams="urn:x"), Condition.INVALID_NAMESPACE, own(sender="")),
        (header(prefix="s"), Condition.BAD_NAMESPACE_PREFIX, own(sender="")),
        (header(version="2.0"), Condition.UNSUPPORTED_VERSION, own(sender="")),
        (header(version="one"), Condition.UNSUPPORTED_VERSION, own(sender="")),
        (b"<!-- -->", Condition.RESTRICTED_XML, own(sender="")),
        (b"<?php ?>", Condition.RESTRICTED_XML, own(sender="")),
        (b"<!DOCTYPE x>", Condition.RESTRICTED_XML, own(sender="")),
        (b"GET / HTTP/1.1\r\n", Condition.NOT_WELL_FORMED, own(sender="")),
        (b"\xff", Condition.UNSUPPORTED_ENCODING, own(sender="")),
        (
            b"<?xml version='1.0' encoding='UTF-16'?>",
            Condition.UNSUPPORTED_ENCODING,
            own(sender=""),
        ),
        (header() + b"<x y></x>", Condition.NOT_WELL_FORMED, b""),
        (header() + b"<y:x/>", Condition.NOT_WELL_FORMED, b""),
        (header() + b"&amp;", Condition.BAD_FORMAT, b""),
    ],
)
def test_a_faulty_stream(play: Play, opening: bytes, condition: Condition, before: bytes) -> None:
    waiting(play).client(opening).ending(*refused(condition, before=before))


def test_versions_are_compared_as_numbers(play: Play) -> None:
    opening = header(version="1.13")
    waiting(play).client(opening + STARTTLS).ending(Send(CLIENT, PROCEED), AwaitTLS(direct=False))


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        (MESSAGE, Condition.NOT_AUTHORIZED),
        (b"<presence/>", Condition.NOT_AUTHORIZED),
        (BIND, Condition.NOT_AUTHORIZED),
        (b"<iq type='get' id='1'/>", Condition.NOT_AUTHORIZED),
        (b"<x xmlns='urn:x'/>", Condition.UNSUPPORTED_STANZA_TYPE),
        (f"<proceed xmlns='{ns.TLS}'/>".encode(), Condition.UNSUPPORTED_STANZA_TYPE),
        (SUCCESS, Condition.UNSUPPORTED_STANZA_TYPE),
        (b"<stream:features/>", Condition.UNSUPPORTED_STANZA_TYPE),
        (f"<enable xmlns='{ns.STREAM_MANAGEMENT}'/>".encode(), Condition.UNSUPPORTED_STANZA_TYPE),
        (b"<c:message xmlns:c='jabber:client'/>", Condition.BAD_NAMESPACE_PREFIX),
    ],
)
def test_what_is_out_of_place_before_authentication(
    play: Play, said: bytes, condition: Condition
) -> None:
    play().to_open().client(said).then(*refused(condition))


def test_registration_may_come_before_authentication(play: Play) -> None:
    asked = f"<iq type='get' id='r'><query xmlns='{ns.REGISTER}'/></iq>".encode()
    play().to_open().client(asked).then(Send(SERVER, asked))


# Plugins' refusals


class Refuses(Plugin):
    """Refuses at one hook."""

    name = "refuses"

    def __init__(self, hook: str) -> None:
        def reject(*_: object) -> Reject:
            return Reject(Condition.POLICY_VIOLATION, "not today")

        self._hook, self._reject = hook, reject

    def on_client_connected(self, _view: View) -> Reject | Continue:
        return self._reject() if self._hook == "client_connected" else Continue()

    def on_stream_opened(self, view: View, _header: StreamHeader) -> Reject | Continue:
        secured = "stream_opened_secured" if view.secured else "stream_opened"
        return self._reject() if self._hook == secured else Continue()

    def on_tls_established(self, _view: View) -> Reject | Continue:
        return self._reject() if self._hook == "tls_established" else Continue()

    def on_features(self, _view: View, _features: object) -> Reject | Continue:
        return self._reject() if self._hook == "features" else Continue()

    def on_authenticated(self, _view: View) -> Reject | Continue:
        return self._reject() if self._hook == "authenticated" else Continue()


def test_a_plugin_refuses_a_connection(play: Play) -> None:
    """It is told and left soon: there may be many of them."""
    book = play(plugins=[Refuses("client_connected")]).connected()
    told, *_ = refused(Condition.POLICY_VIOLATION, "not today", before=own(sender=""))
    book.then(Arm(Deadline.NEGOTIATION), told, Close(CLIENT, brief=True), *finished("not today"))


def test_a_plugin_refuses_a_connection_that_expects_tls(play: Play) -> None:
    """XML would be no answer to it."""
    book = play(TLSRule.DIRECT, plugins=[Refuses("client_connected")]).connected()
    book.then(Arm(Deadline.NEGOTIATION), Close(CLIENT, brief=True), *finished("not today"))


def test_a_plugin_refuses_a_stream(play: Play) -> None:
    book = play(plugins=[Refuses("stream_opened")]).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header()).then(*refused(Condition.POLICY_VIOLATION, "not today", before=own()))


def test_a_plugin_refuses_what_tls_agreed_on(play: Play) -> None:
    book = play(plugins=[Refuses("tls_established")]).to_handshake().secured()
    book.then(*TLS_UP, *refused(Condition.POLICY_VIOLATION, "not today", before=own(2)))


def test_a_plugin_refuses_a_stream_under_tls(play: Play) -> None:
    book = play(plugins=[Refuses("stream_opened_secured")]).to_secured().client(header())
    book.then(*refused(Condition.POLICY_VIOLATION, "not today", before=own(2)))


def test_a_plugin_refuses_features(play: Play) -> None:
    book = play(plugins=[Refuses("features")]).to_connecting()
    book.server_connected().then(Send(SERVER, header()))
    book.server(answer() + MECHANISMS).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answer()),
        *refused(Condition.POLICY_VIOLATION, "not today"),
    )


def test_a_plugin_refuses_an_authenticated_client(play: Play) -> None:
    book = play(plugins=[Refuses("authenticated")]).to_open()
    book.client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).then(
        Send(CLIENT, SUCCESS),
        Disarm(Deadline.AUTHENTICATION),
        *refused(Condition.POLICY_VIOLATION, "not today"),
    )


def test_a_fault_of_our_own_when_a_client_connects_is_a_refusal(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    book = play()
    monkeypatch.setattr(book.session.passage._chain, "client_connected", fail)
    book.connected().then(
        Arm(Deadline.NEGOTIATION),
        Report(
            Severity.ERROR,
            "fault in the proxy",
            {"error": containing("RuntimeError at test_endings.py:")},
        ),
        *refused(Condition.INTERNAL_SERVER_ERROR, before=own(sender="")),
    )


@pytest.mark.parametrize("rule", [TLSRule.REQUIRED, TLSRule.REPORT, TLSRule.NONE])
def test_a_fault_of_our_own_is_a_refusal(
    play: Play, rule: TLSRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    book = play(rule).connected().then(Arm(Deadline.NEGOTIATION))
    monkeypatch.setattr(book.session.passage._chain, "stream_opened", fail)
    book.client(header()).then(
        Report(
            Severity.ERROR,
            "fault in the proxy",
            {"error": containing("RuntimeError at test_endings.py:")},
        ),
        *refused(Condition.INTERNAL_SERVER_ERROR, before=own()),
    )
