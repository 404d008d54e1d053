"""SASL EXTERNAL between servers, with us as the receiving entity: who may be whom, and when."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from proxy.session.commands import Deadline, Disarm, Resume, Send
from proxy.session.hooks import Condition, TLSRule
from proxy.session.inbound import MOST_ATTEMPTS
from proxy.trust.verdict import Status, UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER
from tests.session import playbook
from tests.session.federation import InboundPlaybook, OutboundPlaybook, Peers, key_of, never
from tests.session.federation_words import (
    EXTERNAL,
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    SUCCESS,
    VICTIM,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    own,
    own_result,
    result,
)
from tests.session.forward import ForwardPlaybook
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server


def sasl(inside: str, more: str = " mechanism='EXTERNAL'") -> bytes:
    return f"<auth xmlns='{ns.SASL}'{more}>{inside}</auth>".encode()


def fails(play: InboundPlaybook, condition: str) -> bool:
    """Whether the last event brought a SASL failure, and nothing else."""
    gave = play.gave()
    assert all(isinstance(each, Send) and each.side is CLIENT for each in gave)
    return f"<failure xmlns='{ns.SASL}'><{condition}/>".encode() in to_client(gave)


# Authorization identities


@pytest.mark.parametrize(
    "request_",
    [
        sasl("="),
        sasl(""),
        auth(REMOTE),
        auth(REMOTE.upper()),
        auth(REMOTE + "."),
        f"<auth xmlns='{ns.SASL}' mechanism='EXTERNAL'/>".encode(),
    ],
)
def test_the_domain_that_the_certificate_proves_is_accepted(request_: bytes) -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(request_)
    assert SUCCESS in to_client(play.gave())


def test_a_domain_may_be_written_in_either_form() -> None:
    play = InboundPlaybook().to_tls("xn--bcher-kva.example")
    play.to_stream(opened("b\u00fccher.example", LOCAL))
    play.client(auth("b\u00fccher.example"))
    assert SUCCESS in to_client(play.gave())


@pytest.mark.parametrize(
    ("request_", "condition"),
    [
        (auth(VICTIM), "invalid-authzid"),
        (auth(LOCAL), "invalid-authzid"),
        (auth(f"a@{REMOTE}"), "invalid-authzid"),
        (auth(f"{REMOTE}/x"), "invalid-authzid"),
        (auth(f"{REMOTE}/@{VICTIM}"), "invalid-authzid"),
        (auth(f"{REMOTE}\0{VICTIM}"), "invalid-authzid"),
        (auth(f"\0{REMOTE}"), "invalid-authzid"),
        (auth(f" {REMOTE}"), "invalid-authzid"),
        (auth("."), "invalid-authzid"),
        (auth("fa\u00df.example"), "invalid-authzid"),
        (sasl(b64encode(b"\xff").decode()), "incorrect-encoding"),
        (sasl("!"), "incorrect-encoding"),
        (sasl(" = "), "incorrect-encoding"),
        (sasl("===="), "incorrect-encoding"),
        (sasl("\u00e9"), "incorrect-encoding"),
        (sasl("<x/>="), "malformed-request"),
        (sasl("=", ""), "invalid-mechanism"),
        (sasl("=", " mechanism='PLAIN'"), "invalid-mechanism"),
        (sasl("=", " mechanism='external'"), "invalid-mechanism"),
        (f"<response xmlns='{ns.SASL}'>=</response>".encode(), "malformed-request"),
        (f"<success xmlns='{ns.SASL}'/>".encode(), "malformed-request"),
        (f"<abort xmlns='{ns.SASL}'/>".encode(), "aborted"),
    ],
)
def test_others_are_not(request_: bytes, condition: str) -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    before = to_server(play.commands)
    play.client(request_)
    assert fails(play, condition)
    assert to_server(play.commands) == before
    assert play.session.view.failed_logins == 1
    # The stream goes on, for dialback or another attempt.
    asked = result(REMOTE, LOCAL)
    play.client(asked).then(Send(SERVER, anew(asked)))


def test_it_may_be_tried_again_and_not_for_ever() -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    for _ in range(MOST_ATTEMPTS - 1):
        play.client(auth(VICTIM))
        assert fails(play, "invalid-authzid")
    play.client(auth(VICTIM)).then(*refused(Condition.POLICY_VIOLATION, "too often"))
    assert SUCCESS not in to_client(play.commands)


def test_an_attempt_that_fails_does_not_forbid_the_next() -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(auth(VICTIM)).gave()
    play.client(auth(REMOTE))
    assert SUCCESS in to_client(play.gave())


# When it is not on offer


@pytest.mark.parametrize("domains", [[], [VICTIM]])
def test_without_an_offer_it_fails(domains: list[str]) -> None:
    play = InboundPlaybook().to_streams(*domains)
    play.client(auth())
    assert fails(play, "invalid-mechanism")
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_without_a_domain_there_is_nobody_to_authenticate() -> None:
    play = InboundPlaybook().to_tls(REMOTE).to_stream(opened(None, LOCAL))
    play.client(auth(REMOTE))
    assert fails(play, "invalid-mechanism")


def test_before_tls_it_is_refused() -> None:
    play = InboundPlaybook()
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.client(auth(REMOTE)).then(*refused(Condition.POLICY_VIOLATION))
    assert to_server(play.commands) == b""


def test_in_a_stream_without_tls_it_fails() -> None:
    play = InboundPlaybook(rule=TLSRule.REPORT)
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).gave()
    play.client(auth(REMOTE))
    assert fails(play, "invalid-mechanism")
    assert play.rules.asked == []


def test_before_our_server_has_answered_it_waits() -> None:
    """Whether it is on offer is known then; what comes sooner is not read sooner."""
    play = InboundPlaybook().to_tls(REMOTE)
    play.client(opened(REMOTE, LOCAL) + auth(REMOTE)).gave()
    assert SUCCESS not in to_client(play.commands)
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES)
    assert to_client(play.gave()).endswith(SUCCESS)


def test_twice_is_once_too_often() -> None:
    play = InboundPlaybook().to_authenticated()
    play.client(auth(REMOTE)).then(*refused(Condition.UNSUPPORTED_STANZA_TYPE))


def test_after_dialback_it_begins_anew() -> None:
    """What was proved to our server was proved on a connection that is left."""
    play = InboundPlaybook().to_dialled(REMOTE)
    play.client(auth()).gave()
    play.to_stream(stream_id="L2").to_convincing()
    assert b"<message" not in to_server(play.commands)


@pytest.mark.parametrize(
    "layer",
    [
        f"<authenticate xmlns='{ns.SASL2}' mechanism='EXTERNAL'/>",
        f"<compress xmlns='{ns.COMPRESSION}'><method>zlib</method></compress>",
        f"<bidi xmlns='{ns.BIDIRECTIONAL}'/>",
        f"<proceed xmlns='{ns.TLS}'/>",
    ],
)
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_authenticated", "to_convinced"])
def test_layers_that_are_not_on_offer_are_refused(layer: str, start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(layer.encode()).then(*refused(Condition.UNSUPPORTED_STANZA_TYPE))
    assert to_server(play.commands) == before
    assert play.issued == 0


@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_accepted"])
def test_nor_are_they_for_our_own_server(start: str) -> None:
    for layer in (auth(), f"<bidi xmlns='{ns.BIDIRECTIONAL}'/>".encode()):
        play = getattr(OutboundPlaybook(), start)()
        before = to_server(play.commands)
        play.client(layer).then(*refused(Condition.UNSUPPORTED_STANZA_TYPE))
        assert to_server(play.commands) == before


def test_a_second_starttls_is_refused() -> None:
    play = InboundPlaybook().to_authenticated()
    play.client(f"<starttls xmlns='{ns.TLS}'/>".encode()).gave()
    assert to_client(play.commands).endswith(f"<failure xmlns='{ns.TLS}'/>".encode() + FOOTER)
    assert play.issued == 0


# The restart


@pytest.mark.parametrize("sender", [VICTIM, None, f"sub.{REMOTE}"])
def test_the_domain_must_not_change_across_the_restart(sender: str | None) -> None:
    play = InboundPlaybook().to_external()
    play.client(opened(sender, LOCAL)).then(
        *refused(Condition.NOT_AUTHORIZED, before=own(2, sender=LOCAL, to=sender))
    )


@pytest.mark.parametrize("sender", [LOCAL, LOCAL_2])
def test_nor_become_one_of_ours(sender: str) -> None:
    play = InboundPlaybook().to_external()
    play.client(opened(sender, LOCAL)).then(
        *refused(Condition.INVALID_FROM, before=own(2, sender=LOCAL, to=sender))
    )


def test_nor_may_the_domain_that_the_stream_is_to() -> None:
    play = InboundPlaybook().to_external()
    play.client(opened(REMOTE, LOCAL_2)).then(
        *refused(Condition.NOT_AUTHORIZED, before=own(2, sender=LOCAL, to=REMOTE))
    )


def test_the_domain_may_be_written_in_another_way() -> None:
    play = InboundPlaybook().to_external()
    play.to_stream(opened(REMOTE.upper() + ".", LOCAL), stream_id="L2")
    play.to_convincing(pair=(REMOTE.upper() + ".", LOCAL))


def test_what_was_sent_ahead_belongs_to_the_new_stream() -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(auth() + message()).gave()
    assert b"<stream:error>" in to_client(play.commands)
    assert b"<message" not in to_server(play.commands)


def test_what_is_sent_ahead_in_the_new_stream_waits() -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(auth() + opened(REMOTE, LOCAL) + message()).gave()
    assert b"<message" not in to_server(play.commands)
    play.server_connected().gave()
    play.server(answered("L2", LOCAL) + FEATURES).gave()
    assert b"<db:result" in to_server(play.commands)
    assert b"<message" not in to_server(play.commands)
    play.server(answer(LOCAL, REMOTE, "valid")).gave()
    assert to_server(play.commands).endswith(message())


# The proof is for one domain


@pytest.mark.parametrize(
    "pair",
    [
        (f"a@{VICTIM}", f"b@{LOCAL}"),
        (f"a@sub.{REMOTE}", f"b@{LOCAL}"),
        (f"a@{LOCAL_2}", f"b@{LOCAL}"),
        (f"a@{REMOTE}", "b@example.net"),
        (f"a@{REMOTE}", f"b@{REMOTE_2}"),
        (f"a@{REMOTE}", f"b@{REMOTE}"),
    ],
)
@pytest.mark.parametrize("start", ["to_authenticated", "to_convinced"])
def test_it_lets_no_other_pair_pass(pair: tuple[str, str], start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(message(*pair)).gave()
    assert to_server(play.commands) == before
    assert b"<stream:error>" in to_client(play.commands)


def test_a_pair_that_our_server_has_taken_back_must_be_proved_again() -> None:
    play = InboundPlaybook().to_convinced()
    asked = result(REMOTE, LOCAL)
    play.client(asked).then(Send(SERVER, anew(asked)))
    said = answer(LOCAL, REMOTE, "invalid")
    play.server(said).then(Send(CLIENT, anew(said)))
    play.to_convincing(message(body="after"))
    assert message(body="after") not in to_server(play.commands)


# Judges that fail


def broken() -> Any:
    raise RuntimeError("out of order")


def untrusted() -> Any:
    raise UntrustedError("nobody knows it")


def interrupted() -> Any:
    raise SystemExit


class Lying:
    """What is no verdict, and says it is verified."""

    status = Status.VERIFIED
    identity = "DNS-ID victim.example"
    problem = ""


@pytest.mark.parametrize(
    "judge",
    [broken, untrusted, interrupted, lambda: None, lambda: True, Lying, lambda: Status.VERIFIED],
)
@pytest.mark.parametrize("dialback", ["allow", "never"])
def test_a_judge_that_fails_proves_nothing(judge: Callable[[], Any], dialback: str) -> None:
    policies = never(REMOTE) if dialback == "never" else {}
    play = InboundPlaybook(Peers(judged=judge, policies=policies)).to_tls(REMOTE)
    if dialback == "never":
        before = own(2, sender=LOCAL, to=REMOTE)
        play.client(opened(REMOTE, LOCAL)).then(*refused(Condition.NOT_AUTHORIZED, before=before))
        return
    play.to_stream()
    assert b"EXTERNAL" not in to_client(play.commands)
    play.client(auth(REMOTE))
    assert fails(play, "invalid-mechanism")
    assert play.session.view.client_identity == ""


def test_a_judge_that_fails_later_proves_no_other_domain() -> None:
    """The policy of a domain that only dialback names is heeded when it is named."""
    play = InboundPlaybook(Peers(policies=never(VICTIM))).to_streams(REMOTE)
    play.rules.judged = broken
    play.client(result(VICTIM, LOCAL)).gave()
    assert b"type='error'" in to_client(play.commands)
    assert b"<db:result" not in to_server(play.commands)


def test_the_judge_is_asked_about_the_domain_that_is_named_under_tls() -> None:
    play = InboundPlaybook().to_tls(REMOTE, sender=VICTIM).to_stream()
    assert play.rules.asked == [REMOTE]


def test_the_key_is_ours_and_goes_to_our_server_alone() -> None:
    play = InboundPlaybook().to_authenticated()
    play.client(message())
    key = key_of(play.gave())
    assert own_result(REMOTE, LOCAL, key) in to_server(play.commands)
    play.server(answer(LOCAL, REMOTE, "valid")).gave()
    assert key.encode() not in to_client(play.commands)
    assert not play.told(key)


def test_verdicts_are_what_the_view_says() -> None:
    rules = Peers(judged=lambda: Verdict(Status.VERIFIED, "pin sha256:x", ""))
    play = InboundPlaybook(rules).to_streams()
    assert play.session.view.client_identity == "pin sha256:x"
    assert play.told("Verified TLS connection established from remote.example")


def test_what_servers_offer_to_clients_is_for_the_clients() -> None:
    """The proxy has no certificate that could speak for them."""
    offered = f"<stream:features>{EXTERNAL}</stream:features>".encode()
    play = ForwardPlaybook().to_server_secured()
    play.server(playbook.answer("remote-2") + offered).then(
        Disarm(Deadline.CONNECT),
        Disarm(Deadline.WAY),
        Send(CLIENT, playbook.answer("remote-2")),
        Send(CLIENT, offered),
        Resume(),
    )
