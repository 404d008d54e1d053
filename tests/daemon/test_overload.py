"""Resources run out, and the daemon goes on: descriptors, room for the log, the right time."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.authority import Authority
from tests.daemon.reloaded import bascule
from tests.net.client import log_in, logged_in, offered, proceeding, secure
from tests.net.front import DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST, free_port
from tests.servers.stream import plaintext

ALLOWED = 120
DAY = 86_400


@pytest.fixture(scope="module")
def domains(authority: Authority, _legacy: LegacyServer) -> list[Served]:
    return [served(_legacy, [authority.issue(DOMAIN)])]


def until(done: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def opened(front: Front) -> int:
    """How many descriptors a daemon has."""
    return len(list(Path(f"/proc/{front.process_id}/fd").iterdir()))


# Descriptors


def test_what_has_begun_is_finished_while_others_wait(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    """A flood leaves descriptors for servers, for a reload and for the control socket."""
    page = f"{HOST}:{free_port()}"
    tables: dict[str, dict[str, object]] = {
        "deadlines": {"negotiation": 600, "authentication": 600},
        "metrics": {"address": page},
    }
    with (
        Front(tmp_path, domains, tables=tables, descriptors=ALLOWED) as front,
        contextlib.ExitStack() as stack,
    ):
        first = stack.enter_context(logged_in(front.port, authority.ca_path))
        server = legacy.next()
        streams = [stack.enter_context(plaintext(front.port, DOMAIN)) for _ in range(100)]
        for stream in streams:
            stream.send_header()
        front.wait_for_log(f"accepting pauses: too few of {ALLOWED} file descriptors are left")
        sockets = {stream.connection: stream for stream in streams}
        count = sum(status(front).values()) - 1
        assert 5 < count < ALLOWED / 2
        until(lambda: len(select.select(sockets, (), (), 0)[0]) == count, "some got no answer")
        begun = [sockets[answered] for answered in select.select(sockets, (), (), 0)[0]]
        # All that have begun come to have a server.
        for stream in begun:
            stream.read_until("</stream:features>")
            stream.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            stream.read_until("<proceed [^>]*/>")
            secure(stream, authority.ca_path)
            log_in(stream)
        assert opened(front) < ALLOWED - 10
        first.send("<presence/>")
        server.read_until(b"<presence/>")
        assert not is_healthy(page, because=b"accepting pauses: too few of")
        # An operator is heard.
        front.write()
        assert bascule(front, "reload").returncode == 0
        assert status(front) == {"joined": count + 1}
        assert front.log().count("accepting pauses") == 1
        # Once some leave, others come.
        waiting = [stream for stream in streams if stream not in begun]
        for stream in begun:
            stream.connection.close()
        for stream in waiting[:5]:
            stream.read_until("</stream:features>")
        for stream in streams:
            stream.connection.close()
        until(lambda: is_healthy(page), "it is not ready again")
        first.send("<message/>")
        server.read_until(b"<message/>")
        assert front.alive()


def is_healthy(page: str, because: bytes = b"") -> bool:
    """Whether a daemon is ready; if it is not, it says why."""
    try:
        with urlopen(f"http://{page}/healthz", timeout=60):
            return True
    except HTTPError as unready:
        with unready:
            reason = unready.read()
    assert because in reason
    return False


def status(front: Front) -> dict[str, int]:
    """How many sessions there are in which state, as an operator is told."""
    done = bascule(front, "status", "--json")
    assert done.returncode == 0, done.stderr
    sessions: dict[str, int] = json.loads(done.stdout)["sessions"]
    return sessions


# The log


class Speechless(Front):
    """A daemon whose standard error goes where a test says."""

    errors = -1
    before: tuple[str, ...] = ()

    def start(self) -> None:
        self.write()
        command = Path(sys.executable).with_name("bascule")
        arguments: list[str | Path] = [*self.before, command, "run", "-c", self.configuration_path]
        with open(os.devnull, "rb+") as nothing:  # noqa: PTH123 - as the others are
            self.processes.append(
                subprocess.Popen(arguments, stdin=nothing, stdout=nothing, stderr=self.errors)
            )
        self.wait_until_ready()


def serves(front: Front, legacy: LegacyServer, authority: Authority) -> None:
    """Assert that a client gets through."""
    with logged_in(front.port, authority.ca_path) as stream:
        server = legacy.next()
        stream.send("<presence/>")
        server.read_until(b"<presence/>")
        server.close()
        stream.read_to_end()
    assert front.alive()


def test_a_log_that_nobody_reads_keeps_nobody_waiting(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    front = Speechless(tmp_path, domains)
    front.errors = theirs
    with open(ours, "rb", buffering=0) as reader, front:  # noqa: PTH123 - it is a descriptor
        os.close(theirs)
        for _ in range(30):
            with plaintext(front.port, DOMAIN) as stream:
                offered(stream)
        serves(front, legacy, authority)
        # Once somebody reads, it says what is missing, and no line is torn.
        os.set_blocking(ours, False)
        text = bytearray()

        def is_told() -> bool:
            with plaintext(front.port, DOMAIN) as stream:
                offered(stream)
            text.extend(reader.read(65_536) or b"")
            return b"lines of the log were lost count=" in text

        until(is_told, "it was not told that lines are missing")
        for line in text.decode().splitlines()[:-1]:
            assert line.startswith("20"), line
        serves(front, legacy, authority)


def test_a_log_without_a_reader_is_no_reason_to_end(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    ours, theirs = os.pipe()
    front = Speechless(tmp_path, domains)
    front.errors = theirs
    with front:
        os.close(theirs)
        os.close(ours)
        serves(front, legacy, authority)
        serves(front, legacy, authority)


def test_a_log_on_a_full_disk_is_no_reason_to_end(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    front = Speechless(tmp_path, domains)
    front.errors = os.open("/dev/full", os.O_WRONLY)
    with front:
        os.close(front.errors)
        serves(front, legacy, authority)
        serves(front, legacy, authority)


def test_a_log_that_goes_nowhere_gives_its_number_to_nobody(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    """Else what is logged would go to whoever is connected to by that number."""
    front = Speechless(tmp_path, domains)
    front.before = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    front.errors = subprocess.DEVNULL
    with front:
        serves(front, legacy, authority)
        assert Path(f"/proc/{front.process_id}/fd/2").readlink() == Path("/dev/null")


# Clocks that are set

CLOCK = """
import signal, sys, time
from pathlib import Path
present, set_to = time.time, [0.0]
time.time = lambda: present() + set_to[0]
def change(*_):
    set_to[0] = float(Path(sys.argv[2]).read_text())
    Path(sys.argv[2]).unlink()
