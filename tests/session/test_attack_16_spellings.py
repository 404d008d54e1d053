"""Attack 16: a name that is one domain to the proxy, and another to an old server behind it.

Old servers normalise names by IDNA 2003. Whoever proves one domain must not speak for the other.
"""

import re
from collections.abc import Callable

import pytest

from proxy.session.commands import Send
from proxy.session.hooks import Condition
from proxy.session.securing import STARTTLS
from proxy.xmpp.errors import PROCEED
from tests.session.federation import InboundPlaybook, OutboundPlaybook
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    REMOTE,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    result,
    verify,
)
from tests.session.forward import OFFER
from tests.session.playbook import SERVER, refused
from tests.session.sessions import to_client, to_server

OWN, TRICK = "\u5f53.example", "\U0002f874.example"
"""The attacker's domain, and another spelling of it that is the victim's to an old server."""
OTHERWISE = [
    TRICK,
    "\U0002f868.example",
    "\U0002f91f.example",
    "\U0002f95f.example",
    "\U0002f9bf.example",
    "fa\u00df.example",
    "\u023a.example",
]
otherwise = pytest.mark.parametrize("name", OTHERWISE)


def asking(domain: str, asked: Callable[[str], bytes]) -> OutboundPlaybook:
    """A stream to ``domain``, on which our server has asked something."""
    play = OutboundPlaybook()
    play.connected().gave()
    play.client(opened(LOCAL, domain)).gave()
    play.reached().gave()
    play.server(answered("r1", domain) + OFFER).then(Send(SERVER, STARTTLS))
    play.server(PROCEED).gave()
    play.proved(domain).gave()
    play.server(answered("r2", domain) + FEATURES).gave()
    play.client(asked(domain)).then(Send(SERVER, anew(asked(domain))))
    return play


@pytest.mark.parametrize("stream_id", [None, "X"])
@pytest.mark.parametrize("kind", ["valid", "invalid", "error"])
def test_an_answer_does_not_name_another_domain_to_an_old_server(
    stream_id: str | None, kind: str
) -> None:
    domain = OWN.encode("idna").decode()
    assert TRICK.encode("idna").decode() != domain

    def asked(to: str) -> bytes:
        return result(LOCAL, to) if stream_id is None else verify(LOCAL, to, stream_id)

    play = asking(domain, asked)
    play.server(answer(TRICK, LOCAL, kind, stream_id)).gave()
    # A refusal may say what was wrong, to people.
    heard = re.sub(rb"<text .*?</text>", b"", to_client(play.commands))
    assert TRICK.encode() not in heard
    assert b"<db:" not in heard
    play = asking(domain, asked)
    told = anew(answer(domain, LOCAL, kind, stream_id))
    play.server(answer(OWN, LOCAL, kind, stream_id))
    assert to_client(play.gave()) == told, "its own name it may write as it likes"


@otherwise
@pytest.mark.parametrize("stream_id", [None, "X"])
def test_a_request_does_not(name: str, stream_id: str | None) -> None:
    for pair in ((name, LOCAL), (REMOTE, name)):
        asked = result(*pair) if stream_id is None else verify(*pair, stream_id)
        play = InboundPlaybook().to_streams()
        play.client(asked).then(*refused(Condition.IMPROPER_ADDRESSING))


@otherwise
@pytest.mark.parametrize("address", ["{}", "a@{}", "a@{}/x", "{}/x@remote.example"])
def test_a_stanza_does_not(name: str, address: str) -> None:
    for pair in ((address.format(name), f"b@{LOCAL}"), (f"a@{REMOTE}", address.format(name))):
        play = InboundPlaybook().to_dialled()
        play.client(message(*pair)).then(*refused(Condition.IMPROPER_ADDRESSING))


@otherwise
def test_a_header_does_not(name: str) -> None:
    for start in (InboundPlaybook().to_tls, InboundPlaybook().to_external):
        play = start()
        before = to_server(play.commands)
        play.client(opened(name, LOCAL)).gave()
        assert b"<invalid-from" in to_client(play.commands)
        assert to_server(play.commands) == before


@otherwise
def test_nor_does_what_external_is_asked_for(name: str) -> None:
    play = InboundPlaybook().to_streams(REMOTE)
    play.client(auth(name)).gave()
    assert b"<success" not in to_client(play.commands)


@otherwise
def test_our_own_server_is_not_led_to_one_of_two_domains(name: str) -> None:
    play = OutboundPlaybook().to_streams()
    play.client(result(LOCAL, name)).then(*refused(Condition.IMPROPER_ADDRESSING))
    play = OutboundPlaybook().to_unaddressed()
    play.client(verify(LOCAL, name, "X")).then(*refused(Condition.IMPROPER_ADDRESSING))
