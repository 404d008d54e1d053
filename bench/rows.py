"""What is measured: scenarios of the load generator, and the rows that they yield."""

from typing import Literal

import attrs

from bench.ground import FAR_DOMAIN
from bench.relays import DIRECT, FORWARD, LIMITS, PLAIN, REFERENCE, SLIXMPP, Contender


@attrs.frozen
class Scenario:
    """One kind of run of the load generator.

    Attributes:
        name: Unique.
        mode: The load generator's scenario.
        service: The relay's service that it talks to.
        connections: How many at the same time.
        options: Further options of the load generator.
        with_limits: Whether Bascule with the `limits` plugin takes part too.
        direct: Who goes to a remote server alone, directly and by a forward listener in turn;
            None where clients come through reverse relays.
        starttls: Clients of relays that speak XMPP use STARTTLS instead of direct TLS.
        fresh: A relay of its own for every run, since memory once used is kept.
        length: Of its measured part, as a multiple of the others'.
        rounds: In how many rounds it is run at most, None for all.
        quick: Whether it is a part of a quick run.
    """

    name: str
    mode: str
    service: str = "echo"
    connections: int = 100
    options: tuple[str, ...] = ()
    with_limits: bool = False
    direct: Contender | None = None
    starttls: bool = False
    fresh: bool = False
    length: float = 1.0
    rounds: int | None = None
    quick: bool = True

    @property
    def forward(self) -> bool:
        """Whether it is about a forward listener."""
        return self.direct is not None


SCENARIOS = (
    Scenario("chat_100", "chat", connections=100, with_limits=True),
    Scenario("chat_1000", "chat", connections=1000, with_limits=True),
    Scenario("paced", "paced", connections=500, options=("-r", "2000"), length=4.0),
    Scenario("bulk_up", "bulk_up", service="sink", connections=4),
    Scenario("bulk_down", "bulk_down", service="source", connections=4),
    Scenario("s2s", "s2s", service="s2s", connections=1, options=("-b", "1")),
    Scenario("s2s_backlog", "s2s", service="s2s", connections=1, quick=False),
    Scenario("handshakes_ecdsa", "handshakes", connections=32),
    Scenario("handshakes_rsa", "handshakes", service="rsa", connections=32),
    Scenario("logins", "logins", connections=32),
    Scenario("logins_starttls", "logins", connections=32, starttls=True, quick=False),
    Scenario("slixmpp_starttls", "forward", service="starttls", connections=1, direct=SLIXMPP),
    Scenario(
        "slixmpp_direct",
        "forward",
        service="direct",
        connections=1,
        direct=SLIXMPP,
        quick=False,
    ),
    Scenario(
        "slixmpp_starttls_fresh",
        "forward",
        service="starttls",
        connections=1,
        options=("-f",),
        direct=SLIXMPP,
        quick=False,
    ),
    Scenario("forward_starttls", "forward", service="starttls", connections=1, direct=DIRECT),
    Scenario(
        "forward_direct",
        "forward",
        service="direct",
        connections=1,
        direct=DIRECT,
        quick=False,
    ),
    Scenario(
        "forward_starttls_fresh",
        "forward",
        service="starttls",
        connections=1,
        options=("-f",),
        direct=DIRECT,
        quick=False,
    ),
    Scenario(
        "forward_direct_fresh",
        "forward",
        service="direct",
        connections=1,
        options=("-f",),
        direct=DIRECT,
        quick=False,
    ),
    Scenario(
        "forward_starttls_far",
        "forward",
        service="starttls",
        connections=1,
        options=("-t", FAR_DOMAIN),
        direct=DIRECT,
        length=3.0,
        quick=False,
    ),
    Scenario("idle_1000", "idle", connections=1000, with_limits=True, fresh=True, rounds=2),
    Scenario("idle_3000", "idle", connections=3000, fresh=True, rounds=1, quick=False),
    Scenario("idle_10000", "idle", connections=10_000, fresh=True, rounds=1, quick=False),
)


