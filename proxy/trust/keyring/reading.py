"""What the keyring's file says, read without ever writing to it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from proxy.trust.keyring.database import PATIENCE, Database, KeyringError
from proxy.trust.keyring.entry import STREAMS, Entry, Held, Seen
from proxy.trust.keyring.facts import digest, fingerprint_octets
from proxy.trust.keyring.rows import entry_of, held_of, read_id, seconds, seen_of
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

MOST_OTHERS: Final = 10
"""How many of a domain's other certificates are read at most where one is compared with them."""

T = TypeVar("T")


@attrs.frozen
class Others:
    """The certificates of a domain besides one.

    Attributes:
        latest: Those that were seen last, the latest first; at most `MOST_OTHERS`.
        count: How many there are.
        by_operators: Whether any of them, revoked or not, came by a pin or an operator.
    """

    latest: tuple[Entry, ...]
    count: int
    by_operators: bool

    @property
    def more(self) -> int:
        """How many there are besides the latest."""
        return self.count - len(self.latest)


class NotFoundError(KeyringError):
    """There is nothing in the keyring by that id, fingerprint or domain."""


class Reading:
    """A keyring's file, open, as far as it is read; `Keyring` is the whole of it.

    Domains are in A-labels, kinds of streams one of `STREAMS`, certificates in DER, and times have
    a time zone.

    Every method raises `KeyringError` when the file cannot be read or changed, and `ValueError`
    for an argument that is not in that form; nothing was changed then.

    Args:
        path: The file, in a directory that nobody else can write to.
        create: Whether to make it, empty, if there is none.
        patience: Seconds that another process's change is waited for.

    Raises:
        KeyringError: It cannot be opened or made, or is damaged.
    """

    def __init__(self, path: Path, *, create: bool = True, patience: float = PATIENCE) -> None:
        self._file = Database(path, create=create, patience=patience)
        self._version = self._file.version()

    def find(self, domain: str, stream: str) -> tuple[Entry, ...]:
        """Return the entries of a domain, revoked ones as well, oldest first; nothing is written.

        It costs no more in a large keyring than in a small one.
        """
        query = "SELECT * FROM known WHERE domain = ? AND stream = ? ORDER BY first_seen"
        return self._entries(query, *place_of(domain, stream))

    def entry_for(self, domain: str, stream: str, certificate: bytes) -> Entry | None:
        """Return the entry of a certificate; ``None`` if there is none."""
        return self._entry(*place_of(domain, stream), digest(certificate))

    def others(self, domain: str, stream: str, certificate: bytes | None) -> Others:
        """Return what there is of a domain besides a certificate; ``None`` leaves out none."""
        which = *place_of(domain, stream), b"" if certificate is None else digest(certificate)
        condition = "FROM known WHERE domain = ? AND stream = ? AND fingerprint IS NOT ?"
        latest = self._entries(
            f"SELECT * {condition} ORDER BY last_seen DESC, first_seen DESC LIMIT ?",
            *(*which, MOST_OTHERS),
        )
        if not latest:
            return Others((), 0, by_operators=False)
        query = f"SELECT count(*), sum(how IN ('pin', 'operator')) {condition}"
        ((count, by_operators),) = self._file.rows(query, *which)
        return Others(latest, int(count), by_operators=bool(by_operators))

    def is_replaced(self, entry: Entry) -> bool:
        """Whether its domain has shown another certificate since that lives longer."""
        query = (
            "SELECT 1 FROM known WHERE domain = ? AND stream = ? AND not_after > ?"
            " AND last_seen >= ? AND revoked_at IS NULL LIMIT 1"
        )
        times = seconds(entry.facts.not_after), seconds(entry.last_seen)
        return bool(self._file.rows(query, *place_of(entry.domain, entry.stream), *times))

    def entries(self, which: str | None = None) -> tuple[Entry, ...]:
        """Return all entries, or those of a domain or a fingerprint, by domain.

        Raises:
            ValueError: It is neither a domain nor a fingerprint.
        """
        if which is None:
            return self._entries("SELECT * FROM known ORDER BY domain, stream, first_seen")
        fingerprint = fingerprint_octets(which)
        if fingerprint is not None:
            query = "SELECT * FROM known WHERE fingerprint = ? ORDER BY domain, stream"
            return self._entries(query, fingerprint)
        query = "SELECT * FROM known WHERE domain = ? ORDER BY stream, first_seen"
        return self._entries(query, a_labels(which))

    def ending(self, after: datetime, before: datetime) -> tuple[Entry, ...]:
        """Return the entries that are not revoked and whose life ends between two times."""
        query = "SELECT * FROM known WHERE not_after BETWEEN ? AND ? AND revoked_at IS NULL"
        return self._entries(query, seconds(after), seconds(before))

    def held(self, held_id: str) -> Held:
        """Return what is held, or was decided about, by its id, in whatever case it was typed.

        Raises:
            NotFoundError: Nothing has that id.
        """
        found = self._helds("SELECT * FROM doubted WHERE id = ?", read_id(held_id))
        if not found:
            raise NotFoundError(f'the keyring holds nothing by the id "{printable(held_id)}"')
        return found[0]

    def held_for(self, domain: str, stream: str, certificate: bytes) -> Held | None:
        """Return what is held, or was decided about, by certificate; ``None`` if nothing is."""
        found = self._helds(
            "SELECT * FROM doubted WHERE domain = ? AND stream = ? AND fingerprint = ?",
            *(*place_of(domain, stream), digest(certificate)),
        )
        return found[0] if found else None

    def all_held(self, domain: str) -> tuple[Held, ...]:
        """Return what of a domain is held or was decided about, the latest first."""
        query = "SELECT * FROM doubted WHERE domain = ? ORDER BY last_seen DESC, id"
        return self._helds(query, a_labels(domain))

    def pending(self) -> tuple[Held, ...]:
        """Return what waits for an operator, longest waiting first."""
        return self._helds("SELECT * FROM doubted WHERE state = 'pending' ORDER BY since, id")

    def pending_ids(self) -> frozenset[str]:
        """Return the ids of what waits for an operator; quicker than `pending`."""
        rows = self._file.rows("SELECT id FROM held WHERE state = 'pending'")
        return frozenset(str(held_id) for (held_id,) in rows)

    def count_pending(self) -> int:
        """Return how many certificates wait for an operator; quicker than `pending`."""
        return int(self._file.rows("SELECT count(*) FROM held WHERE state = 'pending'")[0][0])

    def ends(self, most: int) -> tuple[tuple[str, int], ...]:
        """Return domains and the ends of their certificates that are not revoked, soonest first.

        Args:
            most: How many at most.

        Returns:
            Domains in A-labels, and seconds since 1970; those that have ended are among them.
        """
        query = (
            "SELECT domain, not_after FROM certificate JOIN entry"
            " ON entry.certificate = certificate.number"
            " WHERE revoked_at IS NULL ORDER BY not_after LIMIT ?"
        )
        return tuple((str(domain), int(end)) for domain, end in self._file.rows(query, most))

    def rejected(self) -> tuple[Held, ...]:
        """Return what was rejected or revoked, by domain."""
        return self._helds("SELECT * FROM doubted WHERE state = 'rejected' ORDER BY domain, since")

    def seen(self, domain: str, stream: str) -> Seen:
        """Return what a domain was once reached with; nothing is written."""
        query = "SELECT tls_since, dane_since FROM seen WHERE domain = ? AND stream = ?"
        found = [
            self._read(seen_of, row) for row in self._file.rows(query, *place_of(domain, stream))
        ]
        return found[0] if found else Seen()

    def all_seen(self) -> tuple[tuple[str, str, Seen], ...]:
        """Return every domain and kind of stream that something was noted of, and that."""
        rows = self._file.rows("SELECT * FROM seen ORDER BY domain, stream")
        return tuple((row[0], row[1], self._read(seen_of, row[2:])) for row in rows)

    def changed(self) -> bool:
        """Whether somebody else has changed the file since this was last asked, or opened."""
        version = self._file.version()
        before, self._version = self._version, version
        return version != before

    def close(self) -> None:
        """Close the file; the keyring cannot be used any more."""
        self._file.close()

    def _entry(self, domain: str, stream: str, fingerprint: bytes) -> Entry | None:
        query = "SELECT * FROM known WHERE domain = ? AND stream = ? AND fingerprint = ?"
        found = self._entries(query, domain, stream, fingerprint)
        return found[0] if found else None

    def _entries(self, query: str, *values: Any) -> tuple[Entry, ...]:
        return tuple(self._read(entry_of, row) for row in self._file.rows(query, *values))

    def _helds(self, query: str, *values: Any) -> tuple[Held, ...]:
        return tuple(self._read(held_of, row) for row in self._file.rows(query, *values))

    def _read(self, read: Callable[[Sequence[Any]], T], row: Sequence[Any]) -> T:
        try:
            return read(row)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._file.damage() from error


def place_of(domain: str, stream: str) -> tuple[str, str]:
    """Return what entries are found by.

    Raises:
        ValueError: The domain is not in A-labels, or there is no such kind of stream.
    """
    if a_labels(domain) != domain or stream not in STREAMS:
        raise ValueError("not a domain in A-labels and a kind of stream that keyrings know")
    return domain, stream
