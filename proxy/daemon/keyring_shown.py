"""What the commands ``bascule keyring`` show: for programs as JSON has it, for people as text."""

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import attrs
import click
from rich.console import Console
from rich.table import Table

from proxy.session.options import one_line
from proxy.trust.keyring.entry import Entry, Held, Seen, State
from proxy.trust.keyring.exchange import pem
from proxy.trust.keyring.facts import Facts
from proxy.trust.keyring.store import POLICY

WIDTH: Final = 100
"""Columns of output that goes to no terminal."""

Card = list[tuple[str, str]]
"""What is printed of one thing: labels, and what belongs to them."""

_FINGERPRINT_SHOWN: Final = len("01:23:45:67:89:AB:CD:EF")
_LABEL: Final = 10


def _facts_structure(facts: Facts) -> dict[str, Any]:
    return attrs.asdict(facts, filter=attrs.filters.exclude("not_before", "not_after")) | {
        "not_before": facts.not_before.isoformat(),
        "not_after": facts.not_after.isoformat(),
    }


def entry_structure(entry: Entry, *, whole: bool = False) -> dict[str, Any]:
    """Return an entry as JSON has it, the certificate itself only if ``whole``."""
    revocation = entry.revocation
    return {
        "domain": entry.domain,
        "stream": entry.stream,
        **_facts_structure(entry.facts),
        "how": entry.how.value,
        "permitted_by": entry.permitted_by,
        "permitted_at": entry.permitted_at.isoformat(),
        "first_seen": entry.first_seen.isoformat(),
        "last_seen": entry.last_seen.isoformat(),
        "revoked_by": None if revocation is None else revocation.by,
        "revoked_at": None if revocation is None else revocation.at.isoformat(),
        **({"certificate": pem(entry.certificate)} if whole else {}),
    }


def held_structure(held: Held, *, whole: bool = False) -> dict[str, Any]:
    """Return what is held as JSON has it, likewise."""
    return {
        "id": held.id,
        "domain": held.domain,
        "stream": held.stream,
        "state": held.state.value,
        **_facts_structure(held.facts),
        "reason": held.reason,
        "change": held.change,
        "count": held.count,
        "first_seen": held.first_seen.isoformat(),
        "last_seen": held.last_seen.isoformat(),
        "since": held.since.isoformat(),
        "by": held.by or None,
        **({"certificate": pem(held.certificate)} if whole else {}),
    }


def seen_structure(domain: str, stream: str, seen: Seen) -> dict[str, Any]:
    """Return what a domain was once reached with as JSON has it."""
    since = {"tls_since": seen.tls_since, "dane_since": seen.dane_since}
    times = {name: time and time.isoformat() for name, time in since.items()}
    return {"domain": domain, "stream": stream, **times}


def facts_card(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what people are shown of a certificate."""
    yield "SHA-256", facts.fingerprint
    yield "subject", facts.subject
    yield "issuer", facts.issuer
    yield "names", ", ".join(facts.names) or "none"
    yield "valid", f"{_day(facts.not_before)} to {_day(facts.not_after)}"
    yield "pin", facts.pin


def entry_card(entry: Entry) -> Card:
    """Return what people are shown of an entry."""
    card = [("domain", f"{entry.domain} ({entry.stream})"), *facts_card(entry.facts)]
    card.append(
        ("believed", f"by {entry.how.value}, {_said(entry.permitted_by, entry.permitted_at)}")
    )
    card.append(("seen", f"{_day(entry.first_seen)} to {_day(entry.last_seen)}"))
    if entry.revocation is not None:
        card.append(("revoked", _said(entry.revocation.by, entry.revocation.at)))
    return card


def held_card(held: Held) -> Card:
    """Return what people are shown of what is held."""
    state = held.state.value
    if held.state is not State.PENDING:
        state += f", {_said(held.by, held.since)}"
    card = [("id", held.id), ("domain", f"{held.domain} ({held.stream})"), ("state", state)]
    if held.change:
        card.append(("change", "the domain has others in the keyring: possible security breach"))
    card += [("reason", held.reason), *facts_card(held.facts)]
    times = f"{held.count} time{'s' * (held.count != 1)}"
    card.append(("seen", f"{times}, {_day(held.first_seen)} to {_day(held.last_seen)}"))
    return card


def seen_card(domain: str, stream: str, seen: Seen) -> Card:
    """Return what people are shown of what a domain was once reached with."""
    card = [("domain", f"{domain} ({stream})")]
    if seen.tls_since is not None:
        card.append(("TLS", f"since {_day(seen.tls_since)}"))
    if seen.dane_since is not None:
        card.append(("DANE", f"since {_day(seen.dane_since)}"))
    return card


def text_of_cards(cards: Iterable[Card]) -> str:
    """Return the text of cards, with an empty line between two."""
    return "\n".join(
        "".join(f"{label:<{_LABEL}}{one_line(value)}\n" for label, value in card) for card in cards
    )


def print_cards(cards: Iterable[Card]) -> None:
    """Print the text of cards."""
    click.echo(text_of_cards(cards), nl=False)


def print_entries(entries: Iterable[Entry]) -> None:
    """Print entries as a table, of their fingerprints the beginnings only.

    Raises:
        OSError: it cannot be written.
    """
    grid = Table(box=None, pad_edge=False)
    for heading in ("DOMAIN", "STREAM", "BELIEVED BY", "ENDS", "LAST SEEN", "SHA-256"):
        grid.add_column(heading, overflow="fold")
    for entry in entries:
        how = "revoked" if entry.revoked else entry.how.value
        grid.add_row(
            entry.domain,
            entry.stream,
            how if entry.permitted_by == POLICY else f"{how} ({one_line(entry.permitted_by)})",
            _day(entry.facts.not_after),
            _day(entry.last_seen),
            f"{entry.facts.fingerprint[:_FINGERPRINT_SHOWN]}…",
        )
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    with console.capture() as captured:
        console.print(grid)
    # rich would end the process by itself when nobody reads.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _said(by: str, at: datetime) -> str:
    return f"{by} on {_day(at)}"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"
