"""The control socket and the page of metrics of several workers, and what a worker has of them."""

import socket
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from proxy.daemon.control.protocol import Code, RefusedError
from proxy.daemon.entrances import Moved
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.monitoring import Monitored
from proxy.daemon.operation import Operation
from proxy.daemon.workers.asking import ask
from proxy.daemon.workers.operation import WholeOperation
from tests.daemon.conf_fakes import conf_of, content
from tests.daemon.control.fakes import Asked, Daemon
from tests.daemon.workers.fakes import Crew, waits
from tests.net.conftest import Turning
from tests.servers.program import HOST, free_port


def conf(directory: Path, **tables: Any) -> Conf:
    state = {"state_directory": str(directory), "control_socket": str(directory / "control")}
    given: dict[str, Any] = {"bascule": {**state, **tables.pop("bascule", {})}}
    return conf_of(content(**given, **tables))


def page(port: int) -> Mapping[str, Any]:
    return {"address": f"{HOST}:{port}"}


class Whole(Turning):
    """Several workers' operation."""

    def __init__(self, given: Conf) -> None:
        super().__init__()
        self.written = StringIO()
        self.crew = Crew(self.reactor)
        self.conf = given
        self.operation = WholeOperation(
            given,
            self.reactor,
            Log(self.written),
            workers=self.crew.there,
            facts=self.crew.facts,
            places=dict,
            steering=Daemon(),
        )

    def reload(self, given: Conf) -> None:
        self.operation.adopt(given, self.operation.move(given, self.hub), self.hub)
        self.conf = given

    def asked(self, command: str) -> Asked:
        asked = Asked(self.conf.state.control_socket, command, {})
        self.until(lambda: asked.over)
        return asked

    def get(self, port: int, path: str) -> bytes:
        read = b""
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.setblocking(False)

            def whole() -> bool:
                nonlocal read
                try:
                    data = connection.recv(1 << 16)
                except BlockingIOError:
                    return False
                read += data
                return not data

            self.until(whole)
        return read

    def stop(self) -> None:
        self.operation.stop()
        self.crew.stop()
        self.turn(3)
        assert [each for each in self.reactor.getDelayedCalls() if each.active()] == []
        super().stop()


@pytest.fixture
def made() -> Iterator[Callable[[Conf], Whole]]:
    there = []

    def make(given: Conf) -> Whole:
        whole = Whole(given)
        there.append(whole)
        return whole

    yield make
    for whole in there:
        whole.stop()


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((HOST, port)) == 0


def test_it_is_asked_where_the_conf_says(made: Callable[[Conf], Whole], tmp_path: Path) -> None:
    port = free_port()
    whole = made(conf(tmp_path, metrics=page(port)))
    whole.operation.start(whole.hub)
    (status,) = whole.asked("status").items
    assert [each["number"] for each in status["workers"]] == [1, 2, 3]
    assert b"\nbascule_workers" in whole.get(port, "/metrics")
    # These workers do not count anything.
    assert whole.get(port, "/healthz").endswith(b"not ready: no worker has answered\n")
    whole.operation.stop()
    assert not (tmp_path / "control").exists()
    whole.until(lambda: not is_open(port))


def test_it_moves_with_the_conf(made: Callable[[Conf], Whole], tmp_path: Path) -> None:
    ports = free_port(), free_port()
    whole = made(conf(tmp_path))
    whole.operation.start(whole.hub)
    assert not is_open(ports[0])
    whole.reload(conf(tmp_path, metrics=page(ports[0])))
    assert b"\nbascule_workers" in whole.get(ports[0], "/metrics")
    other = {"control_socket": str(tmp_path / "other"), "log_format": "json"}
    whole.reload(conf(tmp_path, metrics=page(ports[1]), bascule=other))
    assert b"\nbascule_workers" in whole.get(ports[1], "/metrics")
    whole.until(lambda: not is_open(ports[0]))
    assert not (tmp_path / "control").exists()
    assert whole.asked("log-level").items == [{"level": "debug"}]
    whole.reload(conf(tmp_path, bascule=other))
    whole.until(lambda: not is_open(ports[1]))


