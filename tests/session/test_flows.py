"""Whole sessions, every command in its order."""

import pytest

from proxy.session.commands import (
    Arm,
    Deadline,
    Disarm,
    Hold,
    Join,
    Resume,
    Send,
)
from proxy.session.hooks import (
    Bounds,
    Condition,
    Direction,
    Element,
    Plugin,
    Reply,
    Stanzas,
    Verdict,
    View,
)
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND,
    BIND_FEATURES,
    BOUND,
    CLIENT,
    CONNECTING,
    MECHANISMS,
    MESSAGE,
    SERVER,
    SUCCESS,
    answer,
    finished,
    header,
    iq_auth,
    refused,
)


def test_starttls_sasl_and_bind(play: Play) -> None:
    book = play().to_restarted()
    book.client(BIND + b"\n" + MESSAGE[:9]).then(Send(SERVER, BIND), Send(SERVER, b"\n"))
    book.server(BOUND + b"<mess").then(Send(CLIENT, BOUND), Join(MESSAGE[:9], b"<mess", None))


def test_a_bound_on_stanzas_is_measured_to_the_end(play: Play) -> None:
    book = play(plugins=[Bounded()]).to_restarted()
    book.client(BIND).then(Send(SERVER, BIND))
    commands = book.session.received(SERVER, BOUND)
    join = commands[-1]
    assert isinstance(join, Join)
    assert join.meter is not None
    assert join.meter.limit == 20_000
    join.meter.feed(MESSAGE)  # it knows the client's header already


def test_iq_auth(play: Play) -> None:
    asked, given = iq_auth("get"), iq_auth("set", "<username>alice</username><digest>00</digest>")
    book = play().to_open()
    book.client(asked).then(Send(SERVER, asked))
    book.server(iq_auth("result")).then(Send(CLIENT, iq_auth("result")))
    book.client(given + MESSAGE).then(Send(SERVER, given), Hold())
    done = b"<iq type='result' id='a'/>"
    book.server(done).then(
        Send(CLIENT, done),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Join(MESSAGE, b"", None),
    )


def test_iq_auth_that_fails_may_be_tried_again(play: Play) -> None:
    given, failed = iq_auth("set"), b"<iq type='error' id='a'/>"
    book = play().to_open()
    for _ in range(2):
        book.client(given).then(Send(SERVER, given), Hold())
        book.server(failed).then(Send(CLIENT, failed), Resume())


AUTHENTICATE = f"<authenticate xmlns='{ns.SASL2}' mechanism='PLAIN'/>".encode()


def sasl2_success(inside: str) -> bytes:
    return f"<success xmlns='{ns.SASL2}'>{inside}</success>".encode()


@pytest.mark.parametrize(
    "inside",
    [
        f"<bound xmlns='{ns.BIND2}'/>",
        f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' h='1' previd='x'/>",
        f"<authorization-identifier>a</authorization-identifier><bound xmlns='{ns.BIND2}'/>",
    ],
)
def test_sasl2_with_bind2_is_over_with_the_features_after_success(play: Play, inside: str) -> None:
    success = sasl2_success(inside)
    book = play().to_open().client(AUTHENTICATE).then(Send(SERVER, AUTHENTICATE), Hold())
    book.server(success).then(Send(CLIENT, success), Disarm(Deadline.AUTHENTICATION), Resume())
    book.server(BIND_FEATURES).then(Send(CLIENT, BIND_FEATURES), Join(b"", b"", None))


def test_sasl2_with_bind2_and_features_in_one_segment(play: Play) -> None:
    success = sasl2_success(f"<bound xmlns='{ns.BIND2}'/>")
    book = play().to_open().client(AUTHENTICATE + MESSAGE).then(Send(SERVER, AUTHENTICATE), Hold())
    book.server(success + BIND_FEATURES + MESSAGE).then(
        Send(CLIENT, success),
        Disarm(Deadline.AUTHENTICATION),
        Send(CLIENT, BIND_FEATURES),
        Resume(),
        Join(MESSAGE, MESSAGE, None),
    )


def test_sasl2_without_bind2_still_binds(play: Play) -> None:
    success = sasl2_success("")
    book = play().to_open().client(AUTHENTICATE).then(Send(SERVER, AUTHENTICATE), Hold())
    book.server(success).then(Send(CLIENT, success), Disarm(Deadline.AUTHENTICATION), Resume())
    book.server(BIND_FEATURES).then(Send(CLIENT, BIND_FEATURES))
    book.client(BIND).then(Send(SERVER, BIND))
    book.server(BOUND).then(Send(CLIENT, BOUND), Join(b"", b"", None))


class Bounded(Plugin):
    """Bounds stanzas, and more narrowly what comes before authentication."""

    name = "bounded"

    def bounds(self) -> Bounds:
        return Bounds(stanza_bytes=20_000, unauthenticated_bytes=10_000)


def large(size: int) -> bytes:
    return b"<message><body>" + b"x" * (size - 32) + b"</body></message>"