def fitted(scenario: Scenario, most: int) -> Scenario:
    """Returns a scenario with as many connections as there can be, where it wants more."""
    return attrs.evolve(scenario, connections=min(scenario.connections, most))


@attrs.frozen
class Target:
    """What a relay's ratio to the reference has to be.

    Attributes:
        relay: The relay's name.
        bound: The least ratio where more is better, else the greatest.
    """

    relay: str
    bound: float


@attrs.frozen
class Measure:
    """One of the figures that the load generator reports.

    Attributes:
        key: Its key in the load generator's result.
        unit: Its unit.
        better: Whether more or less is better.
    """

    key: str
    unit: str
    better: Literal["more", "less"]


PER_SECOND = Measure("per_second", "/s", "more")
MEGABYTES = Measure("mb_per_second", "MB/s", "more")
MEDIAN = Measure("p50_us", "µs", "less")
LOOKUP = Measure("lookup_us", "µs", "less")
TAIL = Measure("p99_us", "µs", "less")
PROCESSOR = Measure("relay_us_each", "µs", "less")
MEMORY = Measure("kib_each", "KiB", "less")
EMPTY = Measure("empty_kib", "KiB", "less")
FULL = Measure("full_mib", "MiB", "less")

PER_PROCESSOR_SECOND = Measure("per_processor_second", "/s", "more")
"""How many in a second of the relay's processor: what it can do when nothing else is short.

A handshake costs the client about as much as the relay, so on one processor the load generator
may be the one that is busy, and ratios of what came about would tell of it."""


@attrs.frozen
class Row:
    """One row of the table.

    Attributes:
        name: Its name on the command line.
        title: Its name in the table; ``{sessions}`` stands for the number of sessions.
        scenario: The name of the scenario that yields it.
        measure: Which of the scenario's figures it is.
        targets: What has to be reached; empty where nothing is required.
        reference: The name of whom the ratios are to.
    """

    name: str
    title: str
    scenario: str
    measure: Measure
    targets: tuple[Target, ...] = ()
    reference: str = REFERENCE.name

    def titled(self, scenario: Scenario) -> "Row":
        """Returns the row with the number of sessions that its scenario has."""
        return attrs.evolve(self, title=self.title.format(sessions=f"{scenario.connections:,}"))

    def meets(self, ratio: float, bound: float) -> bool:
        """Whether a ratio to the reference is within its bound."""
        return ratio >= bound if self.measure.better == "more" else ratio <= bound


_MESSAGES = (Target(PLAIN.name, 0.95), Target(LIMITS.name, 0.8))
_ROUND_TRIP = (Target(PLAIN.name, 1.2),)
_BULK = (Target(PLAIN.name, 0.95),)
_S2S = (Target(PLAIN.name, 0.6),)
_HANDSHAKES = (Target(PLAIN.name, 0.9),)
_MEMORY = (Target(PLAIN.name, 1.4),)
_FORWARD = (Target(FORWARD.name, 1.15),)

