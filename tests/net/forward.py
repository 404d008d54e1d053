"""A service with forward listeners in the test's own process, and what is around it.

Around it are a hostile server and a name server that leads there. `Forward.refusal` has a client
without TLS say all it has at once, and judges what became of it.
"""

import contextlib
import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
from lxml import etree
from OpenSSL import SSL
from twisted.logger import globalLogPublisher

from proxy.daemon.log import Log
from proxy.xmpp.headers import opening
from tests.authority import Authority
from tests.net.client import AUTH, SECRET, connected, log_in, read_all
from tests.net.front import Front
from tests.net.hostile import Hostile, Peer
from tests.net.in_process import InProcess
from tests.net.name_server import NameServer
from tests.servers.bascule import housed
from tests.servers.program import HOST
from tests.servers.stream import STARTTLS, plaintext

HOSTING = "xmpp.hosting.example"
"""The name of the machine to which SRV records lead."""

LISTENERS = {"legacy": "required", "report": "report"}
PASSWORD = "exceedinglysecret"
"""What stands in `SECRET`."""

MOLE = "x-mole"
"""The language that the client's header asks for; no other header does."""

MESSAGE = f"<message to='bob@example.net'><body>{MOLE} application data</body></message>"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error|critical) .+")
STREAMS = "{http://etherx.jabber.org/streams}"
ERRORS = "{urn:ietf:params:xml:ns:xmpp-streams}"


def greeting(domain: str, version: str | None = "1.0") -> str:
    """Return a client's header that is known again wherever it turns up."""
    said = f" version='{version}'" if version else ""
    return (
        f"<?xml version='1.0'?><stream:stream to='{domain}' from='{MOLE}@{domain}'{said}"
        f" xml:lang='{MOLE}' xmlns='jabber:client'"
        " xmlns:stream='http://etherx.jabber.org/streams'>"
    )


@attrs.frozen
class Refusal:
    """How a session was refused.

    Attributes:
        condition: the stream error.
        text: its text.
        lines: what the log got.
        peers: the connections to the hostile server.
    """

    condition: str
    text: str
    lines: list[str]
    peers: list[Peer]


def configuration(
    policies: Sequence[Mapping[str, object]],
    *,
    names: int | None = None,
    listeners: Mapping[str, int],
    rules: Mapping[str, str],
    tables: Mapping[str, Mapping[str, object]] | None = None,
) -> str:
    """Return a conf.

    Args:
        policies: the tables ``[[policy]]``.
        names: the port of the name server; None for the system's.
        listeners: the port of each listener by its name.
        rules: the ``tls`` of each listener.
        tables: what else stands in it, by the name of the table.
    """
    every: dict[str, Mapping[str, object]] = {
        "plugins.limits": {"connections_per_address": 0},
        **(tables or {}),
    }
    if names is not None:
        every["dns"] = {"servers": [f"{HOST}:{names}"]}
    parts = [f"[{name}]\n{conf_table(table)}" for name, table in every.items()]
    for name, port in listeners.items():
        table = {
            "name": name,
            "direction": "forward",
            "stream": "c2s",
            "address": f"{HOST}:{port}",
            "tls": rules[name],
            "domains": ["*"],
        }
        parts.append(f"[[listener]]\n{conf_table(table)}")
    parts += [f"[[policy]]\n{conf_table(policy)}" for policy in policies]
    return "\n".join(parts)


def _trusting(authority: Authority, policy: Mapping[str, object]) -> Mapping[str, object]:
    """Return a policy that trusts the authority, where it matters who is trusted."""
    if policy.get("level", "secure") != "secure":
        return policy
    return {"ca_file": str(authority.ca_path), **policy}


