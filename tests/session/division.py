"""A division, and what becomes of its orders."""

from collections.abc import Iterable
from typing import Self

from proxy.session import ceilings
from proxy.session.division import (
    Close,
    Division,
    EndBranch,
    EndTrunk,
    OpenBranch,
    Order,
    ToBranch,
    ToTrunk,
)
from proxy.xmpp.errors import StreamError
from proxy.xmpp.framing import Limits
from tests.session.federation import UNADDRESSED
from tests.session.federation_words import LOCAL, answer, message, own_answer, result

ONE, TWO, THREE = "one.example", "two.example", "three.example"


def to(domain: str, body: str = "hello") -> bytes:
    """A stanza to somebody at a domain."""
    return message(f"a@{LOCAL}", f"b@{domain}", body)


class Divided:
    """A division in which whatever must never be ordered is noticed.

    Attributes:
        division: what is tested.
        told: what our server has been told and nobody has asked for with `hears` yet.
        heard: what each branch got, one entry for each time that it was opened.
        open: the branches that are open.
        reason: why our server's stream was ended; empty if it was not.
        closed: why everything was closed; None if it was not.
    """

    def __init__(
        self, header: bytes = UNADDRESSED, limits: Limits = ceilings.AUTHENTICATED_CLIENT
    ) -> None:
        self.division = Division(header, limits)
        self.told = b""
        self.heard: dict[str, list[bytes]] = {}
        self.open: set[str] = set()
        self.reason = ""
        self.closed: str | None = None

    # What happens

    def says(self, *data: bytes) -> Self:
        """Have our server say something, each part by itself."""
        for part in data:
            self._do(self.division.received(part))
        return self

    def branch(self, domain: str, *data: bytes) -> Self:
        """Have a branch say something."""
        for part in data:
            self._do(self.division.branch_received(domain, part))
        return self

    def ends(self, domain: str, reason: str = "gone") -> Self:
        """Have a branch end."""
        return self._do(self.division.branch_ended(domain, reason))

    def shut_down(self, error: StreamError) -> Self:
        """Have the daemon end."""
        return self._do(self.division.shut_down(error))

    def proved(self, *domains: str) -> Self:
        """Have our domain proved to others."""
        for domain in domains:
            self.says(result(LOCAL, domain))
            self.branch(domain, UNADDRESSED, answer(domain, LOCAL, "valid"))
            self.hears(own_answer(domain, LOCAL, "valid"))
        return self

    # What comes of it

    def hears(self, *data: bytes) -> Self:
        """Our server has been told this, and nothing else since it was last asked about."""
        assert self.told == b"".join(data)
        self.told = b""
        return self

    def got(self, domain: str) -> bytes:
        """What a branch has got besides the header, in its present or last life."""
        header, data = self.heard[domain][-1][: len(UNADDRESSED)], self.heard[domain][-1]
        assert header == UNADDRESSED
        return data[len(UNADDRESSED) :]

    def _do(self, orders: Iterable[Order]) -> Self:
        for order in orders:
            assert self.closed is None, "all was closed"
            match order:
                case ToTrunk(data):
                    assert not self.reason, "the stream was ended"
                    self.told += data
                case OpenBranch(domain):
                    assert domain not in self.open
                    assert not self.reason, "a branch that nobody waits for"
                    self.open.add(domain)
                    self.heard.setdefault(domain, []).append(b"")
                case ToBranch(domain, data):
                    assert domain in self.open
                    self.heard[domain][-1] += data
                case EndBranch(domain):
                    self.open.remove(domain)
                case EndTrunk(reason):
                    assert not self.reason
                    assert reason
                    self.reason = reason
                case Close(reason):
                    self.closed = reason
                    self.open.clear()
        return self
