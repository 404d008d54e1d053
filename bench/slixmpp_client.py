"""Clients as people have them: slixmpp, directly and through a forward listener in turn.

``python -m bench.slixmpp_client`` takes the options of the load generator that its scenario
``forward`` needs, and prints the same JSON line.
"""

import asyncio
import json
import resource
import ssl
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import click
import slixmpp

from bench.processes import processor_seconds

LOOPBACK = "127.0.0.1"
PAUSE_SECONDS = 0.001
SESSION_SECONDS = 10.0


class ClientError(Exception):
    """A session that did not come about, or not as it should."""


class Client(slixmpp.ClientXMPP):  # type: ignore[misc] # slixmpp has no types
    """A client that goes as far as the first features after TLS, and can do so again.

    All of it is slixmpp as it comes, STARTTLS and direct TLS allowed both, but for the name server,
    which is put in where slixmpp lets its users do so, and the login, which does not begin.

    Args:
        domain: The domain of its account.
        context: Whom it trusts, for its own TLS.
        names_port: Where the name server is.
        relay: The port of the forward listener, for plaintext; None for its own way.

    Attributes:
        lookup_seconds: How long the questions to DNS took the last time; 0 if there were none.
    """

    stream_header: str
    default_domain: str

    def __init__(
        self,
        domain: str,
        context: ssl.SSLContext,
        *,
        names_port: int,
        relay: int | None = None,
    ) -> None:
        super().__init__(f"client@{domain}", "unused", ssl_context=context)
        if relay is not None:
            self.enable_starttls = self.enable_direct_tls = False
            self.enable_plaintext = True
        self._relay = relay
        self._names_port = names_port
        self.lookup_seconds = 0.0
        self._outcome: asyncio.Future[str] = self.loop.create_future()
        self.unregister_feature("mechanisms", self.plugin["feature_mechanisms"].order)
        self.add_event_handler("stream_negotiated", lambda _: self._end(""))
        for event in ("connection_failed", "disconnected", "ssl_invalid_chain"):
            self.add_event_handler(event, lambda why, event=event: self._end(f"{event}: {why}"))

    def turn_to(self, domain: str) -> None:
        """Takes another domain for the next session."""
        self.stream_header = self.stream_header.replace(
            f"to='{self.default_domain}'", f"to='{domain}'"
        )
        self.default_domain = domain

    def configure_dns(
        self, resolver: Any, domain: str | None = None, port: int | None = None
    ) -> None:
        """Puts in the name server; slixmpp calls this before each connection's questions."""
        del domain, port
        resolver.nameservers = [f"{LOOPBACK}:{self._names_port}"]

    async def get_dns_records(
        self, domain: str, port: int | None = None
    ) -> list[tuple[str, str, str, int]]:
        """Looks the server up as slixmpp does, and notes how long that takes."""
        began = time.perf_counter()
        found: list[tuple[str, str, str, int]] = await super().get_dns_records(domain, port)
        self.lookup_seconds = time.perf_counter() - began
        return found

    async def arrive(self) -> float:
        """Connects, and waits for the first features after TLS, be it its own or the relay's.

        Returns:
            The seconds from the call of ``connect`` to these features.

        Raises:
            ClientError: They did not come, or it is not this client that has TLS.
        """
        self._outcome = self.loop.create_future()
        began = time.perf_counter()
        self.connect(*((LOOPBACK, self._relay) if self._relay is not None else ()))
        problem = await asyncio.wait_for(self._outcome, SESSION_SECONDS)
        took = time.perf_counter() - began
        if problem:
            raise ClientError(problem)
        if (self.transport.get_extra_info("ssl_object") is None) != (self._relay is not None):
            raise ClientError("the features came over another kind of connection than was due")
        return took

    def agreement(self) -> str:
        """What the server says was negotiated: it has put it into the stream's id.

        Raises:
            ClientError: It has not, so that these are not the features after TLS.
        """
        said = str(self.stream_id)
        if "/" not in said:
            raise ClientError("the server does not say what was negotiated")
        return said.replace("/", " ")

    async def leave(self) -> None:
        """Ends the stream and waits until the connection is gone."""
        gone = self.disconnected
        self.disconnect()
        await asyncio.wait_for(gone, SESSION_SECONDS)

    def _end(self, problem: str) -> None:
        if not self._outcome.done():
            self._outcome.set_result(problem)


@attrs.define
class Way:
    """One of the two ways, and what was measured on it.

    Attributes:
        client: Who goes it.
        seconds: How long each session took.
        lookups: How much of that went into DNS.
        agreed: What was negotiated, the same each time.
    """

    client: Client
    seconds: list[float] = attrs.field(factory=list)
    lookups: list[float] = attrs.field(factory=list)
    agreed: str = ""

    async def go(self, *, counts: bool) -> None:
        """One session; its time is kept if it counts.

        Raises:
            ClientError: It did not come about, or something else was negotiated than before.
        """
        took = await self.client.arrive()
        said = self.client.agreement()
        if self.agreed not in ("", said):
            raise ClientError("something else was negotiated than before")
        self.agreed = said
        await self.client.leave()
        if counts:
            self.seconds.append(took)
            self.lookups.append(self.client.lookup_seconds)

    def figures(self, prefix: str) -> dict[str, Any]:
        """Its figures as the load generator names them."""
        times = sorted(self.seconds)
        if not times:
            raise ClientError("no session was measured")
        looking = statistics.median(self.lookups)
        return {
            **({f"{prefix}lookup_us": round(looking * 1e6, 1)} if looking else {}),
            f"{prefix}p50_us": round(statistics.median(times) * 1e6, 1),
            f"{prefix}p99_us": round(times[int(len(times) * 0.99)] * 1e6, 1),
            f"{prefix}agreed": self.agreed,
        }


