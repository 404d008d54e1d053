"""Federation on the wire: the service, a legacy server before it, and a server of the network.

The legacy server takes streams by rote (`tests.net.legacy`) and opens its own through the forward
listener. The other one is taken for any domain: it accepts connections and does what its script
says (`tests.net.hostile`), and it connects with the certificate that a test gives it.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from tests.authority import Authority
from tests.net import hostile
from tests.net.forward import Logged, conf_table
from tests.net.front import Front
from tests.net.hostile import MECHANISMS, Hostile, Peer, Script
from tests.net.legacy import Connection, LegacyServer
from tests.net.legacy import Script as LegacyScript
from tests.net.name_server import NameServer
from tests.servers.program import HOST
from tests.servers.stream import STARTTLS, Stream, plaintext

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

KEY = "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3"
"""A dialback key that is not ours."""

LISTENERS = {"in": ("reverse", "required"), "out": ("forward", "required")}
CLOSED_PORT = 1

SERVER = "jabber:server"
DIALBACK = "xmlns:db='jabber:server:dialback'"
FEATURES = b"<stream:features/>"
EXTERNAL = MECHANISMS.replace(b"PLAIN", b"EXTERNAL")
AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>"
FAILURE = (
    b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure></stream:stream>"
)
END = "</stream:stream>"

Pair = tuple[Path, Path]

_KEYS = re.compile(rb"<db:(?:result|verify) [^>]*>([^<]+)<")


def result(sender: str, to: str, key: str = KEY) -> str:
    """Return a request that asks for a pair of domains to be let pass."""
    return f"<db:result from='{sender}' to='{to}'>{key}</db:result>"


def verify(sender: str, to: str, stream_id: str, key: str = KEY) -> str:
    """Return a question whether a key is good."""
    return f"<db:verify from='{sender}' to='{to}' id='{stream_id}'>{key}</db:verify>"


def answer(sender: str, to: str, kind: str = "valid", stream_id: str = "") -> str:
    """Return an answer to `result`, or to `verify` where there is an id."""
    name, said = ("verify", f" id='{stream_id}'") if stream_id else ("result", "")
    return f"<db:{name} from='{sender}' to='{to}'{said} type='{kind}'/>"


def message(sender: str, to: str, body: str = "x") -> str:
    """Return a stanza."""
    return f"<message from='a@{sender}/x' to='b@{to}'><body>{body}</body></message>"


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
    for policy in ({"domain": "*"}, {"domain": STRICT, "dialback": "never"}, *policies):
        parts.append(f"[[policy]]\n{conf_table({**trusting, **policy})}")
    return "\n".join(parts)


def zone(names: NameServer, port: int) -> None:
    """Let a name server lead to the server of the network, which listens on a port."""
    names.add(HOSTING, "A", HOST)
    for domain in (REMOTE, STRICT):
        names.add(f"_xmpp-server._tcp.{domain}", "SRV", f"0 5 {port} {HOSTING}.")
    names.add(f"_xmpps-server._tcp.{DIRECT}", "SRV", f"0 5 {port} {HOSTING}.")
    names.add(f"_xmpp-server._tcp.{NOWHERE}", "SRV", f"0 5 {CLOSED_PORT} {HOSTING}.")


class FederationFront(Front):
    """The daemon as a process.

    Args:
        directory: its state.
        authority: as for `configuration`, like those that follow.
        legacy: the domains of ours.
        names: the port of the name server.
        told: domains whose server gets a PROXY header.
        proxied: listeners behind proxies.
        tables: what else stands in the conf.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        legacy: Mapping[str, int],
        names: int,
        *,
        told: Sequence[str] = (),
        proxied: Sequence[str] = (),
        tables: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        super().__init__(directory, [], listeners={name: rule for name, (_, rule) in _RULES})
        self._written = configuration(
            authority,
            legacy,
            names=names,
            listeners=self.named,
            told=told,
            proxied=proxied,
            tables=tables,
        )

    def configuration(self) -> str:
        return self._written


_RULES = tuple(LISTENERS.items())


