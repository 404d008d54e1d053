"""Everything that can be said about a configuration before it is put to work."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon.activation import Activation
from proxy.daemon.alerting import findings as alerting
from proxy.daemon.certificates import CertificateFacts, examine, examine_anchors
from proxy.daemon.conf import load
from proxy.daemon.crl_files import examine_lists
from proxy.daemon.model import FORWARD, Caution, Conf, Mistake
from proxy.daemon.remote import FIXED, PolicyTable
from proxy.daemon.served import PROXY_PROTOCOLS, Domain
from proxy.daemon.trusting.doubts import doubt
from proxy.daemon.trusting.opening import problem
from proxy.net.proxy_protocol import Versions
from proxy.session.kinds import Kind
from proxy.session.options import one_line

_NONE = "-"
"""What stands for a value that does nothing, or that there is none of."""


@attrs.frozen
class Report:
    """A configuration with its certificates examined, and those that its policies trust.

    ``conf`` is ``None`` exactly when there are mistakes.
    """

    conf: Conf | None
    mistakes: tuple[Mistake, ...]
    cautions: tuple[Caution, ...]
    certificates: tuple[CertificateFacts, ...]


def inspect(
    path: Path,
    now: datetime,
    plugins: Mapping[str, type[Any]] | None = None,
    activation: Activation | None = None,
) -> Report:
    """Load a configuration and examine its certificates.

    Args:
        path: The main file.
        now: The time to judge certificates by, with a time zone.
        plugins: The plugin classes by name; those that are installed when left out.
        activation: What systemd has passed; without it, sockets of systemd are not looked at.
    """
    loaded = load(path, plugins, activation)
    certificates = examine(loaded.claims, now)
    more_mistakes, more_cautions = examine_anchors(loaded.anchors, now)
    of_lists = examine_lists(loaded.crl_files, now)
    more_mistakes += of_lists[0]
    more_cautions += of_lists[1]
    if loaded.conf is not None and (text := problem(loaded.conf)):
        more_mistakes.append(Mistake(path, "bascule.state_directory", text))
    if loaded.conf is not None:
        more_cautions += alerting.examine(loaded.alerts)
    if loaded.conf is not None and (text := doubt(loaded.conf)):
        more_cautions.append(Caution(path, "dns.validating", text))
    mistakes = (*loaded.mistakes, *certificates.mistakes, *more_mistakes)
    return Report(
        conf=None if mistakes else loaded.conf,
        mistakes=mistakes,
        cautions=(*loaded.cautions, *certificates.cautions, *more_cautions),
        certificates=certificates.facts,
    )


def summary(conf: Conf, certificates: Sequence[CertificateFacts], *, warnings: int = 0) -> str:
    """Tell in a few lines what a configuration does: listeners, domains, certificates, policies.

    Args:
        conf: The configuration.
        certificates: What is known of its certificates.
        warnings: How many warnings there were.
    """
    chain = ", ".join(setting.name for setting in conf.plugins) or "none"
    listeners = [("LISTENER", "ADDRESS", "KIND", "TLS")]
    listeners += [
        (
            listener.name,
            str(listener.address),
            f"{listener.direction} {listener.stream.value}",
            listener.tls.value,
        )
        for listener in conf.listeners
    ]
    tables = (
        listeners,
        _proxies(conf),
        _domains(conf, certificates),
        _reached(conf),
        _policies(conf),
    )
    parts = [_columns(rows) for rows in tables if len(rows) > 1]
    parts += _unseen(conf)
    return "\n\n".join((*parts, f"Plugins: {one_line(chain)}", _verdict(warnings)))


def _unseen(conf: Conf) -> list[str]:
    """Say which sockets could not be looked at, if there are any."""
    names = ", ".join(
        one_line(str(listener.address))
        for listener in conf.listeners
        if not listener.address.endpoints
    )
    if not names:
        return []
    text = f"systemd passes these sockets to the service alone; here nothing checks them: {names}"
    return [text]


def _verdict(warnings: int) -> str:
    if not warnings:
        return "No mistakes."
    return f"No mistakes, {warnings} warning{'s' * (warnings > 1)}."


def _proxies(conf: Conf) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("LISTENER", "PROXY PROTOCOL", "TRUSTED PROXIES")]
    rows += [
        (
            listener.name,
            listener.proxy_protocol.value,
            ", ".join(map(str, listener.trusted_proxies)),
        )
        for listener in conf.listeners
        if listener.proxy_protocol is not Versions.NONE
    ]
    return rows


def _server(domain: Domain, kind: Kind) -> str:
    server = domain.server(kind)
    if server is None:
        return _NONE
    if not domain.tells(kind):
        return str(server)
    return f"{server} (PROXY {getattr(domain, PROXY_PROTOCOLS[kind]).value})"


def _headers(kinds: Sequence[Kind]) -> list[str]:
    """Head columns of servers: where all are for one kind of stream, they are just servers."""
    return ["SERVER"] if len(kinds) == 1 else [f"{kind.name} SERVER" for kind in kinds]


def _domains(conf: Conf, certificates: Sequence[CertificateFacts]) -> list[tuple[str, ...]]:
    kinds = [kind for kind in Kind if any(domain.server(kind) for domain in conf.domains)]
    servers = {domain.name: [_server(domain, kind) for kind in kinds] for domain in conf.domains}
    rows: list[tuple[str, ...]] = [
        ("DOMAIN", *_headers(kinds), "KEY", "UNTIL", "DAYS LEFT", "CERTIFICATE")
    ]
    rows += [
        (
            facts.name,
            *servers[facts.name],
            facts.kind,
            f"{facts.not_after:%Y-%m-%d}",
            "EXPIRED" if facts.days_left is None else str(facts.days_left),
            str(facts.file),
        )
        for facts in certificates
    ]
    return rows


def _reached(conf: Conf) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("LISTENER", "DESTINATION", "DOMAINS")]
    rows += [
        (listener.name, listener.destination, ", ".join(map(str, listener.domains)))
        for listener in conf.listeners
        if listener.direction == FORWARD
    ]
    return rows


def _policies(conf: Conf) -> list[tuple[str, ...]]:
    streams = {(listener.direction, listener.stream) for listener in conf.listeners}
    kinds = [kind for kind in FIXED if (FORWARD, kind) in streams]
    columns = ["level", *(FIXED[kind] for kind in kinds), "min_version", "ca_file", "pins"]
    headers = ["POLICY", "LEVEL", *_headers(kinds), "AT LEAST", "AUTHORITIES", "PINS"]
    if any(kind is Kind.S2S for _, kind in streams):
        columns.append("dialback")
        headers.append("DIALBACK")
    rows = [tuple(headers)]
    for policy in conf.policies:
        table = PolicyTable.of(policy)
        idle = table.idle()
        texts = {
            "level": table.level.value,
            "server": table.server,
            "s2s_server": table.s2s_server,
            "min_version": table.min_version.value,
            "ca_file": table.ca_file,
            "pins": str(len(table.pins)) if table.pins else _NONE,
            "dialback": table.dialback.value,
        }
        cells = (_NONE if name in idle else texts[name] for name in columns)
        rows.append((str(table.domain), *cells))
    return rows


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    )
