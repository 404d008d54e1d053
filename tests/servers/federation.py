"""Legacy servers, each behind a Bascule of its own, and a network of servers that require TLS.

A legacy server knows no TLS. Its name server leads it to its Bascule for every domain; the name
server of everyone else leads them to that Bascule for the legacy server's domain.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self

import attrs

from tests.authority import CLIENT, SERVER, Authority
from tests.servers import jabberd2, prosody
from tests.servers.bascule import ServerBascule
from tests.servers.client import Bounced, Client
from tests.servers.dns.unbound import NameServer
from tests.servers.dns.zones import srv
from tests.servers.ejabberd import Ejabberd
from tests.servers.jabberd2 import Jabberd2
from tests.servers.program import HOST, Program
from tests.servers.prosody import Prosody

PROSODY = prosody.DOMAIN
JABBERD2 = jabberd2.DOMAIN
LEGACY = [PROSODY, JABBERD2]

SECURE_PROSODY = "secure.test"
"""Authenticates others by certificates and SASL EXTERNAL only; is reached by STARTTLS."""

DIRECT_PROSODY = "direct.test"
"""The same, but reached by direct TLS."""

STRANGER = "stranger.test"
"""The same server; its certificate is for another domain."""

DIALBACK_PROSODY = "dialback.test"
"""Requires TLS, and authenticates itself and others by server dialback only."""

NO_DIALBACK = "no-dialback.test"
"""The same, but Bascule's policy demands more."""

SECURE_EJABBERD = "ejabberd.test"
"""Authenticates others by certificates and SASL EXTERNAL only; is reached by STARTTLS."""

DIRECT_EJABBERD = "ejabberd-direct.test"
"""The same, but reached by direct TLS."""

DIALBACK_EJABBERD = "ejabberd-dialback.test"
"""Offers SASL EXTERNAL, refuses it and is content with dialback then."""

NOWHERE = "nowhere.test"
"""Does not exist."""

TARGET = "localhost."
"""Where all servers are; see `tests.servers.ejabberd.Ejabberd.federate`."""

AT_HOME = f"@ IN A {HOST}"
"""Where that is."""

_ATTEMPTS = 15
_PATIENCE = 2.0


@attrs.frozen
class Servers:
    """All servers but Bascule; none is started.

    Attributes:
        prosody: a Prosody without TLS.
        jabberd2: a jabberd2 without TLS.
        secure: the Prosody of `SECURE_PROSODY` and others.
        dialback: the Prosody of `DIALBACK_PROSODY` and others.
        ejabberd: the ejabberd of `SECURE_EJABBERD` and others.
    """

    prosody: Prosody
    jabberd2: Jabberd2
    secure: Prosody
    dialback: Prosody
    ejabberd: Ejabberd

    @classmethod
    def make(cls, directory: Path, authority: Authority) -> Self:
        """Return new servers; `authority` certifies those that know TLS."""

        def certificates(*domains: str) -> dict[str, tuple[Path, Path]]:
            return {domain: certificate(authority, domain) for domain in domains}

        return cls(
            Prosody(directory / "prosody"),
            Jabberd2(directory / "jabberd2"),
            Prosody(
                directory / "secure",
                certificates={
                    **certificates(SECURE_PROSODY, DIRECT_PROSODY),
                    STRANGER: certificate(authority, NOWHERE),
                },
            ),
            Prosody(
                directory / "dialback", certificates=certificates(DIALBACK_PROSODY, NO_DIALBACK)
            ),
            Ejabberd(
                directory / "ejabberd",
                certificates(SECURE_EJABBERD, DIRECT_EJABBERD, DIALBACK_EJABBERD),
            ),
        )

    def of(self, domain: str) -> Prosody | Jabberd2 | Ejabberd:
        """Return the server of a domain."""
        servers: dict[str, Prosody | Jabberd2 | Ejabberd] = {
            PROSODY: self.prosody,
            JABBERD2: self.jabberd2,
            SECURE_PROSODY: self.secure,
            DIRECT_PROSODY: self.secure,
            STRANGER: self.secure,
            DIALBACK_PROSODY: self.dialback,
            NO_DIALBACK: self.dialback,
            SECURE_EJABBERD: self.ejabberd,
            DIRECT_EJABBERD: self.ejabberd,
            DIALBACK_EJABBERD: self.ejabberd,
        }
        return servers[domain]

    def network(self) -> dict[str, list[str]]:
        """Return the records of the domains whose servers require TLS."""
        secure, dialback, ejabberd = self.secure, self.dialback, self.ejabberd
        assert secure.s2s_direct_port is not None
        ports = {
            SECURE_PROSODY: ("_xmpp-server", secure.s2s_port),
            DIRECT_PROSODY: ("_xmpps-server", secure.s2s_direct_port),
            STRANGER: ("_xmpp-server", secure.s2s_port),
            DIALBACK_PROSODY: ("_xmpp-server", dialback.s2s_port),
            NO_DIALBACK: ("_xmpp-server", dialback.s2s_port),
            SECURE_EJABBERD: ("_xmpp-server", ejabberd.s2s_port),
            DIRECT_EJABBERD: ("_xmpps-server", ejabberd.s2s_direct_port),
            DIALBACK_EJABBERD: ("_xmpp-server", ejabberd.s2s_port),
        }
        return {domain: [srv(*where, target=TARGET)] for domain, where in ports.items()}