ROWS = (
    Row("messages_100", "messages, 100 sessions", "chat_100", PER_SECOND, _MESSAGES),
    Row("messages_1000", "messages, 1,000 sessions", "chat_1000", PER_SECOND, _MESSAGES),
    Row("p50_100", "round trip p50, 100 sessions", "chat_100", MEDIAN),
    Row("p99_100", "round trip p99, 100 sessions", "chat_100", TAIL, _ROUND_TRIP),
    Row("p50_paced", "round trip p50, 2,000 messages/s", "paced", MEDIAN),
    Row("p99_paced", "round trip p99, 2,000 messages/s", "paced", TAIL, _ROUND_TRIP),
    Row("cpu_100", "processor time a message, 100 sessions", "chat_100", PROCESSOR),
    Row("cpu_paced", "processor time a message, 2,000 messages/s", "paced", PROCESSOR),
    Row("bulk_up", "bulk, client to server", "bulk_up", MEGABYTES, _BULK),
    Row("bulk_down", "bulk, server to client", "bulk_down", MEGABYTES, _BULK),
    Row("cpu_bulk_up", "processor time a MB, client to server", "bulk_up", PROCESSOR),
    Row("cpu_bulk_down", "processor time a MB, server to client", "bulk_down", PROCESSOR),
    Row("s2s", "stanzas on one s2s stream", "s2s", PER_SECOND, _S2S),
    Row("cpu_s2s", "processor time a stanza, one s2s stream", "s2s", PROCESSOR),
    Row("s2s_backlog", "stanzas on one s2s stream, a backlog", "s2s_backlog", PER_SECOND),
    Row("cpu_s2s_backlog", "processor time a stanza, a backlog", "s2s_backlog", PROCESSOR),
    Row("rate_ecdsa", "TLS handshakes, ECDSA P-256", "handshakes_ecdsa", PER_SECOND, _HANDSHAKES),
    Row("rate_rsa", "TLS handshakes, RSA 2048", "handshakes_rsa", PER_SECOND, _HANDSHAKES),
    Row(
        "handshakes_ecdsa",
        "TLS handshakes, ECDSA P-256, a processor second",
        "handshakes_ecdsa",
        PER_PROCESSOR_SECOND,
    ),
    Row(
        "handshakes_rsa",
        "TLS handshakes, RSA 2048, a processor second",
        "handshakes_rsa",
        PER_PROCESSOR_SECOND,
    ),
    Row("logins", "logins, direct TLS, a processor second", "logins", PER_PROCESSOR_SECOND),
    Row(
        "logins_starttls",
        "logins, STARTTLS (HAProxy: direct TLS), a processor second",
        "logins_starttls",
        PER_PROCESSOR_SECOND,
    ),
    Row("idle_1000", "memory a session, 1,000 sessions", "idle_1000", MEMORY, _MEMORY),
    Row("idle_3000", "memory a session, 3,000 sessions", "idle_3000", MEMORY, _MEMORY),
    Row("idle_10000", "memory a session, {sessions} sessions", "idle_10000", MEMORY, _MEMORY),
    Row("full", "memory of the whole process, {sessions} sessions", "idle_10000", FULL),
    Row("empty", "memory without sessions", "idle_1000", EMPTY),
    Row(
        "slixmpp_starttls",
        "time to features after STARTTLS",
        "slixmpp_starttls",
        MEDIAN,
        _FORWARD,
        SLIXMPP.name,
    ),
    Row(
        "slixmpp_starttls_lookup",
        "of that, DNS",
        "slixmpp_starttls",
        LOOKUP,
        reference=SLIXMPP.name,
    ),
    Row(
        "slixmpp_direct",
        "time to features after direct TLS",
        "slixmpp_direct",
        MEDIAN,
        _FORWARD,
        SLIXMPP.name,
    ),
    Row(
        "slixmpp_direct_lookup",
        "of that, DNS",
        "slixmpp_direct",
        LOOKUP,
        reference=SLIXMPP.name,
    ),
    Row(
        "slixmpp_starttls_fresh",
        "time to features after STARTTLS, domain not looked up before",
        "slixmpp_starttls_fresh",
        MEDIAN,
        reference=SLIXMPP.name,
    ),
    Row(
        "forward_starttls",
        "time to features after STARTTLS",
        "forward_starttls",
        MEDIAN,
        reference=DIRECT.name,
    ),
    Row(
        "forward_direct",
        "time to features after direct TLS",
        "forward_direct",
        MEDIAN,
        reference=DIRECT.name,
    ),
    Row(
        "forward_starttls_fresh",
        "time to features after STARTTLS, domain not looked up before",
        "forward_starttls_fresh",
        MEDIAN,
        reference=DIRECT.name,
    ),
    Row(
        "forward_direct_fresh",
        "time to features after direct TLS, domain not looked up before",
        "forward_direct_fresh",
        MEDIAN,
        reference=DIRECT.name,
    ),
    Row(
        "forward_starttls_far",
        "time to features after STARTTLS, server 10 ms away",
        "forward_starttls_far",
        MEDIAN,
        reference=DIRECT.name,
    ),
)
