"""Everything that can be said about a configuration before it is put to work."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon.certificates import CertificateFacts, examine
from proxy.daemon.conf import load
from proxy.daemon.model import Caution, Conf, Mistake
from proxy.session.options import one_line


@attrs.frozen
class Report:
    """A configuration with its certificates examined.

    ``conf`` is ``None`` exactly when there are mistakes.
    """

    conf: Conf | None
    mistakes: tuple[Mistake, ...]
    cautions: tuple[Caution, ...]
    certificates: tuple[CertificateFacts, ...]


def inspect(path: Path, now: datetime, plugins: Mapping[str, type[Any]] | None = None) -> Report:
    """Load a configuration and examine its certificates.

    Args:
        path: The main file.
        now: The time to judge certificates by, with a time zone.
        plugins: The plugin classes by name; those that are installed when left out.
    """
    loaded = load(path, plugins)
    certificates = examine(loaded.claims, now)
    mistakes = loaded.mistakes + certificates.mistakes
    return Report(
        conf=None if mistakes else loaded.conf,
        mistakes=mistakes,
        cautions=loaded.cautions + certificates.cautions,
        certificates=certificates.facts,
    )


def summary(conf: Conf, certificates: Sequence[CertificateFacts]) -> str:
    """Tell in a few lines what a configuration does: its listeners, domains and certificates."""
    chain = ", ".join(setting.name for setting in conf.plugins) or "none"
    listeners = [("LISTENER", "ADDRESS", "KIND", "TLS")]
    listeners += [
        (
            listener.name,
            str(listener.address),
            f"{listener.direction} {listener.stream}",
            listener.tls.value,
        )
        for listener in conf.listeners
    ]
    servers = {domain.name: str(domain.c2s_server) for domain in conf.domains}
    domains = [("DOMAIN", "SERVER", "KEY", "UNTIL", "DAYS LEFT", "CERTIFICATE")]
    domains += [
        (
            facts.name,
            servers[facts.name],
            facts.kind,
            f"{facts.not_after:%Y-%m-%d}",
            "EXPIRED" if facts.days_left is None else str(facts.days_left),
            str(facts.file),
        )
        for facts in certificates
    ]
    plugins = f"Plugins: {one_line(chain)}"
    return "\n\n".join((_columns(listeners), _columns(domains), plugins, "No mistakes."))


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    )
