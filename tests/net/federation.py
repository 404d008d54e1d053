"""Federation on the wire: the service, a legacy server before it, and a server of the network.

The legacy server takes streams by rote (`tests.net.legacy`) and opens its own through the forward
listener. The other one is taken for any domain: it accepts connections and does what its script
says (`tests.net.hostile`), and it connects with the certificate that a test gives it.
"""

import contextlib
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from tests.authority import Authority
from tests.net.forward import Logged, conf_table
from tests.net.front import Front
from tests.net.hostile import Hostile
from tests.net.legacy import Connection, LegacyServer
from tests.net.name_server import NameServer
from tests.net.server_streams import KEY, Pair, Sender, answer, script, taking, verify
from tests.servers.program import HOST
from tests.servers.stream import SECONDS, plaintext

LEGACY = "legacy.example"
SISTER = "sister.example"
"""Another domain of the same legacy server, with a certificate of its own."""

APART = "apart.example"
"""A domain of another legacy server."""

CLOSED = "closed.example"
"""A domain of ours where no server listens."""

REMOTE = "remote.example"
"""A domain of the network, by STARTTLS."""

DIRECT = "direct.example"
"""Another one, by direct TLS."""

STRICT = "strict.example"
"""Another one, whose policy rules dialback out."""

NOWHERE = "nowhere.example"
"""Another one, where no server listens."""

HOSTING = "xmpp.hosting.example"
"""The machine of all of them."""

LISTENERS = {"in": ("reverse", "required"), "out": ("forward", "required")}
CLOSED_PORT = 1

_KEYS = re.compile(rb"<db:(?:result|verify) [^>]*>([^<]+)<")


def configuration(
    authority: Authority,
    legacy: Mapping[str, int],
    *,
    names: int,
    listeners: Mapping[str, int],
    rules: Mapping[str, tuple[str, str]] = LISTENERS,
    policies: Sequence[Mapping[str, object]] = (),
    told: Sequence[str] = (),
    proxied: Sequence[str] = (),
    tables: Mapping[str, Mapping[str, object]] | None = None,
) -> str:
    """Return a conf.

    Args:
        authority: certifies the domains of ours, and is all that is trusted.
        legacy: the domains of ours, each with the port of its server.
        names: the port of the name server.
        listeners: the port of each listener by its name.
        rules: the ``direction`` and the ``tls`` of each.
        policies: tables ``[[policy]]`` besides those for `STRICT` and for all domains.
        told: domains whose server gets a PROXY header.
        proxied: listeners whose connections may begin with such a header.
        tables: what else stands in it, by the name of the table.
    """
    every: dict[str, Mapping[str, object]] = {
        "dns": {"servers": [f"{HOST}:{names}"]},
        "plugins.limits": {"connections_per_address": 0, "handshakes_per_minute": 0},
        **(tables or {}),
    }
    parts = [f"[{name}]\n{conf_table(table)}" for name, table in every.items()]
    for domain, port in legacy.items():
        certificate, key = authority.issue(domain)
        table: dict[str, object] = {
            "name": domain,
            "certificate": str(certificate),
            "private_key": str(key),
            "s2s_server": f"{HOST}:{port}",
        }
        if domain in told:
            table["s2s_proxy_protocol"] = "v2"
        parts.append(f"[[domain]]\n{conf_table(table)}")
    for name, port in listeners.items():
        direction, rule = rules[name]
        table = {"name": name, "direction": direction, "stream": "s2s", "tls": rule}
        table["address"] = f"{HOST}:{port}"
        if direction == "forward":
            table["domains"] = ["*"]
        if name in proxied:
            table |= {"proxy_protocol": "any", "trusted_proxies": [HOST]}
        parts.append(f"[[listener]]\n{conf_table(table)}")
    trusting = {"ca_file": str(authority.ca_path), "private_addresses": True}
    given = ({"domain": "*"}, {"domain": STRICT, "dialback": "never"}, *policies)
    parts += [f"[[policy]]\n{conf_table({**trusting, **policy})}" for policy in given]
    return "\n".join(parts)


