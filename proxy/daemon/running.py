"""The daemon as a process: it announces itself, runs, and stops when it is told to."""

import faulthandler
import signal
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.activation import Activation
from proxy.daemon.check import Report
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.exits import Exit
from proxy.daemon.listening import facts
from proxy.daemon.log import Log, start
from proxy.daemon.memory import raise_descriptor_limit, settle
from proxy.daemon.model import Caution, Conf
from proxy.daemon.notify import Pulse, notify
from proxy.daemon.reloading import ConfFile, ConfSource
from proxy.daemon.service import Service
from proxy.daemon.steady import keep_steady
from proxy.daemon.workers.crew import StartError
from proxy.daemon.workers.supervisor import Supervisor
from proxy.net.passed import Passed
from proxy.net.tls import TLSSetupError
from proxy.session.chain import ChainError
from proxy.session.commands import Severity
from proxy.trust.keyring.database import KeyringError

UNASKED: Final = 10.0
"""Seconds for stopping that a service manager must allow without being asked for more."""

TELLING: Final = 1.0
"""Seconds after which a service manager is told again how many sessions are left to be ended."""

_log = Logger()


@attrs.frozen
class Alone:
    """A conf for one process, which several can follow only after a restart.

    Attributes:
        source: where it comes from.
    """

    source: ConfSource

    @property
    def path(self) -> Path:
        """The main file."""
        return self.source.path

    def read(self) -> Report:
        """Read it, and warn of what it asks for in vain."""
        report = self.source.read()
        if report.conf is None or report.conf.state.workers == 1:
            return report
        text = "there is one process until a restart"
        caution = Caution(self.path, "bascule.workers", text)
        return attrs.evolve(report, cautions=(*report.cautions, caution))


def run(conf: Conf, warnings: Sequence[str], activation: Activation, path: Path) -> int:
    """Run the daemon until SIGTERM or SIGINT; return its exit code.

    Args:
        conf: the conf, without mistakes.
        warnings: what `bascule check` warns of; written to the log.
        activation: has the sockets that systemd has passed.
        path: the conf's main file, which SIGHUP and `bascule reload` have read again.
    """
    log = start()
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    keep_steady(reactor)
    log.format = conf.state.log_format
    log.shared = conf.state.workers > 1
    for warning in warnings:
        log.write(Severity.WARNING, warning)
    for passed in activation.left():
        log.write(Severity.WARNING, "no listener wants a socket of systemd", _told(passed))
    # systemd ends a process that is stuck by SIGABRT: the journal then shows where it was.
    faulthandler.enable()
    hung_up: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: hung_up.append(number))
    raise_descriptor_limit()
    source = ConfFile(path.absolute(), activation)
    try:
        service: Service | Supervisor
        if conf.state.workers > 1:
            service = Supervisor(conf, reactor, log, activation, source)
        else:
            service = Service(conf, reactor, log, activation, source=Alone(source))
        _heed_hangups(reactor, service, log, hung_up)
        service.start()
    except (ChainError, KeyringError, TLSSetupError) as error:
        log.write(Severity.ERROR, str(error))
        return Exit.CONFIG
    except OSError as error:
        log.write(Severity.ERROR, str(error))
        return Exit.UNAVAILABLE
    _announce(log, conf, service)
    settle()
    return _run_reactor(reactor, service, log)


def _announce(log: Log, conf: Conf, service: Service | Supervisor) -> None:
    plugins = ",".join(setting.name for setting in conf.plugins) or "none"
    log.write(
        Severity.INFO,
        "started",
        {
            "version": version("bascule"),
            "openssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[1],
            "plugins": plugins,
            "workers": None if conf.state.workers == 1 else conf.state.workers,
        },
    )
    places = service.places()
    for listener in conf.listeners:
        for address in places[listener.name]:
            log.write(Severity.INFO, "listening", facts(listener, address))


def _told(passed: Passed) -> dict[str, object]:
    return {"name": passed.name, "descriptor": passed.descriptor}


def _run_reactor(reactor: Any, service: Service | Supervisor, log: Log) -> int:
    """Run until the end; return the exit code."""
    pulse = Pulse(reactor, lambda: service.status)
    code: int = Exit.OK

    def ready(_: object) -> None:
        notify("READY=1")
        pulse.start()

    def failed(failure: Failure) -> None:
        nonlocal code
        error = failure.value
        if isinstance(error, StartError):
            code = error.code
            log.write(Severity.ERROR, str(error))
        else:
            code = Exit.SOFTWARE
            _log.failure("fault in starting", failure)
        reactor.stop()

    def start() -> None:
        _heed_ends(reactor, service, log)
        maybeDeferred(service.ready).addCallbacks(ready, failed)

    def stop() -> "Deferred[None]":
        needs = service.needs
        stopped = service.stop()
        notify(f"STOPPING=1\nSTATUS={service.status}")
        if needs > UNASKED:
            notify(f"EXTEND_TIMEOUT_USEC={round((needs + UNASKED) * 1e6)}")
        log.write(Severity.INFO, "stopping")
        telling = LoopingCall(_tell, service)
        telling.clock = reactor
        telling.start(TELLING, now=False)
        return stopped.addCallback(lambda _: telling.stop()).addCallback(lambda _: pulse.stop())

    reactor.addSystemEventTrigger("before", "shutdown", stop)

    reactor.callWhenRunning(start)
    reactor.run()
    return code


def _tell(service: Service | Supervisor) -> None:
    notify(f"STATUS={service.status}", urgent=False)


def _heed_hangups(reactor: Any, service: Service | Supervisor, log: Log, before: list[int]) -> None:
    """Have SIGHUP reload; also those that came ``before``, after the conf was read."""

    def reload() -> None:
        try:
            service.reload()
        except NotControllableError as error:
            log.write(Severity.WARNING, f"SIGHUP: {error}")

    signal.signal(signal.SIGHUP, _heeding(reactor, reload))
    if before:
        reactor.callWhenRunning(reload)


def _heed_ends(reactor: Any, service: Service | Supervisor, log: Log) -> None:
    """Have SIGTERM and SIGINT drain, and a second of these end at once."""

    def stop() -> None:
        if service.stopping:
            log.write(Severity.INFO, "ending at once")
            service.hurry()
        else:
            reactor.stop()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _heeding(reactor, stop))


def _heeding(reactor: Any, act: Callable[[], None]) -> Callable[[int, object], None]:
    """Return what does something at a signal, which may interrupt anything, once that is safe."""
    return lambda _signal, _frame: reactor.callFromThread(act)
