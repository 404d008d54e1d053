"""How much the keyring keeps of what strangers can have it keep, and what gives way to the rest."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from proxy.trust.keyring.database import Database

MOST_PENDING: Final = 1000
"""How many certificates wait for an operator at most."""

MOST_PENDING_OF_ONE: Final = 10
"""How many of one domain and kind of stream: anybody can show us any certificate in its name."""

MOST_PROVED: Final = 50
"""How many certificates of one domain and kind of stream are remembered because they are proved.

Who has a domain can prove any number of them.
"""

Place = tuple[str, str]
"""A domain and a kind of stream."""


def family(domain: str) -> str:
    """Return what a domain has in common with those that its owner can have for nothing.

    That is its last two labels. Where those belong to a registry, strangers share a family, which
    costs them room, and nobody else.
    """
    return ".".join(domain.split(".")[-2:])


def bound_pending(file: Database, place: Place, newest: str) -> None:
    """Have what waits for an operator give way, beyond what may wait.

    Of one place those go that were shown least, and least recently. Of all, it is the newest of the
    family that has most: whoever shows many displaces their own.

    Args:
        file: The keyring's file, in a change.
        place: The place to which a certificate was added.
        newest: The id of that certificate, which stays.
    """
    gone = file.rows(
        "DELETE FROM held WHERE id IN (SELECT id FROM held WHERE state = 'pending'"
        " AND domain = ? AND stream = ? AND id <> ?"
        " ORDER BY count DESC, last_seen DESC LIMIT -1 OFFSET ?) RETURNING certificate",
        *(*place, newest, MOST_PENDING_OF_ONE - 1),
    )
    ((count,),) = file.rows("SELECT count(*) FROM held WHERE state = 'pending'")
    if count > MOST_PENDING:
        for held_id in _least_deserving(file, newest, count - MOST_PENDING):
            gone += file.rows("DELETE FROM held WHERE id = ? RETURNING certificate", held_id)
    _drop(file, gone)


def bound_proved(file: Database, place: Place, newest: int) -> None:
    """Have those give way that were seen least recently, beyond what is remembered of a place.

    What an operator or a pin has permitted stays, and so does what was revoked.

    Args:
        file: The keyring's file, in a change.
        place: The place to which an entry was added.
        newest: The number of its certificate, which stays.
    """
    gone = file.rows(
        "DELETE FROM entry WHERE number IN (SELECT number FROM entry WHERE domain = ?"
        " AND stream = ? AND certificate <> ? AND how IN ('pkix', 'dane', 'posh')"
        " AND revoked_at IS NULL ORDER BY last_seen DESC, number DESC LIMIT -1 OFFSET ?)"
        " RETURNING certificate",
        *(*place, newest, MOST_PROVED - 1),
    )
    _drop(file, gone)


def _least_deserving(file: Database, newest: str, excess: int) -> list[str]:
    """Return the ids of what gives way of all that waits."""
    rows = file.rows(
        "SELECT id, domain, stream FROM held WHERE state = 'pending'"
        " ORDER BY first_seen DESC, rowid DESC"
    )
    families = Counter(family(domain) for _, domain, _ in rows)
    places = Counter((domain, stream) for _, domain, stream in rows)
    rows.sort(key=lambda row: (-families[family(row[1])], -places[row[1], row[2]]))
    return [held_id for held_id, _, _ in rows if held_id != newest][:excess]


def _drop(file: Database, numbers: Iterable[tuple[Any, ...]]) -> None:
    """Drop those of some certificates that nothing refers to any more."""
    for (number,) in numbers:
        file.rows(
            "DELETE FROM certificate WHERE number = ?1"
            " AND NOT EXISTS (SELECT 1 FROM entry WHERE certificate = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM held WHERE certificate = ?1)",
            number,
        )