@attrs.define
class Relay:
    """The relay's processes, and the processor time that they have used."""

    processes: list[int]

    def seconds(self) -> float:
        """The processor time so far."""
        return sum(map(processor_seconds, self.processes))

    async def quiet(self) -> None:
        """Waits until it has nothing left to do for the last session."""
        used, before = self.seconds(), -1.0
        while used > before:
            await asyncio.sleep(PAUSE_SECONDS)
            used, before = self.seconds(), used


@attrs.define
class Meter:
    """What a run costs from now on, in seconds of processor time."""

    relay: Relay
    began: float = attrs.field(factory=time.perf_counter)
    _relay_seconds: float = attrs.field(init=False)
    _own_seconds: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Reads the two clocks."""
        self._relay_seconds, self._own_seconds = self.relay.seconds(), _own_seconds()

    def figures(self, sessions: int) -> dict[str, float]:
        """The cost as the load generator names it."""
        seconds = time.perf_counter() - self.began
        relay_seconds = self.relay.seconds() - self._relay_seconds
        own_seconds = _own_seconds() - self._own_seconds
        return {
            "pairs": sessions,
            "seconds": round(seconds, 3),
            "relay_processor": round(relay_seconds / seconds, 3),
            "generator_processor": round(own_seconds / seconds, 3),
            "relay_us_each": round(relay_seconds / sessions * 1e6, 2),
        }


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def take_turns(
    ways: tuple[Way, Way],
    relay: Relay,
    warm_up: float,
    seconds: float,
    fresh_below: str | None = None,
) -> Meter:
    """Lets two ways be gone in turn, each time first the other of the two.

    Args:
        ways: The two.
        relay: Who must be quiet before each session.
        warm_up: For how many seconds nothing counts; at least for one session of each.
        seconds: For how many seconds it does; at least for one session of each.
        fresh_below: Below which domain every pair is for a new one; None if all are for the same.

    Returns:
        What it has cost.

    Raises:
        ClientError: A session did not come about, or not as it should.
    """
    counts_from = time.perf_counter() + warm_up
    meter: Meter | None = None
    turn = 0
    while meter is None or time.perf_counter() < meter.began + seconds:
        if turn > 0 and meter is None and time.perf_counter() >= counts_from:
            meter = Meter(relay)
        if fresh_below is not None:
            for way in ways:
                way.client.turn_to(f"n{time.monotonic_ns():x}.{fresh_below}")
        for way in ways if turn % 2 == 0 else reversed(ways):
            await relay.quiet()
            await way.go(counts=meter is not None)
        turn += 1
    return meter


async def measure(
    domain: str,
    *,
    port: int,
    names_port: int,
    roots: Path,
    relay: Relay,
    warm_up: float,
    seconds: float,
    fresh_domains: bool,
) -> dict[str, Any]:
    """Measures both ways to a domain's server.

    Args:
        domain: The domain.
        port: The forward listener's.
        names_port: The name server's.
        roots: The certificates, one of which must have issued the server's.
        relay: The relay behind the forward listener.
        warm_up: As in `take_turns`.
        seconds: Likewise.
        fresh_domains: Whether every pair is for a domain below it that nobody has looked up before.

    Returns:
        What the load generator would report.

    Raises:
        ClientError: A session did not come about, or not as it should.
    """
    context = ssl.create_default_context(cafile=roots)
    context.set_alpn_protocols(["xmpp-client"])
    directly = Way(Client(domain, context, names_port=names_port))
    forwarded = Way(Client(domain, context, names_port=names_port, relay=port))
    fresh_below = domain if fresh_domains else None
    meter = await take_turns((directly, forwarded), relay, warm_up, seconds, fresh_below)
    return {
        "scenario": "forward",
        **directly.figures("direct_"),
        **forwarded.figures(""),
        **meter.figures(len(forwarded.seconds)),
    }


@click.command()
@click.option("-m", "mode", type=click.Choice(["forward"]), help="Always this.")
@click.option("-n", "sessions", type=click.IntRange(1, 1), help="Always one at a time.")
@click.option("-p", "port", type=int, required=True, help="The forward listener's port.")
@click.option("-t", "domain", required=True, help="The domain to reach.")
@click.option("-P", "processes", required=True, help="The relay's, separated by commas.")
@click.option("-d", "seconds", type=float, required=True, help="The measured part.")
@click.option("-w", "warm_up", type=float, required=True, help="What precedes it.")
@click.option("-N", "names_port", type=int, required=True, help="The name server's port.")
@click.option("-f", "fresh_domains", is_flag=True, help="A new domain for every pair.")
@click.option("-c", "roots", type=click.Path(path_type=Path), required=True, help="Whom to trust.")
def main(
    *,
    mode: str,
    sessions: int,
    port: int,
    domain: str,
    processes: str,
    seconds: float,
    warm_up: float,
    names_port: int,
    fresh_domains: bool,
    roots: Path,
) -> None:
    """Measure slixmpp's two ways to one domain."""
    del mode, sessions
    try:
        figures = asyncio.run(
            measure(
                domain,
                port=port,
                names_port=names_port,
                roots=roots,
                relay=Relay([int(each) for each in processes.split(",")]),
                warm_up=warm_up,
                seconds=seconds,
                fresh_domains=fresh_domains,
            )
        )
    except (ClientError, OSError, TimeoutError) as error:
        print(f"slixmpp_client: {str(error) or 'no features in time'}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(prog_name="python -m bench.slixmpp_client")
