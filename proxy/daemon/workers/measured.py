"""What a worker tells its supervisor of its metrics, as commands of the control language.

They are answered only on connections that the supervisor has passed, never on the control socket.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from proxy.daemon.control.answering import Answer, Items
from proxy.daemon.control.protocol import Arguments, Code, RefusedError
from proxy.daemon.metrics.snapshot import Snapshot, pieces

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics

METRICS: Final = "metrics"
"""Answered with a snapshot of the metrics, in pieces."""

TROUBLES: Final = "troubles"
"""Answered with why the worker is not ready: an item for each reason, with ``trouble``."""


@attrs.frozen
class Measured:
    """The metrics of a worker.

    Attributes:
        found: returns them; None if nothing is counted.
    """

    found: "Callable[[], Metrics | None]"

    def commands(self) -> Mapping[str, Answer]:
        """Return what is answered, by the names of the commands."""
        return {METRICS: self._metrics, TROUBLES: self._troubles}

    def _metrics(self, arguments: Arguments) -> Items:
        arguments.end()
        snapshots: list[Snapshot] = []
        yield self._there().snapshot().addCallback(snapshots.append)
        for snapshot in snapshots:
            yield from pieces(snapshot)

    def _troubles(self, arguments: Arguments) -> Items:
        arguments.end()
        return iter([{"trouble": trouble} for trouble in self._there().troubles()])

    def _there(self) -> "Metrics":
        metrics = self.found()
        if metrics is None:
            raise RefusedError(Code.NOT_FOUND, "nothing is measured")
        return metrics
