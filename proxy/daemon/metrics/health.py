"""Whether the daemon is ready, and its servers answer: for people, and for programs that watch."""

import json
from collections.abc import Sequence

import attrs

from proxy.daemon.metrics.behind import Asked
from proxy.xmpp.text import printable


@attrs.frozen
class Health:
    """How the daemon is.

    Attributes:
        troubles: why it is not ready, in words; nothing if it is.
        servers: what the legacy servers have answered; None if they were not asked.
        remarks: what else is wrong, though it is ready, in words.
    """

    troubles: Sequence[str]
    servers: Sequence[Asked] | None = None
    remarks: Sequence[str] = ()

    @property
    def good(self) -> bool:
        """Whether the daemon is ready, and all servers that were asked have answered."""
        servers = self.servers or ()
        return not self.troubles and not any(asked.outcome.problem for asked in servers)

    def text(self) -> str:
        """Return it in lines for people."""
        lines = [f"not ready: {printable(trouble)}" for trouble in self.troubles] or ["ready"]
        lines += [printable(remark) for remark in self.remarks]
        lines += [_line(asked) for asked in self.servers or ()]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """Return it for programs."""
        told: dict[str, object] = {"ready": not self.troubles, "troubles": [*self.troubles]}
        told["remarks"] = [*self.remarks]
        if self.servers is not None:
            told["servers"] = [_fields(asked) for asked in self.servers]
        return json.dumps(told) + "\n"


def _line(asked: Asked) -> str:
    server, outcome = asked.server, asked.outcome
    said = outcome.problem
    if not said:
        said = f"has answered in {(outcome.seconds or 0.0) * 1000:.0f} ms"
    return f"{server.domain} {server.kind.value}: {server.address} {printable(said)}"


def _fields(asked: Asked) -> dict[str, object]:
    server, outcome = asked.server, asked.outcome
    return {
        "domain": server.domain,
        "stream": server.kind.value,
        "server": str(server.address),
        "answered": not outcome.problem,
        "seconds": outcome.seconds,
        "problem": printable(outcome.problem),
    }
