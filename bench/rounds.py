"""Runs the scenarios: in rounds, the relays in turn within each, so that pairs are comparable."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from bench.errors import BenchError
from bench.ground import (
    BACKENDS,
    BUILD,
    FAR_MICROSECONDS,
    REMOTES,
    ROOT,
    SERVICES,
    UPSTREAMS,
    Authority,
    Certificate,
    KeyKind,
    Ports,
    Processors,
)
from bench.processes import Running, busy_seconds, own_seconds, processor_seconds, running
from bench.relays import FORWARD, LIMITS, REFERENCE, SLIXMPP, Place, Relay
from bench.rows import Scenario

FOREIGN_SHARE = 0.08
"""The share of one processor that others may use during a run; above it, the run is repeated."""

TRIES = 4
PAUSE_SECONDS = 1.0
RUN_SECONDS = 240.0
WARM_UP = 0.3
SETTLING = 0.7
DIRECTLY = "direct_"
"""What the figures of a direct client begin with, beside those of the forwarded one."""

DOMAINS = {service.name: service.domain for service in (*SERVICES, *REMOTES)}


@attrs.frozen
class Result:
    """One run of the load generator.

    Attributes:
        relay: The relay's name.
        scenario: The scenario's name.
        round: Counted from 0.
        values: What the load generator reported.
        foreign: The share of one processor that others used meanwhile.
        tries: How often it was run; the values are those of the least disturbed run.
        failure: Why there are no values: something was lost, changed or refused.
    """

    relay: str
    scenario: str
    round: int
    values: Mapping[str, Any]
    foreign: float
    tries: int
    failure: str | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether others used more of the machine than `FOREIGN_SHARE` allows."""
        return self.foreign > FOREIGN_SHARE


@attrs.frozen
class Plan:
    """What is to be run.

    Attributes:
        relays: Those that take part, the reference among them.
        scenarios: In this order within each round.
        rounds: How many.
        seconds: The measured part of each run.
        patience: The seconds that repeating disturbed runs may take in all.
    """

    relays: Sequence[Relay]
    scenarios: Sequence[Scenario]
    rounds: int
    seconds: float
    patience: float


@attrs.frozen
class _Standing:
    relay: Relay
    process: Running
    ports: Mapping[str, int]


