"""The domain and its secure target as identities that a server may prove (RFC 7673, 4.1)."""

import pytest

from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.authority import CLIENT, Authority
from tests.trust.dane import BOTH, DOMAIN, TARGET
from tests.trust.showing import NAME, NOW, evidence, issued, policy


def test_the_domain_comes_first_and_each_name_once() -> None:
    assert BOTH.names == (NAME, TARGET)
    assert DOMAIN.names == (NAME,)
    assert References(NAME, CLIENT_SERVICE, NAME).names == (NAME,)


@pytest.mark.parametrize("name", [NAME, TARGET])
def test_either_name_is_proof(authority: Authority, name: str) -> None:
    verdict = BOTH.judge(policy(), evidence(issued(authority, name), [authority]), NOW)
    assert verdict == Verdict(Status.VERIFIED, f"DNS-ID {name}", "")


def test_attack_an_insecure_target_is_none(authority: Authority) -> None:
    with pytest.raises(UntrustedError, match=f"is for {TARGET}, not for {NAME}") as caught:
        DOMAIN.judge(policy(), evidence(issued(authority, TARGET), [authority]), NOW)
    assert caught.value.status is Status.TRUSTED


def test_the_refusal_is_about_the_domain(authority: Authority) -> None:
    with pytest.raises(UntrustedError, match=f"not for {NAME}$"):
        BOTH.judge(policy(), evidence(issued(authority, "other.example"), [authority]), NOW)


def test_attack_without_a_name_nothing_is_proven(authority: Authority) -> None:
    nobody = References("", CLIENT_SERVICE)
    with pytest.raises(UntrustedError, match="there is no name to prove"):
        nobody.judge(policy(), evidence(issued(authority), [authority]), NOW)


@pytest.mark.parametrize(
    ("name", "status"), [(TARGET, Status.VERIFIED), ("other.example", Status.TRUSTED)]
)
def test_where_no_proof_is_demanded_the_best_is_told(
    authority: Authority, name: str, status: Status
) -> None:
    shown = evidence(issued(authority, name), [authority])
    verdict = BOTH.judge(policy(Level.ENCRYPT), shown, NOW)
    assert verdict.status is status
    assert (f"not for {NAME}" in verdict.problem) is (status is not Status.VERIFIED)


def test_who_connects_to_us_may_have_a_certificate_of_a_client(authority: Authority) -> None:
    shown: Evidence = evidence(issued(authority, TARGET, usages=[CLIENT]), [authority])
    assert BOTH.judge(policy(), shown, NOW, initiating=True).status is Status.VERIFIED
    with pytest.raises(UntrustedError):
        BOTH.judge(policy(), shown, NOW)