class Federation(Logged):
    """The service in the test's own process; no dialback key may stand in its log.

    Args:
        directory: where its conf goes.
        authority: as for `configuration`, like those that follow.
        legacy: the domains of ours.
        names: the port of the name server.
        rules: the listeners.
        policies: more policies.
        tables: what else stands in the conf.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        legacy: Mapping[str, int],
        names: int,
        *,
        rules: Mapping[str, tuple[str, str]] = LISTENERS,
        policies: Sequence[Mapping[str, object]] = (),
        tables: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        written = configuration(
            authority,
            legacy,
            names=names,
            listeners=dict.fromkeys(rules, 0),
            rules=rules,
            policies=policies,
            tables=tables,
        )
        super().__init__(directory / "federation.toml", written)
        self.secrets.add(KEY)


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
    def made(
        cls,
        directory: Path,
        authority: Authority,
        *,
        rules: Mapping[str, tuple[str, str]] = LISTENERS,
        policies: Sequence[Mapping[str, object]] = (),
        tables: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Iterator[Self]:
        """Give all that, running; arguments as for `configuration`."""
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
            service = Federation(
                directory,
                authority,
                ports,
                names.port,
                rules=rules,
                policies=policies,
                tables=tables,
            )
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
        port: int | None = None,
    ) -> Iterator["Sender"]:
        """Connect as a server of the network, with TLS up and no stream begun.

        Args:
            sender: the domain that it says it is.
            to: the domain that it wants to reach.
            pair: the certificate that it shows, and its key; none.
            way: how TLS begins: ``starttls`` or ``direct``.
            version: the one version of TLS that it speaks.
            protocols: what it asks for by ALPN.
            listener: where it connects.
            port: likewise, where that is not the service's own.
        """
        context = context_of(self.authority, pair, version, protocols)
        with self.connecting(port or self.service.ports[listener], sender, to) as stream:
            if way == "starttls":
                stream.ask_for_tls()
            stream.secure(context)
            yield stream

    @contextlib.contextmanager
    def outgoing(
        self, sender: str = LEGACY, to: str = REMOTE, listener: str = "out"
    ) -> Iterator["Sender"]:
        """Connect as the legacy server; nothing is sent."""
        with self.connecting(self.service.ports[listener], sender, to) as stream:
            yield stream

    @contextlib.contextmanager
    def connecting(self, port: int, sender: str, to: str) -> Iterator["Sender"]:
        """Connect to some port; nothing is sent."""
        with plaintext(port, to) as bare:
            stream = Sender(bare, sender, to)
            try:
                yield stream
            finally:
                stream.connection.close()

    @contextlib.contextmanager
    def authenticated(self, **how: object) -> Iterator["Sender"]:
        """As `incoming`, with the certificate of `REMOTE` and SASL EXTERNAL done."""
        given = {"pair": self.certificates[REMOTE], **how}
        with self.incoming(**given) as stream:  # type: ignore[arg-type]
            stream.authenticate()
            yield stream

    def ended(self, since: int) -> dict[str, str]:
        """Wait for the end of a session; return the fields of its summary."""
        line = self.service.wait_for_line(" session ended ", since)
        return {name: value.strip('"') for name, value in _FIELD.findall(line)}

    def now(self) -> int:
        """Return how many lines the log has."""
        return len(self.service.lines())


_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|\S*)')


class Sender(Stream):
    """A server's end of a stream that it opens.

    Args:
        bare: its connection.
        sender: the domain that it says it is.
        to: the domain that it wants to reach.
    """

    def __init__(self, bare: Stream, sender: str, to: str) -> None:
        super().__init__(bare.connection, to)
        self.sender = sender
        self.to = to

    def header(self, *, version: str | None = "1.0", declared: bool = True) -> str:
        """Return its header, with a version or not, dialback declared or not."""
        said = f" version='{version}'" if version else ""
        return (
            f"<?xml version='1.0'?><stream:stream from='{self.sender}' to='{self.to}'{said}"
            f" xmlns='{SERVER}' xmlns:stream='http://etherx.jabber.org/streams'"
            f"{' ' + DIALBACK if declared else ''}>"
        )

    def open(self, *, version: str | None = "1.0", declared: bool = True) -> str:
        """Open a stream; return the header that answers."""
        self.send(self.header(version=version, declared=declared))
        return self.read_until("<stream:stream [^>]*>")

    def ask_for_tls(self) -> None:
        """Get to where TLS begins."""
        self.open()
        self.read_until("</stream:features>")
        self.send(STARTTLS)
        self.read_until("<proceed [^>]*/>")

    def authenticate(self) -> None:
        """Do SASL EXTERNAL, and open the stream that follows."""
        self.open()
        assert "<mechanism>EXTERNAL</mechanism>" in self.read_until("</stream:features>")
        self.send(AUTH)
        self.read_until("<success [^>]*/>")
        self.open()
        assert "EXTERNAL" not in self.read_until(_FEATURES)

    def let_pass(self, receiver: Connection | Peer) -> None:
        """Do dialback, which the other end of the stream grants."""
        self.send(result(self.sender, self.to))
        receiver.read_until(rb"</db:result>")
        receiver.send(answer(self.to, self.sender).encode())
        assert "type='valid'" in self.read_until("<db:result [^>]*/>")

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        before = self.connection.gettimeout()
        self.connection.settimeout(seconds)
        try:
            self._buffer += self.connection.recv(65536)
        except TimeoutError:
            return not self._buffer
        finally:
            self.connection.settimeout(before)
        return False


_FEATURES = "<stream:features/>|</stream:features>"


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


# What the legacy server does with a stream


def taking(
    prefix: str = "legacy", *, features: bytes = FEATURES, version: bool = True
) -> LegacyScript:
    """Return a script that answers a header; ids are the prefix and a number, from 1 on."""
    count = iter(range(1, 1_000_000))

    def taken(connection: Connection) -> None:
        stream_id = f"{prefix}-{next(count)}"
        connection.read_until(hostile.STREAM)
        connection.send(header(stream_id, version=version) + (features if version else b""))

    return taken


def header(stream_id: str, *, version: bool = True) -> bytes:
    """Return the header with which a server answers another."""
    opening = hostile.header(stream_id, version=version, content=SERVER)
    return opening.replace(b" xml:lang", f" {DIALBACK} xml:lang".encode())


def believe(grounds: Grounds, inbound: Connection, stream_id: str, to: str = LEGACY) -> None:
    """Let the legacy server be asked for a pair by the proxy, verify its key, and grant it.

    The question goes out on a stream of its own, as it does in life.
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
    inbound.send(answer(to, sender).encode())


