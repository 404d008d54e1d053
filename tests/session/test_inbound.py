"""A server of the network reaches one of ours: headers, features, proofs and how it ends."""

import pytest

from proxy.session.commands import Abort, Arm, Connect, Deadline, Disarm, Hold, Resume, Send
from proxy.session.hooks import Condition, StreamHeader, TLSRule
from proxy.session.inbound import Inbound
from proxy.trust import verdict
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.verdict import Status
from proxy.xmpp import namespaces as ns
from tests.session.federation import InboundPlaybook, Peers, never
from tests.session.federation_words import (
    BIDI,
    DIALBACK,
    EXTERNAL_FIRST,
    FEATURES,
    LOCAL,
    REMOTE,
    SUCCESS,
    WITH_EXTERNAL,
    anew,
    answer,
    answered,
    auth,
    message,
    opened,
    own,
    own_error,
    result,
    verify,
)
from tests.session.playbook import CLIENT, SERVER, STARTTLS, refused
from tests.session.sessions import to_client, to_server

REQUEST, VALID = result(REMOTE, LOCAL), answer(LOCAL, REMOTE, "valid")
CONNECTING = (Arm(Deadline.CONNECT), Connect(LOCAL), Hold())
OPEN = (Disarm(Deadline.CONNECT), Send(CLIENT, answered("L1", LOCAL)))


def features(*parts: str) -> bytes:
    return f"<stream:features>{''.join(parts)}</stream:features>".encode()


# Dialback from end to end


def test_dialback_passes_from_end_to_end_after_starttls() -> None:
    play = InboundPlaybook().to_dialled()
    play.client(message()).then(Send(SERVER, message()))
    assert (play.session.view.proof, play.session.view.origin) == ("dialback", REMOTE)


def test_dialback_passes_from_end_to_end_under_direct_tls() -> None:
    play = InboundPlaybook().to_direct_tls().to_stream()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    play.server(VALID).then(Send(CLIENT, anew(VALID)), Disarm(Deadline.AUTHENTICATION))
    play.client(message()).then(Send(SERVER, message()))


@pytest.mark.parametrize("kind", ["invalid", "error"])
def test_what_our_server_does_not_believe_is_told_and_proves_nothing(kind: str) -> None:
    play = InboundPlaybook().to_streams()
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    said = answer(LOCAL, REMOTE, kind)
    play.server(said).then(Send(CLIENT, anew(said)))
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_the_id_that_keys_hash_is_our_servers() -> None:
    play = InboundPlaybook().to_tls()
    play.client(opened(REMOTE, LOCAL)).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, opened(REMOTE, LOCAL)))
    play.server(answered("an &amp; id", LOCAL) + FEATURES).then(
        Disarm(Deadline.CONNECT),
        Send(CLIENT, answered("an &amp; id", LOCAL)),
        Send(CLIENT, FEATURES),
        Resume(),
    )


def test_a_key_of_our_servers_is_asked_about_without_any_proof() -> None:
    """XEP-0220, section 2.2.2: our server is the authoritative one."""
    play = InboundPlaybook().to_streams()
    asked = verify(REMOTE, LOCAL, "r1")
    play.client(asked).then(Send(SERVER, anew(asked)))
    said = answer(LOCAL, REMOTE, "valid", "r1")
    play.server(said).then(Send(CLIENT, anew(said)))
    assert not play.session.view.authenticated
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_white_space_passes_both_ways() -> None:
    play = InboundPlaybook().to_streams()
    play.client(b" ").then(Send(SERVER, b" "))
    play.server(b"\n").then(Send(CLIENT, b"\n"))


# Headers


def test_dialback_is_announced_to_our_server_where_the_other_one_has_not() -> None:
    play = InboundPlaybook().to_tls()
    play.client(opened(REMOTE, LOCAL, db=False)).then(*CONNECTING)
    announced = opened(REMOTE, LOCAL, db=False)[:-1] + f' xmlns:db="{ns.DIALBACK}">'.encode()
    play.server_connected().then(Send(SERVER, announced))


def test_a_header_that_has_all_passes_as_it_is() -> None:
    play = InboundPlaybook().to_tls()
    said = opened(REMOTE, LOCAL, more=" xml:lang='de' xmlns:x='urn:x'")
    play.client(said).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, said))


def test_a_prefix_that_is_declared_otherwise_is_left_alone() -> None:
    play = InboundPlaybook().to_tls()
    said = opened(REMOTE, LOCAL, db=False, more=" xmlns:db='urn:x'")
    play.client(said).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, said))


