"""What proves a domain at each level: records, pins, authorities, and web sites."""

import datetime as dt
from typing import Any

import attrs
import pytest

from proxy.net.dane_path import verify_path
from proxy.trust.dane.claims import Claims
from proxy.trust.dane.records import TLSA
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.keyring.entry import How
from proxy.trust.policy import Level, Pattern, Pin, Policy, pin_of
from proxy.trust.proof import AskSite, Case, Proof, prove
from proxy.trust.undecided import UndecidedError
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.authority import Authority
from tests.trust.dane import BOTH, DOMAIN, TARGET, record, unverified
from tests.trust.deciding import NeverDecided
from tests.trust.showing import NAME, NOW, evidence, issued

SITE = Verdict(Status.VERIFIED, "POSH sha-256 ab", "")


@attrs.define
class Site:
    """A web site, and how often it was asked."""

    said: Verdict | BaseException = attrs.field(factory=lambda: UntrustedError("there is none"))
    asked: int = 0

    def __call__(self, _case: Case, _now: dt.datetime) -> Verdict:
        self.asked += 1
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


def proved(
    shown: Evidence,
    level: Level,
    claims: Claims | None = None,
    *,
    site: AskSite | None = None,
    initiating: bool = False,
    **more: Any,
) -> Proof:
    case = Case(
        NAME, CLIENT_SERVICE, Policy(Pattern("*"), level, **more), shown, claims, initiating
    )
    return prove(case, NOW, verify_path, site or Site())


def problem(shown: Evidence, level: Level, claims: Claims | None = None, **more: Any) -> str:
    with pytest.raises(UntrustedError) as caught:
        proved(shown, level, claims, **more)
    return str(caught.value)


def with_records(*records: TLSA) -> Claims:
    return Claims(BOTH, records)


@pytest.fixture(scope="module")
def good(authority: Authority) -> Evidence:
    return evidence(issued(authority), [authority])


@pytest.fixture(scope="module")
def unknown(authority: Authority) -> Evidence:
    return unverified(*issued(authority))


UNUSABLE = TLSA(9, 9, 9, b"")
WITHOUT = [Claims(DOMAIN), with_records(UNUSABLE)]


# DANE


@pytest.mark.parametrize("level", [Level.DANE, Level.DANE_ONLY, Level.KEYRING])
def test_records_prove_what_no_authority_does(unknown: Evidence, level: Level) -> None:
    proof = proved(unknown, level, with_records(record(unknown.chain[0], 3)))
    assert proof.how is How.DANE
    assert proof.verdict.status is Status.VERIFIED
    assert proof.verdict.identity.startswith("DANE-EE 3 1 1 ")


@pytest.mark.parametrize("level", [Level.DANE, Level.DANE_ONLY, Level.KEYRING])
def test_records_of_another_certificate_are_not_made_up_for(
    good: Evidence, unknown: Evidence, level: Level
) -> None:
    """An authority's word, or a web site's, does not count against them."""
    others = with_records(record(unknown.chain[0], 3))
    assert "does not match its TLSA record" in problem(good, level, others, posh=True)


@pytest.mark.parametrize("claims", WITHOUT)
def test_without_records_that_can_be_used_authorities_count(good: Evidence, claims: Claims) -> None:
    assert proved(good, Level.DANE, claims).how is How.PKIX


@pytest.mark.parametrize("claims", WITHOUT)
def test_without_them_an_unknown_certificate_proves_nothing(
    unknown: Evidence, claims: Claims
) -> None:
    assert problem(unknown, Level.DANE, claims)


@pytest.mark.parametrize("claims", [*WITHOUT, None])
def test_dane_only_takes_nothing_else(good: Evidence, claims: Claims | None) -> None:
    assert "has no TLSA records" in problem(good, Level.DANE_ONLY, claims, posh=True)


@pytest.mark.parametrize("initiating", [False, True])
def test_with_dane_nothing_is_proved_where_dns_is_not_asked(
    good: Evidence, initiating: bool
) -> None:
    assert "only on the way" in problem(good, Level.DANE, initiating=initiating)


