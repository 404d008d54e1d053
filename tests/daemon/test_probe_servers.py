"""proxy.daemon.probe: what becomes of servers of ours that want to reach a domain."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.probe.outcome import Carried
from proxy.daemon.probe.printing import WIDTH, print_report
from proxy.daemon.probe.structure import structure
from proxy.net.probed import Attempt, Probed
from proxy.net.targets import Target
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.session.welcome import Proofs
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Dialback, Level, Pattern, Policy
from tests.authority import Authority
from tests.daemon.probe_fakes import (
    DOMAIN,
    FORBIDDEN,
    OTHER,
    PLAIN,
    REDIRECTING,
    SECURE,
    SENDER,
    TARGET,
    believed_in,
    decide,
    report_to_servers,
    shaken,
    under,
)

EXTERNAL = Proofs(external=True, dialback=False)
DIALBACK = Proofs(external=False, dialback=True)
NEITHER = Proofs(external=False, dialback=False)
NEVER = under(Level.SECURE, dialback=Dialback.NEVER)
ASKED: dict[str, Any] = {"kind": Kind.S2S, "sender": SENDER}


@pytest.mark.parametrize(
    ("proofs", "way"),
    [
        (EXTERNAL, "by its certificate (SASL EXTERNAL)"),
        (DIALBACK, "by dialback"),
        (NEITHER, "by dialback, which is not announced"),
    ],
)
def test_how_ours_may_prove_itself(good: Evidence, proofs: Proofs, way: str) -> None:
    _, result = decide(SECURE, Probed(TARGET, (shaken(good, proofs=proofs),)), **ASKED)
    assert result.carried is Carried.BY_TLS
    assert result.text == (
        "the server of example.com would be carried to example.net at "
        'one.example.net[192.0.2.1]:5222 under the policy "*", secure, by TLSv1.3, proved by '
        f"DNS-ID example.net, and may prove itself {way}"
    )


def test_where_nobody_of_ours_asks(good: Evidence) -> None:
    probed = Probed(TARGET, (shaken(good, proofs=DIALBACK),))
    _, result = decide(SECURE, probed, kind=Kind.S2S)
    assert result.text.startswith("a server would be carried to example.net")


def test_the_service_is_that_of_servers(authority: Authority) -> None:
    """A name that is for clients' connections alone proves nothing to servers, and vice versa."""
    for service, kind in (("_xmpp-server", Kind.S2S), ("_xmpp-client", Kind.C2S)):
        files = authority.issue("elsewhere.example", srv=[f"{service}.{DOMAIN}"])
        probed = Probed(TARGET, (shaken(believed_in(files[0]), proofs=DIALBACK),))
        for asked in (Kind.S2S, Kind.C2S):
            _, result = decide(SECURE, probed, kind=asked)
            assert (result.carried is Carried.BY_TLS) is (asked is kind)


@pytest.mark.parametrize(
    ("policy", "target", "attempt", "carried"),
    [
        (NEVER, TARGET, {"proofs": EXTERNAL}, Carried.BY_TLS),
        (NEVER, TARGET, {"proofs": DIALBACK}, Carried.NOT),
        (SECURE, TARGET, {"problem": "ended the stream under TLS"}, Carried.NOT),
        (SECURE, TARGET, {"redirection": "elsewhere.example"}, Carried.NOT),
    ],
)
def test_tls_alone_is_not_enough(
    good: Evidence, policy: Policy, target: Target, attempt: dict[str, Any], carried: Carried
) -> None:
    """A listener that only reports demands a stream, and a proof of ours, all the same."""
    for rule in (TLSRule.REQUIRED, TLSRule.REPORT):
        probed = Probed(target, (shaken(good, **attempt),))
        (made,), result = decide(policy, probed, rules=(rule,), **ASKED)
        assert made.addresses[0].carried is carried
        assert made.addresses[0].by_report is carried
        assert result.carried is carried


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (
            {"proofs": DIALBACK},
            "does not take a certificate (SASL EXTERNAL), and dialback is ruled",
        ),
        (
            {"problem": "ended the stream under TLS", "detail": "host-unknown"},
            "one.example.net:5222 ended the stream under TLS (host-unknown)",
        ),
        ({"redirection": "a.example"}, "sends servers to a.example, which is not followed here"),
    ],
)
def test_why_not(good: Evidence, attempt: dict[str, Any], reason: str) -> None:
    probed = Probed(TARGET, (shaken(good, **attempt),)), Probed(OTHER, (PLAIN,))
    _, result = decide(NEVER, *probed, **ASKED)
    assert reason in result.text