def test_an_old_server_of_ours_is_spoken_for_where_external_is_offered() -> None:
    """Its header has no version, so features must be promised and sent in its stead."""
    play = InboundPlaybook().to_tls(REMOTE)
    play.client(opened(REMOTE, LOCAL)).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, opened(REMOTE, LOCAL)))
    old = answered("L1", LOCAL, version=None)
    new = old.removesuffix(b">") + b' version="1.0">'
    play.server(old).then(Disarm(Deadline.CONNECT), Send(CLIENT, new + EXTERNAL_FIRST), Resume())


def test_an_old_server_of_ours_that_external_is_offered_for_is_convinced() -> None:
    play = InboundPlaybook().to_tls(REMOTE)
    old = answered("L1", LOCAL, version=None)
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(old).gave()
    play.client(auth(REMOTE)).gave()
    play.client(opened(REMOTE, LOCAL)).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, opened(REMOTE, LOCAL)))
    new = old.removesuffix(b">") + b' version="1.0">' + features(DIALBACK)
    play.server(old).then(Disarm(Deadline.CONNECT), Send(CLIENT, new), Resume())
    play.to_convincing()
    play.server(VALID).then(
        Disarm(Deadline.CONNECT), Send(SERVER, message()), Disarm(Deadline.AUTHENTICATION), Resume()
    )


def test_an_old_server_of_ours_speaks_for_itself_where_nothing_is_offered() -> None:
    play = InboundPlaybook().to_tls()
    play.client(opened(REMOTE, LOCAL)).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, opened(REMOTE, LOCAL)))
    old = answered("L1", LOCAL, version=None)
    play.server(old).then(Disarm(Deadline.CONNECT), Send(CLIENT, old), Resume())


def test_an_old_server_that_connects_gets_no_offer() -> None:
    """Under direct TLS no version need be told; then there are no features either."""
    play = InboundPlaybook().to_direct_tls(REMOTE)
    play.client(opened(REMOTE, LOCAL, None)).then(*CONNECTING)
    play.server_connected().then(Send(SERVER, opened(REMOTE, LOCAL, None)))
    old = answered("L1", LOCAL, version=None)
    play.server(old).then(Disarm(Deadline.CONNECT), Send(CLIENT, old), Resume())
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))


def test_before_tls_the_header_binds_nobody() -> None:
    """RFC 6120, section 5.4.3.3: what was learnt before TLS is forgotten."""
    play = InboundPlaybook().to_tls(REMOTE, sender="somebody.example")
    play.to_stream()
    assert play.session.view.origin == REMOTE


def test_who_said_it_before_tls_alone_has_not_said_it() -> None:
    play = InboundPlaybook().to_tls(REMOTE).to_stream(opened(None, LOCAL))
    assert play.session.view.origin is None


def test_what_is_no_stream_between_servers_is_refused() -> None:
    play = InboundPlaybook().to_tls()
    said = opened(REMOTE, LOCAL).replace(b"'jabber:server'", b"'jabber:client'")
    play.client(said).then(*refused(Condition.INVALID_NAMESPACE, before=own(2, sender=LOCAL)))


# Features


@pytest.mark.parametrize(
    "offered",
    [
        f"<starttls xmlns='{ns.TLS}'/>",
        f"<starttls xmlns='{ns.TLS}'><required/></starttls>",
        BIDI,
        f"<mechanisms xmlns='{ns.SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>",
        f"<mechanisms xmlns='{ns.SASL}'><mechanism>PLAIN</mechanism></mechanisms>",
        f"<authentication xmlns='{ns.SASL2}'><mechanism>EXTERNAL</mechanism></authentication>",
    ],
)
@pytest.mark.parametrize("proved", [False, True])
def test_what_is_the_proxys_business_is_cut_out_of_features(offered: str, proved: bool) -> None:
    play = InboundPlaybook().to_tls(*[REMOTE] if proved else [])
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + features(offered, DIALBACK)).then(
        *OPEN, Send(CLIENT, WITH_EXTERNAL if proved else FEATURES), Resume()
    )


def test_what_else_our_server_offers_passes_as_it_is() -> None:
    said = features("<sm xmlns='urn:xmpp:sm:3'/>", f"<x xmlns='urn:x'>{BIDI}<y/></x>")
    play = InboundPlaybook().to_tls()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    left = said.replace(BIDI.encode(), b"")
    play.server(answered("L1", LOCAL) + said).then(*OPEN, Send(CLIENT, left), Resume())


@pytest.mark.parametrize(
    ("rules", "domains"),
    [
        (Peers(), []),
        (Peers(), ["other.example"]),
        (Peers(offers_external=False), [REMOTE]),
    ],
    ids=["no certificate", "somebody else's certificate", "our server asks others elsewhere"],
)
def test_external_is_not_offered(rules: Peers, domains: list[str]) -> None:
    play = InboundPlaybook(rules).to_tls(*domains)
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).then(*OPEN, Send(CLIENT, FEATURES), Resume())


