"""A server of ours reaches one of the network: ways, headers, proofs and several domains."""

import pytest

from proxy.session.commands import (
    Abort,
    ConnectNext,
    Deadline,
    Disarm,
    Reconnect,
    Resume,
    Send,
    StartServerTLS,
)
from proxy.session.hooks import Condition
from proxy.session.securing import STARTTLS
from proxy.session.ways import Trouble
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.verdict import UntrustedError, Verdict
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, PROCEED
from tests.session.federation import OPENING_ABROAD, OutboundPlaybook, Peers, never
from tests.session.federation_words import (
    BIDI,
    DIALBACK,
    FAILURE,
    FEATURES,
    LOCAL,
    LOCAL_2,
    REMOTE,
    REMOTE_2,
    SUCCESS,
    WITH_EXTERNAL,
    anew,
    answer,
    answered,
    message,
    opened,
    own,
    own_answer,
    own_error,
    result,
    verify,
)
from tests.session.forward import OFFER
from tests.session.playbook import CLIENT, SERVER, refused
from tests.session.sessions import to_client, to_server

REQUEST, VALID = result(LOCAL, REMOTE), answer(REMOTE, LOCAL, "valid")
AGAIN = (Disarm(Deadline.WAY), Abort(SERVER), Reconnect())
GIVEN_UP = (Disarm(Deadline.WAY), Abort(SERVER), ConnectNext())
LEFT = (Disarm(Deadline.WAY), Abort(SERVER))
SHOWN = (Disarm(Deadline.CONNECT), Disarm(Deadline.WAY))
ABROAD = own(1, sender=REMOTE, to=LOCAL)
STANZA = message(f"b@{LOCAL}", f"a@{REMOTE}")


# Dialback from end to end


def test_dialback_passes_from_end_to_end() -> None:
    play = OutboundPlaybook().to_dialled()
    play.client(STANZA).then(Send(SERVER, STANZA))
    assert (play.session.view.proof, play.session.view.origin) == ("dialback", LOCAL)


@pytest.mark.parametrize("kind", ["invalid", "error"])
def test_what_the_other_server_does_not_believe_proves_nothing(kind: str) -> None:
    play = OutboundPlaybook().to_streams()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    play.server(answer(REMOTE, LOCAL, kind)).then(Send(CLIENT, anew(answer(REMOTE, LOCAL, kind))))
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


def test_direct_tls_leads_there_too() -> None:
    play = OutboundPlaybook().to_way()
    play.reached(direct=True).then(StartServerTLS(REMOTE, direct=True, sender=LOCAL))
    play.proved(REMOTE).then(Send(SERVER, opened(LOCAL, REMOTE)))
    play.to_stream()


def test_our_server_asks_about_keys_of_the_other_one() -> None:
    play = OutboundPlaybook().to_streams()
    asked, said = verify(LOCAL, REMOTE, "L1"), answer(REMOTE, LOCAL, "valid", "L1")
    play.client(asked).then(Send(SERVER, anew(asked)))
    play.server(said).then(Send(CLIENT, anew(said)))
    assert not play.session.view.authenticated


def test_the_id_that_keys_hash_is_the_other_servers_under_tls() -> None:
    play = OutboundPlaybook().to_secured().to_stream("an &amp; id")
    assert to_client(play.commands) == answered("an &amp; id", REMOTE) + FEATURES


# Nothing leaves before the verdict


@pytest.mark.parametrize("domains", [[], ["other.example"]])
def test_nothing_of_our_servers_leaves_for_a_server_that_proves_nothing(
    domains: list[str],
) -> None:
    rules = Peers(verdict=_untrusted)
    play = OutboundPlaybook(rules).to_way().to_handshake().proved(*domains)
    play.then(*GIVEN_UP)
    assert to_server(play.commands) == OPENING_ABROAD + STARTTLS
    play.stranded(Trouble.UNREACHABLE, "").then(
        *LEFT, *refused(Condition.POLICY_VIOLATION, before=ABROAD)
    )


def _untrusted() -> Verdict:
    raise UntrustedError("nobody knows it")


def test_before_tls_the_proxy_speaks_for_itself() -> None:
    play = OutboundPlaybook().to_way(opened(LOCAL, REMOTE, more=" secret='1'"))
    play.to_handshake()
    assert b"secret" not in to_server(play.commands)


# Headers


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (opened(LOCAL, REMOTE), opened(LOCAL, REMOTE)),
        (
            opened(LOCAL, REMOTE, more=" xml:lang='de' xmlns:x='urn:x'"),
            opened(LOCAL, REMOTE, more=" xml:lang='de' xmlns:x='urn:x'"),
        ),
        (
            opened(LOCAL, REMOTE, None),
            opened(LOCAL, REMOTE, None)[:-1] + b' version="1.0">',
        ),
        (
            opened(LOCAL, REMOTE, db=False),
            opened(LOCAL, REMOTE, db=False)[:-1] + f' xmlns:db="{ns.DIALBACK}">'.encode(),
        ),
        (
            opened(None, REMOTE, None, db=False),
            opened(None, REMOTE, None, db=False)[:-1]
            + f' from="{LOCAL}" version="1.0" xmlns:db="{ns.DIALBACK}">'.encode(),
        ),
    ],
    ids=["complete", "more than that", "no version", "no dialback", "nothing but to"],
)
def test_a_header_gets_what_it_lacks_and_nothing_else(said: bytes, sent: bytes) -> None:
    play = OutboundPlaybook(Peers(locals=(LOCAL,))).to_way(said).to_handshake().proved(REMOTE)
    play.then(Send(SERVER, sent))


