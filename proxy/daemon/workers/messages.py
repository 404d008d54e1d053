"""What goes over a channel beside descriptors, as JSON has it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.daemon.alerting.told import bounded
from proxy.daemon.control.facts import Reloaded
from proxy.trust.keyring.alerts import Alert, Kind, Severity

MOST_LINES: Final = 50
"""How many mistakes, or warnings, of a reload a worker tells of."""

LONGEST_LINE: Final = 1_000
"""Bytes of each, as JSON has it."""

LONGEST_TEXT: Final = 32_768
"""Bytes of the text of an alert, likewise."""

LONGEST_FIELD: Final = 4_096
"""Bytes of each of its fields, likewise."""

MOST_FIELDS: Final = 16
"""How many fields of it are told."""

_LONGEST_CHARACTER: Final = 12
"""Bytes of a character in JSON, at most: two escapes."""


def alert_to(alert: Alert) -> dict[str, Any]:
    """Write an alert, within bounds."""
    alert = bounded(alert)
    fields = list(alert.fields.items())[:MOST_FIELDS]
    return {
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "domain": alert.domain,
        "stream": alert.stream,
        "text": _cut(alert.text, LONGEST_TEXT),
        "fields": {name: _cut(value, LONGEST_FIELD) for name, value in fields},
        "key": _cut(alert.key, LONGEST_FIELD),
    }


def alert_from(content: Mapping[str, Any]) -> Alert:
    """Read what `alert_to` has written."""
    read = {"kind": Kind(content["kind"]), "severity": Severity(content["severity"])}
    return Alert(**{**content, **read})


def reloaded_to(reloaded: Reloaded) -> dict[str, Any]:
    """Write what came of a reload, within bounds."""
    return {
        "mistakes": _bounded(reloaded.mistakes),
        "warnings": _bounded(reloaded.warnings),
        "changes": {name: _cut(text, LONGEST_LINE) for name, text in reloaded.changes.items()},
    }


def reloaded_from(content: Mapping[str, Any]) -> Reloaded:
    """Read what `reloaded_to` has written."""
    return Reloaded(tuple(content["mistakes"]), tuple(content["warnings"]), content["changes"])


def _bounded(lines: Iterable[str]) -> list[str]:
    return [_cut(line, LONGEST_LINE) for line in lines][:MOST_LINES]


def _cut(text: str, most: int) -> str:
    """Return a text whose JSON has ``most`` bytes at most."""
    fits = len(text) <= most and len(json.dumps(text)) - len('""') <= most
    return text if fits else text[: most // _LONGEST_CHARACTER]