# A policy that rules dialback out


@pytest.mark.parametrize("domains", [[], ["other.example"]])
def test_who_must_prove_itself_by_certificate_and_does_not_is_refused(domains: list[str]) -> None:
    play = InboundPlaybook(Peers(policies=never(REMOTE))).to_tls(*domains)
    before = own(2, sender=LOCAL, to=REMOTE)
    play.client(opened(REMOTE, LOCAL)).then(*refused(Condition.NOT_AUTHORIZED, before=before))


def test_who_must_prove_itself_by_certificate_cannot_hide_it_in_the_header() -> None:
    """Dialback for a domain that the header does not name is held to that domain's policy."""
    play = InboundPlaybook(Peers(policies=never(REMOTE))).to_tls()
    play.to_stream(opened(None, LOCAL))
    play.client(REQUEST).then(Send(CLIENT, own_error(LOCAL, REMOTE, "not-authorized")))
    assert to_server(play.commands) == opened(None, LOCAL)


def test_nor_behind_a_domain_that_need_not() -> None:
    play = InboundPlaybook(Peers(policies=never(REMOTE))).to_tls("other.example")
    play.to_stream(opened("other.example", LOCAL))
    play.client(REQUEST).then(Send(CLIENT, own_error(LOCAL, REMOTE, "not-authorized")))


def test_such_a_policy_is_not_about_questions_about_keys() -> None:
    """They prove our domain to the other server, and nothing to ours."""
    play = InboundPlaybook(Peers(policies=never(REMOTE))).to_tls()
    play.to_stream(opened(None, LOCAL))
    asked = verify(REMOTE, LOCAL, "s1")
    play.client(asked).then(Send(SERVER, anew(asked)))


def test_a_certificate_and_dialback_satisfy_such_a_policy() -> None:
    """Without a way for EXTERNAL to our server, dialback comes on top of the certificate."""
    rules = Peers(policies=never(REMOTE), offers_external=False)
    InboundPlaybook(rules).to_dialled(REMOTE).client(message()).then(Send(SERVER, message()))


def test_external_satisfies_such_a_policy() -> None:
    play = InboundPlaybook(Peers(policies=never(REMOTE))).to_convinced()
    play.client(message()).then(Send(SERVER, message()))


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.VERIFIED])
def test_a_verdict_that_does_not_say_verified_is_no_proof(status: Status) -> None:
    """Where the policy demands little, a judge lets all pass; it has proved nothing, though."""
    weak = {REMOTE: Policy(Pattern(REMOTE), Level.MAY)}
    rules = Peers(policies=weak, judged=lambda: verdict.Verdict(status, "", "no"))
    play = InboundPlaybook(rules).to_streams(REMOTE)
    assert b"EXTERNAL" not in to_client(play.commands)
    play.client(auth()).gave()
    assert SUCCESS not in to_client(play.commands)


# Where TLS is not enforced yet


def test_where_tls_is_only_reported_dialback_passes_in_plaintext() -> None:
    play = InboundPlaybook(rule=TLSRule.REPORT)
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).gave()
    assert b"EXTERNAL" not in to_client(play.commands)
    assert b"<starttls" in to_client(play.commands)
    play.client(REQUEST).then(Send(SERVER, anew(REQUEST)))
    play.server(VALID).then(Send(CLIENT, anew(VALID)), Disarm(Deadline.AUTHENTICATION))
    assert play.told("would be refused")


def test_and_starttls_begins_anew() -> None:
    """What was asked for in plaintext is forgotten; so is the server that was asked."""
    play = InboundPlaybook(rule=TLSRule.REPORT)
    play.connected().gave()
    play.client(opened(REMOTE, LOCAL)).gave()
    play.server_connected().gave()
    play.server(answered("L1", LOCAL) + FEATURES).gave()
    play.client(REQUEST).gave()
    assert Abort(SERVER) in play.client(STARTTLS).gave()
    play.hello().gave()
    play.shown(()).gave()
    play.to_stream(stream_id="L2")
    play.server(VALID).then()
    assert play.told("nobody has asked for")
    play.client(message()).then(*refused(Condition.NOT_AUTHORIZED))


def test_who_opens_a_stream_is_noted_once_for_each_header(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str | None] = []
    note_origin = Inbound.note_origin

    def counted(self: Inbound, header: StreamHeader) -> None:
        noted.append(header.sender)
        note_origin(self, header)

    monkeypatch.setattr(Inbound, "note_origin", counted)
    InboundPlaybook().to_authenticated()  # before TLS, under it, and after EXTERNAL
    assert noted == [REMOTE] * 3
