"""What the tests of the probe's judgement share: servers that were probed."""

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import Clock

from proxy.daemon.probe.judging import judged
from proxy.daemon.probe.memory import Memory
from proxy.daemon.probe.outcome import (
    JudgedTarget,
    Outcome,
    Report,
    Serving,
    Wanted,
    course,
    outcome,
)
from proxy.daemon.probe.rehearsal import Site, rehearsing
from proxy.daemon.trusting.opening import takes_keyring
from proxy.net.probed import Attempt, Handshake, Probed
from proxy.net.targets import Target
from proxy.session.hooks import TLSFacts
from proxy.session.kinds import Kind
from proxy.session.rules import TLSRule
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Pattern, Policy
from tests.authority import now
from tests.trust.showing import believed, chain_of

DOMAIN = "example.net"
SENDER = "example.com"
TARGET = Target("one.example.net", 5222, direct=False)
OTHER = Target("two.example.net", 5223, direct=True, priority=1)
FACTS = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", "", DOMAIN, False, False)
NO_KEYRING = Memory(Path("/nowhere/keyring.sqlite"), DOMAIN, "c2s", exists=False)
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


def decide(
    policy: Policy,
    *probed: Probed,
    rules: tuple[TLSRule, ...] = (TLSRule.REQUIRED,),
    default: bool = False,
    forbidden: str = "",
    memory: Memory | None = None,
    site: Site | None = None,
    **more: Any,
) -> tuple[list[JudgedTarget], Outcome]:
    """What becomes of who connects to listeners with these rules; ``more`` is of `Wanted`."""
    wanted = Wanted(DOMAIN, policy, default, **more)
    if memory is None and takes_keyring(policy):
        memory = NO_KEYRING
    with rehearsing(Clock(), memory, site, now()) as rehearsal:
        targets = [judged(wanted, each, rehearsal) for each in probed]
    strict, lenient = course(targets), course(targets, report=True)
    listeners = [
        Serving(f"l{number}", rule, (lenient if rule is TLSRule.REPORT else strict).carried)
        for number, rule in enumerate(rules)
    ]
    return targets, outcome(wanted, strict, lenient, listeners, forbidden=forbidden)


def report(
    policy: Policy,
    *probed: Probed,
    memory: Memory | None = None,
    site: Site | None = None,
    **more: Any,
) -> Report:
    targets, result = decide(policy, *probed, memory=memory, site=site)
    wanted = Wanted(DOMAIN, policy)
    made = Report(wanted, None, (), tuple(targets), result, memory, site)
    return attrs.evolve(made, **more)


def report_to_servers(policy: Policy, *probed: Probed, sender: str = SENDER) -> Report:
    """The same, of a server of ours that wants to reach the domain."""
    asked: dict[str, Any] = {"kind": Kind.S2S, "sender": sender}
    targets, result = decide(policy, *probed, **asked)
    return Report(Wanted(DOMAIN, policy, **asked), None, (), tuple(targets), result)