@pytest.mark.parametrize(
    ("dialback", "carried"), [(Dialback.ALLOW, Carried.IN_PLAINTEXT), (Dialback.NEVER, Carried.NOT)]
)
def test_in_plaintext_there_is_dialback_only(dialback: Dialback, carried: Carried) -> None:
    policy = under(Level.MAY, dialback=dialback)
    (made,), result = decide(policy, Probed(TARGET, (PLAIN,)), rules=(TLSRule.REPORT,), **ASKED)
    assert result.carried is carried
    assert made.addresses[0].by_report is carried
    assert ("takes no certificate" in result.text) is (carried is Carried.NOT)


def test_the_servers_of_a_policy_are_its_own(good: Evidence, capsys: Any) -> None:
    """What it says of servers for clients does not count, and remedies name the right options."""
    policy = Policy(Pattern(DOMAIN), server=("c2s.example", 1), direct_tls=True)
    made = report_to_servers(policy, Probed(TARGET, (shaken(good, proofs=EXTERNAL),)))
    assert structure(made)["policy"]["server"] is None
    assert structure(made)["targets"][0]["source"] == "srv"
    fixed = attrs.evolve(policy, s2s_server=(TARGET.host, TARGET.port))
    mute = Attempt("192.0.2.3", connected=0.01, problem="closed the connection before TLS was up")
    made = report_to_servers(fixed, Probed(TARGET, (mute,)))
    assert structure(made)["policy"]["server"] == {"host": TARGET.host, "port": TARGET.port}
    assert structure(made)["targets"][0]["source"] == "policy"
    assert "set s2s_direct_tls = true in its policy" in made.outcome.text
    own = attrs.evolve(FORBIDDEN, own=True)
    made = report_to_servers(policy, Probed(TARGET, (own,)))
    assert "s2s_server in its policy says where it is instead" in made.outcome.text
    print_report(made)
    assert "s2s_server in its policy" in capsys.readouterr().out


def test_what_is_shown(good: Evidence, capsys: Any) -> None:
    attempts = shaken(good, proofs=EXTERNAL), shaken(good, proofs=DIALBACK), REDIRECTING
    made = report_to_servers(NEVER, Probed(TARGET, attempts))
    found = structure(made)
    assert found["from"] == SENDER
    assert found["policy"]["dialback"] == "never"
    addresses = found["targets"][0]["addresses"]
    assert [each["external_offered"] for each in addresses] == [True, False, None]
    assert [each["dialback_announced"] for each in addresses] == [False, True, None]
    print_report(attrs.evolve(made, conf=Path("bascule.toml")))
    printed = capsys.readouterr().out
    assert "from         example.com, whose certificate is shown\n" in printed
    assert 'policy       "*": secure, TLSv1.2 or later, dialback = "never"\n' in printed
    assert "     EXTERNAL     offered\n     dialback     not announced\n" in printed
    assert "     EXTERNAL     not offered\n     dialback     announced\n" in printed
    assert "no forward listener for servers allows this domain" in printed
    *body, _ = printed.splitlines()
    assert all(len(line) <= WIDTH for line in body)


def test_of_clients_nothing_of_it_is_told(good: Evidence, capsys: Any) -> None:
    probed = Probed(TARGET, (shaken(good),))
    made = report_to_servers(SECURE, probed, sender="")
    assert structure(made)["from"] is None
    print_report(made)
    assert "no certificate is shown" in " ".join(capsys.readouterr().out.split())
    to_clients = attrs.evolve(made, wanted=attrs.evolve(made.wanted, kind=Kind.C2S))
    dumped = json.dumps(structure(to_clients))
    print_report(to_clients)
    for text in (dumped, capsys.readouterr().out):
        for word in ("dialback", "EXTERNAL", "external", '"from"', "from "):
            assert word not in text