@attrs.frozen
class Federation:
    """Everything that exchanges messages; see the module.

    Attributes:
        servers: all servers but Bascule.
        bascules: for each domain of `LEGACY` its Bascule.
        names: the name servers: of the network, and of each domain of `LEGACY`.
        authority: who certifies them all.
    """

    servers: Servers
    bascules: Mapping[str, ServerBascule]
    names: Sequence[NameServer]
    authority: Authority

    @classmethod
    def make(cls, directory: Path, authority: Authority) -> Self:
        """Return new servers that know where to find each other; none is started."""
        nobody = Authority(directory / "nobody", name="Certifies nobody")
        servers = Servers.make(directory, authority)
        network = servers.network()
        # Filled below, before anything starts: the records need Bascules' ports, and Bascules the
        # name server's.
        outside: dict[str, list[str]] = {"localhost": [AT_HOME]}
        names = name_server(directory / "outside", outside)
        bascules = {
            domain: ServerBascule(
                directory / f"bascule-{domain}",
                domain,
                certificate(authority, domain),
                server.s2s_port,
                names=names.address,
                authority=authority.ca_path,
                no_dialback=[NO_DIALBACK],
            )
            for domain, server in ((PROSODY, servers.prosody), (JABBERD2, servers.jabberd2))
        }
        outside |= network
        # One is reached by STARTTLS, the other by direct TLS: whoever knows both takes the latter.
        outside[PROSODY] = [srv("_xmpp-server", bascules[PROSODY].port, target=TARGET)]
        outside[JABBERD2] = [srv("_xmpps-server", bascules[JABBERD2].port, target=TARGET)]
        inside = {
            domain: name_server(
                directory / f"inside-{domain}",
                {
                    **{
                        other: [srv("_xmpp-server", bascules[domain].out_port, target=TARGET)]
                        for other in [*network, *LEGACY, NOWHERE]
                        if other != domain
                    },
                    "localhost": [AT_HOME],
                },
            )
            for domain in LEGACY
        }
        servers.prosody.federate(inside[PROSODY])
        servers.jabberd2.federate(inside[JABBERD2])
        servers.secure.federate(names, authority.ca_path)
        servers.dialback.federate(names, authority.ca_path, external=False)
        servers.ejabberd.federate(
            names, authority.ca_path, nobody=nobody.ca_path, dialback=[DIALBACK_EJABBERD]
        )
        return cls(servers, bascules, [names, *inside.values()], authority)

    def programs(self) -> list[Program]:
        """Return all that has to run, in the order of their starts."""
        return [*self.names, *attrs.astuple(self.servers, recurse=False), *self.bascules.values()]

    def client(self, name: str, domain: str) -> Client:
        """Return a client that logs in to the domain's own server."""
        port = self.servers.of(domain).port
        if domain in LEGACY:
            return Client(name, domain, port, "plaintext")
        return Client(name, domain, port, "starttls", self.authority.ca_path)

    def exchange(self, one: str, other: str) -> None:
        """Let alice at one domain and bob at the other write to each other.

        Raises:
            Bounced: if one of the messages came back.
            TimeoutError: if nothing came.
        """

        async def run() -> None:
            async with self.client("alice", one) as alice, self.client("bob", other) as bob:
                await _log_in(alice, bob)
                await _deliver(alice, bob)
                await _deliver(bob, alice)

        asyncio.run(run())

    def converse(self, one: str, other: str, messages: int) -> None:
        """Let alice and bob write many messages at once; an AssertionError if order is lost.

        Raises:
            Bounced: if one of the messages came back.
            TimeoutError: if not all came.
        """

        async def run() -> None:
            async with self.client("alice", one) as alice, self.client("bob", other) as bob:
                await _log_in(alice, bob)
                texts = [f"Good day, number {next(_numbers)}." for _ in range(messages)]
                for text in texts:
                    alice.write(bob.jid, text)
                    bob.write(alice.jid, text)
                for sender, receiver in ((alice, bob), (bob, alice)):
                    received = [await receiver.read() for _ in texts]
                    assert received == [(sender.jid, text) for text in texts]

        asyncio.run(run())

    def bounces(self, one: str, other: str) -> str:
        """Let alice at one domain write to bob at the other; return how that came back.

        Raises:
            TimeoutError: if it did not.
        """

        async def run() -> str:
            async with self.client("alice", one) as alice:
                assert await alice.login() == "session started"
                alice.write(f"bob@{other}", f"Good day, number {next(_numbers)}.")
                try:
                    await _bounce(alice)
                except Bounced as bounce:
                    return str(bounce)

        return asyncio.run(run())

    def exchange_again(self, one: str, other: str) -> None:
        """The same after a restart: what is under way then may be lost, but not for long.

        Raises:
            Bounced: if messages still come back.
            TimeoutError: if still nothing comes.
        """

        async def run() -> None:
            async with self.client("alice", one) as alice, self.client("bob", other) as bob:
                await _log_in(alice, bob)
                await _deliver_at_last(alice, bob)
                await _deliver_at_last(bob, alice)

        asyncio.run(run())


