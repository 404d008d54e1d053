"""Several domains out there on one stream of ours (XEP-0220, section 2.5)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.session.commands import (
    Send,
)
from proxy.trust.policy import Level, Pattern, Policy, Version
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.session.federation import OutboundPlaybook, Peers
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    REMOTE,
    REMOTE_2,
    anew,
    answer,
    answered,
    message,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER
from tests.session.sessions import to_server


@pytest.mark.parametrize("asked", [result(LOCAL, REMOTE_2), verify(LOCAL, REMOTE_2, "L1")])
def test_a_second_domain_that_the_certificate_proves_is_spoken_to(asked: bytes) -> None:
    play = OutboundPlaybook().to_streams(REMOTE_2)
    play.client(asked).then(Send(SERVER, anew(asked)))


def test_stanzas_to_a_second_domain_pass_once_it_has_agreed() -> None:
    play = OutboundPlaybook().to_dialled(REMOTE_2)
    stanza = message(f"b@{LOCAL}", f"a@{REMOTE_2}")
    play.client(result(LOCAL, REMOTE_2)).gave()
    said = answer(REMOTE_2, LOCAL, "valid")
    play.server(said).then(Send(CLIENT, anew(said)))
    play.client(stanza).then(Send(SERVER, stanza))


def other_policy(**more: Any) -> Peers:
    return Peers(policies={REMOTE_2: Policy(Pattern(REMOTE_2), **more)})


def _untrusted() -> Any:
    raise UntrustedError("nobody knows it")


def _broken() -> Any:
    raise MemoryError


def _second_breaks(judge: Callable[[], Any]) -> Peers:
    """The first judgement is good; what comes of all others is ``judge``'s."""
    good = iter([Verdict(Status.VERIFIED, f"DNS-ID {REMOTE}", "")])
    return Peers(verdict=lambda: next(good, None) or judge())


REFUSING: dict[str, tuple[Callable[[], Peers], list[str]]] = {
    "not in the certificate": (Peers, []),
    "may not be reached": (lambda: Peers(unreachable=(REMOTE_2,)), [REMOTE_2]),
    "other roots": (lambda: other_policy(anchors=Path("/other.pem")), [REMOTE_2]),
    "a newer version": (lambda: other_policy(min_version=Version.TLS_1_3), [REMOTE_2]),
    "another place": (lambda: other_policy(s2s_server=("192.0.2.7", 5269)), [REMOTE_2]),
    "the judge breaks": (lambda: _second_breaks(_broken), [REMOTE_2]),
    "the judge doubts": (lambda: _second_breaks(_untrusted), [REMOTE_2]),
    "trusted, not verified": (
        lambda: _second_breaks(lambda: Verdict(Status.TRUSTED, "", "other name")),
        [REMOTE_2],
    ),
}


@pytest.mark.parametrize("case", REFUSING)
@pytest.mark.parametrize("name", ["result", "verify"])
def test_a_second_domain_that_is_not_proved_is_not_spoken_to(case: str, name: str) -> None:
    make, domains = REFUSING[case]
    play = OutboundPlaybook(make()).to_streams(*domains)
    stream_id = None if name == "result" else "L1"
    asked = result(LOCAL, REMOTE_2) if stream_id is None else verify(LOCAL, REMOTE_2, stream_id)
    before = to_server(play.commands)
    play.client(asked).then(Send(CLIENT, own_error(REMOTE_2, LOCAL, "not-authorized", stream_id)))
    assert to_server(play.commands) == before
    play.server(answer(REMOTE_2, LOCAL, "valid", stream_id)).then()


@pytest.mark.parametrize("rubbish", [None, True, "Verified", Status.VERIFIED], ids=repr)
def test_a_judge_that_returns_rubbish_lets_nothing_pass(rubbish: object) -> None:
    play = OutboundPlaybook(_second_breaks(lambda: rubbish)).to_streams(REMOTE_2)
    play.client(result(LOCAL, REMOTE_2)).gave()
    assert REMOTE_2.encode() not in to_server(play.commands)


def test_a_server_without_tls_proves_no_second_domain() -> None:
    may = Policy(Pattern("*"), Level.MAY)
    play = OutboundPlaybook(Peers(policies={REMOTE: may, REMOTE_2: may})).to_way()
    play.reached().gave()
    play.server(answered("r1", REMOTE) + b"<stream:features/>").gave()
    play.reached().gave()
    play.server(answered("r2", REMOTE) + FEATURES).gave()
    play.client(result(LOCAL, REMOTE_2)).then(
        Send(CLIENT, own_error(REMOTE_2, LOCAL, "not-authorized"))
    )
