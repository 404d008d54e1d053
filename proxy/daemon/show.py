"""The effective configuration, written as a configuration file again."""

from collections.abc import Collection
from typing import Any

from proxy.daemon import toml
from proxy.daemon.model import (
    ALERTS,
    BASCULE,
    DEADLINES,
    DNS,
    DOMAINS,
    FORWARD,
    FORWARD_ONLY,
    LISTENERS,
    METRICS,
    PLUGINS,
    POLICIES,
    Conf,
    Listener,
)
from proxy.daemon.plugin_tables import CHAIN
from proxy.daemon.remote import PolicyTable, ResolverTable
from proxy.daemon.served import DomainTable
from proxy.net.proxy_protocol import Versions
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
    parts += [_domain(DomainTable.of(domain)) for domain in conf.domains]
    parts += [_listener(listener) for listener in conf.listeners]
    parts += [_policy(PolicyTable.of(policy)) for policy in conf.policies]
    parts.append(_table(f"[{DNS.name}]", ResolverTable.of(conf.dns)))
    parts.append(_table(f"[{ALERTS.name}]", conf.alerts, conf.alerts.idle()))
    parts.append(_table(f"[{METRICS.name}]", conf.metrics))
    parts.append(_table(f"[{BASCULE.name}]", conf.state))
    return "\n".join(parts)


def _domain(domain: DomainTable) -> str:
    return _table(f"[[{DOMAINS.name}]]", domain, domain.idle())


def _listener(listener: Listener) -> str:
    # What means nothing for a listener would only look as if it did.
    leave_out: tuple[str, ...] = () if listener.direction == FORWARD else FORWARD_ONLY
    if listener.proxy_protocol is Versions.NONE:
        leave_out += ("trusted_proxies",)
    return _table(f"[[{LISTENERS.name}]]", listener, leave_out)


def _policy(policy: PolicyTable) -> str:
    return _table(f"[[{POLICIES.name}]]", policy, policy.idle())


def _table(header: str, values: Any, leave_out: Collection[str] = ()) -> str:
    lines = [header]
    for option in options_of(type(values)):
        if option.name not in leave_out:
            shown = option.show(getattr(values, option.name))
            lines.append(f"{toml.key(option.name)} = {toml.value(shown)}")
    return "\n".join(lines) + "\n"