def test_a_header_that_does_not_say_from_whom_is_refused_where_there_are_several() -> None:
    play = OutboundPlaybook()
    play.connected().gave()
    play.client(opened(None, REMOTE)).then(
        *refused(Condition.INVALID_FROM, "from which domain", before=own(1, sender=REMOTE))
    )


def test_a_header_that_is_from_nobody_of_ours_is_refused() -> None:
    play = OutboundPlaybook()
    play.connected().gave()
    play.client(opened("other.example", REMOTE)).then(
        *refused(Condition.INVALID_FROM, before=own(1, sender=REMOTE, to="other.example"))
    )


def test_a_header_to_where_nothing_may_go_is_refused() -> None:
    play = OutboundPlaybook(Peers(unreachable=(REMOTE,)))
    play.connected().gave()
    play.client(opened(LOCAL, REMOTE)).then(
        *refused(Condition.HOST_UNKNOWN, before=own(1, to=LOCAL))
    )


def test_an_old_server_of_ours_gets_no_features() -> None:
    play = OutboundPlaybook().to_way(opened(LOCAL, REMOTE, None)).to_handshake()
    play.proved(REMOTE).gave()
    play.server(answered("r2", REMOTE) + FEATURES).then(
        *SHOWN, Send(CLIENT, answered("r2", REMOTE)), Resume()
    )
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))


def test_an_old_server_out_there_answers_at_once() -> None:
    play = OutboundPlaybook().to_secured()
    old = answered("r2", REMOTE, version=None)
    play.server(old).then(*SHOWN, Send(CLIENT, old), Resume())
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))


@pytest.mark.parametrize(
    "offered", [f"<starttls xmlns='{ns.TLS}'/>", BIDI, "<mechanisms xmlns='" + ns.SASL + "'/>"]
)
def test_what_is_the_proxys_business_is_cut_out_of_features(offered: str) -> None:
    play = OutboundPlaybook().to_secured()
    said = f"<stream:features>{offered}{DIALBACK}</stream:features>".encode()
    play.server(answered("r2", REMOTE) + said).then(
        *SHOWN, Send(CLIENT, answered("r2", REMOTE)), Send(CLIENT, FEATURES), Resume()
    )


# EXTERNAL


def test_external_is_done_by_the_proxy_and_dialback_answered_by_it() -> None:
    play = OutboundPlaybook().to_accepted()
    play.client(REQUEST).then(
        Send(CLIENT, own_answer(REMOTE, LOCAL, "valid")), Disarm(Deadline.AUTHENTICATION)
    )
    play.client(STANZA).then(Send(SERVER, STANZA))
    assert play.session.view.proof == "external"
    assert b"<db:result" not in to_server(play.commands)


def test_each_request_is_answered_once() -> None:
    play = OutboundPlaybook().to_accepted()
    play.client(REQUEST + REQUEST).gave()
    assert to_client(play.commands).count(b"type='valid'") == 2
    play.server(VALID).then()


def test_external_does_not_let_stanzas_pass_that_nobody_asked_for() -> None:
    play = OutboundPlaybook().to_accepted()
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


def test_after_external_another_domain_of_ours_does_dialback() -> None:
    play = OutboundPlaybook().to_accepted()
    asked = result(LOCAL_2, REMOTE)
    play.client(asked).then(Send(SERVER, anew(asked)))


@pytest.mark.parametrize("said", [FAILURE, b"<stream:error/>", FEATURES], ids=repr)
def test_where_external_is_refused_dialback_is_tried_on_a_new_connection(said: bytes) -> None:
    play = OutboundPlaybook().to_presented()
    play.server(said).then(*AGAIN)
    play.to_handshake().proved(REMOTE).then(Send(SERVER, opened(LOCAL, REMOTE)))
    play.server(answered("r4", REMOTE) + WITH_EXTERNAL).then(
        *SHOWN, Send(CLIENT, answered("r4", REMOTE)), Send(CLIENT, FEATURES), Resume()
    )
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))


def test_the_same_where_the_stream_or_the_connection_ends() -> None:
    OutboundPlaybook().to_presented().server(FOOTER).then(*AGAIN)
    OutboundPlaybook().to_presented().lost(SERVER).then(*AGAIN)


def test_a_server_that_never_answers_external_is_given_up() -> None:
    play = OutboundPlaybook().to_way()
    play.to_handshake(more=True).proved(REMOTE).gave()
    play.server(answered("r2", REMOTE) + WITH_EXTERNAL).gave()
    play.server(b" ").then()
    play.expired(Deadline.WAY).then(*GIVEN_UP)


