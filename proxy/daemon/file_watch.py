"""Files that are replaced while the daemon runs are noticed, whichever way that is done."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

INTERVAL: Final = 20.0
"""Seconds from one look to the next; what has changed is taken up at the second look after."""

Signature = tuple[int, ...] | None
"""What tells a file's content from another's, links followed; None for no file."""

_log = Logger()


class FileWatch:
    """Looks at files now and then, and has those taken up that have come to rest.

    Args:
        reactor: calls later.
        changed: takes up files that have changed, and fires with those that need not be taken up
            again until they change once more.
        interval: seconds from one look to the next.
    """

    def __init__(
        self,
        reactor: Any,
        changed: "Callable[[frozenset[Path]], Deferred[frozenset[Path]]]",
        interval: float = INTERVAL,
    ) -> None:
        self._reactor = reactor
        self._changed = changed
        self._interval = interval
        self._taken: dict[Path, Signature] = {}
        self._before: dict[Path, Signature] = {}
        self._next: Any = None
        self._stopped = False

    def start(self) -> None:
        """Begin to look."""
        self._later()

    def adopt(self, taken: dict[Path, Signature]) -> None:
        """Look at other files.

        Args:
            taken: what they were when they were taken up, as `signatures` returns it.
        """
        self._taken = dict(taken)
        self._before = {}

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _later(self) -> None:
        if not self._stopped:
            self._next = self._reactor.callLater(self._interval, self._look)

    def _look(self) -> None:
        self._next = None
        taken = self._taken
        now = signatures(taken)
        before, self._before = self._before, now
        # One that still changes may be half written.
        resting = frozenset(
            path for path in taken if now[path] != taken[path] and now[path] == before.get(path)
        )
        if not resting:
            self._later()
            return

        def up(done: frozenset[Path]) -> None:
            # A file that has changed again since is seen to at the next look.
            taken.update({path: now[path] for path in done})

        self._changed(resting).addCallbacks(up, _failed).addBoth(lambda _: self._later())


def signatures(paths: Iterable[Path]) -> dict[Path, Signature]:
    """Return what the content of files can be known by."""
    return {path: _signature(path) for path in paths}


def _signature(path: Path) -> Signature:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _failed(failure: Failure) -> None:
    _log.failure("files that have changed could not be taken up", failure=failure)
