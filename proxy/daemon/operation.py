"""How operators look into a running service: the control socket, metrics, and traces."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxy.daemon.control.controlled import Steering
from proxy.daemon.control.controls import Controls
from proxy.daemon.control.server import ControlSocket
from proxy.daemon.log import Log
from proxy.daemon.metrics.behind import LegacyServers, servers_of
from proxy.daemon.model import Conf
from proxy.daemon.monitoring import Monitored
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.summary import Summary
from proxy.session.commands import Report, Severity
from proxy.session.hooks import Address

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics
    from proxy.daemon.metrics.names import Names
    from proxy.daemon.metrics.web import MetricsServer


@attrs.define
class Moved:
    """Where operators are to find another conf's service; nothing has changed for the last one.

    Attributes:
        web: the server of its metrics, if that is to be another one.
        socket: its control socket, likewise.
    """

    web: "MetricsServer | None" = None
    socket: ControlSocket | None = None

    def close(self) -> None:
        """Close what was opened."""
        if self.web is not None:
            self.web.stop()
        if self.socket is not None:
            self.socket.stop()


class Operation:
    """What operators have of a service; each of its parts is there if the conf wants it.

    Args:
        conf: the conf that holds first.
        monitored: the service.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        places: returns where each listener listens, by its name.
        steering: takes up another conf, and ends sessions.
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
        self._socket: ControlSocket | None = None
        self._servers = LegacyServers(reactor, servers_of(conf))
        self._web: MetricsServer | None = None
        self.metrics: Metrics | None = None
        """Takes what is measured; None as long as no conf has asked for it."""
        self._measures(conf)

    def _measures(self, conf: Conf) -> "Metrics | None":
        """Return the metrics if a conf asks for them, or one before it did: they go on counting."""
        if self.metrics is None and conf.metrics.endpoint() is not None:
            # They take memory that others have no use for.
            from proxy.daemon.metrics.counting import Metrics  # noqa: PLC0415

            self.metrics = Metrics(_names(conf), self._monitored, self._reactor)
        return self.metrics

    def start(self, hub: Hub) -> None:
        """Begin to listen; sessions are served without a control socket, too.

        Raises:
            OSError: the address of the metrics cannot be listened on; the message says why.
        """
        self._web = self._open_web(self._conf)
        if self._web is not None and self.metrics is not None:
            self.metrics.start()
        self._open_socket(hub)

    def move(self, conf: Conf, hub: Hub) -> Moved:
        """Listen where another conf says, unless that is where it is already.

        Raises:
            OSError: a place cannot be listened on; the message says which and why.
        """
        self._measures(conf)
        moved = Moved()
        try:
            if conf.metrics != self._conf.metrics:
                moved.web = self._open_web(conf)
            path = conf.state.control_socket
            if path != self._conf.state.control_socket:
                moved.socket = ControlSocket(hub, path, self._controls)
                _start(moved.socket, path)
        except OSError:
            moved.close()
            raise
        return moved

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
        self._servers.replace(servers_of(conf))
        if conf.metrics != before.metrics:
            self._serve_metrics(moved.web)
        if self.metrics is not None:
            self.metrics.rename(_names(conf))
        if moved.socket is not None:
            if self._socket is not None:
                self._socket.retire()
            self._socket = moved.socket
        elif self._socket is None:
            self._open_socket(hub)

    def _serve_metrics(self, web: "MetricsServer | None") -> None:
        if self._web is not None:
            self._web.stop()
        if self.metrics is not None:
            if self._web is None and web is not None:
                self.metrics.start()
            elif web is None:
                self.metrics.stop()
        self._web = web

    def _open_web(self, conf: Conf) -> "MetricsServer | None":
        """Listen where metrics are read.

        Raises:
            OSError: the address cannot be listened on; the message says why.
        """
        endpoint = conf.metrics.endpoint()
        if endpoint is None or self.metrics is None:
            return None
        from proxy.daemon.metrics.web import MetricsServer, Pages  # noqa: PLC0415

        pages = Pages(self.metrics.snapshot, self.metrics.troubles, self._servers)
        web = MetricsServer(self._reactor, endpoint, pages)
        web.start()
        return web

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


def _names(conf: Conf) -> "Names":
    from proxy.daemon.metrics.names import Names  # noqa: PLC0415

    return Names.of(conf)


def _start(control: ControlSocket, path: Path) -> None:
    """Listen on a control socket.

    Raises:
        OSError: the place cannot be taken; the message says which and why.
    """
    try:
        control.start()
    except OSError as error:
        raise OSError(f"bascule.control_socket: {path}: {error.strerror}") from error
