"""From files to a configuration: every mistake is found in one pass, and none is passed over."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon import cautions, crosscheck, proxies
from proxy.daemon.activation import Activation
from proxy.daemon.alerting import findings as alerting
from proxy.daemon.alerting.table import AlertsTable
from proxy.daemon.endpoints import Endpoint, Place
from proxy.daemon.files import Document, Given, Merged, Table, merge, read_documents
from proxy.daemon.installed import InstalledPlugins
from proxy.daemon.metrics.table import MetricsTable
from proxy.daemon.model import (
    ALERTS,
    BASCULE,
    DEADLINES,
    DNS,
    DOMAINS,
    FORWARD,
    LISTENERS,
    METRICS,
    PLUGINS,
    POLICIES,
    REVERSE,
    SECTIONS,
    Caution,
    Conf,
    Deadlines,
    Listener,
    Mistake,
    Section,
)
from proxy.daemon.plugin_tables import read_plugins
from proxy.daemon.remote import PolicyTable, ResolverTable, anchors_path
from proxy.daemon.served import NO_SERVER, SERVERS, CertificateFiles, DomainTable
from proxy.daemon.state import StateTable
from proxy.daemon.tables import Placed, Places, item_key, raw, read_values, unknown
from proxy.session.kinds import Kind
from proxy.session.options import Option, options_of
from proxy.session.rules import TLSRule

_BINDV6ONLY = Path("/proc/sys/net/ipv6/bindv6only")
_OF_FORWARD = {"tls": (TLSRule.REQUIRED, TLSRule.REPORT), "stream": (Kind.C2S, Kind.S2S)}
"""What is allowed of the options of a forward listener, where that is less than of others."""


@attrs.frozen
class Claim:
    """A domain, and the certificates that are to prove it.

    ``shown_to`` has the kinds of streams in which they are shown: to clients, to other servers that
    connect or are connected to, or to components.
    """

    name: str
    certificates: tuple[CertificateFiles, ...]
    shown_to: frozenset[Kind]


@attrs.frozen
class Loaded:
    """What came of loading a configuration.

    ``conf`` is ``None`` exactly when there are mistakes. ``claims`` has every domain whose name
    and files could be read, mistakes elsewhere or not; ``anchors``, every file of trust anchors
    that a policy names; ``crl_files``, every file of revocation lists; ``alerts``, what could be
    read of the table ``[alerts]``.
    """

    conf: Conf | None
    mistakes: tuple[Mistake, ...]
    cautions: tuple[Caution, ...]
    claims: tuple[Placed[Claim], ...]
    anchors: tuple[Placed[Path], ...]
    crl_files: tuple[Placed[Path], ...]
    alerts: Placed[dict[str, Any]]


def load(
    path: Path,
    plugins: Mapping[str, type[Any]] | None = None,
    activation: Activation | None = None,
) -> Loaded:
    """Load a configuration file and the fragments beside it.

    Args:
        path: The main file.
        plugins: The plugin classes by name; those that are installed when left out.
        activation: What systemd has passed; without it, sockets of systemd are not looked at.
    """
    reading = read_documents(path)
    loaded = build(
        reading.documents,
        InstalledPlugins() if plugins is None else plugins,
        main=path.absolute(),
        complete=not reading.mistakes,
        activation=activation,
    )
    return attrs.evolve(
        loaded,
        conf=None if reading.mistakes else loaded.conf,
        mistakes=(*reading.mistakes, *loaded.mistakes),
        cautions=(*reading.cautions, *loaded.cautions),
    )


def build(
    documents: Sequence[Document],
    plugins: Mapping[str, type[Any]],
    *,
    main: Path,
    complete: bool = True,
    activation: Activation | None = None,
) -> Loaded:
    """Make a configuration of what files say.

    Args:
        documents: The files in their order.
        plugins: The plugin classes by name.
        main: The file to name for what stands in none.
        complete: Whether these are all files there are; if some could not be read, nothing is
            called missing.
        activation: What systemd has passed; without it, sockets of systemd are not looked at.
    """
    merged, mistakes = merge(documents, main)
    places = Places(plugins)
    mistakes += _check_sections(merged, places)
    if complete:
        mistakes += _check_present(merged, documents, main)
    chain, more = read_plugins(_section(merged, PLUGINS), plugins)
    mistakes += more
    deadlines, more = _read_section(merged, DEADLINES, places)
    mistakes += more
    domains, more = _read_items(merged, DOMAINS, places)
    mistakes += more
    listeners, more = _read_items(merged, LISTENERS, places)
    mistakes += more
    if activation is not None:
        mistakes += activation.settle(listeners)
    policies, more = _read_items(merged, POLICIES, places)
    mistakes += more
    resolver, more = _read_section(merged, DNS, places)
    mistakes += more
    alerts, more = _read_section(merged, ALERTS, places)
    mistakes += more
    metrics, more = _read_section(merged, METRICS, places)
    mistakes += more
    state, more = _read_section(merged, BASCULE, places)
    mistakes += more
    claims, more = _claims(domains, listeners)
    mistakes += more
    mistakes += crosscheck.duplicates(DOMAINS, domains, "name")
    mistakes += crosscheck.duplicates(LISTENERS, listeners, "name")
    mistakes += crosscheck.duplicates(LISTENERS, listeners, "address", apart_from=_any_port)
    mistakes += crosscheck.duplicates(POLICIES, policies, "domain")
    mistakes += crosscheck.overlaps(listeners, both_families=not _only_ipv6())
    mistakes += crosscheck.directions(listeners)
    if complete:
        mistakes += crosscheck.servers(domains, listeners)
    mistakes += crosscheck.untold(domains)
    mistakes += crosscheck.levels(policies)
    mistakes += alerting.mistakes(alerts)
    mistakes += proxies.mistakes(listeners)
    mistakes += crosscheck.rules_without_plugin(chain, listeners)
    mistakes += crosscheck.loops(domains, policies, listeners)
    conf = None
    if not mistakes:
        conf = Conf(
            plugins=chain.settings,
            deadlines=Deadlines(**deadlines.value),
            domains=tuple(DomainTable(**table.value).domain() for table in domains),
            listeners=tuple(Listener(**table.value) for table in listeners),
            policies=tuple(
                PolicyTable(**table.value).policy(table.file.parent) for table in policies
            ),
            dns=ResolverTable(**resolver.value).resolver(),
            state=StateTable(**state.value),
            alerts=AlertsTable(**alerts.value),
            metrics=MetricsTable(**metrics.value),
        )
    warnings = cautions.lax(chain, domains, listeners, policies)
    warnings += proxies.cautions(listeners)
    warnings += alerting.cautions(alerts)
    if complete:
        warnings += cautions.idle(domains, listeners, policies)
    return Loaded(
        conf=conf,
        mistakes=tuple(mistakes),
        cautions=tuple(warnings),
        claims=tuple(claims),
        anchors=tuple(_anchors(policies)),
        crl_files=tuple(_crl_files(policies)),
        alerts=alerts,
    )


def _only_ipv6() -> bool:
    """Whether the system keeps a listener on every address of IPv6 from taking those of IPv4."""
    try:
        return _BINDV6ONLY.read_text(encoding="ascii").strip() == "1"
    except (OSError, ValueError):
        return False


def _any_port(address: Place) -> bool:
    return isinstance(address, Endpoint) and address.port == 0


def _check_sections(merged: Merged, places: Places) -> list[Mistake]:
    known = [section.name for section in SECTIONS]
    mistakes = []
    for name, entry in merged.root.entries.items():
        if name not in known:
            mistakes.append(Mistake(entry.file, name, unknown(name, known, places.of(name))))
        elif isinstance(entry, Given):
            text = f"is not a table; it is written [{name}]"
            mistakes.append(Mistake(entry.file, name, text))
    return mistakes


def _check_present(merged: Merged, documents: Sequence[Document], main: Path) -> list[Mistake]:
    listeners = merged.arrays[LISTENERS.name]
    needed = {LISTENERS.name: ""}
    if any(_said(listener, "direction") == REVERSE for listener in listeners):
        needed = {DOMAINS.name: "", **needed}
    elif any(_said(listener, "stream") == Kind.S2S.value for listener in listeners):
        needed = {DOMAINS.name: ": the listeners have nobody to speak for", **needed}
    return [
        Mistake(main, name, f"is missing; at least one table [[{name}]] is needed{why}")
        for name, why in needed.items()
        if not merged.arrays[name]
        and all(document.content.get(name, []) == [] for document in documents)
    ]


def _said(table: Table, name: str) -> Any:
    entry = table.entries.get(name)
    return None if entry is None else raw(entry)


def _section(merged: Merged, section: Section) -> Table:
    entry = merged.root.entries.get(section.name)
    return entry if isinstance(entry, Table) else Table(merged.root.file)


def _read_section(
    merged: Merged, section: Section, places: Places
) -> tuple[Placed[dict[str, Any]], list[Mistake]]:
    """Read a table of which there is one; the defaults, if it is not there."""
    table = _section(merged, section)
    value, mistakes = read_values(table, options_of(section.declaring), section.name, places)
    return Placed(value, table.file, section.name, frozenset(table.entries)), mistakes


def _read_items(
    merged: Merged, section: Section, places: Places
) -> tuple[list[Placed[dict[str, Any]]], list[Mistake]]:
    placed: list[Placed[dict[str, Any]]] = []
    mistakes: list[Mistake] = []
    for position, item in enumerate(merged.arrays[section.name], start=1):
        key = item_key(section, item, position)
        values, more = read_values(item, _options(section, item), key, places)
        placed.append(Placed(values, item.file, key, frozenset(item.entries)))
        mistakes += more
    return placed, mistakes


def _options(section: Section, item: Table) -> list[Option]:
    """The options of a table; what is allowed of some depends on others."""
    options = list(options_of(section.declaring))
    if section is LISTENERS and _said(item, "direction") == FORWARD:
        options = [
            _narrowed(option, _OF_FORWARD[option.name], _said(item, option.name))
            if option.name in _OF_FORWARD
            else option
            for option in options
        ]
    return options


def _narrowed(option: Option, allowed: tuple[Enum, ...], said: Any) -> Option:
    # A word that is only for reverse listeners is told about in words of its own.
    if said in [member.value for member in type(allowed[0])]:
        return option
    choices = tuple(member.value for member in allowed)
    return attrs.evolve(option, declared=attrs.evolve(option.declared, choices=choices))


def _claims(
    domains: Sequence[Placed[dict[str, Any]]],
    listeners: Sequence[Placed[dict[str, Any]]],
) -> tuple[list[Placed[Claim]], list[Mistake]]:
    # A server of ours that connects to others may do so for any domain.
    everywhere = {Kind.S2S} & {*crosscheck.Ways.of(listeners).kinds(FORWARD)}
    claims: list[Placed[Claim]] = []
    mistakes: list[Mistake] = []
    for table in domains:
        name = table.value.get("name")
        certificates = table.value.get("certificate")
        keys = table.value.get("private_key")
        if certificates is None or keys is None:
            continue
        if len(certificates) != len(keys):
            text = f"{len(keys)} for {len(certificates)} in certificate; allowed: as many"
            mistakes.append(Mistake(table.file, f"{table.key}.private_key", text))
        elif name is not None:
            files = tuple(map(CertificateFiles, certificates, keys))
            served = {
                kind
                for kind, option in SERVERS.items()
                if table.value.get(option, NO_SERVER) != NO_SERVER
            }
            claim = Claim(name, files, frozenset(served | everywhere))
            claims.append(Placed(value=claim, file=table.file, key=table.key))
    return claims, mistakes


def _anchors(policies: Sequence[Placed[dict[str, Any]]]) -> list[Placed[Path]]:
    found = [
        (table, anchors_path(table.value["ca_file"], table.file.parent))
        for table in policies
        if "ca_file" in table.value
    ]
    return [
        Placed(value=path, file=table.file, key=table.key)
        for table, path in found
        if path is not None
    ]


def _crl_files(policies: Sequence[Placed[dict[str, Any]]]) -> list[Placed[Path]]:
    return [
        Placed(value=table.file.parent / path, file=table.file, key=table.key)
        for table in policies
        for path in table.value.get("crl_files", ())
    ]
