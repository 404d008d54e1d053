"""Writing TOML: the few forms that a configuration needs."""

import json
import re
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def value(given: Any) -> str:
    """Write a ``bool``, ``int``, ``float`` or ``str``, or a list of them, on one line."""
    if isinstance(given, list):
        return "[" + ", ".join(value(item) for item in given) + "]"
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(given)


def key(name: str) -> str:
    """Write a key, quoted where it must be."""
    return name if _BARE_KEY.match(name) else value(name)
