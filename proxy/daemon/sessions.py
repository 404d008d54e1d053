"""What sessions are handed to, and what all of them share, whichever conf they began under."""

from typing import Protocol

import attrs

from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.summary import Summary
from proxy.session.commands import Report
from proxy.session.dialback import Ledger
from proxy.session.hooks import Address
from proxy.session.ids import StreamIds


class Sessions(Protocol):
    """What takes the sessions that come of connections."""

    def begin(self, session: Bridge | Divider) -> None:
        """Take one that is about to start."""

    def closed(self, session: Bridge | Divider, summary: Summary) -> None:
        """Take note of one that is over."""

    def replaced(self, session: Bridge, by: Divider) -> None:
        """Take note of one that goes on as another."""

    def report(self, listener: str, session_id: str, report: Report) -> None:
        """Write to the log what a session reports."""

    def turned_away(self, listener: str, client: Address, reason: object) -> None:
        """Take note of a connection that is closed before it becomes a session."""

    def is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""


@attrs.frozen
class Marks:
    """What the proxy knows its own streams by, whichever conf holds and in whichever process.

    Attributes:
        ids: the ids of streams that it has answered.
        ledger: the dialback keys that it has issued.
    """

    ids: StreamIds = attrs.field(factory=StreamIds)
    ledger: Ledger = attrs.field(factory=Ledger)
