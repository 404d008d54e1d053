"""How operators look into several workers: one control socket, one page of metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from proxy.daemon.control.controlled import Steering
from proxy.daemon.control.facts import WorkerFacts
from proxy.daemon.entrances import Entrances, Moved
from proxy.daemon.log import Log
from proxy.daemon.model import Conf
from proxy.daemon.workers.asking import Worker
from proxy.daemon.workers.measuring import Measuring
from proxy.daemon.workers.whole import Whole
from proxy.net.hub import Hub
from proxy.session.hooks import Address


class WholeOperation:
    """What operators have of several workers: as `proxy.daemon.operation.Operation` of a service.

    Args:
        conf: the conf that holds first.
        reactor: the reactor.
        log: where this process writes; None keeps quiet.
        workers: returns the workers that are there now.
        facts: returns what is known of all of them without asking.
        places: returns where each listener listens, by its name.
        steering: takes up another conf, and ends all sessions and the daemon.
    """

    def __init__(
        self,
        conf: Conf,
        reactor: Any,
        log: Log | None,
        *,
        workers: Callable[[], Sequence[Worker]],
        facts: Callable[[], Sequence[WorkerFacts]],
        places: Callable[[], Mapping[str, tuple[Address, ...]]],
        steering: Steering,
    ) -> None:
        self._log = log
        self._whole = Whole(
            conf, reactor, log, workers=workers, facts=facts, places=places, steering=steering
        )
        measuring = Measuring(reactor, workers, facts)
        self._entrances = Entrances(conf, reactor, log, self._whole, lambda: measuring)

    def start(self, hub: Hub) -> None:
        """Begin to listen.

        Raises:
            OSError: the address of the metrics cannot be listened on; the message says why.
        """
        self._entrances.start(hub)

    def risen(self, worker: Worker) -> None:
        """Take note of a worker that has come up: it is told what operators have set meanwhile."""
        self._whole.risen(worker)

    def move(self, conf: Conf, hub: Hub) -> Moved:
        """Listen where another conf says, unless that is where it is already.

        Raises:
            OSError: a place cannot be listened on; the message says which and why.
        """
        return self._entrances.move(conf, hub)

    def adopt(self, conf: Conf, moved: Moved, hub: Hub) -> None:
        """Have operators see what another conf asks for.

        Args:
            conf: the conf, which holds now.
            moved: what `move` has returned for it.
            hub: watches the control socket.
        """
        self._whole.conf = conf
        if self._log is not None:
            self._log.format = conf.state.log_format
        self._entrances.adopt(conf, moved, hub)

    def stop(self) -> None:
        """Listen no more."""
        self._entrances.stop()
