"""The tables of the keyring's file, and how those of older versions become those of the newest."""

from typing import Final

APPLICATION: Final = 0x42534B52
"""What ``PRAGMA application_id`` of a keyring is."""

_CERTIFICATES = """
CREATE TABLE certificate (
    number INTEGER PRIMARY KEY,
    fingerprint BLOB NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    der BLOB NOT NULL,
    pin TEXT NOT NULL,
    subject TEXT NOT NULL,
    issuer TEXT NOT NULL,
    names TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL
) STRICT
"""
_ENTRIES = """
CREATE TABLE entry (
    number INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    stream TEXT NOT NULL CHECK (stream IN ('c2s', 's2s')),
    certificate INTEGER NOT NULL REFERENCES certificate (number),
    how TEXT NOT NULL CHECK (how IN ('pkix', 'dane', 'posh', 'pin', 'operator')),
    permitted_by TEXT NOT NULL,
    permitted_at INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    revoked_by TEXT,
    revoked_at INTEGER,
    UNIQUE (domain, stream, certificate),
    CHECK ((revoked_by IS NULL) = (revoked_at IS NULL))
) STRICT
"""
_HELD = """
CREATE TABLE held (
    id TEXT PRIMARY KEY CHECK (length(id) = 8),
    domain TEXT NOT NULL,
    stream TEXT NOT NULL CHECK (stream IN ('c2s', 's2s')),
    certificate INTEGER NOT NULL REFERENCES certificate (number),
    reason TEXT NOT NULL,
    change INTEGER NOT NULL CHECK (change IN (0, 1)),
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    count INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'rejected')),
    since INTEGER NOT NULL,
    decided_by TEXT NOT NULL,
    UNIQUE (domain, stream, certificate)
) STRICT
"""
_SEEN = """
CREATE TABLE seen (
    domain TEXT NOT NULL,
    stream TEXT NOT NULL CHECK (stream IN ('c2s', 's2s')),
    tls_since INTEGER,
    dane_since INTEGER,
    PRIMARY KEY (domain, stream)
) STRICT, WITHOUT ROWID
"""
# A certificate that is missing shows as one, and does not hide what refers to it.
_KNOWN = """
CREATE VIEW known AS
SELECT entry.domain, entry.stream, der, fingerprint, pin, subject, issuer, names,
    not_before, not_after, how, permitted_by, permitted_at, first_seen, last_seen,
    revoked_at, revoked_by
FROM entry LEFT JOIN certificate ON certificate.number = entry.certificate
"""
_DOUBTED = """
CREATE VIEW doubted AS
SELECT held.domain, held.stream, der, fingerprint, pin, subject, issuer, names,
    not_before, not_after, id, reason, change, first_seen, last_seen, count,
    state, since, decided_by
FROM held LEFT JOIN certificate ON certificate.number = held.certificate
"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        _CERTIFICATES,
        "CREATE INDEX certificate_not_after ON certificate (not_after)",
        _ENTRIES,
        "CREATE INDEX entry_certificate ON entry (certificate)",
        _HELD,
        "CREATE INDEX held_certificate ON held (certificate)",
        "CREATE INDEX held_state ON held (state, count, last_seen)",
        _SEEN,
        _KNOWN,
        _DOUBTED,
        # What ids are derived from: who does not have it cannot aim at one.
        "CREATE TABLE secret (value BLOB NOT NULL CHECK (length(value) = 32)) STRICT",
        "INSERT INTO secret VALUES (randomblob(32))",
    ),
)
"""The statements that bring a file from the version of their place to the next one."""
