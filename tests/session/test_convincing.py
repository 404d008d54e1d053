"""Our server is convinced, by dialback, of what SASL EXTERNAL has proved to the proxy."""

import pytest

from proxy.session.commands import Abort, Deadline, Disarm, Resume, Send
from proxy.session.hooks import Condition, Plugin, Reject, Verdict, View
from proxy.xmpp.errors import FOOTER
from tests.session.federation import InboundPlaybook, OutboundPlaybook, key_of
from tests.session.federation_words import (
    FEATURES,
    LOCAL,
    REMOTE,
    SUCCESS,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    own,
    own_answer,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, finished, refused
from tests.session.sessions import to_server

VALID = answer(LOCAL, REMOTE, "valid")


def test_external_is_turned_into_dialback() -> None:
    play = InboundPlaybook().to_convinced()
    play.client(message(body="two")).then(Send(SERVER, message(body="two")))
    assert play.session.view.proof == "external"
    assert play.session.view.client_identity == f"DNS-ID {REMOTE}"


def test_nothing_passes_until_our_server_has_agreed() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing(message(body="one"))
    play.client(message(body="two")).then()
    play.server(b" ").then(Send(CLIENT, b" "))
    assert b"<message" not in to_server(play.commands)
    play.server(VALID).then(
        Disarm(Deadline.CONNECT),
        Send(SERVER, message(body="one")),
        Disarm(Deadline.AUTHENTICATION),
        Resume(),
        Send(SERVER, message(body="two")),
    )


def test_the_connection_on_which_external_was_done_is_left() -> None:
    """Our server sees one stream from its beginning, and not the one before the restart."""
    play = InboundPlaybook().to_authenticated()
    assert Abort(SERVER) in play.commands
    assert to_server(play.commands) == opened(REMOTE, LOCAL) * 2


def test_stream_management_waits_as_a_stanza_does() -> None:
    enable = b"<enable xmlns='urn:xmpp:sm:3'/>"
    play = InboundPlaybook().to_authenticated().to_convincing(enable)
    play.server(VALID).then(
        Disarm(Deadline.CONNECT), Send(SERVER, enable), Disarm(Deadline.AUTHENTICATION), Resume()
    )


def test_stream_management_comes_after_proof() -> None:
    play = InboundPlaybook().to_streams()
    play.client(b"<enable xmlns='urn:xmpp:sm:3'/>").then(*refused(Condition.NOT_AUTHORIZED))


def test_our_server_asks_about_the_key_on_its_way_out() -> None:
    play = InboundPlaybook().to_authenticated()
    play.client(message())
    key = key_of(play.gave())
    out = OutboundPlaybook(play.rules).to_streams()
    out.client(verify(LOCAL, REMOTE, "L2", key)).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "valid", "L2"))
    )
    out.client(verify(LOCAL, REMOTE, "L2", key[:-1] + "x")).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "invalid", "L2"))
    )


def test_a_server_authenticated_by_external_may_prove_more_by_dialback() -> None:
    """XEP-0220, section 2.5: another sender domain on the same stream."""
    play = InboundPlaybook().to_convinced()
    asked, said = result("other.example", LOCAL), answer(LOCAL, "other.example", "valid")
    play.client(asked).then(Send(SERVER, anew(asked)))
    play.server(said).then(Send(CLIENT, anew(said)))
    more = message("a@other.example")
    play.client(more).then(Send(SERVER, more))
    assert play.session.view.proof == "external", "the proof that counts is that of the first pair"


def test_external_proves_the_sender_to_every_domain_of_the_same_server() -> None:
    play = InboundPlaybook().to_convinced()
    more = message(to="b@example.org")
    play.to_convincing(more, (REMOTE, "example.org"))
    play.server(answer("example.org", REMOTE, "valid")).then(
        Disarm(Deadline.CONNECT), Send(SERVER, more), Resume()
    )


# How it ends


