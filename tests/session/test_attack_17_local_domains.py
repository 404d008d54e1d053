"""Attack 17: somebody out there says that it is one of ours, whom our server may trust."""

import pytest

from proxy.session.commands import Connect, Finish, Send, Severity
from proxy.session.hooks import Condition
from tests.session.federation import InboundPlaybook, OutboundPlaybook
from tests.session.federation_words import (
    ELSEWHERE,
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    SUCCESS,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    own,
    own_error,
    own_result,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server

OURS = [LOCAL, LOCAL_2, ELSEWHERE, LOCAL.upper(), f"{LOCAL}."]
STARTS = ["to_streams", "to_dialled", "to_authenticated", "to_convinced"]

ours = pytest.mark.parametrize("domain", OURS)
starts = pytest.mark.parametrize("start", STARTS)


@ours
def test_a_header_from_one_of_ours_is_refused_before_tls(domain: str) -> None:
    play = InboundPlaybook()
    play.connected().gave()
    play.client(opened(domain, LOCAL)).then(
        *refused(Condition.INVALID_FROM, before=own(1, to=domain))
    )


@pytest.mark.parametrize("to", ["nobody.example", LOCAL, None])
def test_what_a_header_says_of_itself_is_judged_first_and_warned_of(to: str | None) -> None:
    """Whoever claims to be one of ours is worth a look, wherever it meant to go."""
    play = InboundPlaybook()
    play.connected().gave()
    play.client(opened(LOCAL, to))
    *_, end = play.gave()
    assert isinstance(end, Finish)
    assert end.reason.startswith("invalid-from: ")
    assert end.severity is Severity.WARNING


@ours
@pytest.mark.parametrize("certificate", [[], [LOCAL, LOCAL_2, ELSEWHERE]])
def test_a_header_from_one_of_ours_is_refused_under_tls(
    domain: str, certificate: list[str]
) -> None:
    """Whatever the certificate proves: ours have no business to come from out there."""
    play = InboundPlaybook().to_tls(*certificate)
    play.client(opened(domain, LOCAL)).then(
        *refused(Condition.INVALID_FROM, before=own(2, sender=LOCAL, to=domain))
    )
    assert not any(isinstance(each, Connect) for each in play.commands)
    assert play.rules.asked == []


@ours
@starts
def test_dialback_from_one_of_ours_is_refused(domain: str, start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(result(domain, LOCAL)).then(*refused(Condition.INVALID_FROM))
    assert to_server(play.commands) == before


@ours
@starts
def test_a_question_about_a_key_from_one_of_ours_is_refused(domain: str, start: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(verify(domain, LOCAL, "s1")).then(*refused(Condition.INVALID_FROM))
    assert to_server(play.commands) == before


@ours
@starts
@pytest.mark.parametrize("local", ["", "admin@"])
def test_a_stanza_from_one_of_ours_is_refused(domain: str, start: str, local: str) -> None:
    play = getattr(InboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(message(f"{local}{domain}")).gave()
    assert to_server(play.commands) == before
    assert b"<stream:error>" in to_client(play.commands)


@ours
def test_external_as_one_of_ours_fails(domain: str) -> None:
    """A certificate of ours that has got out proves no server that connects to us."""
    play = InboundPlaybook().to_streams(REMOTE, LOCAL, LOCAL_2, ELSEWHERE)
    play.client(auth(domain)).gave()
    assert SUCCESS not in to_client(play.commands)


def test_our_server_may_not_prove_one_of_ours_to_itself() -> None:
    play = InboundPlaybook().to_streams()
    play.server(answer(LOCAL, LOCAL_2, "valid")).then()
    play.client(message(f"a@{LOCAL_2}")).then(*refused(Condition.NOT_AUTHORIZED))


# What our own server may say


@pytest.mark.parametrize("domain", [REMOTE, "other.example", f"sub.{LOCAL}"])
@pytest.mark.parametrize("start", ["to_streams", "to_dialled", "to_accepted", "to_vouching"])
def test_our_server_speaks_for_nobody_else(domain: str, start: str) -> None:
    """Whoever reaches the listener is not thereby let through to pass for anybody."""
    for said in (result(domain, REMOTE), verify(domain, REMOTE, "L1")):
        play = getattr(OutboundPlaybook(), start)()
        before = to_server(play.commands)
        play.client(said).then(*refused(Condition.INVALID_FROM))
        assert to_server(play.commands) == before
    play = getattr(OutboundPlaybook(), start)()
    before = to_server(play.commands)
    play.client(message(f"b@{domain}", f"a@{REMOTE}")).gave()
    assert to_server(play.commands) == before


def test_a_pair_of_ours_is_proved_by_the_other_server_alone() -> None:
    play = OutboundPlaybook().to_accepted()
    play.client(message(f"b@{LOCAL_2}", f"a@{REMOTE}")).then(*refused(Condition.NOT_AUTHORIZED))


# A server that is connected to


@ours
def test_a_server_that_is_connected_to_may_call_itself_what_it_likes(domain: str) -> None:
    """Its certificate has been judged for the domain that was asked for; the header is nothing."""
    play = OutboundPlaybook().to_secured()
    play.server(answered("r2", domain) + FEATURES).gave()
    play.client(result(LOCAL, REMOTE)).then(Send(SERVER, anew(result(LOCAL, REMOTE))))
    play.server(answer(domain, LOCAL, "valid")).then()


@ours
def test_it_cannot_be_asked_about_one_of_ours(domain: str) -> None:
    play = OutboundPlaybook().to_streams()
    play.client(verify(LOCAL, domain, "L1")).then(
        Send(CLIENT, own_error(domain, LOCAL, "not-authorized", "L1"))
    )


def test_a_remote_domain_below_one_of_ours_is_judged_as_any_other() -> None:
    """Only what the conf names is ours: a component that it does not name must prove itself."""
    sub = f"rooms.{LOCAL}"
    play = InboundPlaybook().to_tls(sub).to_stream(opened(sub, LOCAL))
    play.client(message(f"a@{sub}")).then(*refused(Condition.NOT_AUTHORIZED))
    play = InboundPlaybook().to_tls(sub).to_stream(opened(sub, LOCAL))
    play.client(auth()).gave()
    play.to_stream(opened(sub, LOCAL), stream_id="L2")
    play.to_convincing(message(f"a@{sub}"), (sub, LOCAL))
    assert own_result(sub, LOCAL, "")[:-13] in to_server(play.commands)
