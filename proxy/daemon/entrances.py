"""Where operators and monitoring come in: the control socket, and the page of metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from proxy.daemon.control.answering import SERVERS
from proxy.daemon.control.behind import answering
from proxy.daemon.control.controlled import Controlled, Soon
from proxy.daemon.control.server import ControlSocket
from proxy.daemon.log import Log
from proxy.daemon.metrics.behind import LegacyServers, servers_of
from proxy.daemon.model import Conf
from proxy.net.hub import Hub
from proxy.session.commands import Severity

if TYPE_CHECKING:
    from proxy.daemon.metrics.health import Health
    from proxy.daemon.metrics.snapshot import Snapshot
    from proxy.daemon.metrics.web import MetricsServer


class Observed(Protocol):
    """What can be measured of a daemon."""

    def snapshot(self) -> "Deferred[Snapshot]":
        """Return the values of all metrics."""

    def health(self) -> "Soon[Health]":
        """Return how the daemon is."""


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


class Entrances:
    """The control socket and the page of metrics; each is there if the conf wants it.

    Args:
        conf: the conf that holds first.
        reactor: the reactor.
        log: where to write; None keeps quiet.
        controlled: what the control socket is about.
        observed: returns what the page is about; called only for a conf that wants the page.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        log: Log | None,
        controlled: Controlled,
        observed: Callable[[], Observed],
    ) -> None:
        self._conf = conf
        self._reactor = reactor
        self._log = log
        self._controlled = controlled
        self._observed = observed
        self._socket: ControlSocket | None = None
        self._servers = LegacyServers(reactor, servers_of(conf))
        self._commands = {SERVERS: answering(self._servers.asked)}
        self._web: MetricsServer | None = None

    def start(self, hub: Hub) -> None:
        """Begin to listen; sessions are served without a control socket, too.

        Raises:
            OSError: the address of the metrics cannot be listened on; the message says why.
        """
        self._web = self._open_web(self._conf)
        self._open_socket(hub)

    def move(self, conf: Conf, hub: Hub) -> Moved:
        """Listen where another conf says, unless that is where it is already.

        Raises:
            OSError: a place cannot be listened on; the message says which and why.
        """
        moved = Moved()
        try:
            if conf.metrics != self._conf.metrics:
                moved.web = self._open_web(conf)
            path = conf.state.control_socket
            if path != self._conf.state.control_socket:
                moved.socket = ControlSocket(hub, path, self._controlled, self._commands)
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
        before, self._conf = self._conf, conf
        self._servers.replace(servers_of(conf))
        if conf.metrics != before.metrics:
            if self._web is not None:
                self._web.stop()
            self._web = moved.web
        if moved.socket is not None:
            if self._socket is not None:
                self._socket.retire()
            self._socket = moved.socket
        elif self._socket is None:
            self._open_socket(hub)

    def stop(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.stop()
            self._socket = None
        if self._web is not None:
            self._web.stop()
            self._web = None
        self._servers.stop()

    def _open_web(self, conf: Conf) -> "MetricsServer | None":
        """Listen where metrics are read.

        Raises:
            OSError: the address cannot be listened on; the message says why.
        """
        endpoint = conf.metrics.endpoint()
        if endpoint is None:
            return None
        # It takes memory that others have no use for.
        from proxy.daemon.metrics.web import MetricsServer, Pages  # noqa: PLC0415

        observed = self._observed()
        pages = Pages(observed.snapshot, observed.health, self._servers)
        web = MetricsServer(self._reactor, endpoint, pages)
        web.start()
        return web

    def _open_socket(self, hub: Hub) -> None:
        path = self._conf.state.control_socket
        control = ControlSocket(hub, path, self._controlled, self._commands)
        try:
            control.start()
        except OSError as error:
            if self._log is not None:
                text = f"there is no control socket: {path}: {error.strerror}"
                self._log.write(Severity.WARNING, text)
        else:
            self._socket = control


def _start(control: ControlSocket, path: Path) -> None:
    """Listen on a control socket.

    Raises:
        OSError: the place cannot be taken; the message says which and why.
    """
    try:
        control.start()
    except OSError as error:
        raise OSError(f"bascule.control_socket: {path}: {error.strerror}") from error