def certificate(authority: Authority, domain: str) -> tuple[Path, Path]:
    """Return a certificate by which a server can authenticate itself, whoever opens the stream.

    ejabberd refuses SASL EXTERNAL to certificates that are for servers only.
    """
    return authority.issue(domain, usages=(SERVER, CLIENT))


def name_server(directory: Path, records: Mapping[str, list[str]]) -> NameServer:
    """Return a name server with these zones, all of them signed."""
    return NameServer(directory, records, unsigned={}, bogus={})


async def _log_in(alice: Client, bob: Client) -> None:
    outcomes = list(await asyncio.gather(alice.login(), bob.login()))
    assert outcomes == ["session started", "session started"]


_numbers = itertools.count(1)


async def _deliver(sender: Client, receiver: Client) -> None:
    """Send one message and wait for it, or for its return to the sender."""
    text = f"Good day, number {next(_numbers)}."
    sender.write(receiver.jid, text)
    tasks = [
        asyncio.create_task(_arrival(receiver, (sender.jid, text))),
        asyncio.create_task(_bounce(sender)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _arrival(client: Client, message: tuple[str, str]) -> None:
    """Return when a message has come; raise what happens instead."""
    while await client.read() != message:
        pass


async def _bounce(client: Client) -> NoReturn:
    """Raise what comes back, whatever else comes; a TimeoutError if nothing does any more."""
    while True:
        await client.read()


async def _deliver_at_last(sender: Client, receiver: Client) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            await asyncio.wait_for(_deliver(sender, receiver), _PATIENCE)
        except (Bounced, TimeoutError):
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.2)
        else:
            return
