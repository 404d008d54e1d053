"""Many clients at once, and what becomes of them."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from cryptography import x509

from tests.load.clients import EARLY, LEFT, Client, Way
from tests.load.loop import Loop
from tests.servers.stream import tls_context

AT_ONCE: Final = 48
"""How many log in at the same time."""

PATIENCE: Final = 90.0
"""Seconds that anything may take, on a machine that is busy with something else."""

IN_ORDER: Final = frozenset(("system-shutdown", "reset"))
"""Conditions of streams that a proxy ends because it has to: their clients come again."""

_LENGTHS: Final = (20, 120, 200, 1_000, 4_000)
_TICK: Final = 0.02


class Crowd:
    """Clients that log in at once and stay, coming again where they are told to, or come and go.

    What they say is sent back by the server behind, and compared.

    Args:
        loop: runs them; it has been started.
        authority: the file of the authority that they trust.
        pause: seconds from one message of a client that stays to its next.
        haste: the same of those that do not stay, and until they come again.
        messages: how many each of these sends before it goes.

    Attributes:
        ends: how often a client has ended or was ended, by its stage and how: ``LEFT`` for those
            that went themselves, a stream error's condition, or how it broke.
        odd: the same of those that do not log in, by how they fail to.
        up: those that are logged in.
        logins: how many logins there were.
        spoken: how many messages have been sent.
        clients: all of them.
        talking: whether they say something now and then.
        coming: whether they come (again).
    """

    def __init__(
        self,
        loop: Loop,
        authority: Path,
        *,
        pause: float = 2.0,
        haste: float = 0.2,
        messages: int = 2,
    ) -> None:
        self.loop: Final = loop
        self.context: Final = tls_context(authority)
        self.ends: Final[Counter[str]] = Counter()
        self.odd: Final[Counter[str]] = Counter()
        self.up: Final[set[Client]] = set()
        self.logins = 0
        self.spoken = 0
        self.clients: Final[list[Client]] = []
        self.talking = True
        self.coming = True
        self._pause = pause
        self._haste = haste
        self._messages = messages
        self._random = random.Random(4711)
        self._waiting: deque[Client] = deque()
        self._dialled: set[Client] = set()
        self._early: set[Client] = set()
        loop.call(self._tick)

    # For tests

    def add(self, count: int, port: int, ways: Iterable[Way | None] = (None,)) -> None:
        """Have more clients come.

        Args:
            count: how many.
            port: where they connect to.
            ways: how they leave, in turn; None for those that stay.
        """
        kinds = tuple(ways)
        first = len(self.clients)
        new = [
            Client(self, first + number, port, kinds[number % len(kinds)])
            for number in range(count)
        ]
        self.clients.extend(new)
        self.loop.call(lambda: self._waiting.extend(new))

    def wait(self, done: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: it takes too long, or the loop has failed.
        """
        end = time.monotonic() + seconds
        while not done():
            self.loop.check()
            assert time.monotonic() < end, f"{what}: {self}"
            time.sleep(0.02)
        self.loop.check()

    def wait_until_up(self, count: int) -> None:
        """Wait until so many of those that stay are logged in."""
        self.wait(
            lambda: sum(each.way is None for each in tuple(self.up)) >= count,
            f"{count} that stay are not logged in",
        )

    def logins_of_each(self) -> dict[Client, int]:
        """Return how often each of those that stay has logged in."""
        return {each: each.logins for each in self.clients if each.way is None}

    def wait_until_again(self, before: Mapping[Client, int]) -> None:
        """Wait until all of these are logged in, and have logged in since."""
        self.wait(
            lambda: all(each in self.up and each.logins > n for each, n in before.items()),
            "not all have come again",
        )

    def wait_for_logins(self, more: int) -> None:
        """Wait until so many have logged in from now on."""
        least = self.logins + more
        self.wait(lambda: self.logins >= least, f"{more} more do not log in")

    def wait_for_echoes(self) -> None:
        """Have everybody who is logged in say something once more, and wait for all echoes."""
        said: list[bool] = []

        def say() -> None:
            for client in tuple(self.up):
                client.say(b"still there")
            said.append(True)

        self.talking = False
        self.loop.call(say)
        self.wait(
            lambda: bool(said) and not any(each.waits for each in tuple(self.up)),
            "echoes are missing",
        )
        self.talking = True

    def leave(self) -> None:
        """Have all close their streams, and wait until that is done; nobody comes any more."""
        self.coming = False

        def tell() -> None:
            for client in tuple(self.up):
                client.way = client.way or Way.FOOTER
                client.leave()

        self.loop.call(tell)
        self.wait(lambda: not (self.up or self._dialled or self._early), "clients have not gone")

    def serials(self) -> Counter[int]:
        """Return the serial numbers of the certificates that those were shown who are logged in."""
        shown = Counter(each.shown for each in tuple(self.up))
        return Counter(
            {x509.load_der_x509_certificate(der).serial_number: n for der, n in shown.items()}
        )

    def troubles(self) -> dict[str, int]:
        """Return the ends, with their numbers, that are neither in order nor wanted."""
        fine = {LEFT, *IN_ORDER}
        return {how: n for how, n in dict(self.ends).items() if how.partition(": ")[2] not in fine}

    def __str__(self) -> str:
        """Return how it stands, in a line."""
        return (
            f"{len(self.up)} of {len(self.clients)} clients are logged in, {len(self._dialled)} on "
            f"their way, {self.logins} logins, {self.spoken} messages; ends: {dict(self.ends)}; "
            f"odd ones: {dict(self.odd)}"
        )

    # For clients, in the loop's thread

    def arrived(self, client: Client) -> None:
        """Take note that a client is logged in."""
        self._dialled.discard(client)
        self.up.add(client)
        self.logins += 1
        if not self.coming:
            client.way = client.way or Way.FOOTER
        left = 0 if not self.coming else -1 if client.way is None else self._messages
        first, login = self._after(client) * self._random.random(), client.logins
        self.loop.later(first, lambda: self._turn(client, left, login))

    def ended(self, client: Client, how: str) -> None:
        """Take note that a client is there no more."""
        for each in (self.up, self._dialled, self._early):
            each.discard(client)
        if client.way in EARLY:
            self.odd[f"{client.way.value}: {how}"] += 1
        else:
            self.ends[f"{client.stage.value}: {how}"] += 1
        if client.way is None:
            self._waiting.append(client)
        else:
            self.loop.later(self._haste, lambda: self._waiting.append(client))

    def _turn(self, client: Client, left: int, login: int) -> None:
        if client not in self.up or client.logins != login:
            return
        if left == 0:
            client.leave()
            return
        if self.talking:
            size = _LENGTHS[self._random.randrange(len(_LENGTHS))]
            client.say(self._random.randbytes(size // 2).hex().encode())
            self.spoken += 1
        self.loop.later(self._after(client), lambda: self._turn(client, left - 1, login))

    def _after(self, client: Client) -> float:
        return self._pause if client.way is None else self._haste

    def _tick(self) -> None:
        while self.coming and self._waiting and len(self._dialled) < AT_ONCE:
            client = self._waiting.popleft()
            (self._early if client.way in EARLY else self._dialled).add(client)
            client.dial()
        self.loop.later(_TICK, self._tick)