@pytest.mark.parametrize(("more", "condition"), [(0, None), (1, Condition.POLICY_VIOLATION)])
def test_a_larger_stanza_may_follow_authentication(
    play: Play, more: int, condition: Condition | None
) -> None:
    """On the stream of SASL2, which goes on, as on a new one."""
    success, stanza = sasl2_success(""), large(20_000 + more)
    assert len(stanza) == 20_000 + more
    book = play(plugins=[Bounded()]).to_open()
    book.client(AUTHENTICATE).then(Send(SERVER, AUTHENTICATE), Hold())
    book.server(success).then(Send(CLIENT, success), Disarm(Deadline.AUTHENTICATION), Resume())
    book.client(stanza).then(*(refused(condition) if condition else [Send(SERVER, stanza)]))
    book = play(plugins=[Bounded()]).to_restarted()
    book.client(stanza).then(*(refused(condition) if condition else [Send(SERVER, stanza)]))


def test_what_comes_before_authentication_is_bounded_in_all(play: Play) -> None:
    book = play(plugins=[Bounded()]).to_open().client(b" " * 4000).then(Send(SERVER, b" " * 4000))
    book.client(f"<auth xmlns='{ns.SASL}'>".encode() + b"A" * 6000)
    book.then(*refused(Condition.POLICY_VIOLATION, "before authentication"))


def test_a_question_of_the_server_with_the_same_id_is_no_answer(play: Play) -> None:
    given, asked = iq_auth("set"), b"<iq type='get' id='a'/>"
    book = play().to_open().client(given).then(Send(SERVER, given), Hold())
    book.server(asked).then(Send(CLIENT, asked))


def test_stream_management_resumed_instead_of_bind(play: Play) -> None:
    resume = f"<resume xmlns='{ns.STREAM_MANAGEMENT}' h='0' previd='x'/>".encode()
    resumed = f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' h='0' previd='x'/>".encode()
    book = play().to_restarted().client(resume).then(Send(SERVER, resume))
    book.server(resumed + MESSAGE).then(Send(CLIENT, resumed), Join(b"", MESSAGE, None))


def test_a_resumption_that_fails_is_followed_by_bind(play: Play) -> None:
    resume = f"<resume xmlns='{ns.STREAM_MANAGEMENT}' h='0' previd='x'/>".encode()
    failed = f"<failed xmlns='{ns.STREAM_MANAGEMENT}'/>".encode()
    book = play().to_restarted().client(resume).then(Send(SERVER, resume))
    book.server(failed).then(Send(CLIENT, failed))
    book.client(BIND).then(Send(SERVER, BIND))
    book.server(BOUND).then(Send(CLIENT, BOUND), Join(b"", b"", None))


def test_sasl_of_several_turns(play: Play) -> None:
    challenge = f"<challenge xmlns='{ns.SASL}'>x</challenge>".encode()
    reply = f"<response xmlns='{ns.SASL}'>y</response>".encode()
    book = play().to_open().client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(challenge).then(Send(CLIENT, challenge), Resume())
    book.client(reply).then(Send(SERVER, reply), Hold())
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())


def test_sasl_that_fails_may_be_tried_again(play: Play) -> None:
    failure = f"<failure xmlns='{ns.SASL}'><not-authorized/></failure>".encode()
    book = play().to_open()
    for _ in range(2):
        book.client(AUTH).then(Send(SERVER, AUTH), Hold())
        book.server(failure).then(Send(CLIENT, failure), Resume())


def test_success_that_nobody_asked_for_authenticates_nobody(play: Play) -> None:
    book = play().to_open().server(SUCCESS).then(Send(CLIENT, SUCCESS))
    book.client(MESSAGE).then(*refused(Condition.NOT_AUTHORIZED))


# What waits


def test_what_a_client_sends_ahead_waits_for_the_server(play: Play) -> None:
    book = play().to_secured().client(header() + AUTH + header() + BIND).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, header()))
    book.server(answer() + MECHANISMS).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answer()),
        Send(CLIENT, MECHANISMS),
        Resume(),
        Send(SERVER, AUTH),
        Hold(),
    )
    book.client(MESSAGE).then()
    book.server(SUCCESS).then(
        Send(CLIENT, SUCCESS),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Arm(Deadline.CONNECT),
        Send(SERVER, header()),
        Hold(),
    )
    book.server(answer("s2") + BIND_FEATURES).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answer("s2")),
        Send(CLIENT, BIND_FEATURES),
        Resume(),
        Send(SERVER, BIND),
        Send(SERVER, MESSAGE),
    )
    book.server(BOUND).then(Send(CLIENT, BOUND), Join(b"", b"", None))


@pytest.mark.parametrize("space", [b"", b"\n", b" \r\n"])
def test_white_space_after_the_last_of_a_stream_is_no_start_of_the_next(
    play: Play, space: bytes
) -> None:
    """It must not come before an XML declaration."""
    opening = b"<?xml version='1.0'?>" + header()
    book = play().to_open().client(AUTH + space).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS + space).then(
        Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume()
    )
    book.client(opening).then(Arm(Deadline.CONNECT), Send(SERVER, opening), Hold())
    book.server(answer("s2")).then(Disarm(Deadline.CONNECT), Send(CLIENT, answer("s2")), Resume())


