"""A loop in a thread of its own that watches thousands of sockets."""

import heapq
import itertools
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

Ready = Callable[[int], None]


class Loop:
    """Calls back what is watched when it is ready, and what is due later.

    A fault in a callback ends the loop; `check` tells of it.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._woken, self._waking = socket.socketpair()
        for each in (self._woken, self._waking):
            each.setblocking(False)
        self._over = False
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self.watch(self._woken, READ, lambda _events: self._drain())
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call(self._end)
        self._thread.join()
        self._selector.close()
        self._woken.close()
        self._waking.close()

    # From any thread

    def call(self, function: Callable[[], None]) -> None:
        """Have something called in the loop's thread."""
        self._calls.append(function)
        self._waking.send(b"x")

    def check(self) -> None:
        """Fail if a callback has.

        Raises:
            AssertionError: with the callback's traceback.
        """
        assert self._fault is None, self._fault

    # From the loop's own

    def watch(self, watched: socket.socket, events: int, ready: Ready) -> None:
        """Call ``ready`` whenever one of ``events`` has come."""
        self._selector.register(watched, events, ready)

    def change(self, watched: socket.socket, events: int, ready: Ready) -> None:
        """Watch something for other events, or have them told to another."""
        self._selector.modify(watched, events, ready)

    def forget(self, watched: socket.socket) -> None:
        """Watch something no more."""
        self._selector.unregister(watched)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call something after a while."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), function))

    def _end(self) -> None:
        self._over = True

    def _drain(self) -> None:
        self._woken.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def _run(self) -> None:
        try:
            while not self._over:
                self._turn()
        except Exception:  # noqa: BLE001 - told by `check`, in the test's thread
            self._fault = traceback.format_exc()

    def _turn(self) -> None:
        wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, events in self._selector.select(wait):
            # What was forgotten by one that was ready before it is not called.
            if self._selector.get_map().get(key.fd) == key:
                key.data(events)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
