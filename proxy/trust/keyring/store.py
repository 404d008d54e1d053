"""The keyring: what was seen of domains and decided about them, kept in a file.

Workers and commands use one file at once. Each change reads what it depends on and writes what
follows from it as one, and once a method has returned, a crash does not undo what it did.
"""

from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import count
from typing import Final

import attrs

from proxy.trust.keyring.entry import Entry, Held, How, Seen, State
from proxy.trust.keyring.facts import Facts, cut, digest, facts_of
from proxy.trust.keyring.reading import NotFoundError, Reading, place_of
from proxy.trust.keyring.room import Place, bound_pending, bound_proved
from proxy.trust.keyring.rows import certificate_row, new_id, seconds
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

TOUCHED_AFTER: Final = timedelta(hours=1)
"""How old ``last_seen`` of an entry becomes before it is written anew, to spare the disk."""

LONGEST_REASON: Final = 400
"""How many characters of a reason are kept."""

POLICY: Final = "policy"
"""Who permits what a policy lets in."""

_REVOKED: Final = "it was revoked in the keyring"


class Keyring(Reading):
    """A keyring's file, open; to be used by one thread of one process.

    Arguments and errors are those of `Reading`.
    """

    def remember(
        self,
        domain: str,
        stream: str,
        certificate: bytes,
        now: datetime,
        *,
        how: How,
        permitted_by: str = POLICY,
    ) -> Entry:
        """Add an entry, or note that it was seen again, at most once in `TOUCHED_AFTER`.

        One that is there stays as it is otherwise, revoked or not. What was held of the same
        certificate for want of a decision is no more. A new one may take the place of another
        (`proxy.trust.keyring.room`).

        Returns:
            The entry as it is now.
        """
        place = place_of(domain, stream)
        entry = self._entry(*place, digest(certificate))
        if entry is not None and now - entry.last_seen < TOUCHED_AFTER:
            return entry
        facts = facts_of(certificate)
        with self.changing(durable=entry is None):
            number = self._number(certificate, facts)
            at = seconds(now)
            self._file.rows(
                "INSERT INTO entry (domain, stream, certificate, how, permitted_by, permitted_at,"
                " first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)",
                *(*place, number, how.value, permitted_by, at, at, at),
            )
            self._file.rows(
                "DELETE FROM held"
                " WHERE domain = ? AND stream = ? AND certificate = ? AND state = 'pending'",
                *(*place, number),
            )
            if entry is None:
                bound_proved(self._file, place, number)
            return self._present(*place, digest(certificate))

    def hold(
        self, domain: str, stream: str, certificate: bytes, reason: str, now: datetime
    ) -> Held:
        """Keep a certificate that was not believed until an operator decides, and count it.

        One that was rejected or revoked stays so. One whose permission has ended waits anew; one
        whose permission holds is not held, and comes back as approved.

        Args:
            domain: The domain.
            stream: The kind of stream.
            certificate: The certificate.
            reason: Why it is not believed, as one clause fit to be shown.
            now: The present.
        """
        place = place_of(domain, stream)
        reason = cut(reason, LONGEST_REASON)
        facts = facts_of(certificate)
        found = self.held_for(domain, stream, certificate)
        durable = found is None or found.state is State.APPROVED
        with self.changing(durable=durable):
            found = self.held_for(domain, stream, certificate)
            entry = self._entry(*place, digest(certificate))
            if found is None and entry is not None and entry.revocation is not None:
                revocation = entry.revocation
                return self._bar(place, certificate, _REVOKED, revocation.by, revocation.at)
            if found is None:
                return self._hold_anew(place, certificate, facts, reason, now)
            if found.state is State.APPROVED and (entry is None or not entry.authorised(now)):
                self._decide(found.id, State.PENDING, "", now)
            self._file.rows(
                "UPDATE held SET count = count + 1, last_seen = max(last_seen, ?),"
                " reason = iif(state = 'pending', ?, reason),"
                " change = iif(state = 'pending', ?, change) WHERE id = ?",
                *(seconds(now), reason, self._is_change(place, certificate), found.id),
            )
            return self.held(found.id)

    def approve(self, held_id: str, by: str, now: datetime) -> Entry:
        """Permit a certificate, whatever was decided about it before, beside those there are.

        Args:
            held_id: Its id.
            by: The operator.
            now: The present.

        Returns:
            Its entry, which is believed from now on.

        Raises:
            NotFoundError: Nothing has that id.
        """
        with self.changing():
            held = self.held(held_id)
            place = held.domain, held.stream
            number = self._number(held.certificate, held.facts)
            times = seconds(now), seconds(held.first_seen), seconds(held.last_seen)
            self._file.rows(
                "INSERT INTO entry (domain, stream, certificate, how, permitted_by, permitted_at,"
                " first_seen, last_seen) VALUES (?, ?, ?, 'operator', ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET how = 'operator', permitted_by = excluded.permitted_by,"
                " permitted_at = excluded.permitted_at, revoked_at = NULL, revoked_by = NULL,"
                " last_seen = max(last_seen, excluded.last_seen)",
                *(*place, number, by, *times),
            )
            self._decide(held.id, State.APPROVED, by, now)
            return self._present(*place, digest(held.certificate))

    def reject(self, held_id: str, by: str, now: datetime) -> Held:
        """Refuse a certificate from now on, even if it was permitted or is proved by others.

        Arguments and errors as for `approve`.
        """
        with self.changing():
            held = self.held(held_id)
            if held.state is not State.REJECTED:
                self._decide(held.id, State.REJECTED, by, now)
            entry = self._entry(held.domain, held.stream, digest(held.certificate))
            if entry is not None and not entry.revoked:
                self._revoke(entry, by, now)
            return self.held(held.id)

    def revoke(self, which: str, by: str, now: datetime) -> tuple[Held, ...]:
        """Refuse certificates that were believed, from now on, whoever vouches for them.

        Args:
            which: A fingerprint, or a domain, of which all certificates are meant.
            by: The operator.
            now: The present.

        Returns:
            What they are held as now, by whose ids they may be approved again; those that were
            revoked already are left out.

        Raises:
            NotFoundError: No certificate has that fingerprint, or none is that domain's.
        """
        with self.changing():
            entries = self.entries(which)
            if not entries:
                raise NotFoundError(f"the keyring has no certificate of {printable(which)}")
            return tuple(self._revoke(entry, by, now) for entry in entries if not entry.revoked)

    def note_seen(
        self, domain: str, stream: str, now: datetime, *, tls: bool = False, dane: bool = False
    ) -> Seen:
        """Note what a domain was reached with; what was noted before stays, but for `forget`.

        Returns:
            All that it was once reached with.
        """
        known = self.seen(domain, stream)
        if (known.tls or not tls) and (known.dane or not dane):
            return known
        at = seconds(now)
        with self.changing():
            self._file.rows(
                "INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " tls_since = coalesce(tls_since, excluded.tls_since),"
                " dane_since = coalesce(dane_since, excluded.dane_since)",
                *(*place_of(domain, stream), at if tls else None, at if dane else None),
            )
            return self.seen(domain, stream)

    def forget(self, domain: str) -> bool:
        """Forget what a domain was once reached with, so that less will do.

        Returns:
            Whether there was anything to forget.
        """
        with self.changing():
            return bool(
                self._file.rows("DELETE FROM seen WHERE domain = ? RETURNING 1", a_labels(domain))
            )

    def changing(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Make one change of all that is done meanwhile: all of it or nothing.

        What is read meanwhile nobody else changes before it ends.

        Args:
            durable: Whether it must outlast a failure of the machine too, and not only of this
                process, once the context is left.
        """
        return self._file.changing(durable=durable)

    def merge(self, entry: Entry, now: datetime) -> bool:
        """Take an entry of another keyring in; a no, here or there, counts more than a yes.

        Returns:
            Whether that has changed anything.
        """
        place = place_of(entry.domain, entry.stream)
        with self.changing():
            before = self._entry(*place, digest(entry.certificate))
            merged = entry if before is None else _merged(before, entry)
            if merged == before:
                return False
            number = self._number(entry.certificate, facts_of(entry.certificate))
            revocation = merged.revocation
            self._file.rows(
                "INSERT OR REPLACE INTO entry (domain, stream, certificate, how, permitted_by,"
                " permitted_at, first_seen, last_seen, revoked_at, revoked_by)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(*place, number, merged.how.value, merged.permitted_by),
                *map(seconds, (merged.permitted_at, merged.first_seen, merged.last_seen)),
                None if revocation is None else seconds(revocation.at),
                None if revocation is None else revocation.by,
            )
            if revocation is not None:
                self._bar(place, entry.certificate, _REVOKED, revocation.by, revocation.at)
            held = self.held_for(*place, entry.certificate)
            if held is not None and held.state is State.PENDING and merged.authorised(now):
                self._decide(held.id, State.APPROVED, merged.permitted_by, now)
            return True

    def merge_rejected(self, held: Held) -> bool:
        """Take over that another keyring has rejected a certificate; returns as `merge`."""
        place = place_of(held.domain, held.stream)
        with self.changing():
            before = self.held_for(*place, held.certificate)
            if before is not None and before.state is State.REJECTED:
                return False
            entry = self._entry(*place, digest(held.certificate))
            if entry is not None and not entry.revoked:
                self._revoke(entry, held.by, held.since)
            self._bar(place, held.certificate, held.reason, held.by, held.since)
            return True

    def _present(self, domain: str, stream: str, fingerprint: bytes) -> Entry:
        entry = self._entry(domain, stream, fingerprint)
        if entry is None:
            raise self._file.damage()
        return entry

    def _number(self, certificate: bytes, facts: Facts) -> int:
        """Return the number of a certificate, which is added if it is not there."""
        found = self._file.rows(
            "SELECT number FROM certificate WHERE fingerprint = ?", digest(certificate)
        ) or self._file.rows(
            "INSERT INTO certificate (fingerprint, der, pin, subject, issuer, names, not_before,"
            " not_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
            *certificate_row(certificate, facts),
        )
        return int(found[0][0])

    def _is_change(self, place: Place, certificate: bytes) -> bool:
        query = "SELECT 1 FROM known WHERE domain = ? AND stream = ? AND fingerprint <> ? LIMIT 1"
        return bool(self._file.rows(query, *place, digest(certificate)))

    def _decide(self, held_id: str, state: State, by: str, now: datetime) -> None:
        statement = "UPDATE held SET state = ?, since = ?, decided_by = ? WHERE id = ?"
        self._file.rows(statement, state.value, seconds(now), by, held_id)

    def _revoke(self, entry: Entry, by: str, now: datetime) -> Held:
        place = entry.domain, entry.stream
        self._file.rows(
            "UPDATE entry SET revoked_at = ?, revoked_by = ? WHERE domain = ? AND stream = ?"
            " AND certificate = (SELECT number FROM certificate WHERE fingerprint = ?)",
            *(seconds(now), by, *place, digest(entry.certificate)),
        )
        return self._bar(place, entry.certificate, _REVOKED, by, now)

    def _bar(self, place: Place, certificate: bytes, reason: str, by: str, now: datetime) -> Held:
        """Have a certificate held as rejected."""
        held = self.held_for(*place, certificate)
        if held is None:
            facts = facts_of(certificate)
            return self._hold_anew(
                place, certificate, facts, reason, now, state=State.REJECTED, by=by
            )
        if held.state is not State.REJECTED:
            self._decide(held.id, State.REJECTED, by, now)
        return self.held(held.id)

    def _hold_anew(
        self,
        place: Place,
        certificate: bytes,
        facts: Facts,
        reason: str,
        now: datetime,
        *,
        state: State = State.PENDING,
        by: str = "",
    ) -> Held:
        number = self._number(certificate, facts)
        held_id = self._free_id(place, digest(certificate))
        at = seconds(now)
        self._file.rows(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)",
            *(held_id, *place, number, reason, self._is_change(place, certificate)),
            *(at, at, state.value, at, by),
        )
        bound_pending(self._file, place, held_id)
        return self.held(held_id)

    def _free_id(self, place: Place, fingerprint: bytes) -> str:
        secret = self._file.rows("SELECT value FROM secret")
        if len(secret) != 1:
            raise self._file.damage()
        for attempt in count():
            held_id = new_id(secret[0][0], *place, fingerprint, attempt)
            if not self._file.rows("SELECT 1 FROM held WHERE id = ?", held_id):
                break
        return held_id


def _merged(mine: Entry, theirs: Entry) -> Entry:
    """Join what two keyrings say of one certificate: any no, and the stronger or later yes."""
    permitting = mine
    if theirs.how is How.OPERATOR and (
        mine.how is not How.OPERATOR or mine.permitted_at < theirs.permitted_at
    ):
        permitting = theirs
    return attrs.evolve(
        mine,
        how=permitting.how,
        permitted_by=permitting.permitted_by,
        permitted_at=permitting.permitted_at,
        first_seen=min(mine.first_seen, theirs.first_seen),
        last_seen=max(mine.last_seen, theirs.last_seen),
        revocation=mine.revocation or theirs.revocation,
    )
