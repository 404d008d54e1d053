"""proxy.daemon.probe.outcome: what policies and listeners make of what was found."""

from typing import Any

import attrs
import pytest

from proxy.daemon.probe.outcome import (
    MOST_REASONS,
    Carried,
    Course,
)
from proxy.daemon.probe.printing import print_report
from proxy.daemon.probe.structure import structure
from proxy.net.probed import Attempt, Probed
from proxy.net.targets import Target
from proxy.session.rules import TLSRule
from proxy.trust import verdict as verdict_module
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pattern, Pin, Policy, pin_of
from proxy.trust.verdict import Status
from tests.daemon.probe_fakes import (
    DEAD,
    DOMAIN,
    FORBIDDEN,
    HUNG_UP,
    OTHER,
    PLAIN,
    REDIRECTING,
    SECURE,
    TARGET,
    decide,
    report,
    shaken,
    under,
)


def test_a_verified_server_is_accepted(good: Evidence) -> None:
    (target,), result = decide(SECURE, Probed(TARGET, (shaken(good),)))
    (address,) = target.addresses
    assert address.verdict is not None
    assert address.verdict.status is Status.VERIFIED
    assert (address.carried, address.reason) == (Carried.BY_TLS, "")
    assert (result.carried, result.target, result.address) == (Carried.BY_TLS, TARGET, "192.0.2.1")
    assert result.text == (
        "a client would be carried to example.net at one.example.net[192.0.2.1]:5222 under the "
        'policy "*", secure, by TLSv1.3, proved by DNS-ID example.net'
    )


def test_a_wrong_certificate_is_refused_and_still_tells_how_far_it_came(wrong: Evidence) -> None:
    (target,), result = decide(SECURE, Probed(TARGET, (shaken(wrong),)))
    (address,) = target.addresses
    assert address.verdict is not None
    assert (address.verdict.status, address.verdict.identity) == (Status.TRUSTED, "")
    assert address.carried is Carried.NOT
    assert address.reason == "the certificate is for example.org, not for example.net"
    assert result.carried is Carried.NOT
    assert result.text.endswith(f": {address.reason}")


def test_below_pin_a_wrong_certificate_is_accepted_and_named(wrong: Evidence) -> None:
    _, result = decide(under(Level.ENCRYPT), Probed(TARGET, (shaken(wrong),)))
    assert result.carried is Carried.BY_TLS
    assert "proves nothing: the certificate is for example.org" in result.text


def test_pins(good: Evidence) -> None:
    pin = pin_of(good.chain[0])
    _, result = decide(under(Level.PIN, pins=frozenset({pin})), Probed(TARGET, (shaken(good),)))
    assert result.carried is Carried.BY_TLS
    assert f"proved by pin {pin}" in result.text
    other = Pin.parse("0" * 64)
    (target,), result = decide(
        under(Level.PIN, pins=frozenset({other})), Probed(TARGET, (shaken(good),))
    )
    verdict = target.addresses[0].verdict
    assert verdict is not None
    assert verdict.status is Status.UNTRUSTED
    assert result.carried is Carried.NOT


def test_no_certificate_is_anonymous() -> None:
    policy = under(Level.PIN, pins=frozenset({Pin.parse("0" * 64)}))
    (target,), _ = decide(policy, Probed(TARGET, (shaken(Evidence((), 0, "ok")),)))
    verdict = target.addresses[0].verdict
    assert verdict is not None
    assert verdict.status is Status.ANONYMOUS


