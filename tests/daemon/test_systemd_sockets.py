"""Sockets that systemd opens: ``address = "systemd:NAME"``."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from proxy.daemon.activation import Activation
from proxy.daemon.check import summary
from proxy.daemon.conf import Loaded, build
from proxy.daemon.endpoints import Endpoint, PassedPlace, listening_place
from proxy.daemon.files import Document
from proxy.daemon.show import show
from proxy.net.passed import Passed, PassedSockets
from proxy.net.transparent import take_any_destination
from tests.authority import Authority
from tests.daemon.conf_fakes import PLUGINS
from tests.daemon.reloaded import bascule
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.program import HOST, RUNNING
from tests.servers.stream import Stream, plaintext

BASCULE = Path(sys.executable).with_name("bascule")
FILE = Path("/etc/bascule/bascule.toml")
ACTIVATE = """\
import os, sys
names, descriptors, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for place, descriptor in enumerate(descriptors, start=3):
    os.dup2(int(descriptor), place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""
"""Stands in for systemd between its fork and its exec."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# The conf


@pytest.mark.parametrize("text", ["systemd:c2s", "systemd:bascule.socket", "systemd:" + "n" * 255])
def test_names_are_read_and_written(text: str) -> None:
    place = listening_place(text)
    assert isinstance(place, PassedPlace)
    assert str(place) == text
    assert place.endpoints == ()


@pytest.mark.parametrize("text", ["systemd:", "systemd:a:b", "systemd:ä", "systemd:a b", "x:c2s"])
def test_names_that_systemd_cannot_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no name of sockets|port is not a number"):
        listening_place(text)


def test_an_address_stays_an_address() -> None:
    assert listening_place("[::]:5222") == Endpoint("::", 5222)
    assert listening_place("[::]:5222").endpoints == (Endpoint("::", 5222),)


def closed(descriptor: int) -> None:
    with suppress(OSError):  # who took it has closed it
        os.close(descriptor)


def forward(**more: object) -> dict[str, object]:
    table = {"name": "a", "direction": "forward", "stream": "c2s", "domains": ["*"]}
    return {**table, "address": "systemd:c2s", **more}


def built(
    listeners: Sequence[Mapping[str, object]],
    activation: Activation | None,
    **tables: object,
) -> Loaded:
    content = {"listener": [dict(each) for each in listeners], **tables}
    return build([Document(FILE, content)], PLUGINS, main=FILE, activation=activation)


def activation(opened: ExitStack, *servers: socket.socket) -> Activation:
    """What a process has that these sockets were passed to as ``c2s``."""
    found = [Passed("c2s", os.dup(server.fileno())) for server in servers]
    for each in found:
        opened.callback(closed, each.descriptor)
    return Activation(PassedSockets(found))


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


def test_by_hand_sockets_are_not_looked_at_and_that_is_said() -> None:
    loaded = built([forward()], None)
    assert loaded.conf is not None
    assert loaded.cautions == ()
    text = summary(loaded.conf, [])
    assert "\na         systemd:c2s  forward c2s" in text
    assert "systemd passes these sockets to the service alone; here nothing checks them" in text
    assert 'address = "systemd:c2s"' in show(loaded.conf)
    ordinary = built([forward(address="127.0.0.1:5222")], None).conf
    assert ordinary is not None
    assert "systemd passes" not in summary(ordinary, [])


def test_a_listener_has_all_sockets_of_its_name(opened: ExitStack, server: socket.socket) -> None:
    other = opened.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    found = activation(opened, server, other)
    conf = built([forward()], found).conf
    assert conf is not None
    place = conf.listeners[0].address
    assert isinstance(place, PassedPlace)
    expected = [Endpoint(HOST, server.getsockname()[1]), Endpoint("::1", other.getsockname()[1])]
    assert list(place.endpoints) == expected
    taken = [opened.enter_context(each) for each in found.sockets(place)]
    assert [each.getsockname()[1] for each in taken] == [each.port for each in expected]
    assert found.left() == ()


def test_a_name_that_was_not_passed_is_a_mistake(opened: ExitStack, server: socket.socket) -> None:
    loaded = built([forward(address="systemd:other")], activation(opened, server))
    [mistake] = loaded.mistakes
    assert str(mistake) == (
        f'{FILE}: listener "a".address: systemd has passed no socket named other (passed and free: '
        "c2s); a socket unit with FileDescriptorName=other must be active when it starts the "
        "service"
    )
    [mistake] = built([forward()], Activation(PassedSockets())).mistakes
    assert "(passed and free: none)" in mistake.text


def test_sockets_of_one_name_have_one_listener(opened: ExitStack, server: socket.socket) -> None:
    found = activation(opened, server)
    loaded = built([forward(), forward(name="b")], found)
    [mistake] = loaded.mistakes
    assert mistake.text.startswith('"systemd:c2s" is taken by listener "a"')
    taken = found.sockets(PassedPlace("c2s"))
    for each in taken:
        opened.enter_context(each)


def test_what_is_said_of_addresses_is_said_of_passed_ones(opened: ExitStack) -> None:
    wide = opened.enter_context(socket.create_server(("0.0.0.0", 0)))
    port = wide.getsockname()[1]
    found = activation(opened, wide)
    policy = {"domain": "example.org", "server": f"127.0.0.1:{port}"}
    loaded = built([forward()], found, policy=[policy])
    for each in found.sockets(PassedPlace("c2s")):
        opened.enter_context(each)
    assert any(f"0.0.0.0:{port} is not loopback" in caution.text for caution in loaded.cautions)
    [mistake] = loaded.mistakes
    assert mistake.text.endswith("Bascule would connect to itself")


def test_tproxy_wants_a_socket_for_any_destination(
    opened: ExitStack, server: socket.socket
) -> None:
    table = forward(destination="original", tproxy=True)
    found = activation(opened, server)
    [mistake] = built([table], found).mistakes
    assert mistake.text == (
        f"the socket on {HOST}:{server.getsockname()[1]} takes connections to its own address "
        "alone; with tproxy = true its unit must say Transparent=yes"
    )
    for each in found.sockets(PassedPlace("c2s")):
        opened.enter_context(each)
    try:
        take_any_destination(server)
    except PermissionError:
        pytest.skip("a socket for any destination takes CAP_NET_RAW")
    found = activation(opened, server)
    assert built([table], found).mistakes == ()
    for each in found.sockets(PassedPlace("c2s")):
        opened.enter_context(each)


# The daemon


class Activated(Front):
    """A Bascule whose sockets are the test's own, and stay when it ends."""

    def __init__(self, directory: Path, legacy: LegacyServer, authority: Authority) -> None:
        super().__init__(directory, [served(legacy, [authority.issue(DOMAIN)])])
        self.sockets: list[tuple[str, socket.socket]] = []

    def configuration(self) -> str:
        return re.sub('(?m)^address = "[^"]*"', 'address = "systemd:c2s"', super().configuration())

    def start(self) -> None:
        """Start with the sockets passed, and return when it says that it listens."""
        self.write()
        self._log_start = len(self.whole_log())
        names = ":".join(name for name, _ in self.sockets)
        descriptors = [opened.fileno() for _, opened in self.sockets]
        command = [sys.executable, "-c", ACTIVATE, names, ",".join(map(str, descriptors))]
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [*command, str(BASCULE), "run", "-c", str(self.configuration_path)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.processes.append(process)
        RUNNING.append(self)
        self.wait_for_log(" listening ")


@pytest.fixture
def activated(tmp_path: Path, authority: Authority, opened: ExitStack) -> Iterator[Activated]:
    legacy = opened.enter_context(LegacyServer())
    activated = Activated(tmp_path, legacy, authority)
    for name, host in (("c2s", HOST), ("c2s", "::1"), ("unused", HOST)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = opened.enter_context(socket.create_server((host, 0), family=family))
        activated.sockets.append((name, made))
    yield activated
    activated.stop()


def test_passed_sockets_serve(activated: Activated) -> None:
    activated.start()
    first, second, _ = (opened.getsockname()[1] for _, opened in activated.sockets)
    with plaintext(first, DOMAIN) as stream:
        stream.send_header()
        assert "<starttls" in stream.read_until("</stream:features>")
    with socket.create_connection(("::1", second), timeout=20) as connection:
        stream = Stream(connection, DOMAIN)
        stream.send_header()
        assert "<starttls" in stream.read_until("</stream:features>")
    log = activated.log()
    assert f"listening listener=c2s direction=reverse stream=c2s address={HOST}:{first} " in log
    assert f"listening listener=c2s direction=reverse stream=c2s address=[::1]:{second} " in log
    assert "warning no listener wants a socket of systemd name=unused descriptor=5" in log


def test_a_restart_keeps_connections_waiting(activated: Activated) -> None:
    port = activated.sockets[0][1].getsockname()[1]
    activated.start()
    with plaintext(port, DOMAIN) as before:
        before.send_header()
        before.read_until("</stream:features>")
        activated.processes[0].send_signal(signal.SIGTERM)
        assert "<system-shutdown " in before.read_to_end()
    assert activated.processes[0].wait(20) == 0
    activated.processes.clear()
    with ExitStack() as waiting:
        streams = [waiting.enter_context(plaintext(port, DOMAIN)) for _ in range(20)]
        for stream in streams:
            stream.send_header()
        activated.start()
        for stream in streams:
            assert "<starttls" in stream.read_until("</stream:features>")


def test_a_reload_gives_passed_sockets_back_and_takes_them_again(activated: Activated) -> None:
    port = activated.sockets[0][1].getsockname()[1]
    unused = activated.sockets[2][1].getsockname()[1]
    activated.start()
    path = activated.configuration_path
    for name, reached, other in (("unused", unused, port), ("c2s", port, unused)):
        text = re.sub("systemd:[a-z0-9]*", f"systemd:{name}", path.read_text())
        path.write_text(text)
        assert bascule(activated, "reload").returncode == 0
        with plaintext(reached, DOMAIN) as stream:
            stream.send_header()
            assert "<starttls" in stream.read_until("</stream:features>")
        # As with a daemon that is not there: systemd's socket holds the connection.
        with plaintext(other, DOMAIN) as waiting:
            waiting.connection.settimeout(0.2)
            waiting.send_header()
            with pytest.raises(TimeoutError):
                waiting.connection.recv(1)
    assert activated.processes[0].poll() is None


def test_without_the_socket_the_daemon_does_not_start(activated: Activated) -> None:
    activated.write()
    done = subprocess.run(
        [BASCULE, "run", "-c", activated.configuration_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert "systemd has passed no socket named c2s (passed and free: none)" in done.stderr


def test_variables_that_cannot_be_end_the_start_in_one_line(activated: Activated) -> None:
    activated.write()
    script = textwrap.dedent("""\
        import os, sys
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}
        os.execv(sys.argv[1], sys.argv[1:])
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, BASCULE, "run", "-c", activated.configuration_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr == "bascule: LISTEN_FDS is no number\n"