@pytest.mark.parametrize("kind", ["invalid", "error"])
def test_our_server_is_not_convinced(kind: str) -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.server(answer(LOCAL, REMOTE, kind)).then(
        Disarm(Deadline.CONNECT),
        *refused(Condition.REMOTE_CONNECTION_FAILED, "must come through this proxy"),
    )
    assert play.issued == 0
    assert b"<message" not in to_server(play.commands)


def test_our_server_takes_too_long_to_be_convinced() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    why = "has not said in time whether it believes that remote.example has proved itself"
    play.expired(Deadline.CONNECT).then(*refused(Condition.REMOTE_CONNECTION_FAILED, why))
    assert play.issued == 0


def test_our_server_is_lost_while_it_is_to_be_convinced() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.lost(SERVER).then(*finished("went away", close=(CLIENT, SERVER)))
    assert play.issued == 0


def test_our_server_ends_its_stream_while_it_is_to_be_convinced() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.server(FOOTER).then(
        Send(CLIENT, FOOTER), *finished("closed the stream", close=(CLIENT, SERVER))
    )
    assert play.issued == 0


def test_the_other_server_is_lost_meanwhile() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.lost(CLIENT).then(*finished("went away", close=(CLIENT, SERVER)))
    assert play.issued == 0


def test_the_daemon_ends_meanwhile() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.shut_down().then(*refused(Condition.SYSTEM_SHUTDOWN))
    assert play.issued == 0


def test_our_server_fails_meanwhile() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    play.server(b"<nonsense").then()
    play.server(b"<>").then(*refused(Condition.REMOTE_CONNECTION_FAILED))
    assert play.issued == 0


def test_a_key_is_gone_when_it_has_served() -> None:
    play = InboundPlaybook().to_authenticated().to_convincing()
    assert play.issued == 1
    play.server(VALID).gave()
    assert play.issued == 0


def test_an_old_server_of_ours_without_an_id_cannot_be_convinced() -> None:
    play = InboundPlaybook().to_external()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("", LOCAL).replace(b" id=''", b"") + FEATURES).gave()
    play.client(message()).then(*refused(Condition.REMOTE_CONNECTION_FAILED, "no id"))


def test_a_plugin_that_refuses_the_proved_server_has_its_way() -> None:
    class Refuses(Plugin):
        name = "refuses"

        def on_authenticated(self, view: View) -> Verdict:
            # Our server has not been convinced yet, so no pair is proved.
            assert (view.client_identity, view.proof) == (f"DNS-ID {REMOTE}", "")
            return Reject(Condition.POLICY_VIOLATION, "not today")

    play = InboundPlaybook(plugins=[Refuses()]).to_streams(REMOTE)
    play.client(auth()).then(
        Send(CLIENT, SUCCESS),
        Disarm(Deadline.AUTHENTICATION),
        *refused(Condition.POLICY_VIOLATION, "not today"),
    )


def test_our_server_cannot_be_reached_again() -> None:
    play = InboundPlaybook().to_external()
    play.client(opened(REMOTE, LOCAL)).gave()
    before = own(2, sender=LOCAL, to=REMOTE)
    play.server_unreachable().then(
        *refused(Condition.REMOTE_CONNECTION_FAILED, "cannot be reached", before=before)
    )


def test_an_answer_that_comes_before_the_question_convinces_nobody() -> None:
    play = InboundPlaybook().to_authenticated()
    play.server(VALID).then()
    play.to_convincing()
    assert b"<message" not in to_server(play.commands)


def test_two_servers_are_convinced_of_apart() -> None:
    """The end of one session takes no key of another's away."""
    one = InboundPlaybook().to_authenticated().to_convincing()
    two = InboundPlaybook(one.rules).to_external().to_stream(stream_id="L3").to_convincing()
    assert one.issued == 2
    two.lost(CLIENT).gave()
    assert one.issued == 1
    one.server(VALID).then(
        Disarm(Deadline.CONNECT), Send(SERVER, message()), Disarm(Deadline.AUTHENTICATION), Resume()
    )
    assert one.issued == 0
