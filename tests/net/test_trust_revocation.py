"""Revocation on the way to servers: lists that the conf names, and stapled responses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from tests.authority import Authority, now
from tests.net import hostile as hostile_module
from tests.net.forward import Forward, meeting
from tests.net.hostile import Secure, showing, upgraded
from tests.net.trusting import answering, server_context
from tests.trust.revoking import MUST_STAPLE, REVOKED, Responder, crl, entry
from tests.trust.showing import DAY, chain_of

DOMAIN = "listed.example"
OUTDATED = "outdated.example"
UNLISTED = "unlisted.example"
STAPLED = "stapled.example"

Pair = tuple[Path, Path]


LIFE = (now() - DAY, now() + DAY)


@pytest.fixture(scope="module")
def revoked(authority: Authority) -> Pair:
    return authority.issue(DOMAIN)


@pytest.fixture(scope="module")
def _forward(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, revoked: Pair
) -> Iterator[Forward]:
    directory = tmp_path_factory.mktemp("revocation")
    number = x509.load_pem_x509_certificate(revoked[0].read_bytes()).serial_number
    (directory / "lists.crl").write_bytes(crl(authority, entry(number, at=LIFE[0]), life=LIFE))
    (directory / "old.crl").write_bytes(crl(authority, life=(now() - 9 * DAY, now() - DAY)))
    met: dict[str, dict[str, object]] = {
        DOMAIN: {"crl_files": ["lists.crl"]},
        OUTDATED: {"crl_files": ["lists.crl", "old.crl"]},
        UNLISTED: {},
        STAPLED: {},
    }
    with meeting(directory, authority, met) as forward:
        yield forward


@pytest.fixture
def forward(_forward: Forward) -> Iterator[Forward]:
    yield _forward
    _forward.hostile.play(hostile_module.login)


def test_a_server_on_a_list_of_the_conf_is_refused(
    forward: Forward, authority: Authority, revoked: Pair
) -> None:
    forward.hostile.play(upgraded(showing(revoked)))
    refusal = forward.refusal(DOMAIN)
    assert refusal.condition == "policy-violation"
    assert f"the certificate of {DOMAIN} was revoked" in refusal.text
    forward.hostile.play(upgraded(showing(authority.issue(DOMAIN))))
    forward.login(DOMAIN)


def test_lists_that_are_out_of_date_vouch_for_nobody(
    forward: Forward, authority: Authority
) -> None:
    forward.hostile.play(upgraded(showing(authority.issue(OUTDATED))))
    assert f", which must not name the certificate of {OUTDATED}, ended on " in (
        forward.refusal(OUTDATED).text
    )


def test_the_lists_of_one_policy_are_no_other_ones(forward: Forward, authority: Authority) -> None:
    forward.hostile.play(upgraded(showing(authority.issue(UNLISTED))))
    forward.login(UNLISTED)


def stapling(pair: Pair, response: bytes, newest: int) -> Secure:
    """Return a server's way to TLS with a response, or without any."""
    context = server_context(pair)
    context.set_max_proto_version(newest)
    context.set_ocsp_server_callback(lambda *_: response)
    return answering(context)


each_version = pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])


@each_version
def test_a_server_that_must_staple_and_does_not_is_refused(
    forward: Forward, authority: Authority, newest: int
) -> None:
    pair = authority.issue(STAPLED, extensions=[MUST_STAPLE])
    forward.hostile.play(upgraded(stapling(pair, b"", newest)))
    refusal = forward.refusal(STAPLED)
    assert refusal.condition == "policy-violation"
    assert refusal.text.endswith("demands a stapled OCSP response, and none came")


@each_version
def test_with_a_good_one_it_passes(forward: Forward, authority: Authority, newest: int) -> None:
    pair = authority.issue(STAPLED, extensions=[MUST_STAPLE])
    response = Responder(authority).response(chain_of(pair[0])[0])
    forward.hostile.play(upgraded(stapling(pair, response, newest)))
    forward.login(STAPLED)


@each_version
def test_one_that_says_revoked_refuses_whether_it_must_be_there_or_not(
    forward: Forward, authority: Authority, newest: int
) -> None:
    for extensions in ([MUST_STAPLE], []):
        pair = authority.issue(STAPLED, extensions=extensions)
        response = Responder(authority).response(chain_of(pair[0])[0], status=REVOKED)
        forward.hostile.play(upgraded(stapling(pair, response, newest)))
        assert "revoked" in forward.refusal(STAPLED).text
