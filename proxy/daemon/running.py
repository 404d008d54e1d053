"""The daemon as a process: it announces itself, runs, and stops when it is told to."""

import faulthandler
import gc
import resource
import signal
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from proxy.daemon.activation import Activation
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.exits import Exit
from proxy.daemon.listening import facts
from proxy.daemon.log import Log, start
from proxy.daemon.model import Conf
from proxy.daemon.notify import Pulse, notify
from proxy.daemon.service import Service
from proxy.net.passed import Passed
from proxy.net.tls import TLSSetupError
from proxy.session.chain import ChainError
from proxy.session.commands import Severity
from proxy.trust.keyring.database import KeyringError

UNASKED: Final = 10.0
"""Seconds for stopping that a service manager must allow without being asked for more."""

TELLING: Final = 1.0
"""Seconds after which a service manager is told again how many sessions are left to be ended."""


def run(conf: Conf, warnings: Sequence[str], activation: Activation, path: Path) -> int:
    """Run the daemon until SIGTERM or SIGINT; return its exit code.

    Args:
        conf: the conf, without mistakes.
        warnings: what `bascule check` warns of; written to the log.
        activation: has the sockets that systemd has passed.
        path: the conf's main file, which SIGHUP and `bascule reload` have read again.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    log = start()
    log.format = conf.state.log_format
    for warning in warnings:
        log.write(Severity.WARNING, warning)
    for passed in activation.left():
        log.write(Severity.WARNING, "no listener wants a socket of systemd", _told(passed))
    # systemd ends a process that is stuck by SIGABRT: the journal then shows where it was.
    faulthandler.enable()
    hung_up: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: hung_up.append(number))
    _raise_descriptor_limit()
    try:
        service = Service(conf, reactor, log, activation, path=path)
        _heed_hangups(reactor, service, log, hung_up)
        service.start()
    except (ChainError, KeyringError, TLSSetupError) as error:
        log.write(Severity.ERROR, str(error))
        return Exit.CONFIG
    except OSError as error:
        log.write(Severity.ERROR, str(error))
        return Exit.UNAVAILABLE
    _announce(log, conf, service)
    _settle_memory()
    _run_reactor(reactor, service, log)
    return Exit.OK


def _announce(log: Log, conf: Conf, service: Service) -> None:
    plugins = ",".join(setting.name for setting in conf.plugins) or "none"
    log.write(
        Severity.INFO,
        "started",
        {
            "version": version("bascule"),
            "openssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[1],
            "plugins": plugins,
        },
    )
    places = service.places()
    for listener in conf.listeners:
        for address in places[listener.name]:
            log.write(Severity.INFO, "listening", facts(listener, address))


def _told(passed: Passed) -> dict[str, object]:
    return {"name": passed.name, "descriptor": passed.descriptor}


def _run_reactor(reactor: Any, service: Service, log: Log) -> None:
    pulse = Pulse(reactor, lambda: service.status)

    def start() -> None:
        _heed_ends(reactor, service, log)
        notify("READY=1")
        pulse.start()

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


def _tell(service: Service) -> None:
    notify(f"STATUS={service.status}", urgent=False)


def _heed_hangups(reactor: Any, service: Service, log: Log, before: list[int]) -> None:
    """Have SIGHUP reload; also those that came ``before``, after the conf was read."""

    def reload() -> None:
        try:
            service.reload()
        except NotControllableError as error:
            log.write(Severity.WARNING, f"SIGHUP: {error}")

    signal.signal(signal.SIGHUP, _heeding(reactor, reload))
    if before:
        reactor.callWhenRunning(reload)


def _heed_ends(reactor: Any, service: Service, log: Log) -> None:
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


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each session has two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _settle_memory() -> None:
    """What is there at the start stays for ever: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
