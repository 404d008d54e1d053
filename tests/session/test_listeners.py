"""What each rule of a listener (``tls = ...``) makes of clients, old ones among them."""

import pytest

from proxy.session.commands import (
    Abort,
    Arm,
    AwaitTLS,
    Deadline,
    Disarm,
    Hold,
    Report,
    Resume,
    Send,
    Severity,
    StartTLS,
)
from proxy.session.hooks import (
    Condition,
    TLSRule,
)
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED, STARTTLS_FAILURE
from tests.session.conftest import Play
from tests.session.playbook import (
    AUTH,
    BIND_FEATURES,
    CLIENT,
    CLIENT_HELLO,
    CONNECTING,
    DOMAIN,
    MECHANISMS,
    MESSAGE,
    PLAINTEXT_CONNECTING,
    SERVER,
    STARTTLS,
    SUCCESS,
    TLS_UP,
    Playbook,
    answer,
    client_hello,
    finished,
    header,
    iq_auth,
    own,
    refused,
)


def test_direct_tls(play: Play) -> None:
    book = play().to_direct_secured().client(header()).then(*CONNECTING)
    book.to_features().client(AUTH).then(Send(SERVER, AUTH), Hold())


@pytest.mark.parametrize("rule", [TLSRule.REQUIRED, TLSRule.DIRECT, TLSRule.REPORT])
def test_direct_tls_is_recognised_by_the_first_byte(play: Play, rule: TLSRule) -> None:
    book = play(rule).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
    assert book.session.unread == len(CLIENT_HELLO)


def test_a_client_before_1_0_is_relayed_on_direct_tls(play: Play) -> None:
    opening = header(version=None)
    book = play().to_direct_secured().client(opening).then(*CONNECTING)
    book.server_connected().then(Send(SERVER, opening))
    old = answer(version=None)
    book.server(old).then(Disarm(Deadline.CONNECT), Send(CLIENT, old), Resume())
    book.client(iq_auth("get")).then(Send(SERVER, iq_auth("get")))


def test_a_client_before_1_0_is_refused_on_starttls(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header(version=None)).then(
        *refused(Condition.POLICY_VIOLATION, "XMPP 1.0", before=own(version=False))
    )


def test_a_client_that_forgets_version_1_0_after_starttls_is_refused(play: Play) -> None:
    book = play().to_secured().client(header(version=None))
    book.then(*refused(Condition.POLICY_VIOLATION, "version 1.0", before=own(2, version=False)))


def test_direct_refuses_plaintext_with_a_header(play: Play) -> None:
    book = play(TLSRule.DIRECT).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header()).then(
        *refused(Condition.POLICY_VIOLATION, "direct TLS", before=own(sender=""))
    )


def test_none_relays_plaintext_and_knows_no_tls(play: Play) -> None:
    book = play(TLSRule.NONE).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header()).then(*PLAINTEXT_CONNECTING)
    book.to_features().client(STARTTLS).then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished("starttls", close=[CLIENT, SERVER])
    )


def test_none_takes_a_tls_record_for_no_xml(play: Play) -> None:
    book = play(TLSRule.NONE).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(CLIENT_HELLO).then(*refused(Condition.NOT_WELL_FORMED, before=own(sender="")))


OFFER = f"<starttls xmlns='{ns.TLS}'/>".encode()


def with_offer(features: bytes) -> bytes:
    return features.replace(b"</stream:features>", OFFER + b"</stream:features>")


def to_report(play: Play) -> Playbook:
    """A client on a listener that only reports, in plaintext, with the server's features."""
    book = play(TLSRule.REPORT).connected().then(Arm(Deadline.NEGOTIATION))
    book.client(header()).then(*PLAINTEXT_CONNECTING)
    book.server_connected().then(Send(SERVER, header()))
    return book.server(answer() + MECHANISMS).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answer()),
        Send(CLIENT, with_offer(MECHANISMS)),
        Resume(),
    )


def test_report_relays_plaintext_and_tells_who_would_be_refused(play: Play) -> None:
    book = to_report(play).client(AUTH).then(Send(SERVER, AUTH), Hold())
    view = book.session.view
    fields = {"listener": view.listener, "client": view.client, "origin": None, "domain": DOMAIN}
    warning = Report(Severity.WARNING, "would be refused: authenticated without TLS", fields)
    book.server(SUCCESS).then(
        Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), warning, Resume()
    )


def test_report_offers_starttls_no_more_after_sasl(play: Play) -> None:
    book = to_report(play).client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.session.received(SERVER, SUCCESS)
    book.client(header()).then(Arm(Deadline.CONNECT), Send(SERVER, header()), Hold())
    book.server(answer("s2") + BIND_FEATURES).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answer("s2")),
        Send(CLIENT, BIND_FEATURES),
        Resume(),
    )
    book.client(STARTTLS).then(
        Send(CLIENT, STARTTLS_FAILURE + FOOTER), *finished("starttls", close=[CLIENT, SERVER])
    )


def test_starttls_on_report_drops_the_server_leg_and_starts_anew(play: Play) -> None:
    book = to_report(play)
    book.client(STARTTLS).then(
        Disarm(Deadline.CONNECT), Abort(SERVER), Send(CLIENT, PROCEED), AwaitTLS(direct=False)
    )
    book.lost(SERVER).then()  # the old one
    book.hello().then(StartTLS(DOMAIN))
    book.secured().then(*TLS_UP)
    book.client(header()).then(*CONNECTING).to_features()
    book.client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS), Disarm(Deadline.AUTHENTICATION), Resume())


def test_starttls_on_report_forgets_an_exchange_of_sasl(play: Play) -> None:
    challenge = f"<challenge xmlns='{ns.SASL}'>x</challenge>".encode()
    book = to_report(play).client(AUTH).then(Send(SERVER, AUTH), Hold())
    book.server(challenge).then(Send(CLIENT, challenge), Resume())
    book.client(STARTTLS).then(
        Disarm(Deadline.CONNECT), Abort(SERVER), Send(CLIENT, PROCEED), AwaitTLS(direct=False)
    )
    book.hello().then(StartTLS(DOMAIN))
    book.secured().then(*TLS_UP)
    book.client(header()).then(*CONNECTING).to_features()
    book.server(SUCCESS).then(Send(CLIENT, SUCCESS))  # authenticates nobody
    book.client(MESSAGE).then(*refused(Condition.NOT_AUTHORIZED))


def test_a_hello_that_names_no_domain_gets_the_default_one(play: Play) -> None:
    book = play().connected().then(Arm(Deadline.NEGOTIATION))
    book.client(CLIENT_HELLO).then(AwaitTLS(direct=True))
    book.hello(client_hello(None, direct=True)).then(StartTLS(DOMAIN))