@pytest.mark.parametrize("level", [Level.SECURE, Level.PIN, Level.ENCRYPT, Level.MAY])
def test_other_levels_do_not_heed_records(good: Evidence, level: Level) -> None:
    pins = frozenset({pin_of(good.chain[0])})
    others = with_records(TLSA(3, 1, 1, b"\x00" * 32))
    assert proved(good, level, others, pins=pins).verdict.status is Status.VERIFIED


def test_the_secure_target_is_a_name_for_records_alone(authority: Authority) -> None:
    shown = evidence(issued(authority, TARGET), [authority])
    by_record = with_records(record(shown.verified[-1], 0, 0))
    assert proved(shown, Level.DANE, by_record).verdict.identity.startswith(f"DNS-ID {TARGET}")
    assert problem(shown, Level.DANE, Claims(BOTH))


# Pins


def test_with_the_keyring_a_pin_is_a_permission(unknown: Evidence) -> None:
    proof = proved(unknown, Level.KEYRING, pins=frozenset({pin_of(unknown.chain[0])}))
    assert proof.how is How.PIN


def test_and_another_key_is_not_proved_by_an_authority(good: Evidence) -> None:
    other = frozenset({Pin.parse("00" * 32)})
    assert "is not one of its pins" in problem(good, Level.KEYRING, pins=other, posh=True)


def test_a_pin_alone(unknown: Evidence, good: Evidence) -> None:
    pins = frozenset({pin_of(unknown.chain[0])})
    assert proved(unknown, Level.PIN, pins=pins).how is How.PIN
    assert "is not one of its pins" in problem(good, Level.PIN, pins=pins, posh=True)


# The web site


@pytest.mark.parametrize("level", [Level.SECURE, Level.KEYRING])
def test_a_web_site_proves_what_no_authority_does(unknown: Evidence, level: Level) -> None:
    assert proved(unknown, level, site=Site(SITE), posh=True) == Proof(SITE, How.POSH)


@pytest.mark.parametrize(("level", "posh"), [(Level.SECURE, False), (Level.ENCRYPT, True)])
def test_it_is_asked_only_where_it_counts(unknown: Evidence, level: Level, posh: bool) -> None:
    site = Site(SITE)
    try:
        assert proved(unknown, level, site=site, posh=posh).verdict.status is Status.UNTRUSTED
    except UntrustedError:
        assert level is Level.SECURE
    assert site.asked == 0


def test_it_is_not_asked_about_what_is_proved(good: Evidence) -> None:
    site = Site(SITE)
    assert proved(good, Level.SECURE, site=site, posh=True).how is How.PKIX
    assert site.asked == 0


def test_its_no_is_told_beside_the_first_one(unknown: Evidence) -> None:
    text = problem(unknown, Level.SECURE, posh=True)
    assert text.endswith("nor does its web site prove it (POSH): there is none")


def test_what_it_has_not_been_asked_yet_is_undecided(unknown: Evidence) -> None:
    site = Site(UndecidedError("not asked yet", NeverDecided()))
    with pytest.raises(UndecidedError):
        proved(unknown, Level.SECURE, site=site, posh=True)


@pytest.mark.parametrize("status", [Status.TRUSTED, Status.UNTRUSTED, Status.ANONYMOUS])
def test_less_than_a_proof_of_the_site_is_none(unknown: Evidence, status: Status) -> None:
    site = Site(Verdict(status, "", "hm"))
    assert problem(unknown, Level.SECURE, site=site, posh=True)


def test_a_site_that_fails_proves_nothing(unknown: Evidence) -> None:
    with pytest.raises(ZeroDivisionError):
        proved(unknown, Level.SECURE, site=Site(ZeroDivisionError()), posh=True)


# No proof


@pytest.mark.parametrize("level", [Level.ENCRYPT, Level.MAY])
def test_where_none_is_demanded_anything_goes(unknown: Evidence, level: Level) -> None:
    proof = proved(unknown, level)
    assert (proof.how, proof.verdict.status) == (None, Status.UNTRUSTED)


@pytest.mark.parametrize("level", [level for level in Level if level.demands_proof])
def test_where_one_is_demanded_no_certificate_will_not_do(level: Level) -> None:
    nothing = Evidence((), 0, "ok")
    assert problem(nothing, level, with_records(TLSA(3, 1, 1, b"\x00" * 32)))
