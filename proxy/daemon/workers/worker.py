"""A worker: one of the processes that share the listening ports, led by a supervisor.

`main` is all that its interpreter runs, with a channel to its supervisor as descriptor 3, and it
does nothing that it is not told over it. When the supervisor is gone, it drains.
"""

import faulthandler
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from proxy.daemon.check import Report
from proxy.daemon.control.controlled import NotControllableError
from proxy.daemon.control.facts import Reloaded
from proxy.daemon.exits import Exit
from proxy.daemon.log import Log, start
from proxy.daemon.memory import settle
from proxy.daemon.model import Conf
from proxy.daemon.service import Service
from proxy.daemon.shared import Shared
from proxy.daemon.steady import keep_steady
from proxy.daemon.workers.channel import CHANNEL, VERSION, Channel, close_all, read
from proxy.daemon.workers.messages import alert_from, alert_to, reloaded_to
from proxy.daemon.workers.sockets import Handed
from proxy.net.tls import TLSSetupError
from proxy.session.chain import ChainError
from proxy.session.commands import Severity
from proxy.trust.keyring.alerts import Alert
from proxy.trust.keyring.database import KeyringError

ALIVE: Final = 2.0
"""Seconds after which a worker says again that it is alive, and how many sessions it has."""

_log = Logger()


@attrs.define
class _ConfFromSupervisor:
    """The conf that is to be taken up next (a `proxy.daemon.reloading.ConfSource`)."""

    path: Path
    conf: Conf

    def read(self) -> Report:
        """Return it; the supervisor has found no mistake in it."""
        return Report(self.conf, (), (), ())


class Worker:
    """The worker that this process is.

    Args:
        reactor: the reactor.
        log: where to write.
        connection: its end of the channel.
    """

    def __init__(self, reactor: Any, log: Log, connection: socket.socket) -> None:
        self._reactor = reactor
        self._log = log
        self._channel = Channel(reactor, connection, self._told, self._deserted)
        self._sockets = Handed()
        self._service: Service | None = None
        self._source: _ConfFromSupervisor | None = None
        self._alive = LoopingCall(self._say_alive)
        self._alive.clock = reactor
        self._leaving = False
        self.code: int = Exit.OK
        """What the process is to end with."""

    def start(self) -> None:
        """Wait to be told what to do."""
        self._channel.start()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)

    def end(self) -> None:
        """Drain, and end; who is told so again goes on draining."""
        if not self._leaving:
            self._leaving = True
            self._channel.say("ending")
            self._reactor.stop()

    def _told(self, name: str, content: Mapping[str, Any], descriptors: list[int]) -> None:
        match name:
            case "sockets":
                self._sockets.take(content["names"], descriptors, anew=content["anew"])
            case "begin":
                self._begin(content, *descriptors)
            case "stop":
                self.end()
            case _ if self._service is not None:
                self._steer(self._service, name, content, descriptors)
            case _:
                close_all(descriptors)  # it could not begin, and says so

    def _steer(
        self, service: Service, name: str, content: Mapping[str, Any], descriptors: list[int]
    ) -> None:
        match name:
            case "converse":
                service.converse(socket.socket(fileno=descriptors[0]))
            case "reload":
                self._reload(service, *descriptors)
            case "speak":
                service.speak()
            case "alert":
                service.tell(alert_from(content["content"]))
            case "close":
                service.close()
                self._channel.say("closed")
            case "hurry":
                service.hurry()

    # The beginning

    def _begin(self, content: Mapping[str, Any], conf_written: int, board: int) -> None:
        number: int = content["number"]
        self._log.worker = number
        if content["version"] != VERSION:
            close_all((conf_written, board))
            text = f"version {VERSION} is installed, {content['version']} runs: restart the service"
            self._fail(Exit.SOFTWARE, text)
            return
        try:
            conf = read(conf_written)
            self._log.format = conf.state.log_format
            self._sockets.renew()
            self._source = _ConfFromSupervisor(Path(content["path"]), conf)
            service = Service(
                conf,
                self._reactor,
                self._log,
                self._sockets,
                source=self._source,
                shared=Shared.among(board, bytes.fromhex(content["secret"]), number - 1),
                pass_on=self._pass_on,
            )
            service.start()
        except (ChainError, KeyringError, TLSSetupError) as error:
            self._fail(Exit.CONFIG, str(error))
            return
        except OSError as error:
            self._fail(Exit.UNAVAILABLE, str(error))
            return
        except Exception:  # noqa: BLE001 - who waits for it must know that it will not come
            _log.failure("fault in beginning")
            self._fail(Exit.SOFTWARE, "fault in the proxy; see the log")
            return
        finally:
            os.close(board)
            self._sockets.release()
        self._service = service
        settle()
        self._channel.say("ready")
        self._alive.start(ALIVE)

    def _fail(self, code: int, text: str) -> None:
        self.code = code
        self._channel.say("failed", code=code, text=text)
        self.end()

    # What goes on

    def _reload(self, service: Service, conf_written: int) -> None:
        if self._source is None:
            return
        try:
            self._source.conf = read(conf_written)
            self._sockets.renew()
            service.reload().addCallback(self._reloaded)
        except NotControllableError as error:
            self._reloaded(Reloaded((str(error),)))
        except Exception:  # noqa: BLE001 - who waits for what comes of it must be told
            _log.failure("fault in reloading")
            self._reloaded(Reloaded(("fault in the proxy; see the log",)))

    def _reloaded(self, reloaded: Reloaded) -> None:
        self._sockets.release()
        self._channel.say("reloaded", **reloaded_to(reloaded))

    def _pass_on(self, alert: Alert) -> None:
        self._channel.offer("alert", content=alert_to(alert))

    def _say_alive(self) -> None:
        sessions = 0 if self._service is None else self._service.sessions
        self._channel.say("alive", sessions=sessions)

    # The end

    def _deserted(self) -> None:
        if self._service is not None and not self._service.stopping:
            self._log.write(Severity.ERROR, "the supervisor is gone")
        self.end()

    def _stop(self) -> Any:
        if self._service is None:
            return None
        return self._service.stop().addCallback(lambda _: self._rest())

    def _rest(self) -> None:
        if self._alive.running:
            self._alive.stop()


def main() -> int:
    """Be a worker until the supervisor says stop, or is gone; return the exit code."""
    log = start()
    log.shared = True
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    # Keys of a terminal are the supervisor's.
    os.setsid()
    faulthandler.enable()
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    os.set_inheritable(CHANNEL, False)
    turning: Any = reactor
    keep_steady(turning)
    worker = Worker(turning, log, socket.socket(fileno=CHANNEL))

    def begin() -> None:
        signal.signal(signal.SIGTERM, lambda _signal, _frame: turning.callFromThread(worker.end))
        worker.start()

    turning.callWhenRunning(begin)
    turning.run()  # it takes SIGCHLD, for commands that are told of alerts
    return worker.code