def zone(names: NameServer, port: int) -> None:
    """Let a name server lead to the server of the network, which listens on a port."""
    names.add(HOSTING, "A", HOST)
    for domain in (REMOTE, STRICT):
        names.add(f"_xmpp-server._tcp.{domain}", "SRV", f"0 5 {port} {HOSTING}.")
    names.add(f"_xmpps-server._tcp.{DIRECT}", "SRV", f"0 5 {port} {HOSTING}.")
    names.add(f"_xmpp-server._tcp.{NOWHERE}", "SRV", f"0 5 {CLOSED_PORT} {HOSTING}.")


class FederationFront(Front):
    """The daemon as a process; arguments as for `Federation`, and variables for the daemon."""

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        legacy: Mapping[str, int],
        names: int,
        *,
        environment: Mapping[str, str] | None = None,
        **conf: Any,
    ) -> None:
        rules = {name: rule for name, (_, rule) in LISTENERS.items()}
        super().__init__(directory, [], listeners=rules, environment=environment)
        self._written = configuration(authority, legacy, names=names, listeners=self.named, **conf)

    def configuration(self) -> str:
        return self._written


class Federation(Logged):
    """The service in the test's own process; no dialback key may stand in its log.

    Args:
        directory: where its conf goes.
        authority: as for `configuration`, like those that follow.
        legacy: the domains of ours.
        names: the port of the name server.
        conf: what else `configuration` takes.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        legacy: Mapping[str, int],
        names: int,
        **conf: Any,
    ) -> None:
        ports = dict.fromkeys(conf.get("rules", LISTENERS), 0)
        written = configuration(authority, legacy, names=names, listeners=ports, **conf)
        super().__init__(directory / "federation.toml", written)
        self.secrets.add(KEY)

    def settle(self) -> None:
        """Wait until every session has ended, so that its summary is not taken for another's."""
        end = time.monotonic() + SECONDS
        while self._service._bridges:
            assert time.monotonic() < end, "a session does not end"
            time.sleep(0.005)