def test_external_takes_tls() -> None:
    """A server that offers it in plaintext, where the policy lets that pass, does not get it."""
    rules = Peers(policies={REMOTE: Policy(Pattern(REMOTE), Level.MAY)})
    play = OutboundPlaybook(rules).to_way()
    play.reached().then(Send(SERVER, OPENING_ABROAD))
    play.server(answered("r1", REMOTE) + WITH_EXTERNAL).then(*AGAIN)
    play.reached().then(Send(SERVER, opened(LOCAL, REMOTE)))
    play.server(answered("r2", REMOTE) + WITH_EXTERNAL).then(
        *SHOWN, Send(CLIENT, answered("r2", REMOTE)), Send(CLIENT, FEATURES), Resume()
    )
    assert b"<auth" not in to_server(play.commands)


def test_what_the_other_server_says_before_its_answer_is_no_answer() -> None:
    """A success that nobody has asked for proves nothing."""
    play = OutboundPlaybook().to_secured()
    play.server(answered("r2", REMOTE) + SUCCESS).gave()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))


def test_what_one_server_has_accepted_another_has_not() -> None:
    """EXTERNAL was done, but not with the server that answers in the end."""
    play = OutboundPlaybook().to_presented()
    play.server(SUCCESS).gave()
    play.lost(SERVER).then(*GIVEN_UP)
    play.to_handshake().proved(REMOTE).then(Send(SERVER, opened(LOCAL, REMOTE)))
    play.to_stream("r4")
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


# A policy that rules dialback out


def rules_out() -> Peers:
    return Peers(policies=never(REMOTE))


def test_external_satisfies_such_a_policy() -> None:
    play = OutboundPlaybook(rules_out()).to_accepted()
    play.client(REQUEST).ending(Disarm(Deadline.AUTHENTICATION))
    play.client(STANZA).then(Send(SERVER, STANZA))


@pytest.mark.parametrize(
    "said",
    [
        answered("r2", REMOTE) + FEATURES,
        answered("r2", REMOTE, version=None),
        answered("r2", REMOTE) + VALID,
        answered("r2", REMOTE) + SUCCESS,
    ],
    ids=["not offered", "no version", "dialback at once", "success at once"],
)
def test_a_server_that_does_not_take_the_certificate_gets_nothing_else(said: bytes) -> None:
    play = OutboundPlaybook(rules_out()).to_secured()
    play.server(said).gave()
    assert b"<db:result" not in to_client(play.commands)
    play.client(REQUEST).then(Send(CLIENT, own_error(REMOTE, LOCAL, "not-authorized")))
    assert b"<db:result" not in to_server(play.commands)
    play.server(VALID).then()
    play.client(STANZA).then(*refused(Condition.NOT_AUTHORIZED))


@pytest.mark.parametrize("said", [FAILURE, FOOTER, b"<stream:error/>"], ids=repr)
def test_nor_does_one_that_refuses_it(said: bytes) -> None:
    play = OutboundPlaybook(rules_out()).to_presented()
    play.server(said).then(*AGAIN)
    play.to_handshake().proved(REMOTE).gave()
    play.server(answered("r4", REMOTE) + WITH_EXTERNAL).gave()
    play.client(REQUEST).then(Send(CLIENT, own_error(REMOTE, LOCAL, "not-authorized")))


def test_keys_may_be_asked_about_under_such_a_policy() -> None:
    """That proves the other server's claim to us, not ours to it."""
    play = OutboundPlaybook(rules_out()).to_streams()
    asked = verify(LOCAL, REMOTE, "L1")
    play.client(asked).then(Send(SERVER, anew(asked)))


def test_another_domain_of_ours_cannot_fall_back_to_dialback_there() -> None:
    play = OutboundPlaybook(rules_out()).to_accepted()
    play.client(result(LOCAL_2, REMOTE)).then(
        Send(CLIENT, own_error(REMOTE, LOCAL_2, "not-authorized"))
    )


def test_nor_can_another_domain_out_there_whose_policy_says_so() -> None:
    play = OutboundPlaybook(Peers(policies=never(REMOTE_2))).to_streams(REMOTE_2)
    play.client(result(LOCAL, REMOTE_2)).then(
        Send(CLIENT, own_error(REMOTE_2, LOCAL, "not-authorized"))
    )


def test_the_headers_to_servers_out_there_are_the_same_by_every_way() -> None:
    play = OutboundPlaybook().to_way()
    play.to_handshake(more=True).lost(SERVER).then(*GIVEN_UP)
    play.reached().then(Send(SERVER, OPENING_ABROAD))
    play.server(answered("r1", REMOTE) + OFFER).then(Send(SERVER, STARTTLS))
    play.server(PROCEED).then(StartServerTLS(REMOTE, direct=False, sender=LOCAL))
    play.proved(REMOTE).then(Send(SERVER, opened(LOCAL, REMOTE)))
