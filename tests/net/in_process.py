"""A service on a reactor of its own, in a thread of the test."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from twisted.internet.epollreactor import EPollReactor

from proxy.daemon.conf import load
from proxy.daemon.log import Log
from proxy.daemon.service import Service

SECONDS = 20.0


class InProcess:
    """Runs a conf; what the test replaces in the daemon's modules holds."""

    def __init__(self, configuration: Path, log: Log | None = None) -> None:
        loaded = load(configuration)
        assert loaded.conf is not None, loaded.mistakes
        self._conf = loaded.conf
        self._log = log
        self._reactor = EPollReactor()  # type: ignore[no-untyped-call]
        self._service: Service
        self._made, self._entered, self._begun = (threading.Event() for _ in range(3))
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._await(self._made)

    def _run(self) -> None:
        """Make the service where it runs: a keyring is of one thread."""
        try:
            self._service = Service(self._conf, self._reactor, self._log)
            self._made.set()
            self._entered.wait()
            self._service.start()
        except BaseException as error:
            self._fault = error
            raise
        finally:
            self._made.set()
            self._begun.set()
        self._reactor.run(installSignalHandlers=False)

    def __enter__(self) -> Self:
        self._entered.set()
        self._await(self._begun)
        return self

    def _await(self, event: threading.Event) -> None:
        event.wait()
        assert self._fault is None, self._fault

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
