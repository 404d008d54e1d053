"""What the processes of one daemon share: a secret, and counts."""

import hmac
import secrets
from typing import Final

import attrs

from proxy.net.board import Board
from proxy.net.outgoing import Outgoing
from proxy.session.counts import Counts, LocalCounts, Section
from proxy.session.dialback import Ledger
from proxy.session.ids import StreamIds

SECRET: Final = 32
"""Bytes of the secret that processes share, at least."""


@attrs.frozen
class Shared:
    """What a process shares with the other workers, or has for itself if there are none.

    Attributes:
        secret: random bytes that only these processes know, `SECRET` at least.
        counts: what they count together.
    """

    secret: bytes = attrs.field(repr=False)
    counts: Counts = attrs.field(repr=False)

    @secret.validator
    def _long(self, _attribute: object, secret: bytes) -> None:
        if len(secret) < SECRET:
            raise ValueError(f"the secret that workers share has less than {SECRET} bytes")

    @classmethod
    def alone(cls) -> "Shared":
        """Return what a process has that shares nothing."""
        return cls(secrets.token_bytes(SECRET), LocalCounts())

    @classmethod
    def among(cls, descriptor: int, secret: bytes, number: int) -> "Shared":
        """Return what a worker shares with the others.

        Args:
            descriptor: that of the `proxy.net.board.Board`; it may be closed afterwards.
            secret: what all of them know.
            number: which worker this is, from 0.

        Raises:
            OSError: the board cannot be mapped.
            ValueError: the secret is too short, there is no such board or no such worker, or the
                board has not been cleared of what an earlier worker of this number had counted.
        """
        key = cls(secret, LocalCounts()).key("board")
        return cls(secret, Board.attach(descriptor, key, number))

    def key(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for one purpose, the same in all processes that share."""
        return hmac.digest(self.secret, purpose.encode(), "sha256")

    def section(self, name: str) -> Counts:
        """Return the part of the counts that has this name."""
        return Section(self.counts, name)

    def ids(self) -> StreamIds:
        """Return what makes and knows the ids of streams."""
        return StreamIds(self.key("stream ids"))

    def ledger(self) -> Ledger:
        """Return the ledger of dialback keys."""
        return Ledger(self.key("dialback"), self.section("dialback"))

    def outgoing(self) -> Outgoing:
        """Return what knows connections to servers."""
        return Outgoing(self.section("outgoing"))
