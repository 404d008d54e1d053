"""A daemon under control that has what a test gives it, and its socket on a real reactor."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from proxy.daemon.control.client import ask
from proxy.daemon.control.controlled import Controlled, Ended, NotControllableError, Told, Wanted
from proxy.daemon.control.facts import (
    AlertRow,
    CertificateRow,
    Drained,
    ListenerFacts,
    Reloaded,
    SessionFacts,
    State,
    Status,
    Traced,
)
from proxy.daemon.control.server import ControlSocket
from proxy.net.hub import Hub
from proxy.session.commands import Severity
from proxy.session.hooks import Address, TLSFacts, TLSRule, View
from proxy.session.kinds import Kind

TLS = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768", "", None, True, False)
CLIENT = Address("2001:db8::7", 40123)
SERVER = Address("127.0.0.1", 15222)


def view(session_id: str = "a1", **known: Any) -> View:
    given: dict[str, Any] = {"listener": "c2s", "client": CLIENT} | known
    return View(session_id, rule=TLSRule.REQUIRED, **given)


def session(session_id: str = "a1", passed: tuple[int, int] = (1_500, 2_500_000)) -> SessionFacts:
    seen = view(session_id, domain="example.com", tls=TLS, authenticated=True)
    return SessionFacts.of(seen, State.JOINED, SERVER, 3_725.25, passed)


def between_servers(session_id: str = "b2") -> SessionFacts:
    seen = view(
        session_id,
        listener="s2s-out",
        kind=Kind.S2S,
        outward=True,
        domain="example.net",
        origin="example.com",
        server_tls=TLS,
        server_identity="DNS-ID example.net",
    )
    return SessionFacts.of(seen, State.NEGOTIATING, None, 1.5, (0, 0))


def traced(text: str, way: str = "received") -> Traced:
    return Traced("2026-05-01T10:00:00.123+00:00", "a1", "client", way, text)


STATUS = Status(
    version="0.1.0",
    pid=4711,
    started="2026-05-01T10:00:00+00:00",
    seconds=93_784.0,
    sessions={"negotiating": 1, "joined": 1},
    listeners=(
        ListenerFacts("c2s", "reverse", "c2s", "[::]:5222", "required", 1),
        ListenerFacts("s2s-out", "forward", "s2s", "127.0.0.1:5270", "required", 1),
    ),
    certificates=(
        CertificateRow(
            "example.com", "/etc/bascule/tls/a.crt", "ECDSA P-256", "2026-05-20T00:00:00+00:00", 19
        ),
        CertificateRow(
            "example.org", "/etc/bascule/tls/b.crt", "RSA 2048", "2026-04-01T00:00:00+00:00", None
        ),
    ),
    pending=2,
    alerts=(AlertRow("2026-05-01T11:00:00+00:00", "critical", "possible security breach: x", 3),),
)


class Daemon:
    """What is controlled, and what was done to it."""

    def __init__(self) -> None:
        self.there = [session(), between_servers()]
        self.drawn = 0
        self.kicked: list[str] = []
        self.level = Severity.INFO
        self.wanted: list[Wanted] = []
        self.sinks: list[tuple[Told, Ended]] = []
        self.stopped = 0
        self.fault: Exception | None = None
        self.ending = False
        self.reloads: list[Deferred[Reloaded]] = []
        self.drained: list[str] = []

    def status(self) -> Status:
        if self.fault is not None:
            raise self.fault
        return STATUS

    def sessions(self, listener: str = "", domain: str = "") -> Iterator[SessionFacts | None]:
        names = {"", *(each.name for each in STATUS.listeners)}
        if listener not in names:
            raise NotControllableError("there is no listener with this name")
        for each in self.there:
            self.drawn += 1
            is_meant = listener in ("", each.listener)
            is_meant = is_meant and domain in ("", each.domain, each.origin)
            yield each if is_meant else None

    def kick(self, session_id: str) -> bool:
        self.kicked.append(session_id)
        return any(each.id == session_id for each in self.there)

    def trace(self, wanted: Wanted, told: Told, ended: Ended) -> Callable[[], None]:
        if wanted.session == "gone":
            raise NotControllableError("there is no session with this id")
        self.wanted.append(wanted)
        self.sinks.append((told, ended))
        return self._stop

    def _stop(self) -> None:
        self.stopped += 1

    def log_level(self, level: Severity | None) -> Severity:
        self.level = level or self.level
        return self.level

    def reload(self) -> Deferred[Reloaded]:
        if self.ending:
            raise NotControllableError("the daemon is about to end")
        self.reloads.append(Deferred())
        return self.reloads[-1]

    def drain(self, older_than: str) -> Drained:
        if older_than == "soon":
            raise ValueError("allowed: an age")
        self.drained.append(older_than)
        return Drained(3, 0.06)


class Asked:
    """A request in a thread of its own."""

    def __init__(self, path: Path, command: str, arguments: dict[str, object]) -> None:
        self.items: list[Any] = []
        self.error: Exception | None = None
        self._asking = ask(path, command, arguments)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.items.extend(self._asking)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()


class Running:
    """A control socket on a reactor that a test turns by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon = Daemon()
        self.reactor = EPollReactor()  # type: ignore[no-untyped-call]
        self.reactor.startRunning(installSignalHandlers=False)
        self.hub = Hub(self.reactor)
        self.socket = ControlSocket(self.hub, path, self.controlled())
        self.socket.start()

    def controlled(self) -> Controlled:
        """What the socket is about."""
        return self.daemon

    def until(self, done: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "nothing came of it in time"
            self.reactor.iterate(0.01)

    def turn(self, times: int = 10) -> None:
        for _ in range(times):
            self.reactor.iterate(0.005)

    def begin(self, command: str, **arguments: object) -> Asked:
        return Asked(self.path, command, arguments)

    def asked(self, command: str, **arguments: object) -> Asked:
        asked = self.begin(command, **arguments)
        self.until(lambda: asked.over)
        return asked

    def stop(self) -> None:
        self.socket.stop()
        self.hub.close()
        self.reactor.stop()
        self.turn(3)
