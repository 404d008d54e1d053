"""What passed on both legs of one session, side by side."""

import re
import threading
from enum import Enum
from typing import Final

import attrs
from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from proxy.daemon.demo.client import Secured
from proxy.daemon.demo.server import Direction
from proxy.xmpp.text import printable

LONGEST: Final = 1_000
"""Characters shown of one part of a stream."""
MASK: Final = "••••••••"

_SECRETS: Final = re.compile(
    r"(<(?P<name>auth|response|challenge|success|password|digest)(?:\s[^>]*)?>)[^<]+(?=</(?P=name)>)"
)
_START: Final = re.compile(r"(?:<\?xml[^>]*>\s*)?<(/?[^\s/>]+)")


class Leg(Enum):
    """The two connections of a session."""

    CLIENT = "client leg"
    SERVER = "server leg"


@attrs.frozen
class Part:
    """A stream header, an element or a footer that passed, without its secrets."""

    leg: Leg
    direction: Direction
    text: str

    @property
    def name(self) -> str:
        """The name in its first tag; with a slash if it is a footer."""
        found = _START.match(self.text)
        return found[1] if found else ""


def masked(text: str) -> str:
    """Return ``text`` with what proves who somebody is hidden: SASL's data, passwords, digests."""
    return _SECRETS.sub(lambda found: found[1] + MASK, text)


class Transcript:
    """Collects the parts of both legs in the order in which they passed, from any thread."""

    def __init__(self) -> None:
        self.secured: Secured | None = None
        self._lock = threading.Lock()
        self._before: list[Part] = []
        self._after: list[Part] = []

    def client_leg(self, direction: Direction, data: bytes) -> None:
        """Take down what the client sent or received; an `Observer`."""
        self._add(Leg.CLIENT, direction, data)

    def server_leg(self, direction: Direction, data: bytes) -> None:
        """Take down what the legacy server received or sent; an `Observer`."""
        self._add(Leg.SERVER, direction, data)

    def secure(self, secured: Secured) -> None:
        """Take down that the client leg is inside TLS from here on."""
        with self._lock:
            self.secured = secured

    def _add(self, leg: Leg, direction: Direction, data: bytes) -> None:
        part = Part(leg, direction, masked(data.decode("utf-8", "replace")))
        with self._lock:
            (self._before if self.secured is None else self._after).append(part)

    @property
    def kept_apart(self) -> bool:
        """Whether TLS came up, and nothing was on the server leg until the client leg had it."""
        return self.secured is not None and not any(part.leg is Leg.SERVER for part in self._before)

    def show(self, console: Console, client_address: str, server_address: str) -> None:
        """Print both legs side by side, with the handshake as a bar across them.

        Args:
            console: where to.
            client_address: where the client connected to.
            server_address: where the legacy server listens.
        """
        titles = (
            f"client ⇄ Bascule\n[dim]{client_address}[/]",
            f"Bascule ⇄ legacy server\n[dim]{server_address}, no TLS[/]",
        )
        console.print(_table(self._before, titles, absent="not connected yet"))
        if self.secured is not None:
            console.print(_bar(self.secured))
        console.print(_table(self._after, ("inside TLS", "in plaintext"), absent=""))


def aligned(parts: list[Part]) -> list[tuple[Part | None, Part | None]]:
    """Put next to one another what is the same part on the client leg and on the server leg.

    Args:
        parts: of both legs, in the order in which they passed.

    Returns:
        Rows of a part on the client leg and one on the server leg; None where there is none.
    """
    waiting = [part for part in parts if part.leg is Leg.SERVER]
    rows: list[tuple[Part | None, Part | None]] = []
    for part in parts:
        if part.leg is not Leg.CLIENT:
            continue
        same = (other for other in waiting if _same(part, other))
        match = next(same, None)
        if match is not None:
            here = waiting.index(match)
            rows += [(None, other) for other in waiting[:here]]
            del waiting[: here + 1]
        rows.append((part, match))
    return rows + [(None, other) for other in waiting]


def _same(part: Part, other: Part) -> bool:
    return (part.direction, part.name) == (other.direction, other.name)


def _table(parts: list[Part], titles: tuple[str, str], *, absent: str) -> Table:
    table = Table(box=box.ROUNDED, expand=True, show_lines=True)
    for title in titles:
        table.add_column(title, ratio=1, overflow="fold")
    for left, right in aligned(parts):
        table.add_row(_cell(left, ""), _cell(right, absent))
    return table


_STYLES: Final = {
    Direction.TO_SERVER: ("→ ", "cyan"),
    Direction.TO_CLIENT: ("← ", "green"),
}


def _cell(part: Part | None, absent: str) -> Text:
    if part is None:
        return Text(absent, style="dim")
    arrow, style = _STYLES[part.direction]
    return Text(arrow + printable(part.text, LONGEST), style=style)


def _bar(secured: Secured) -> RenderableType:
    text = Text(justify="center")
    text.append(f"{secured.version}  {secured.cipher}  {secured.group}\n", style="bold")
    text.append(f"the client verified the certificate of {secured.subject}")
    return Panel(text, box=box.HEAVY, style="yellow", title="TLS on the client leg")
