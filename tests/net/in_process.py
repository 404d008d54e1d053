"""A service on a reactor of its own, in a thread of the test."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from twisted.internet.epollreactor import EPollReactor

from proxy.daemon.conf import load
from proxy.daemon.service import Service

SECONDS = 20.0


class InProcess:
    """Runs a conf; what the test replaces in the daemon's modules holds."""

    def __init__(self, configuration: Path) -> None:
        conf = load(configuration).conf
        assert conf is not None
        self._reactor = EPollReactor()  # type: ignore[no-untyped-call]
        self._service = Service(conf, self._reactor)
        self._thread = threading.Thread(
            target=self._reactor.run, kwargs={"installSignalHandlers": False}
        )

    def __enter__(self) -> Self:
        self._service.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reactor.callFromThread(self._stop)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def _stop(self) -> None:
        stop: Callable[[object], None] = lambda _: self._reactor.stop()  # noqa: E731
        self._service.stop().addCallback(stop)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()
