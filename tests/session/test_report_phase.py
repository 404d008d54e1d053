"""Between servers where nothing is enforced yet: what would be refused passes, and is reported."""

import pytest

from proxy.session.commands import Deadline, Disarm, Report, Send, Severity
from proxy.session.federation import MOST_REFUSALS
from proxy.session.hooks import TLSRule
from tests.session.federation import (
    FederationPlaybook,
    InboundPlaybook,
    OutboundPlaybook,
    Peers,
    key_of,
    never,
)
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    anew,
    answer,
    answered,
    message,
    opened,
    own_error,
    result,
)
from tests.session.playbook import CLIENT, SERVER, STARTTLS
from tests.session.sessions import to_client

REQUEST, VALID = result(REMOTE, LOCAL), answer(LOCAL, REMOTE, "valid")
ABROAD, BELIEVED = result(LOCAL, REMOTE), answer(REMOTE, LOCAL, "valid")
UNSHOWN = f"would be refused: {REMOTE} showed no certificate"
NOT_TAKEN = (
    f"would be refused: the server of {REMOTE} has not taken the certificate of {LOCAL} "
    f"(SASL EXTERNAL), and the policy of {REMOTE} rules dialback out"
)


def inbound(
    *domains: str, rule: TLSRule = TLSRule.REPORT, rules: Peers | None = None
) -> InboundPlaybook:
    """A server that must prove itself by certificate connects; ``domains`` it does prove."""
    play = InboundPlaybook(rules or Peers(policies=never(REMOTE)), rule)
    return play.to_direct_tls(*domains)


def plaintext(rule: TLSRule = TLSRule.REPORT) -> InboundPlaybook:
    """The same, without TLS."""
    play = InboundPlaybook(Peers(policies=never(REMOTE)), rule)
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).gave()
    return play


def outbound() -> OutboundPlaybook:
    return OutboundPlaybook(Peers(policies=never(REMOTE), report=True))


def refusals(play: FederationPlaybook) -> list[str]:
    """What the log says would have been refused."""
    said = [each for each in play.reports if each.message.startswith("would be refused: ")]
    assert all(each.severity is Severity.WARNING for each in said)
    return [each.message for each in said]


# A server of the network reaches one of ours


def test_who_must_prove_itself_by_certificate_and_does_not_is_reported_once() -> None:
    play = inbound().to_stream()
    assert refusals(play) == [UNSHOWN]
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    play.server(VALID).then(Send(CLIENT, anew(VALID)), Disarm(Deadline.AUTHENTICATION))
    play.client(message()).then(Send(SERVER, message()))
    assert refusals(play) == [UNSHOWN]


def test_the_report_names_the_pair() -> None:
    play = inbound().to_stream()
    (report,) = play.reports[-1:]
    assert report == Report(Severity.WARNING, UNSHOWN, {"sender": REMOTE, "to": LOCAL})


@pytest.mark.parametrize("origin", [None, "other.example"])
def test_who_does_not_say_so_in_the_header_is_reported_by_what_it_asks(origin: str | None) -> None:
    play = inbound("other.example").to_stream(opened(origin, LOCAL))
    assert refusals(play) == []
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    assert refusals(play) == [f"would be refused: the certificate is not for {REMOTE}"]


def test_each_pair_is_reported() -> None:
    play = inbound().to_stream()
    asked = result(REMOTE, LOCAL_2)
    play.client(asked).then(Send(SERVER, anew(asked)))
    assert refusals(play) == [UNSHOWN, UNSHOWN]
    assert play.reports[-1].fields == {"sender": REMOTE, "to": LOCAL_2}


def test_who_proves_itself_is_not_reported() -> None:
    play = inbound(REMOTE).to_stream()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    assert refusals(play) == []


def test_nor_is_one_that_need_not() -> None:
    play = inbound(rules=Peers()).to_stream()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    assert refusals(play) == []


def test_without_tls_both_are_reported() -> None:
    play = plaintext()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    assert refusals(play) == [UNSHOWN]
    play.server(VALID).then(Send(CLIENT, anew(VALID)), Disarm(Deadline.AUTHENTICATION))
    assert refusals(play) == [UNSHOWN, "would be refused: authenticated without TLS"]


def test_after_starttls_it_is_reported_anew() -> None:
    """For then it is the certificate that matters, and not that there was none."""
    play = plaintext()
    play.client(REQUEST).gave()
    play.client(STARTTLS).gave()
    play.hello().gave()
    play.shown((b"other.example",)).gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    assert refusals(play) == [UNSHOWN, f"would be refused: the certificate is not for {REMOTE}"]


def test_where_no_tls_is_asked_for_nothing_is_reported() -> None:
    play = plaintext(TLSRule.NONE)
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    assert refusals(play) == []


def test_the_log_is_not_flooded_and_all_pass() -> None:
    names = [f"d{number}.example" for number in range(MOST_REFUSALS + 5)]
    play = inbound(rules=Peers(policies=never(*names))).to_stream(opened(None, LOCAL))
    for name in names:
        play.client(result(name, LOCAL)).then(Send(SERVER, anew(result(name, LOCAL))))
    assert len(refusals(play)) == MOST_REFUSALS


# A server of ours reaches one of the network


def test_a_server_that_does_not_take_our_certificate_is_reported_once() -> None:
    play = outbound().to_streams()
    for _ in range(2):
        play.client(ABROAD).then(Send(SERVER, anew(ABROAD)))
    play.server(BELIEVED).then(Send(CLIENT, anew(BELIEVED)), Disarm(Deadline.AUTHENTICATION))
    stanza = message(f"b@{LOCAL}", f"a@{REMOTE}")
    play.client(stanza).then(Send(SERVER, stanza))
    assert refusals(play) == [NOT_TAKEN]
    report = next(each for each in play.reports if each.message == NOT_TAKEN)
    assert report.fields == {"sender": LOCAL, "to": REMOTE}


def test_one_that_takes_it_is_not_reported() -> None:
    play = outbound().to_accepted()
    play.client(ABROAD).ending(Disarm(Deadline.AUTHENTICATION))
    assert refusals(play) == []


def test_our_key_is_sent_where_an_unaddressed_stream_would_be_refused() -> None:
    play = outbound().to_vouching()
    assert key_of(play.commands)
    assert refusals(play) == [NOT_TAKEN]


def test_other_reasons_refuse_all_the_same() -> None:
    """Which domains may be reached, and by which server, is not about TLS alone."""
    play = outbound().to_streams()
    play.client(result(LOCAL, REMOTE_2)).then(
        Send(CLIENT, own_error(REMOTE_2, LOCAL, "not-authorized"))
    )
    assert refusals(play) == []
    assert b"type='error'" in to_client(play.commands)