def test_what_cannot_be_moved_stays(made: Callable[[Conf], Whole], tmp_path: Path) -> None:
    whole = made(conf(tmp_path))
    whole.operation.start(whole.hub)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="metrics: "):
            whole.operation.move(conf(tmp_path, metrics=page(port)), whole.hub)
    free = free_port()
    (tmp_path / "taken").write_text("")
    bad = conf(tmp_path, metrics=page(free), bascule={"control_socket": str(tmp_path / "taken")})
    with pytest.raises(OSError, match=r"bascule\.control_socket: .*/taken: "):
        whole.operation.move(bad, whole.hub)
    whole.until(lambda: not is_open(free))
    assert whole.asked("log-level").items == [{"level": "debug"}]


# A worker's own


class OneOf(Turning):
    """The operation of one of several workers, asked by its supervisor."""

    number = 1

    def __init__(self, given: Conf) -> None:
        super().__init__()
        now: Any = lambda: self  # noqa: E731 - what the service has of its conf
        self.conf = given
        self.trust: Any = type("Trust", (), {"keyring": None})
        monitored = Monitored(now, (), list, dict, list)
        self.operation = Operation(
            given, monitored, self.reactor, None, places=dict, steering=Daemon(), worker=True
        )
        self.operation.start(self.hub)

    def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.operation.converse(theirs)
        return ours

    def asked(self, command: str) -> list[Any] | BaseException:
        items: list[Any] = []
        found: list[Any] = []
        asking = ask(self.reactor, self, command, {}, items.append)
        asking.ended.addCallbacks(
            lambda _: found.append(items), lambda why: found.append(why.value)
        )
        self.until(lambda: found)
        result: list[Any] | BaseException = found[0]
        return result

    def stop(self) -> None:
        self.operation.stop()
        self.turn(3)
        assert [each for each in self.reactor.getDelayedCalls() if each.active()] == []
        super().stop()


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[OneOf]:
    one = OneOf(conf(tmp_path, metrics=page(free_port())))
    yield one
    one.stop()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[OneOf]:
    one = OneOf(conf(tmp_path))
    yield one
    one.stop()


def test_a_worker_listens_nowhere(counting: OneOf, tmp_path: Path) -> None:
    endpoint = counting.conf.metrics.endpoint()
    assert endpoint is not None
    assert not is_open(endpoint.port)
    assert not (tmp_path / "control").exists()


def test_a_worker_answers_its_supervisor(counting: OneOf) -> None:
    status = counting.asked("status")
    assert isinstance(status, list)
    assert [each["name"] for each in status[0]["listeners"]] == ["c2s"]
    metrics = counting.asked("metrics")
    assert isinstance(metrics, list)
    assert {"bascule_ready", "bascule_sessions"} <= {each["family"] for each in metrics}
    assert counting.asked("troubles") == []


def test_a_worker_counts_only_if_the_conf_says_so(bare: OneOf, tmp_path: Path) -> None:
    error = bare.asked("metrics")
    assert isinstance(error, RefusedError)
    assert (error.code, error.text) == (Code.NOT_FOUND, "nothing is measured")
    before = bare.conf
    bare.conf = conf(tmp_path, metrics=page(free_port()))
    moved = bare.operation.move(bare.conf, bare.hub)
    assert moved == Moved()
    bare.operation.adopt(bare.conf, moved, bare.hub)
    assert isinstance(bare.asked("metrics"), list)
    metrics = bare.operation.metrics
    assert metrics is not None
    bare.until(lambda: "bascule_loop_delay_seconds" in metrics._tally.values())
    bare.operation.adopt(before, Moved(), bare.hub)
    assert [each for each in bare.reactor.getDelayedCalls() if each.active()] == []


def test_others_are_not_told_what_supervisors_are(
    made: Callable[[Conf], Whole], tmp_path: Path
) -> None:
    whole = made(conf(tmp_path))
    whole.operation.start(whole.hub)
    error = whole.asked("metrics").error
    assert isinstance(error, RefusedError)
    assert error.code is Code.BAD_REQUEST
    assert "troubles" not in error.text


def test_who_asks_when_a_worker_ends(counting: OneOf) -> None:
    asking = ask(counting.reactor, counting, "trace", {}, lambda _: None)
    failed: list[Any] = []
    asking.ended.addErrback(failed.append)
    counting.turn()
    counting.operation.stop()
    counting.until(lambda: failed)
    assert waits(counting.reactor) == []