# What the server of the network does with a stream


def script(
    pair: Pair,
    then: Script | None = None,
    *,
    direct: bool = False,
    newest: int | None = None,
    asking: bool = True,
) -> Script:
    """Return a script that begins TLS and goes on, by answering the stream with no features.

    Args:
        pair: the certificate that it shows, and its key.
        then: what it does under TLS.
        direct: whether TLS comes first, or STARTTLS.
        newest: the newest version of TLS.
        asking: whether it asks for a certificate.
    """
    then = then or opened()

    def secured(peer: Peer) -> None:
        if not direct:
            hostile.proceed(peer, SERVER)
        newer = {} if newest is None else {"newest": newest}
        peer.secure(*pair, protocol=b"xmpp-server", asking=asking, **newer)
        then(peer)

    return secured


def opened(
    stream_id: str = "remote-1", features: bytes = FEATURES, *, version: bool = True
) -> Script:
    """Return what answers a header; the test goes on from there."""

    def answered(peer: Peer) -> None:
        peer.read_until(hostile.STREAM)
        peer.established = True
        peer.send(header(stream_id, version=version) + (features if version else b""))

    return answered


def accepting(stream_id: str = "remote-2", said: bytes = hostile.SUCCESS) -> Script:
    """Return what offers SASL EXTERNAL, accepts it and answers the header that follows."""

    def accepted(peer: Peer) -> None:
        offering(peer)
        peer.read_until(b"</auth>")
        peer.send(said)
        opened(stream_id)(peer)

    return accepted


def refusing(said: bytes = FAILURE) -> Script:
    """Return what offers SASL EXTERNAL, and says something else than yes; nothing: it closes."""

    def refused(peer: Peer) -> None:
        offering(peer)
        peer.read_until(b"</auth>")
        if said:
            peer.send(said)
        else:
            peer.close()

    return refused


def offering(peer: Peer) -> None:
    """Answer a header, and offer SASL EXTERNAL."""
    peer.read_until(hostile.STREAM)
    peer.send(header("remote-0") + EXTERNAL)
