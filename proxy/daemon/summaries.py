"""The one line of the log that tells a whole session."""

from proxy.net.summary import Summary
from proxy.session.hooks import TLSFacts, View
from proxy.session.kinds import Kind


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