def test_a_verifier_that_fails_refuses(good: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(verdict_module, "presented", fail)
    (target,), result = decide(SECURE, Probed(TARGET, (shaken(good),)))
    assert target.addresses[0].carried is Carried.NOT
    assert result.carried is Carried.NOT
    assert "could not be checked" in result.text


@pytest.mark.parametrize(
    ("level", "target", "attempt", "expected"),
    [
        (Level.NONE, TARGET, PLAIN, Carried.IN_PLAINTEXT),
        (Level.NONE, OTHER, PLAIN, Carried.NOT),
        (Level.MAY, TARGET, PLAIN, Carried.IN_PLAINTEXT),
        (Level.MAY, OTHER, PLAIN, Carried.NOT),
        (Level.MAY, TARGET, HUNG_UP, Carried.NOT),
        (Level.ENCRYPT, TARGET, PLAIN, Carried.NOT),
        (Level.SECURE, TARGET, PLAIN, Carried.NOT),
    ],
)
def test_without_tls(level: Level, target: Target, attempt: Attempt, expected: Carried) -> None:
    _, result = decide(under(level), Probed(target, (attempt,)))
    assert result.carried is expected
    assert ("in plaintext" in result.text) is (expected is Carried.IN_PLAINTEXT)


def test_targets_are_taken_in_order(good: Evidence, wrong: Evidence) -> None:
    """A session goes to the next target after a refusal, a failure or a name without address."""
    _, result = decide(
        SECURE,
        Probed(TARGET, (), "the name one.example.net does not exist"),
        Probed(TARGET, (shaken(wrong),)),
        Probed(TARGET, (FORBIDDEN, DEAD)),
        Probed(OTHER, (shaken(good),)),
    )
    assert (result.carried, result.target) == (Carried.BY_TLS, OTHER)


def test_the_first_address_that_answers_speaks_for_its_target(
    good: Evidence, wrong: Evidence
) -> None:
    _, result = decide(SECURE, Probed(TARGET, (DEAD, shaken(wrong), shaken(good))))
    assert result.carried is Carried.NOT
    _, result = decide(SECURE, Probed(TARGET, (DEAD, shaken(good), shaken(wrong))))
    assert result.carried is Carried.BY_TLS


def test_a_redirection_forgets_the_other_targets(good: Evidence) -> None:
    targets = Probed(TARGET, (REDIRECTING,)), Probed(OTHER, (shaken(good),))
    _, result = decide(SECURE, *targets)
    assert result.carried is Carried.NOT
    assert "sends clients to elsewhere.example, which is not followed here" in result.text


def test_all_that_was_in_vain_is_named() -> None:
    _, result = decide(
        SECURE, Probed(TARGET, (FORBIDDEN, DEAD)), Probed(OTHER, (HUNG_UP,)), Probed(OTHER, (DEAD,))
    )
    assert result.text.partition(": ")[2] == (
        "10.0.0.1 is a private address; one.example.net:5222: connection refused; "
        "two.example.net:5223 closed the connection (reset); two.example.net:5223: connection "
        "refused (a [[policy]] for example.net with private_addresses = true allows it)"
    )
    many = tuple(f"reason {number}" for number in range(MOST_REASONS + 2))
    assert Course(Carried.NOT, reasons=many).why.endswith("reason 4; and 2 more")


# Listeners


BOTH = (TLSRule.REQUIRED, TLSRule.REPORT)


def test_a_domain_that_no_listener_allows(good: Evidence, wrong: Evidence) -> None:
    why = "no forward listener allows it"
    _, result = decide(SECURE, Probed(TARGET, (shaken(good),)), forbidden=why)
    assert (result.carried, result.target, result.address) == (Carried.NOT, None, "")
    assert result.text == (
        "a client would not be carried to example.net: no forward listener allows it; the server "
        'at one.example.net[192.0.2.1]:5222 would do under the policy "*", secure'
    )
    _, result = decide(SECURE, Probed(TARGET, (shaken(wrong),)), forbidden=why, default=True)
    assert result.text == (
        "a client would not be carried to example.net: no forward listener allows it; nor would "
        "it be under the default policy, secure: the certificate is for example.org, not for "
        "example.net"
    )


def test_report_carries_what_the_policy_does_not(wrong: Evidence) -> None:
    probed = Probed(TARGET, (shaken(wrong),))
    _, result = decide(SECURE, probed, rules=(TLSRule.REPORT,))
    assert (result.carried, result.target) == (Carried.NOT, None)
    assert result.text == (
        "a client would be carried to example.net at one.example.net[192.0.2.1]:5222, but only "
        'because of tls = "report" (listener "l0"): it would not be under the policy "*", secure: '
        "the certificate is for example.org, not for example.net"
    )
    _, result = decide(SECURE, probed, rules=(*BOTH, TLSRule.REPORT))
    assert result.text == (
        'a client would not be carried to example.net under the policy "*", secure: the '
        'certificate is for example.org, not for example.net; but with tls = "report" (listeners '
        '"l1", "l2") it would be, at one.example.net[192.0.2.1]:5222'
    )
    assert result.carried is Carried.NOT


def test_report_that_takes_another_server_is_told(good: Evidence, wrong: Evidence) -> None:
    probed = Probed(TARGET, (shaken(wrong),)), Probed(OTHER, (shaken(good),))
    _, result = decide(SECURE, *probed, rules=BOTH)
    assert (result.carried, result.target) == (Carried.BY_TLS, OTHER)
    assert result.text.endswith(
        'proved by DNS-ID example.net; but with tls = "report" (listener "l1") at '
        "one.example.net[192.0.2.1]:5222"
    )
    _, result = decide(SECURE, probed[1], rules=BOTH)
    assert "report" not in result.text


@pytest.mark.parametrize(
    ("target", "attempt", "level", "carried"),
    [
        (TARGET, PLAIN, Level.SECURE, Carried.IN_PLAINTEXT),
        (OTHER, PLAIN, Level.SECURE, Carried.NOT),
        (TARGET, attrs.evolve(PLAIN, without_tls=False), Level.PIN, Carried.IN_PLAINTEXT),
        (TARGET, HUNG_UP, Level.SECURE, Carried.NOT),
        (TARGET, DEAD, Level.SECURE, Carried.NOT),
        (TARGET, FORBIDDEN, Level.SECURE, Carried.NOT),
        (TARGET, REDIRECTING, Level.SECURE, Carried.NOT),
        (OTHER, PLAIN, Level.NONE, Carried.NOT),
        (TARGET, PLAIN, Level.NONE, Carried.IN_PLAINTEXT),
    ],
)
def test_what_report_carries(
    target: Target, attempt: Attempt, level: Level, carried: Carried
) -> None:
    (made,), result = decide(under(level), Probed(target, (attempt,)), rules=(TLSRule.REPORT,))
    assert made.addresses[0].by_report is carried
    assert (", in plaintext" in result.text) is (carried is Carried.IN_PLAINTEXT)


# Remedies


FIXED = Policy(Pattern(DOMAIN), server=(TARGET.host, TARGET.port))
SPEECHLESS = attrs.evolve(HUNG_UP, problem="closed the connection before TLS was up")
OWN = Attempt("127.0.0.1", forbidden="127.0.0.1:5222 is a listener of this proxy", own=True)
HINT = "set direct_tls = true in its policy if the server expects TLS from the first byte"


@pytest.mark.parametrize(
    ("policy", "target", "attempt", "remedy"),
    [
        (Policy(Pattern(DOMAIN)), TARGET, FORBIDDEN, "private_addresses = true in its policy"),
        (SECURE, TARGET, FORBIDDEN, "a [[policy]] for example.net with private_addresses = true"),
        (Policy(Pattern(DOMAIN)), TARGET, OWN, "server in its policy says where it is instead"),
        (FIXED, TARGET, OWN, ""),
        (FIXED, TARGET, SPEECHLESS, HINT),
        (FIXED, TARGET, attrs.evolve(SPEECHLESS, offered=True), ""),
        (FIXED, TARGET, PLAIN, ""),
        (FIXED, TARGET, DEAD, ""),
        (FIXED, TARGET, REDIRECTING, ""),
        (SECURE, TARGET, SPEECHLESS, ""),
        (FIXED, attrs.evolve(TARGET, direct=True), SPEECHLESS, "take direct_tls out of its policy"),
    ],
)
def test_what_may_help_is_told(
    policy: Policy, target: Target, attempt: Attempt, remedy: str, capsys: Any
) -> None:
    made = report(policy, Probed(target, (attempt,)))
    found = structure(made)["targets"][0]["addresses"][0]["remedy"]
    print_report(made)
    printed = " ".join(capsys.readouterr().out.split())
    if remedy:
        assert found.startswith(remedy)
        assert f"remedy {remedy}" in printed
        assert f"({found})" in made.outcome.text
    else:
        assert found is None
        assert "remedy" not in printed
