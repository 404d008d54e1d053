"""How operators look into a running service: the control socket, metrics, and traces."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from proxy.daemon.control.controls import Controls
from proxy.daemon.control.server import ControlSocket
from proxy.daemon.log import Log
from proxy.daemon.metrics.behind import LegacyServers, servers_of
from proxy.daemon.monitoring import Monitored
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.summary import Summary
from proxy.session.commands import Report, Severity
from proxy.session.hooks import Address

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics
    from proxy.daemon.metrics.web import MetricsServer


class Operation:
    """What operators have of a service; each of its parts is there if the conf wants it.

    Args:
        monitored: the service.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        places: returns where each listener listens, by its name.
    """

    def __init__(
        self,
        monitored: Monitored,
        reactor: Any,
        log: Log | None,
        places: Callable[[], Mapping[str, tuple[Address, ...]]],
    ) -> None:
        conf = monitored.conf
        self._conf = conf
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
        )
        self._socket: ControlSocket | None = None
        self._servers = LegacyServers(reactor, servers_of(conf))
        self._web: MetricsServer | None = None
        self.metrics = None if conf.metrics.endpoint() is None else _metrics(monitored, reactor)

    def start(self, hub: Hub) -> None:
        """Begin to listen; sessions are served without a control socket, too.

        Raises:
            OSError: the address of the metrics cannot be listened on; the message says why.
        """
        self._open_web()
        self._open_socket(hub)

    def _open_web(self) -> None:
        endpoint = self._conf.metrics.endpoint()
        if endpoint is None or self.metrics is None:
            return
        from proxy.daemon.metrics.web import MetricsServer, Pages  # noqa: PLC0415

        pages = Pages(self.metrics.snapshot, self.metrics.troubles, self._servers)
        self._web = MetricsServer(self._reactor, endpoint, pages)
        self._web.start()
        self.metrics.start()

    def _open_socket(self, hub: Hub) -> None:
        path = self._conf.state.control_socket
        control = ControlSocket(hub, path, self._controls)
        try:
            control.start()
        except OSError as error:
            if self._log is not None:
                text = f"there is no control socket: {path}: {error.strerror}"
                self._log.write(Severity.WARNING, text)
        else:
            self._socket = control

    def stop(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.stop()
            self._socket = None
        if self._web is not None:
            self._web.stop()
            self._web = None
        if self.metrics is not None:
            self.metrics.stop()
        self._servers.stop()

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


def _metrics(monitored: Monitored, reactor: Any) -> "Metrics":
    # They take memory that others have no use for.
    from proxy.daemon.metrics.counting import Metrics  # noqa: PLC0415
    from proxy.daemon.metrics.names import Names  # noqa: PLC0415

    return Metrics(Names.of(monitored.conf), monitored, reactor)
