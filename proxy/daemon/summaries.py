"""The one line of the log that tells a whole session."""

from collections import deque
from typing import Any

from proxy.daemon.log import Log
from proxy.net.summary import Summary
from proxy.session.hooks import TLSFacts, View
from proxy.session.kinds import Kind


class Summaries:
    """Writes the lines of sessions that are over, those of one turn of the reactor together.

    Where many sessions begin and end, as in a storm of handshakes, a line among others takes a
    fraction of the time of one by itself.

    Args:
        reactor: calls later.
        log: where to write; None keeps quiet.
    """

    def __init__(self, reactor: Any, log: Log | None) -> None:
        self._reactor = reactor
        self._log = log
        self._over: deque[Summary] = deque()
        self._call: Any = None

    def add(self, summary: Summary) -> None:
        """Have the line of a session written before the reactor waits for anything."""
        self._over.append(summary)
        if self._call is None:
            self._call = self._reactor.callLater(0, self.write)

    def write(self) -> None:
        """Write all lines that are still to be written."""
        if self._call is not None:
            if self._call.active():
                self._call.cancel()
            self._call = None
        while self._over:
            # One that cannot be written is lost, and not the others with it.
            summary = self._over.popleft()
            if self._log is not None:
                self._log.write(summary.severity, "session ended", fields(summary))


def fields(summary: Summary) -> dict[str, object]:
    """Return what the line says of a session that is over, by name."""
    view = summary.view
    tls, server_tls = view.tls, view.server_tls
    return {
        "session": view.id,
        "listener": view.listener,
        "client": view.client,
        "origin": view.origin,
        "domain": view.domain,
        "tls": "none" if tls is None else _agreed(tls),
        "start": None if tls is None else ("direct" if tls.direct else "starttls"),
        "resumed": "yes" if tls is not None and tls.resumed else None,
        "client_identity": view.client_identity,
        "server": summary.server,
        "server_tls": None if server_tls is None else _agreed(server_tls),
        "server_identity": view.server_identity,
        "authenticated": "yes" if _is_authenticated(view) else "no",
        "proof": view.proof,
        "failed_logins": view.failed_logins or None,
        "seconds": f"{summary.seconds:.3f}",
        "from_client": summary.from_client,
        "from_server": summary.from_server,
        "reason": summary.reason,
    }


def _is_authenticated(view: View) -> bool:
    """Whether who opened the stream was let in; between servers, whether for any domain."""
    return bool(view.proof) if view.kind is Kind.S2S else view.authenticated


def _agreed(tls: TLSFacts) -> str:
    return f"{tls.version}/{tls.cipher}/{tls.group}"
