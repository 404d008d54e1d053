"""proxy.daemon.probe: what a policy makes of what was found, and how that is told."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.probe.certificates import LONGEST_NAME, MOST_NAMES, read
from proxy.daemon.probe.outcome import (
    MOST_REASONS,
    Carried,
    JudgedTarget,
    Outcome,
    Report,
    judged,
    outcome,
    refused,
)
from proxy.daemon.probe.printing import NAMES_SHOWN, WIDTH, print_report
from proxy.daemon.probe.structure import structure
from proxy.net.probe import Attempt, Handshake, Probed
from proxy.net.targets import Target
from proxy.session.hooks import TLSFacts
from proxy.trust import verdict as verdict_module
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pattern, Pin, Policy, pin_of
from proxy.trust.verdict import LONGEST_CHAIN, Status
from tests.authority import Authority, now
from tests.trust.showing import believed, chain_of, issued

DOMAIN = "example.net"
TARGET = Target("one.example.net", 5222, direct=False)
OTHER = Target("two.example.net", 5223, direct=True, priority=1)
FACTS = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", "", DOMAIN, False, False)
SECURE = Policy(Pattern("*"))


def believed_in(path: Path) -> Evidence:
    return believed(*chain_of(path))


def under(level: Level, **more: Any) -> Policy:
    return Policy(Pattern("*"), level=level, **more)


def shaken(shown: Evidence, **found: Any) -> Attempt:
    """An address that was spoken to by TLS."""
    return Attempt(
        "192.0.2.1",
        connected=0.01,
        offered=True,
        proceeded=True,
        handshake=Handshake(FACTS, shown, 0.04),
        **found,
    )


DEAD = Attempt("192.0.2.9", problem="connection refused")
PLAIN = Attempt(
    "192.0.2.2", connected=0.01, offered=False, problem="offers no TLS", without_tls=True
)
HUNG_UP = Attempt("192.0.2.3", connected=0.01, problem="closed the connection", detail="reset")
REDIRECTING = Attempt("192.0.2.4", connected=0.01, redirection="elsewhere.example")
FORBIDDEN = Attempt("10.0.0.1", forbidden="10.0.0.1 is a private address")


@pytest.fixture
def good(authority: Authority) -> Evidence:
    return believed(*issued(authority, DOMAIN))


@pytest.fixture
def wrong(authority: Authority) -> Evidence:
    return believed(*issued(authority, "example.org"))


def decide(policy: Policy, *probed: Probed) -> tuple[list[JudgedTarget], Outcome]:
    targets = [judged(DOMAIN, policy, each, now()) for each in probed]
    return targets, outcome(DOMAIN, policy, targets)


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
        "refused"
    )
    many = [f"reason {number}" for number in range(MOST_REASONS + 2)]
    assert refused(DOMAIN, SECURE, *many).text.endswith("reason 4; and 2 more")


# What is shown


def report(policy: Policy, *probed: Probed) -> Report:
    targets, result = decide(policy, *probed)
    return Report(DOMAIN, policy, (), False, tuple(targets), result)


def test_what_a_certificate_says(authority: Authority) -> None:
    end = now() + dt.timedelta(days=3, hours=1)
    files = authority.issue(
        DOMAIN,
        srv=["_xmpp-client.example.net"],
        xmpp=["exämple.net"],
        common_name="somebody",
        not_after=end,
    )
    shown = read(believed_in(files[0]), now())
    (link,) = shown.chain
    assert (link.subject, link.issuer) == ("CN=somebody", "CN=Bascule test root")
    assert (link.not_after, link.days_left) == (end, 3)
    assert shown.identities.dns == (DOMAIN,)
    assert shown.identities.srv == ("_xmpp-client.example.net",)
    assert shown.identities.xmpp == ("exämple.net",)
    assert (shown.identities.count, shown.length) == (3, 1)
    assert shown.pin == pin_of(believed_in(files[0]).chain[0])


def test_an_expired_certificate_has_no_days_left(authority: Authority) -> None:
    moment = now() - dt.timedelta(hours=1)
    files = authority.issue(DOMAIN, not_after=moment)
    (link,) = read(believed_in(files[0]), now()).chain
    assert link.days_left == -1


@pytest.mark.parametrize("rubbish", [b"", b"\x30\x03\x02\x01\x01", b"\xff" * 100, b"0" * 100_000])
def test_what_cannot_be_read_harms_nobody(rubbish: bytes, capsys: Any) -> None:
    shown = Evidence((rubbish,) * (LONGEST_CHAIN + 5), 1, "error")
    found = read(shown, now())
    assert found.pin is None
    assert found.identities.problem
    assert found.length == LONGEST_CHAIN + 5
    assert len(found.chain) <= LONGEST_CHAIN
    made = report(SECURE, Probed(TARGET, (shaken(shown),)))
    print_report(made)
    assert json.loads(json.dumps(structure(made)))["outcome"]["carried"] is False
    assert "15 certificates" in capsys.readouterr().out


def test_names_are_capped_and_counted(authority: Authority, capsys: Any) -> None:
    names = [f"{number}.example.org" for number in range(MOST_NAMES + 50)]
    shown = believed_in(authority.issue(DOMAIN, dns=names)[0])
    made = report(SECURE, Probed(TARGET, (shaken(shown),)))
    identities = structure(made)["targets"][0]["addresses"][0]["tls"]["identities"]
    assert (len(identities["dns"]), identities["count"]) == (MOST_NAMES, MOST_NAMES + 50)
    print_report(made)
    printed = capsys.readouterr().out
    assert f"and {MOST_NAMES + 50 - NAMES_SHOWN} more" in printed
    assert f"DNS-ID {NAMES_SHOWN - 1}.example.org" in printed
    assert f"DNS-ID {NAMES_SHOWN}.example.org" not in printed


STRANGE = "\x1b[2J[red]x[/red]\u202e\n:smile:\\"


def test_text_of_peers_is_escaped_and_capped(authority: Authority, capsys: Any) -> None:
    shown = believed_in(
        authority.issue(DOMAIN, xmpp=[STRANGE, "y" * 1000], common_name=STRANGE.replace("\n", ""))[
            0
        ]
    )
    attempts = (
        shaken(attrs.evolve(shown, error=1, error_text=STRANGE)),
        Attempt("192.0.2.5", connected=0.1, problem="failed", detail=STRANGE),
        Attempt("192.0.2.6", connected=0.1, redirection=STRANGE),
        Attempt("192.0.2.7", forbidden=STRANGE),
    )
    made = report(
        SECURE,
        *(Probed(TARGET, (attempt,)) for attempt in attempts),
        Probed(TARGET, (), STRANGE),
    )
    print_report(made)
    printed = capsys.readouterr().out
    dumped = json.dumps(structure(made), ensure_ascii=False)
    for text in (printed, dumped):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[red]x[/red]" in text  # no markup of rich's
        assert ":smile:" in text
        assert "y" * (LONGEST_NAME + 1) not in text.replace("\n", "").replace(" ", "")
    assert "\\x1b[2J" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("A client would not be carried to example.net")


def test_it_fits_eighty_columns_without_colour(
    authority: Authority, good: Evidence, wrong: Evidence, capsys: Any
) -> None:
    made = report(
        under(Level.SECURE, pins=frozenset({Pin.parse("0" * 64)}), private_addresses=True),
        Probed(TARGET, (shaken(good), shaken(wrong), PLAIN, HUNG_UP, DEAD, FORBIDDEN)),
        Probed(OTHER, (), "the name two.example.net does not exist"),
    )
    print_report(attrs.evolve(made, excluded=True))
    printed = capsys.readouterr().out
    *body, last = printed.splitlines()
    assert all(len(line) <= WIDTH for line in body)
    assert not any(line.endswith(" ") for line in body)
    assert "\x1b" not in printed
    assert pin_of(good.chain[0]) in printed  # whole, to be pasted
    assert "No forward listener" in printed
    assert last.startswith("A client would not be carried")


def test_sources_of_targets(good: Evidence, capsys: Any) -> None:
    fallback = Target(DOMAIN, 5222, direct=False, fallback=True)
    made = report(SECURE, Probed(OTHER, (shaken(good),)), Probed(fallback, ()))
    srv, itself = structure(made)["targets"]
    assert (srv["source"], srv["priority"], srv["weight"]) == ("srv", 1, 0)
    assert (itself["source"], itself["priority"]) == ("fallback", None)
    server = under(Level.SECURE, server=(TARGET.host, TARGET.port))
    made = report(server, Probed(TARGET, (shaken(good),)))
    assert structure(made)["targets"][0]["source"] == "policy"
    assert structure(made)["policy"]["server"] == {"host": TARGET.host, "port": TARGET.port}
    print_report(made)
    assert "set by the policy" in capsys.readouterr().out


def keys(value: Any) -> Iterator[str]:
    """All keys of all objects in what JSON knows."""
    if isinstance(value, dict):
        yield from value
    for inside in value.values() if isinstance(value, dict) else value:
        if isinstance(inside, dict | list):
            yield from keys(inside)


def test_the_manual_page_names_every_key(good: Evidence) -> None:
    page = (Path(__file__).parents[2] / "docs/bascule.8").read_text()
    section = page.partition(".SH JSON OF PROBE\n")[2].partition("\n.SH ")[0]
    words = set(re.findall(r"\w+", section))
    policy = under(Level.SECURE, server=(TARGET.host, TARGET.port))
    found = set(keys(structure(report(policy, Probed(TARGET, (shaken(good),))))))
    assert len(found) > 40
    assert found <= words
