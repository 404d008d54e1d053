"""Reading ``[plugins]``: the chain, and each plugin's own table against its own declarations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from proxy.daemon.files import Table
from proxy.daemon.model import PLUGINS, Mistake, PluginSetting
from proxy.daemon.tables import Places, read_values, unknown
from proxy.session.options import one_line, options_of, shown

CHAIN = "chain"


@attrs.frozen
class Chain:
    """The plugin chain as it could be read.

    ``names`` is ``None`` when the chain itself has a mistake; ``settings`` has the places without
    one. ``file`` is the one that sets the chain, or the main file.
    """

    file: Path
    names: tuple[str, ...] | None
    settings: tuple[PluginSetting, ...]


def read_plugins(table: Table, plugins: Mapping[str, type[Any]]) -> tuple[Chain, list[Mistake]]:
    """Read the chain and the table of each plugin.

    Args:
        table: The table ``[plugins]``; an empty one where no file has it.
        plugins: The installed plugin classes by name. A look-up may raise anything: it may import
            the code of others.
    """
    options = options_of(PLUGINS.declaring)
    own = {option.name for option in options}
    tables: dict[str, Table] = {}
    rest = Table(table.file)
    mistakes: list[Mistake] = []
    for name, entry in table.entries.items():
        if name in own:
            rest.entries[name] = entry
        elif isinstance(entry, Table):
            tables[name] = entry
        elif name in plugins:
            text = f"is not a table; it is written [plugins.{name}]"
            mistakes.append(Mistake(entry.file, f"plugins.{name}", text))
        else:
            rest.entries[name] = entry
    values, more = read_values(rest, options, PLUGINS.name, Places(plugins))
    mistakes += more
    names: tuple[str, ...] | None = values.get(CHAIN)
    file = rest.entries[CHAIN].file if CHAIN in rest.entries else table.file
    mistakes += _check_names(names or (), file, plugins)
    settings: dict[str, PluginSetting] = {}
    for name in dict.fromkeys((*(names or ()), *tables)):
        where = tables.get(name, Table(file))
        if name not in plugins:
            if name in tables:
                text = f"is the table of a plugin that {unknown(name, plugins)}"
                mistakes.append(Mistake(where.file, f"plugins.{name}", text))
            continue
        if names is not None and name not in names:
            text = "is not in plugins.chain, so that these settings would do nothing"
            mistakes.append(Mistake(where.file, f"plugins.{name}", text))
        setting, more = _read_setting(name, where, plugins)
        mistakes += more
        if setting is not None:
            settings[name] = setting
    ordered = tuple(settings[name] for name in names or () if name in settings)
    return Chain(file=file, names=names, settings=ordered), mistakes


def _check_names(
    names: tuple[str, ...], file: Path, plugins: Mapping[str, type[Any]]
) -> list[Mistake]:
    mistakes = []
    key = f"{PLUGINS.name}.{CHAIN}"
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            text = f"{shown(name)} stands in the chain twice; once is allowed"
            mistakes.append(Mistake(file, key, text))
        if name not in plugins:
            mistakes.append(Mistake(file, key, f"plugin {shown(name)} {unknown(name, plugins)}"))
    return mistakes


def _read_setting(
    name: str, table: Table, plugins: Mapping[str, type[Any]]
) -> tuple[PluginSetting | None, list[Mistake]]:
    key = f"{PLUGINS.name}.{name}"
    try:
        plugin = plugins[name]
        options = options_of(plugin.Config)
    # The code of others may raise anything, and none of it may become a traceback.
    except Exception as error:  # noqa: BLE001
        text = f"the plugin cannot be loaded: {_describe(error)}"
        return None, [Mistake(table.file, key, text)]
    values, mistakes = read_values(table, options, key, Places(plugins))
    if mistakes:
        return None, mistakes
    try:
        config = plugin.Config(**values)
    except Exception as error:  # noqa: BLE001 - as above
        return None, [Mistake(table.file, key, f"the plugin refuses this: {_describe(error)}")]
    return PluginSetting(name=name, plugin=plugin, config=config), []


def _describe(error: Exception) -> str:
    text = one_line(str(error))
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
