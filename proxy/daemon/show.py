"""The effective configuration, written as a configuration file again."""

from typing import Any

from proxy.daemon import toml
from proxy.daemon.model import DEADLINES, DOMAINS, LISTENERS, PLUGINS, Conf, DomainTable
from proxy.daemon.plugin_tables import CHAIN
from proxy.session.options import options_of


def show(conf: Conf) -> str:
    """Write a configuration as TOML, defaults filled in and paths absolute.

    Loading the text gives an equal configuration. It holds no secrets: private keys appear as the
    paths of their files.
    """
    chain = toml.value([setting.name for setting in conf.plugins])
    parts = [f"[{PLUGINS.name}]\n{CHAIN} = {chain}\n"]
    parts += [
        _table(f"[{PLUGINS.name}.{toml.key(setting.name)}]", setting.config)
        for setting in conf.plugins
        if options_of(type(setting.config))
    ]
    parts.append(_table(f"[{DEADLINES.name}]", conf.deadlines))
    parts += [_table(f"[[{DOMAINS.name}]]", DomainTable.of(domain)) for domain in conf.domains]
    parts += [_table(f"[[{LISTENERS.name}]]", listener) for listener in conf.listeners]
    return "\n".join(parts)


def _table(header: str, values: Any) -> str:
    lines = [header]
    for option in options_of(type(values)):
        shown = option.show(getattr(values, option.name))
        lines.append(f"{toml.key(option.name)} = {toml.value(shown)}")
    return "\n".join(lines) + "\n"
