"""How operators look into a running service: the control socket, metrics, and traces."""

import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.daemon.control.answering import Answering
from proxy.daemon.control.controlled import Steering
from proxy.daemon.control.controls import Controls
from proxy.daemon.control.server import Clients
from proxy.daemon.entrances import Entrances, Moved
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.monitoring import Monitored
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.summary import Summary
from proxy.session.commands import Report
from proxy.session.hooks import Address

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics
    from proxy.daemon.metrics.names import Names

MOST_QUESTIONS: Final = 64
"""What a supervisor may ask at the same time: what all its clients ask, and metrics and health."""


class Operation:
    """What operators have of a service; each of its parts is there if the conf wants it.

    Args:
        conf: the conf that holds first.
        monitored: the service.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        places: returns where each listener listens, by its name.
        steering: takes up another conf, and ends sessions.
        worker: whether the service is one of several, whose supervisor speaks with operators for
            all of them: then nothing is listened on, and only `converse` lets somebody in.
    """

    def __init__(
        self,
        conf: Conf,
        monitored: Monitored,
        reactor: Any,
        log: Log | None,
        *,
        places: Callable[[], Mapping[str, tuple[Address, ...]]],
        steering: Steering,
        worker: bool = False,
    ) -> None:
        self._conf = conf
        self._monitored = monitored
        self._reactor = reactor
        self._log = log
        self._controls = Controls(
            conf,
            monitored.live,
            places,
            log,
            certificates=monitored.presented,
            pending=monitored.waiting,
            alerts=monitored.alerts,
            steering=steering,
        )
        self._clients: Clients | None = None
        self._entrances: Entrances | None = None
        if not worker:
            self._entrances = Entrances(conf, reactor, log, self._controls, self._counted)
        self.metrics: Metrics | None = None
        """Takes what is measured; None as long as no conf has asked for it."""
        self._measures(conf)

    def _measures(self, conf: Conf) -> None:
        """Have metrics if a conf asks for them; once there, they go on counting."""
        if self.metrics is None and conf.metrics.endpoint() is not None:
            # They take memory that others have no use for.
            from proxy.daemon.metrics.counting import Metrics  # noqa: PLC0415

            self.metrics = Metrics(_names(conf), self._monitored, self._reactor)

    def _counted(self) -> "Metrics":
        assert self.metrics is not None  # noqa: S101 - a conf that wants the page wants them
        return self.metrics

    def start(self, hub: Hub) -> None:
        """Begin to listen; sessions are served without a control socket, too.

        Raises:
            OSError: the address of the metrics cannot be listened on; the message says why.
        """
        if self._entrances is not None:
            self._entrances.start(hub)
        if self.metrics is not None:
            self.metrics.start()

    def move(self, conf: Conf, hub: Hub) -> Moved:
        """Listen where another conf says, unless that is where it is already.

        Raises:
            OSError: a place cannot be listened on; the message says which and why.
        """
        self._measures(conf)
        return Moved() if self._entrances is None else self._entrances.move(conf, hub)

    def adopt(self, conf: Conf, moved: Moved, hub: Hub) -> None:
        """Have operators see another conf's service.

        Args:
            conf: the conf, which holds now.
            moved: what `move` has returned for it.
            hub: watches the control socket.
        """
        before = self._conf
        self._conf = self._controls.conf = conf
        if self._log is not None:
            self._log.format = conf.state.log_format
        if self._entrances is not None:
            self._entrances.adopt(conf, moved, hub)
        if self.metrics is not None:
            measured, measures = (each.metrics.endpoint() for each in (before, conf))
            if measures is None:
                self.metrics.stop()
            elif measured is None:
                self.metrics.start()
            self.metrics.rename(_names(conf))

    def converse(self, connection: socket.socket) -> None:
        """Let a supervisor ask over a connection, as over a control socket, and for the metrics.

        Args:
            connection: it is closed here, and served by a descriptor of its own.
        """
        if self._clients is None:
            # A single process has no use for what this takes.
            from proxy.daemon.workers.measured import Measured  # noqa: PLC0415

            measured = Measured(lambda: self.metrics)
            answering = Answering(self._controls, measured.commands())
            self._clients = Clients(self._reactor, answering, MOST_QUESTIONS)
        self._clients.adopt(connection)

    def stop(self) -> None:
        """Listen no more."""
        if self._entrances is not None:
            self._entrances.stop()
        if self._clients is not None:
            self._clients.close()
        if self.metrics is not None:
            self.metrics.stop()

    # What happens

    def begun(self, session: Bridge | Divider) -> None:
        """Take note of a session that is about to start."""
        if isinstance(session, Bridge):
            session.watch = self._controls.tracing.begun(session.view)
        if self.metrics is not None:
            self.metrics.session_opened(session.view.listener)

    def ended(self, session: Bridge | Divider, summary: Summary) -> None:
        """Take note of one that is over."""
        if self.metrics is not None:
            self.metrics.session_closed(session, summary, divided=isinstance(session, Divider))

    def turned_away(self, listener: str) -> None:
        """Take note of a connection that becomes no session."""
        if self.metrics is not None:
            self.metrics.turned_away(listener)

    def reported(self, listener: str, report: Report) -> None:
        """Take note of what a session reports."""
        if self.metrics is not None:
            self.metrics.reported(listener, report)


def _names(conf: Conf) -> "Names":
    from proxy.daemon.metrics.names import Names  # noqa: PLC0415

    return Names.of(conf)
