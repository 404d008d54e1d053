"""Plugins of another distribution, installed by its entry points, in a running daemon."""

import contextlib
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.net.client import FOOTER, log_in, logged_in, offered, secure
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.stream import plaintext

HOOKS = [
    "client_connected",
    "stream_opened",
    "element",
    "client_hello",
    "features",
    "tls_established",
    "authenticated",
    "stanza",
]

CODE = '''
import attrs
from proxy.session.hooks import (
    Condition, Continue, Direction, Plugin, Reject, Replace, Reply, Stanzas, option
)

@attrs.frozen
class FaultConfig:
    hook: str = option(default="", help="Where to fail.")

class Fault(Plugin):
    """Raises in the hook that its conf names."""
    name = "fault"
    Config = FaultConfig
    stanzas = (Stanzas(Direction.TO_SERVER),)

    def __init__(self, config):
        self.hook = config.hook

def _hook(name):
    def method(self, view, *_):
        if name == self.hook and view.listener != "second":
            raise RuntimeError("made\\nup")
        return Continue()
    return method

for name in (
    "client_connected", "stream_opened", "element", "client_hello", "features",
    "tls_established", "authenticated", "stanza", "session_closed",
):
    setattr(Fault, "on_" + name, _hook(name))

@attrs.frozen
class CensorConfig:
    word: str = option(default="censored", help="What may not be said.")

class Censor(Plugin):
    """Watches messages in both directions."""
    name = "censor"
    Config = CensorConfig
    stanzas = tuple(
        Stanzas(direction, frozenset(["{jabber:client}message"])) for direction in Direction
    )

    def __init__(self, config):
        self.word = config.word

    def on_stanza(self, view, direction, stanza):
        body = stanza.tree.findtext("{jabber:client}body") or ""
        if self.word in body:
            return Reject(Condition.POLICY_VIOLATION, "this may not be said")
        if body == "drop":
            return Replace(b"")
        if body == "replace":
            return Replace(b"<message><body>replaced</body></message>")
        if body == "reply":
            return Reply(b"<message type='error'/>")
        return Continue()
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a distribution in it, as pip leaves one."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "strange_plugins.py").write_text(textwrap.dedent(CODE))
    about = directory / "strange_plugins-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-plugins\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[bascule.plugins]\nfault = strange_plugins:Fault\ncensor = strange_plugins:Censor\n"
    )
    return directory


def front_with(
    directory: Path, domains: list[Served], installed: Path, plugin: str, **config: object
) -> Front:
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    return Front(
        directory,
        domains,
        listeners={"c2s": "required", "second": "required"},
        tables={
            "plugins": {"chain": ["require_tls", plugin, "features", "limits"]},
            f"plugins.{plugin}": config,
        },
        environment={"PYTHONPATH": path.rstrip(os.pathsep)},
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_a_plugin_that_raises_ends_its_session_and_not_the_daemon(
    tmp_path: Path,
    domains: list[Served],
    installed: Path,
    legacy: LegacyServer,
    authority: Authority,
    *,
    hook: str,
) -> None:
    with front_with(tmp_path, domains, installed, "fault", hook=hook) as front:
        with plaintext(front.port, DOMAIN) as stream:
            if hook == "client_hello":
                with pytest.raises(OSError, match=r"(?i)alert|EOF|reset"):
                    secure(stream, authority.ca_path)
            elif hook in ("client_connected", "stream_opened"):
                stream.send_header()
                answer = stream.read_to_end()
            else:
                secure(stream, authority.ca_path)
                if hook == "stanza":
                    log_in(stream)
                    stream.send("<presence/>")
                else:
                    # As far as the server lets it get; the hook ends it on the way.
                    with pytest.raises(AssertionError, match="the stream ended") as ended:
                        log_in(stream)
                    stream._buffer = str(ended.value).encode()
                answer = stream.read_to_end()
            if hook != "client_hello":
                assert "<internal-server-error " in answer
                assert FOOTER in answer
        front.wait_for_log(f"plugin failed: on_{hook} raised")
        assert "\nup" not in front.log()
        if hook != "client_connected":
            with plaintext(front.named["second"], DOMAIN) as stream:
                secure(stream, authority.ca_path)
                log_in(stream)
        assert front.alive()
        legacy.forget()  # or the daemon waits for it when it stops


def test_a_plugin_that_raises_at_the_end_ends_nothing_else(
    tmp_path: Path,
    domains: list[Served],
    installed: Path,
    legacy: LegacyServer,
    authority: Authority,
) -> None:
    with front_with(tmp_path, domains, installed, "fault", hook="session_closed") as front:
        for _ in range(2):
            with logged_in(front.port, authority.ca_path):
                legacy.next().close()
        front.wait_for_log("on_session_closed raised")
        front.wait_for_log(f"domain={DOMAIN}")
        assert front.alive()


@pytest.fixture
def censored(
    tmp_path: Path, domains: list[Served], installed: Path, legacy: LegacyServer
) -> Iterator[Front]:
    with front_with(tmp_path, domains, installed, "censor", word="fnord") as front:
        yield front
        assert front.alive()
        legacy.forget()  # or the daemon waits for it when it stops


def test_a_plugin_sees_replaces_and_answers_stanzas_after_login(
    censored: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(censored.port, authority.ca_path) as stream:
        server = legacy.next()
        stream.send(
            "<message><body>pass</body></message> <presence/>"
            "<message><body>drop</body></message>"
            "<message><body>replace</body></message>"
            "<message><body>reply</body></message><iq/>"
        )
        assert server.read_until(b"<iq/>") == (
            b"<message><body>pass</body></message> <presence/>"
            b"<message><body>replaced</body></message><iq/>"
        )
        assert stream.read_until("/>") == "<message type='error'/>"
        server.send(
            b"<message><body>drop</body></message>"
            b"<message><body>reply</body></message><message><body>replace</body></message>\n<iq/>"
        )
        assert stream.read_until("<iq/>") == "<message><body>replaced</body></message>\n<iq/>"
        assert server.read_until(b"/>") == b"<message type='error'/>"


def test_attack_13_a_slow_reader_pauses_the_other_leg_where_stanzas_are_watched(
    censored: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """The server floods, the client does not read: what the proxy holds stays small."""
    stanza = b"<message><body>" + b"x" * 16_000 + b"</body></message>"
    with logged_in(censored.port, authority.ca_path) as stream:
        server = legacy.next()
        before = censored.resident()
        server.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200 << 20:
                sent += server.socket.send(stanza[sent % len(stanza) :])
        assert sent < 200 << 20, "the source was never paused"
        assert censored.resident() - before < 8 << 20
        got = 0
        while got < sent - len(stanza):
            data = stream.connection.recv(1 << 20)
            assert data
            got += len(data)


@pytest.mark.parametrize("from_client", [True, False], ids=["client", "server"])
def test_a_plugin_may_end_a_session_for_a_stanza(
    censored: Front, legacy: LegacyServer, authority: Authority, *, from_client: bool
) -> None:
    with logged_in(censored.port, authority.ca_path) as stream:
        server = legacy.next()
        said = "<message><body>fnord</body></message>"
        if from_client:
            stream.send(said)
        else:
            server.send(said.encode())
        answer = stream.read_to_end()
        assert answer.startswith("<stream:error><policy-violation ")
        assert "this may not be said" in answer
        assert answer.endswith(FOOTER)
        assert b"fnord" not in server.read_to_end()


def test_a_large_stanza_passes_a_plugin_that_watches(
    censored: Front, legacy: LegacyServer, authority: Authority
) -> None:
    stanza = "<message><body>" + "ß" * 100_000 + "</body></message>"
    with logged_in(censored.port, authority.ca_path) as stream:
        server = legacy.next()
        for _ in range(3):
            stream.send(stanza)
            assert stanza.encode() == server.read(len(stanza.encode()))
            server.send(stanza.encode())
            assert stanza == stream.read_until("</message>")


def test_a_plugin_that_is_not_installed_is_a_mistake_in_the_conf(
    tmp_path: Path, domains: list[Served]
) -> None:
    front = Front(tmp_path, domains, tables={"plugins": {"chain": ["require_tls", "censor"]}})
    with pytest.raises(RuntimeError, match=r'(?s)exit status 78.*"censor"'):
        front.start()


def test_the_other_domain_is_served_by_the_same_plugins(
    censored: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(censored.port, authority.ca_path, domain=OTHER_DOMAIN) as stream:
        server = legacy.next()
        stream.send("<message><body>fnord</body></message>")
        assert "<policy-violation " in stream.read_to_end()
        assert b"fnord" not in server.read_to_end()


def test_starttls_is_still_what_comes_first(censored: Front, legacy: LegacyServer) -> None:
    with plaintext(censored.port, DOMAIN) as stream:
        offered(stream)
        stream.send("<message><body>pass</body></message>")
        assert "<policy-violation " in stream.read_to_end()
    assert not legacy.connections