signal.signal(signal.SIGUSR1, change)
from proxy.daemon.cli import main
sys.exit(main(["run", "-c", sys.argv[1]]))
"""


class Clocked(Front):
    """A daemon whose time of day a test sets."""

    def start(self) -> None:
        self.write()
        self.launch(sys.executable, "-c", CLOCK, self.configuration_path, self.directory / "set to")
        self.wait_until_ready()

    def set_clock(self, seconds: float) -> None:
        """Have it be so much later than it is, and wait until it knows."""
        told = self.directory / "set to"
        told.with_suffix(".new").write_text(str(seconds))
        told.with_suffix(".new").rename(told)
        self.processes[0].send_signal(signal.SIGUSR1)
        until(lambda: not told.exists(), "the clock was not set")


def test_deadlines_hold_when_the_clock_is_set_back(tmp_path: Path, domains: list[Served]) -> None:
    with (
        Clocked(tmp_path, domains, tables={"deadlines": {"negotiation": 3}}) as front,
        plaintext(front.port, DOMAIN) as stream,
    ):
        stream.send_header()
        front.set_clock(-DAY)
        with plaintext(front.port, DOMAIN) as later:
            later.send_header()
            for each in (stream, later):
                assert "connection-timeout" in each.read_to_end()


def test_nobody_is_late_because_the_clock_is_set_forward(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    patient = {"deadlines": {"negotiation": 600, "authentication": 600, "connect": 600}}
    with (
        Clocked(tmp_path, domains, tables=patient) as front,
        plaintext(front.port, DOMAIN) as negotiating,
        plaintext(front.port, DOMAIN) as secured,
    ):
        proceeding(negotiating)
        secure(secured, authority.ca_path)
        front.set_clock(DAY)
        serves(front, legacy, authority)  # by which time all that is due has been done
        secure(negotiating, authority.ca_path)
        for stream in (negotiating, secured):
            log_in(stream)
            legacy.next()
        front.set_clock(0)
        serves(front, legacy, authority)