@attrs.frozen
class Grounds:
    """All that there is in a test.

    Attributes:
        authority: who certifies those that are to be believed.
        service: the service.
        legacy: the server of `LEGACY` and `SISTER`.
        apart: the server of `APART`.
        remote: the server of all domains of the network, as it takes streams.
        names: the name server.
        certificates: a certificate of each domain of the network.
    """

    authority: Authority
    service: Federation
    legacy: LegacyServer
    apart: LegacyServer
    remote: Hostile
    names: NameServer
    certificates: Mapping[str, Pair]

    @classmethod
    @contextlib.contextmanager
    def made(cls, directory: Path, authority: Authority, **conf: Any) -> Iterator[Self]:
        """Give all that, running; arguments as for `Federation`."""
        with contextlib.ExitStack() as stack:
            legacy, apart = (stack.enter_context(LegacyServer()) for _ in range(2))
            remote = stack.enter_context(Hostile())
            names = stack.enter_context(NameServer())
            zone(names, remote.port)
            ports = {
                LEGACY: legacy.port,
                SISTER: legacy.port,
                APART: apart.port,
                CLOSED: CLOSED_PORT,
            }
            service = Federation(directory, authority, ports, names.port, **conf)
            domains = (REMOTE, DIRECT, STRICT, NOWHERE)
            certificates = {domain: authority.issue(domain) for domain in domains}
            grounds = cls(authority, service, legacy, apart, remote, names, certificates)
            stack.enter_context(service)
            yield grounds
            grounds.renew()

    def renew(self) -> None:
        """Begin anew; the keys that have passed must not have come into the log."""
        heard = [peer.sealed for peer in self.remote.peers]
        for server in (self.legacy, self.apart):
            heard.append(server.heard)
            server.forget()
            server.script = taking()
        for data in heard:
            self.service.secrets |= {key.decode() for key in _KEYS.findall(data)}
        self.service.lines()
        self.remote.play(script(self.certificates[REMOTE]))
        self.service.settle()

    @contextlib.contextmanager
    def incoming(
        self,
        sender: str = REMOTE,
        to: str = LEGACY,
        *,
        pair: Pair | None = None,
        way: str = "starttls",
        version: str | None = None,
        protocols: Sequence[str] = ("xmpp-server",),
        listener: str = "in",
        ahead: bytes = b"",
    ) -> Iterator[Sender]:
        """Connect as a server of the network, with TLS up and no stream begun.

        Args:
            sender: the domain that it says it is.
            to: the domain that it wants to reach.
            pair: the certificate that it shows, and its key; none.
            way: how TLS begins: ``starttls`` or ``direct``.
            version: the one version of TLS that it speaks.
            protocols: what it asks for by ALPN.
            listener: where it connects.
            ahead: what is sent before anything else.
        """
        context = context_of(self.authority, pair, version, protocols)
        with self.connecting(self.service.ports[listener], sender, to) as stream:
            stream.send(ahead)
            if way == "starttls":
                stream.ask_for_tls()
            stream.secure(context)
            yield stream

    @contextlib.contextmanager
    def outgoing(
        self, sender: str = LEGACY, to: str = REMOTE, listener: str = "out"
    ) -> Iterator[Sender]:
        """Connect as the legacy server; nothing is sent."""
        with self.connecting(self.service.ports[listener], sender, to) as stream:
            yield stream

    @contextlib.contextmanager
    def connecting(self, port: int, sender: str, to: str) -> Iterator[Sender]:
        """Connect to some port; nothing is sent."""
        with plaintext(port, to) as bare:
            stream = Sender(bare, sender, to)
            try:
                yield stream
            finally:
                stream.connection.close()

    @contextlib.contextmanager
    def authenticated(self, **how: object) -> Iterator[Sender]:
        """As `incoming`, with the certificate of `REMOTE` and SASL EXTERNAL done."""
        given = {"pair": self.certificates[REMOTE], **how}
        with self.incoming(**given) as stream:  # type: ignore[arg-type]
            stream.authenticate()
            yield stream

    def ended(self, listener: str, since: int) -> dict[str, str]:
        """Wait for the end of a session of a listener; return the fields of its summary.

        Our own servers leave, for whom the service would wait.
        """
        for server in (self.legacy, self.apart):
            for connection in server.connections:
                connection.close()
        end = time.monotonic() + SECONDS
        while True:
            for line in self.service.lines(since):
                if " session ended " in line and f" listener={listener} " in line:
                    return {name: value.strip('"') for name, value in _FIELD.findall(line)}
            assert time.monotonic() < end, f"no session ends: {self.service.lines(since)}"
            time.sleep(0.005)

    def now(self) -> int:
        """Return how many lines the log has."""
        return len(self.service.lines())


_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def context_of(
    authority: Authority,
    pair: Pair | None = None,
    version: str | None = None,
    protocols: Sequence[str] = ("xmpp-server",),
) -> ssl.SSLContext:
    """Return how a server of the network speaks TLS when it connects; as `Grounds.incoming`."""
    context = ssl.create_default_context(cafile=str(authority.ca_path))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if pair is not None:
        context.load_cert_chain(*pair)
    if version is not None:
        only = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = only
    return context


def believe(grounds: Grounds, inbound: Connection, stream_id: str, to: str = LEGACY) -> None:
    """Let the legacy server be asked for a pair by the proxy, verify its key, and grant it.

    The question goes out on a stream of its own, as it does in life. Nothing passes until then.
    """
    asked = inbound.read_until(rb"</db:result>").decode()
    (found,) = re.findall(r"<db:result [^>]*from='?\"?([^'\" ]+)[^>]*>([^<]+)</db:result>", asked)
    sender, key = found
    grounds.service.secrets.add(key)
    with grounds.outgoing(to, sender) as stream:
        stream.open()
        stream.send(verify(to, sender, stream_id, key))
        said = stream.read_until("<db:verify [^>]*>")
        assert re.search("type=['\"]valid['\"]", said), said
        assert f'id="{stream_id}"' in said or f"id='{stream_id}'" in said
    inbound.socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        inbound.socket.recv(1)
    inbound.socket.settimeout(SECONDS)
    inbound.send(answer(to, sender).encode())
