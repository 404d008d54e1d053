"""The daemon as a process, with forward listeners and a keyring that its operator decides about.

What a server shows is the hostile server's business; each test takes a domain of its own, so that
nothing that the keyring has of another one counts for it.
"""

import datetime as dt
import itertools
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
from lxml import etree
from OpenSSL import SSL

from proxy.trust.keyring.database import FILE_NAME
from proxy.trust.keyring.entry import Entry, Held
from proxy.trust.keyring.store import Keyring
from tests.authority import self_signed
from tests.net.client import AUTH, BIND, connected, log_in, read_all
from tests.net.forward import ERRORS, MESSAGE, STREAMS, configuration, greeting, told_nothing
from tests.net.front import Front
from tests.net.hostile import Hostile, Patient, Peer, Secure
from tests.servers.program import HOST
from tests.servers.stream import Stream, plaintext

RULES = {"legacy": "required", "report": "report"}
PATIENCE = 600
"""Seconds that sessions wait for an operator, where one comes: longer than any test lasts."""

SHORT = 1.0
"""The same, in tests in which none comes."""

COMMAND = Path(sys.executable).with_name("bascule")
OPERATOR = "olga"

_numbers = itertools.count(1)


def fresh(kind: str) -> str:
    """Return a domain that no other test has, of those that a policy for ``kind`` is about."""
    return f"d{next(_numbers)}.{kind}.example"


def with_level(kind: str, port: int, **more: object) -> dict[str, object]:
    """Return a policy for all domains of a kind, whose server is on a port of loopback."""
    return {"domain": f"*.{kind}.example", "server": f"{HOST}:{port}", **more}


def alone(directory: Path, domain: str) -> tuple[Path, Path]:
    """Return a certificate that nobody vouches for but itself, another one each time."""
    own = directory / f"self-{next(_numbers)}"
    own.mkdir()
    return self_signed(own, domain)


def answering(context: SSL.Context) -> Secure:
    """Return how TLS is begun with a context that several connections share."""

    def secure(peer: Peer) -> None:
        connection = Patient(context, peer.socket)
        connection.set_accept_state()
        connection.do_handshake()
        peer.socket = connection
        peer._secured = True
        peer._read = 0

    return secure


def server_context(pair: tuple[Path, Path]) -> SSL.Context:
    """Return a server's context with a certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(pair[0]))
    context.use_privatekey_file(str(pair[1]))
    context.set_alpn_select_callback(lambda _connection, _offered: b"xmpp-client")
    return context


def go_on(stream: Stream) -> None:
    """Log in by a stream whose first header has been sent."""
    stream.read_until("</stream:features>")
    stream.send(AUTH)
    stream.read_until("<success [^>]*/>")
    stream.send_header()
    stream.read_until("</stream:features>")
    stream.send(BIND)
    stream.read_until("</iq>")


@attrs.frozen
class Said:
    """How a session was refused: the stream error, and its text."""

    condition: str
    text: str

    @property
    def held_id(self) -> str:
        """The id of the certificate that is held."""
        found = re.search(r"\((\S+) in the keyring\)", self.text)
        assert found is not None, self.text
        return found[1]


def refusal_in(said: bytes) -> Said:
    """Read the one stream error that a client gets, in a whole stream."""
    [error] = etree.fromstring(said)
    assert error.tag == f"{STREAMS}error", said
    condition, text = error
    assert text.tag == f"{ERRORS}text"
    assert text.text is not None
    return Said(etree.QName(condition).localname, text.text)


class Operated(Front):
    """A daemon and its operator.

    Args:
        directory: its state; the keyring is there.
        policies: tables ``[[policy]]``.
        names: the port of the name server; None for the system's.
        tables: what else stands in the conf, by the name of the table.
        keyring: the directory of the keyring, where that is another's too.
        rules: the ``tls`` of each listener by its name.
        environment: variables for the daemon.
    """

    def __init__(
        self,
        directory: Path,
        policies: Sequence[Mapping[str, object]],
        *,
        names: int | None = None,
        tables: Mapping[str, Mapping[str, object]] | None = None,
        keyring: Path | None = None,
        rules: Mapping[str, str] = RULES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = keyring or directory / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.control = directory / "control"
        own = {"state_directory": str(self.state), "control_socket": str(self.control)}
        every = {"bascule": own, **(tables or {})}
        super().__init__(directory, [], listeners=rules, tables=every, environment=environment)
        self._policies = list(policies)
        self._names = names

    def configuration(self) -> str:
        return configuration(
            self._policies,
            names=self._names,
            listeners=self.named,
            rules=self.rules,
            tables=self._tables,
        )

    # What its operator does

    @contextmanager
    def keyring(self) -> Iterator[Keyring]:
        """Open the keyring beside the daemon."""
        with closing(Keyring(self.state / FILE_NAME, create=False)) as opened:
            yield opened

    def command(self, *words: str) -> str:
        """Run ``bascule keyring``, which must succeed; return what it prints."""
        name, *rest = words
        done = subprocess.run(
            [COMMAND, "keyring", name, "-c", self.configuration_path, *rest],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def commanded(self, *words: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.command(*words, "--json"))

    def held(self, domain: str) -> list[Held]:
        """Return what is held of a domain."""
        with self.keyring() as keyring:
            return list(keyring.all_held(domain))

    def entries(self, domain: str) -> list[Entry]:
        """Return what the keyring has of a domain."""
        with self.keyring() as keyring:
            return list(keyring.entries(domain))

    def decide(self, held_id: str, *, permitted: bool = True) -> None:
        """Decide about a certificate that is held, as the commands do."""
        with self.keyring() as keyring:
            decide = keyring.approve if permitted else keyring.reject
            decide(held_id, OPERATOR, dt.datetime.now(dt.UTC))

    # What happens before it

    def refused(self, hostile: Hostile, domain: str, listener: str = "legacy") -> Said:
        """Have a client say all at once, and be refused; nothing of it goes to the server."""
        with connected(self.named[listener]) as connection:
            connection.sendall((greeting(domain) + AUTH + MESSAGE).encode())
            said = read_all(connection)
        for peer in hostile.settle():
            told_nothing(peer, domain)
        return refusal_in(said)

    def login(self, hostile: Hostile, domain: str, listener: str = "legacy") -> None:
        """Log a client in."""
        with plaintext(self.named[listener], domain) as stream:
            log_in(stream)
            hostile.next().close()

    def waiting(self, domain: str, listener: str = "legacy") -> Stream:
        """Return a client whose session waits."""
        stream = Stream(self.connect(listener), domain)
        since = self.log().count("the session waits")
        stream.send_header()
        self.until(lambda: self.log().count("the session waits") > since)
        return stream

    def connect(self, listener: str = "legacy") -> socket.socket:
        """Connect to a listener; nothing is sent."""
        return socket.create_connection((HOST, self.named[listener]))

    def alerts(self, domain: str) -> list[str]:
        """Return the lines of the log that tell of alerts about a domain."""
        return [
            line
            for line in self.log().split("\n")
            if " alert=" in line and f" domain={domain} " in line
        ]

    def until(self, done: Callable[[], object], seconds: float = 20) -> None:
        """Wait until something is true."""
        self._wait(lambda: bool(done()), "what was waited for", seconds)