class Bench:
    """The machine's two halves during a benchmark: the relay's and the load generator's.

    Args:
        plan: What is to be run.
        certificates: By kind of key.
        authority: Who vouches for the servers that speak TLS.
        processors: Which processor each half is bound to.
        tell: Called with a line for each run.
    """

    def __init__(
        self,
        plan: Plan,
        certificates: Mapping[KeyKind, Certificate],
        authority: Authority,
        processors: Processors,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._certificates = certificates
        self._authority = authority
        self._processors = processors
        self._tell = tell
        self._ports = Ports()
        self._backends = {
            name: self._ports.take() for name in (*BACKENDS, *UPSTREAMS, "names", "far")
        }
        self._processes: list[Running] = []
        self._patience = plan.patience

    def run(self) -> list[Result]:
        """Runs everything.

        Returns:
            The results, in the order in which they were measured.

        Raises:
            BenchError: A server or a relay does not start.
        """
        with ExitStack() as stack:
            self._start_servers(stack)
            relays = list(self._plan.relays)
            if any(scenario.forward for scenario in self._plan.scenarios):
                relays.append(FORWARD)
            standing = {
                relay.name: stack.enter_context(self._standing(relay, relay.name))
                for relay in relays
            }
            return [
                result
                for number in range(self._plan.rounds)
                for scenario in self._plan.scenarios
                if scenario.rounds is None or number < scenario.rounds
                for relay in self._in_turn(scenario, number)
                for result in _sides(self._result(standing, relay, scenario, number), scenario)
            ]

    def _start_servers(self, stack: ExitStack) -> None:
        at = self._backends
        tls = (self._authority.chain, self._authority.private_key)
        upstreams = [at[name] for name in UPSTREAMS]
        for name, ports, arguments in (
            ("backend", backends := [at[name] for name in BACKENDS], backends),
            ("upstream", upstreams, [*upstreams, at["names"], at["far"], *tls]),
            ("link", [at["far"]], [FAR_MICROSECONDS, at["far"], upstreams[0]]),
        ):
            command = [str(BUILD / name), *map(str, arguments)]
            server = running(name, command, self._processors.load, set(ports))
            self._processes.append(stack.enter_context(server))

    def _in_turn(self, scenario: Scenario, number: int) -> list[Relay]:
        if scenario.forward:
            return [FORWARD]
        taking_part = [
            relay
            for relay in self._plan.relays
            if (relay is not LIMITS or scenario.with_limits)
            and (not scenario.starttls or relay.starttls or relay is REFERENCE)
            and (relay.rounds is None or number < relay.rounds)
            and (relay.most is None or scenario.connections <= relay.most)
        ]
        return random.sample(taking_part, len(taking_part))

    def _ports_for(self, relay: Relay) -> dict[str, int]:
        if not relay.shares_port:
            return {service.name: self._ports.take() for service in relay.services}
        streams = dict.fromkeys(service.stream for service in relay.services)
        shared = {stream: self._ports.take() for stream in streams}
        return {service.name: shared[service.stream] for service in relay.services}

    @contextmanager
    def _standing(self, relay: Relay, name: str) -> Iterator[_Standing]:
        ports = self._ports_for(relay)
        directory = BUILD / name
        directory.mkdir(exist_ok=True)
        place = Place(directory, ports, self._backends, self._certificates, self._authority)
        command = relay.configure(place)
        with running(name, command, self._processors.relay, set(ports.values())) as process:
            self._processes.append(process)
            try:
                yield _Standing(relay, process, ports)
            finally:
                self._processes.remove(process)

    def _result(
        self, standing: Mapping[str, _Standing], relay: Relay, scenario: Scenario, number: int
    ) -> Result:
        best = self._one_run(standing, relay, scenario, number)
        while (
            best.failure is None and best.is_disturbed and best.tries < TRIES and self._patience > 0
        ):
            began = time.monotonic()
            time.sleep(PAUSE_SECONDS)
            again = self._one_run(standing, relay, scenario, number)
            worse = again.failure is None and again.foreign > best.foreign
            best = attrs.evolve(best if worse else again, tries=best.tries + 1)
            self._patience -= time.monotonic() - began
        self._tell(_line(best))
        return best

    def _one_run(
        self, standing: Mapping[str, _Standing], relay: Relay, scenario: Scenario, number: int
    ) -> Result:
        values: dict[str, Any] = {}
        foreign, failure = 0.0, None
        try:
            if scenario.fresh:
                with self._standing(relay, f"{relay.name}-fresh") as fresh:
                    self._warm(fresh)
                    # Memory is what it is, whoever else is at work.
                    values, _ = self._measure(fresh, scenario)
            else:
                values, foreign = self._measure(standing[relay.name], scenario)
        except BenchError as error:
            failure = str(error)
        return Result(
            relay.name, scenario.name, number, values, round(foreign, 3), tries=1, failure=failure
        )

    def _warm(self, standing: _Standing) -> None:
        """A few logins first: what the first of them loads is not a session's memory."""
        few = Scenario("warm-up", "logins", connections=8)
        self._generate(standing, few, seconds=0.2)
        time.sleep(SETTLING)

    def _measure(self, standing: _Standing, scenario: Scenario) -> tuple[dict[str, Any], float]:
        began, busy, ours = time.monotonic(), busy_seconds(), self._our_seconds()
        values = self._generate(standing, scenario, self._plan.seconds * scenario.length)
        ours, busy = self._our_seconds() - ours, busy_seconds() - busy
        return values, max(0.0, busy - ours) / (time.monotonic() - began)

    def _our_seconds(self) -> float:
        numbers = {number for process in self._processes for number in process.family()}
        return own_seconds() + sum(map(processor_seconds, numbers))

    def _generate(self, standing: _Standing, scenario: Scenario, seconds: float) -> dict[str, Any]:
        # What a forwarded client costs beside a direct one is to be seen: both are where the relay
        # is, so that the way to the server is the same for both.
        processor = self._processors.relay if scenario.forward else self._processors.load
        program = [str(BUILD / "loadgen")]
        if scenario.direct is SLIXMPP:
            program = [sys.executable, "-m", "bench.slixmpp_client"]
        command = [
            *("taskset", "-c", str(processor), *program),
            *("-m", scenario.mode, "-n", str(scenario.connections)),
            *("-p", str(standing.ports[scenario.service]), "-t", DOMAINS[scenario.service]),
            *("-P", ",".join(map(str, standing.process.family()))),
            *("-d", str(seconds), "-w", str(SETTLING if scenario.fresh else WARM_UP)),
            *("-N", str(self._backends["names"]), "-c", str(self._authority.roots)),
            *scenario.options,
            *(["-S"] if scenario.starttls and standing.relay.starttls else []),
            *(["-C", str(self._backends["counts"])] if scenario.service == "s2s" else []),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"no result after {RUN_SECONDS:.0f} s") from None
        if done.returncode != 0:
            said = next(iter(done.stderr.strip().splitlines()), "the load generator failed")
            log = standing.process.last_words()
            raise BenchError(f"{said}; the relay's last line: {log}")
        values: dict[str, Any] = json.loads(done.stdout)
        return values


def _sides(result: Result, scenario: Scenario) -> list[Result]:
    """The results of both sides, where a run has two."""
    if scenario.direct is None or result.failure is not None:
        return [result]
    values = {
        key.removeprefix(DIRECTLY): value
        for key, value in result.values.items()
        if key.startswith(DIRECTLY)
    }
    return [result, attrs.evolve(result, relay=scenario.direct.name, values=values)]


def _line(result: Result) -> str:
    start = f"{result.round + 1:>3}  {result.scenario:<22} {result.relay:<15}"
    if result.failure is not None:
        return f"{start} FAILED: {result.failure}"
    value = next(
        f"{result.values[key]:>9,.1f} {unit}"
        for key, unit in (
            ("mb_per_second", "MB/s"),
            ("kib_each", "KiB"),
            ("per_second", "/s"),
            ("p50_us", "µs"),
        )
        if key in result.values
    )
    notes = [f"relay {result.values['relay_processor']:.0%}"]
    if "direct_p50_us" in result.values:
        notes.append(f"directly {result.values['direct_p50_us']:,.0f} µs")
    if "generator_processor" in result.values:
        notes.append(f"generator {result.values['generator_processor']:.0%}")
    if result.is_disturbed:
        notes.append(f"others {result.foreign:.0%}")
    return f"{start} {value:<15} {', '.join(notes)}"