def conf_table(table: Mapping[str, object]) -> str:
    """Return the lines of a table."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'


def told_nothing(peer: Peer, domain: str) -> None:
    """Assert that a server got nothing but the proxy's own header, ``<starttls/>`` and handshake.

    Where it did not turn to TLS itself, records of TLS may have come to it: handshake and alerts.
    """
    assert peer.sealed == b""
    rest = peer.plain.removeprefix(opening(domain)).removeprefix(STARTTLS)
    while rest and not isinstance(peer.error, SSL.Error):  # which has taken parts of records
        assert rest[0] in (0x15, 0x16), peer.plain
        assert rest[1] == 3
        rest = rest[5 + int.from_bytes(rest[3:5]) :]
    assert MOLE.encode() not in peer.plain
    assert SECRET.encode() not in peer.plain


class Logged(InProcess):
    """The service, on a reactor of its own in a thread, and its log.

    Args:
        path: where its conf goes.
        written: its conf.

    Attributes:
        secrets: what must stand nowhere in the log.
        ports: the port of each listener by its name.
    """

    def __init__(self, path: Path, written: str) -> None:
        path.write_text(housed(written, path.parent))
        self._stream = io.StringIO()
        log = Log(self._stream)
        super().__init__(path, log)
        self._observer = log
        self.secrets = {SECRET, PASSWORD}
        self.ports: Mapping[str, int] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self.ports = self._service.ports()
        globalLogPublisher.addObserver(self._observer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.running, "the service has died"
        super().__exit__(kind, error, trace)
        globalLogPublisher.removeObserver(self._observer)
        self.lines()

    def lines(self, since: int = 0) -> list[str]:
        """Return the lines of the log; none is broken, forged, or tells what is secret."""
        lines = self._stream.getvalue().splitlines()[since:]
        for line in lines:
            assert LINE.fullmatch(line), line
            assert line.isprintable()
            assert not any(secret in line for secret in self.secrets), line
        return lines

    def wait_for_line(self, part: str, since: int = 0) -> str:
        """Return the first line of the log that has something in it."""
        end = time.monotonic() + 20
        while True:
            found = [line for line in self.lines(since) if part in line]
            if found:
                return found[0]
            assert time.monotonic() < end, f"the log lacks {part!r}: {self.lines(since)}"
            time.sleep(0.002)


class Forward(Logged):
    """The service, on a reactor of its own in a thread; what a test replaces in it holds.

    Args:
        directory: where its conf goes.
        authority: whom it trusts.
        hostile: the server that it meets.
        names: its name server, which is told of `HOSTING`.
        policies: tables ``[[policy]]`` besides one for all domains, which lets DNS lead to
            loopback.
        rules: the ``tls`` of each listener by its name.
        tables: what else stands in the conf.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        hostile: Hostile,
        names: NameServer,
        *,
        policies: Sequence[Mapping[str, object]] = (),
        rules: Mapping[str, str] | None = None,
        tables: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        rules = rules or LISTENERS
        every = {"domain": "*", "private_addresses": True}
        written = configuration(
            [_trusting(authority, policy) for policy in (every, *policies)],
            names=names.port,
            listeners=dict.fromkeys(rules, 0),
            rules=rules,
            tables=tables,
        )
        super().__init__(directory / "forward.toml", written)
        self.hostile = hostile
        names.add(HOSTING, "A", HOST)

    def login(self, domain: str, listener: str = "legacy") -> list[str]:
        """Log a client in; return the lines of the log, the summary included."""
        since = len(self.lines())
        with plaintext(self.ports[listener], domain) as stream:
            log_in(stream)
            self.hostile.next().close()
        self.wait_for_line("session ended", since)
        return self.lines(since)

    def attempt(self, domain: str, listener: str = "legacy", version: str | None = "1.0") -> bytes:
        """Say all that a client has to say at once; return the answer."""
        with connected(self.ports[listener]) as connection:
            connection.sendall((greeting(domain, version) + AUTH + MESSAGE).encode())
            return read_all(connection)

    def refusal(
        self, domain: str, listener: str = "legacy", version: str | None = "1.0"
    ) -> Refusal:
        """Attempt it, and be refused as one should be.

        The server gets nothing of the client's; the client gets one whole stream with one error;
        the log is fit to be read.
        """
        since = len(self.lines())
        said = self.attempt(domain, listener, version)
        self.wait_for_line("session ended", since)
        peers = self.hostile.settle()
        for peer in peers:
            told_nothing(peer, domain)
        stream = etree.fromstring(said)
        assert stream.tag == f"{STREAMS}stream"
        assert (stream.get("from"), stream.get("version")) == (domain, version)
        assert len(stream.get("id", "")) > 10
        assert stream.get("to") == f"{MOLE}@{domain}"
        (error,) = stream
        condition, text = error
        assert error.tag == f"{STREAMS}error"
        assert text.tag == f"{ERRORS}text"
        assert text.text is not None
        assert re.fullmatch(r"[ -~…]{10,260}", text.text)
        lines = self.lines(since)
        assert not any("Verified TLS" in line for line in lines)
        assert [line for line in lines if "fault in a session" in line] == []
        return Refusal(etree.QName(condition).localname, text.text, lines, peers)


class ForwardFront(Front):
    """The daemon as a process, with one forward listener.

    Args:
        directory: its state.
        authority: whom it trusts.
        met: what the policies say of domains, besides where their server is.
        server: the port of that server.
    """

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        met: Mapping[str, Mapping[str, object]],
        server: int,
    ) -> None:
        super().__init__(directory, [], listeners={"legacy": "required"})
        place = {"server": f"{HOST}:{server}"}
        self._policies = [
            _trusting(authority, {"domain": domain, **place, **more})
            for domain, more in met.items()
        ]

    def configuration(self) -> str:
        return configuration(self._policies, listeners=self.named, rules=self.rules)


@contextlib.contextmanager
def meeting(
    directory: Path,
    authority: Authority,
    met: Mapping[str, Mapping[str, object]],
    *,
    others: Sequence[Mapping[str, object]] = (),
    names: NameServer | None = None,
    tables: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[Forward]:
    """Run a service for whose domains there is a hostile server.

    Args:
        directory: where its conf goes.
        authority: whom it trusts.
        met: what else the policies say of domains whose server is the hostile one.
        others: policies of other domains.
        names: the name server; one that knows `HOSTING` only.
        tables: what else stands in the conf.
    """
    with contextlib.ExitStack() as stack:
        hostile = stack.enter_context(Hostile())
        if names is None:
            names = stack.enter_context(NameServer())
        place = f"{HOST}:{hostile.port}"
        policies = [{"domain": domain, "server": place, **more} for domain, more in met.items()]
        policies += map(dict, others)
        yield stack.enter_context(
            Forward(directory, authority, hostile, names, policies=policies, tables=tables)
        )
