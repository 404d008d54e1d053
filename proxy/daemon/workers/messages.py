"""What goes over a channel beside descriptors, as JSON has it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.daemon.alerting.told import bounded
from proxy.daemon.control.facts import Reloaded
from proxy.trust.keyring.alerts import Alert, Kind, Severity

MOST_LINES: Final = 50
"""How many mistakes, or warnings, of a reload a worker tells of."""

LONGEST_LINE: Final = 500
"""Characters of each."""

LONGEST_FIELD: Final = 1_000
"""Characters of a field of an alert."""


def alert_to(alert: Alert) -> dict[str, Any]:
    """Write an alert, within bounds."""
    alert = bounded(alert)
    return {
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "domain": alert.domain,
        "stream": alert.stream,
        "text": alert.text,
        "fields": {name: value[:LONGEST_FIELD] for name, value in alert.fields.items()},
        "key": alert.key,
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
        "changes": {name: text[:LONGEST_LINE] for name, text in reloaded.changes.items()},
    }


def reloaded_from(content: Mapping[str, Any]) -> Reloaded:
    """Read what `reloaded_to` has written."""
    return Reloaded(tuple(content["mistakes"]), tuple(content["warnings"]), content["changes"])


def _bounded(lines: Iterable[str]) -> list[str]:
    return [line[:LONGEST_LINE] for line in lines][:MOST_LINES]