def test_what_a_server_says_with_its_last_word_begins_the_next_stream(play: Play) -> None:
    start = answer("s2")
    book = play().to_open().client(AUTH + header()).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS + start[:10]).then(
        Send(CLIENT, SUCCESS),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Arm(Deadline.CONNECT),
        Send(SERVER, header()),
        Hold(),
    )
    book.server(start[10:]).then(Disarm(Deadline.CONNECT), Send(CLIENT, start), Resume())


def test_a_turn_that_a_plugin_answers_is_not_the_servers(play: Play) -> None:
    no = f"<failure xmlns='{ns.SASL}'><invalid-mechanism/></failure>".encode()

    class NoPlain(Plugin):
        name = "no-plain"

        def on_element(self, _view: View, _direction: Direction, element: Element) -> Verdict:
            return Reply(no)

    book = play(plugins=[NoPlain()]).to_open()
    book.client(AUTH).then(Send(CLIENT, no))
    book.client(AUTH).then(Send(CLIENT, no))


# How sessions end


def test_the_clients_footer_goes_out_and_the_servers_comes_back(play: Play) -> None:
    book = play().to_open().client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.server(MESSAGE).then(Send(CLIENT, MESSAGE))
    book.server(FOOTER).then(Send(CLIENT, FOOTER), *finished(close=[CLIENT, SERVER]))


def test_white_space_after_the_clients_footer_disturbs_no_good_end(play: Play) -> None:
    book = play().to_open().client(FOOTER + b"\n")
    book.then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.client(b"\r\n").then()
    book.server(FOOTER).then(Send(CLIENT, FOOTER), *finished(close=[CLIENT, SERVER]))


def test_a_server_that_only_disconnects_at_the_end_is_no_fault(play: Play) -> None:
    book = play().to_open().client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.lost(SERVER).then(*finished("client closed", close=[CLIENT, SERVER]))


def test_a_session_whose_client_has_said_goodbye_is_not_joined(play: Play) -> None:
    book = play().to_restarted().client(BIND + FOOTER)
    book.then(Send(SERVER, BIND), Send(SERVER, FOOTER), Arm(Deadline.ENDING))
    book.server(BOUND).then(Send(CLIENT, BOUND))
    book.expired(Deadline.ENDING).then(*finished("did not end", close=[CLIENT, SERVER]))


def test_the_servers_footer_ends_the_session(play: Play) -> None:
    book = play().to_open().server(FOOTER)
    book.then(Send(CLIENT, FOOTER), *finished("server closed", close=[CLIENT, SERVER]))


def test_a_client_that_leaves_before_tls_gets_a_footer(play: Play) -> None:
    book = play().to_offer().client(FOOTER)
    book.then(Send(CLIENT, FOOTER), *finished("client closed", close=[CLIENT, SERVER]))


def test_a_client_that_vanishes_ends_both_legs_without_a_footer(play: Play) -> None:
    book = play().to_restarted().lost(CLIENT)
    book.then(*finished("client went away", close=[CLIENT, SERVER]))


def test_a_server_that_vanishes_after_authentication_leaves_no_footer(play: Play) -> None:
    book = play().to_restarted().lost(SERVER)
    book.then(*finished("server went away", close=[CLIENT, SERVER]))


def test_nothing_comes_of_events_after_the_end(play: Play) -> None:
    book = play().to_open().shut_down().then(*refused(Condition.SYSTEM_SHUTDOWN))
    book.client(AUTH).then()
    book.server(MESSAGE).then()
    book.lost(CLIENT).then()
    book.shut_down().then()
    book.tls_failed().then()
    book.server_connected().then()
    book.server_unreachable().then()
    book.hello().then()
    book.secured().then()
    for deadline in Deadline:
        book.expired(deadline).then()


def test_tls_that_fails_ends_both_legs_without_xml(play: Play) -> None:
    book = play().to_handshake().tls_failed("no shared cipher")
    book.then(*finished("no shared cipher", abort=[CLIENT, SERVER]))


# Where plugins watch stanzas


class Watcher(Plugin):
    name = "watcher"
    stanzas = (Stanzas(Direction.TO_SERVER, frozenset({ns.MESSAGE})),)

    def on_stanza(self, _view: View, _direction: Direction, _stanza: Element) -> Verdict:
        return Reply(b"<message type='error'/>")


def test_a_session_whose_stanzas_are_watched_is_not_joined(play: Play) -> None:
    book = play(plugins=[Watcher()]).to_restarted()
    book.client(BIND).then(Send(SERVER, BIND))
    book.server(BOUND).then(Send(CLIENT, BOUND))
    book.client(MESSAGE + b"<presence/>").then(
        Send(CLIENT, b"<message type='error'/>"), Send(SERVER, b"<presence/>")
    )
    book.server(MESSAGE).then(Send(CLIENT, MESSAGE))
    book.client(FOOTER).then(Send(SERVER, FOOTER), Arm(Deadline.ENDING))
