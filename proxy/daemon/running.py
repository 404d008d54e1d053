"""The daemon as a process: it announces itself, runs, and stops when it is told to."""

import faulthandler
import gc
import resource
import signal
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred

from proxy.daemon.activation import Activation
from proxy.daemon.exits import Exit
from proxy.daemon.log import Log, start
from proxy.daemon.model import Conf
from proxy.daemon.notify import Pulse, notify
from proxy.daemon.service import Service
from proxy.net.passed import Passed
from proxy.net.tls import TLSSetupError
from proxy.session.chain import ChainError
from proxy.session.commands import Severity
from proxy.trust.keyring.database import KeyringError


def run(conf: Conf, warnings: Sequence[str], activation: Activation) -> int:
    """Run the daemon until SIGTERM or SIGINT; return its exit code.

    Args:
        conf: the conf, without mistakes.
        warnings: what `bascule check` warns of; written to the log.
        activation: has the sockets that systemd has passed.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    log = start()
    for warning in warnings:
        log.write(Severity.WARNING, warning)
    for passed in activation.left():
        log.write(Severity.WARNING, "no listener wants a socket of systemd", _told(passed))
    # systemd ends a process that is stuck by SIGABRT: the journal then shows where it was.
    faulthandler.enable()
    _survive_hangups(reactor, log)
    _raise_descriptor_limit()
    try:
        service = Service(conf, reactor, log, activation)
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
            fields = {
                "listener": listener.name,
                "direction": listener.direction,
                "stream": listener.stream.value,
                "address": address,
                "tls": listener.tls.value,
            }
            log.write(Severity.INFO, "listening", fields)


def _told(passed: Passed) -> dict[str, object]:
    return {"name": passed.name, "descriptor": passed.descriptor}


def _run_reactor(reactor: Any, service: Service, log: Log) -> None:
    pulse = Pulse(reactor, partial(_counted, service))

    def start() -> None:
        notify("READY=1")
        pulse.start()

    def stop() -> "Deferred[None]":
        pulse.stop()
        notify(f"STOPPING=1\nSTATUS=Ending {_counted(service)}")
        log.write(Severity.INFO, "stopping")
        return service.stop()

    reactor.addSystemEventTrigger("before", "shutdown", stop)

    reactor.callWhenRunning(start)
    reactor.run()


def _counted(service: Service) -> str:
    return f"{service.sessions} session{'s' * (service.sessions != 1)}"


def _survive_hangups(reactor: Any, log: Log) -> None:
    """Have SIGHUP, which would end the process, only answered in the log."""

    def hung_up(_signal: int, _frame: object) -> None:
        text = "SIGHUP: there is no reload; restart to take up a new conf"
        reactor.callFromThread(log.write, Severity.WARNING, text)

    signal.signal(signal.SIGHUP, hung_up)


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each session has two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _settle_memory() -> None:
    """What is there at the start stays for ever: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
