"""proxy.trust.keyring.exchange: a keyring as text and back, and what is no such text."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from proxy.trust.keyring.entry import How, Revocation, Seen, State
from proxy.trust.keyring.exchange import Imported, exported, import_into, pem
from proxy.trust.keyring.judging import Accepted, Refused
from proxy.trust.keyring.reading import NotFoundError
from proxy.trust.keyring.store import LONGEST_REASON, Keyring
from tests.trust.keyring.made import EXPIRED, LATER, PROVED, certificate, original, shown
from tests.trust.showing import DAY, NAME, NOW


@pytest.fixture
def full(keyring: Keyring) -> Keyring:
    """A keyring that has something of every kind."""
    keyring.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    keyring.remember(NAME, "c2s", certificate(2), NOW, how=How.DANE)
    approved = keyring.hold(NAME, "s2s", certificate(3), "it is self-signed", NOW)
    keyring.approve(approved.id, "alice", LATER)
    rejected = keyring.hold("example.org", "s2s", certificate(4), "why \\u202e", NOW)
    keyring.reject(rejected.id, "bob", LATER)
    revoked = keyring.remember("example.org", "s2s", certificate(5), NOW, how=How.PIN)
    keyring.revoke(revoked.facts.fingerprint, "carol", LATER)
    keyring.hold("example.com", "s2s", certificate(6), "it waits", NOW)
    keyring.note_seen(NAME, "s2s", NOW, tls=True)
    keyring.note_seen(NAME, "s2s", LATER, dane=True)
    return keyring


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Keyring]:
    with closing(Keyring(tmp_path / "elsewhere.sqlite")) as keyring:
        yield keyring


def text(keyring: Keyring, change: Callable[[Any], object] | None = None) -> str:
    whole = json.loads(exported(keyring))
    if change is not None:
        change(whole)
    return json.dumps(whole)


def test_there_and_back(full: Keyring, elsewhere: Keyring) -> None:
    assert import_into(elsewhere, exported(full), NOW) == Imported(6, 6)
    assert elsewhere.entries() == full.entries()
    assert elsewhere.all_seen() == full.all_seen()
    there = {(held.domain, held.certificate, held.by) for held in full.rejected()}
    here = {(held.domain, held.certificate, held.by) for held in elsewhere.rejected()}
    assert here == there
    assert elsewhere.pending() == ()
    assert exported(elsewhere) == exported(full)


def test_a_second_time_changes_nothing(full: Keyring, elsewhere: Keyring) -> None:
    whole = exported(full)
    import_into(elsewhere, whole, NOW)
    assert import_into(elsewhere, whole, LATER) == Imported(0, 6)
    assert import_into(full, whole, LATER) == Imported(0, 6)


def test_what_it_means_there(full: Keyring, elsewhere: Keyring) -> None:
    import_into(elsewhere, exported(full), NOW)
    assert isinstance(shown(elsewhere, certificate(3)), Accepted)
    for number in (4, 5):
        came = shown(elsewhere, certificate(number), PROVED, domain="example.org")
        assert isinstance(came, Refused)


def test_some_domains(full: Keyring) -> None:
    whole = json.loads(exported(full, ["example.org"]))
    assert [each["domain"] for each in whole["entries"]] == ["example.org"]
    assert [each["domain"] for each in whole["rejected"]] == ["example.org"]
    assert whole["seen"] == []


def test_certificates_are_pem_that_others_read(full: Keyring) -> None:
    whole = json.loads(exported(full, [NAME]))
    for each in whole["entries"]:
        read = x509.load_pem_x509_certificate(each["certificate"].encode())
        assert read.fingerprint is not None
        assert pem(read.public_bytes(Encoding.DER)) == each["certificate"]


def test_a_no_here_counts_more_than_a_yes_there(full: Keyring, elsewhere: Keyring) -> None:
    held = elsewhere.hold(NAME, "s2s", certificate(3), "why", NOW)
    elsewhere.reject(held.id, "dave", NOW)
    elsewhere.remember(NAME, "s2s", certificate(1), NOW, how=How.PKIX)
    elsewhere.revoke(NAME, "dave", NOW)
    import_into(elsewhere, exported(full), NOW)
    for number in (1, 3):
        assert isinstance(shown(elsewhere, certificate(number), PROVED), Refused)


def test_a_no_there_counts_more_than_a_yes_here(full: Keyring, elsewhere: Keyring) -> None:
    for number in (4, 5):
        held = elsewhere.hold("example.org", "s2s", certificate(number), "why", NOW)
        elsewhere.approve(held.id, "dave", NOW)
    import_into(elsewhere, exported(full), NOW)
    revocations = {each.certificate: each.revocation for each in elsewhere.entries("example.org")}
    assert revocations[certificate(4)] == Revocation(LATER, "bob")
    assert revocations[certificate(5)] == Revocation(LATER, "carol")
    assert {held.state for held in elsewhere.all_held("example.org")} == {State.REJECTED}


def test_a_yes_there_ends_the_waiting_here(full: Keyring, elsewhere: Keyring) -> None:
    held = elsewhere.hold(NAME, "s2s", certificate(3), "why", NOW)
    import_into(elsewhere, exported(full), NOW)
    assert elsewhere.held(held.id).state is State.APPROVED
    assert elsewhere.held(held.id).by == "alice"


def test_both_have_seen_it(full: Keyring, elsewhere: Keyring) -> None:
    elsewhere.remember(NAME, "s2s", certificate(3), NOW - DAY, how=How.PKIX)
    elsewhere.note_seen(NAME, "s2s", NOW - DAY, tls=True)
    import_into(elsewhere, exported(full), NOW)
    entry = next(it for it in elsewhere.find(NAME, "s2s") if it.certificate == certificate(3))
    assert (entry.how, entry.permitted_by, entry.permitted_at) == (How.OPERATOR, "alice", LATER)
    assert (entry.first_seen, entry.last_seen) == (NOW - DAY, NOW)
    assert elsewhere.seen(NAME, "s2s") == Seen(NOW - DAY, LATER)


def test_a_long_reason_can_be_taken_over(keyring: Keyring, elsewhere: Keyring) -> None:
    held = keyring.hold(NAME, "s2s", certificate(), "x" * 1000, NOW)
    keyring.reject(held.id, "bob", NOW)
    import_into(elsewhere, exported(keyring), NOW)
    assert elsewhere.rejected()[0].reason == "x" * (LONGEST_REASON - 1) + "…"


def first(name: str, **members: Any) -> Callable[[Any], object]:
    return lambda whole: whole[name][0].update(members)


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (lambda whole: whole.update(format="other"), 'it is not a "bascule keyring" of version 1'),
    (lambda whole: whole.update(version=2), 'it is not a "bascule keyring" of version 1'),
    (lambda whole: whole.update(version=True), 'it is not a "bascule keyring" of version 1'),
    (lambda whole: whole.pop("format"), "format: is missing"),
    (lambda whole: whole.pop("rejected"), "rejected: is missing"),
    (lambda whole: whole.update(entries={}), "entries: is not a list"),
    (lambda whole: whole.update(entries=[7]), r"entries\[0\]: is not an object"),
    (lambda whole: whole.update(colour="red"), "colour: is not known"),
    (first("entries", colour="red"), r"entries\[0\]\.colour: is not known"),
    (first("rejected", colour="red"), r"rejected\[0\]\.colour: is not known"),
    (first("seen", **{"co\nlour": 1}), r"seen\[0\]\.co\\nlour: is not known"),
    (lambda whole: whole["entries"][0].pop("domain"), r"entries\[0\]\.domain: is missing"),
    (first("entries", domain="Example.net"), r"\.domain: is not a domain in A-labels"),
    (first("entries", domain="faß.de"), r"\.domain: is not a domain in A-labels"),
    (first("entries", domain="a b"), r"\.domain: not a domain"),
    (first("entries", domain=7), r"\.domain: is not a text"),
    (first("entries", stream="component"), r"\.stream: is not one of c2s, s2s"),
    (first("entries", stream=["s2s"]), r"\.stream: is not one of c2s, s2s"),
    (first("entries", how="hearsay"), r"\.how: is not one of pkix, dane, posh, pin, operator"),
    (first("entries", how=None), r"\.how: is not one of"),
    (first("entries", permitted_by=""), r"\.permitted_by: is not a text"),
    (first("entries", permitted_by="a\nb"), r"\.permitted_by: has characters that cannot be"),
    (first("entries", permitted_by="a\\\u202eb"), r"\.permitted_by: has characters that cannot"),
    (first("entries", permitted_by="x" * 401), r"\.permitted_by: has more than 400 characters"),
    (first("entries", first_seen="yesterday"), r"\.first_seen: is not a time with a time zone"),
    (first("entries", first_seen="2026-01-02T03:04:05"), r"\.first_seen: is not a time with"),
    (first("entries", last_seen=1), r"\.last_seen: is not a time with a time zone"),
    (first("entries", last_seen="0001-01-01T00:00:00+23:59"), r"\.last_seen: is not a time"),
    (first("entries", revoked_by="bob"), "revoked_by and revoked_at: one is there without"),
    (first("entries", certificate="no"), r"\.certificate: is not one certificate in PEM"),
    (first("entries", certificate=None), r"\.certificate: is not one certificate in PEM"),
    (first("entries", certificate=pem(b"no")), r"\.certificate: it is not"),
    (first("entries", certificate=pem(original()) * 2), r"\.certificate: is not one certificate"),
    (first("rejected", certificate=pem(original())[:-40]), r"\.certificate: is not one"),
    (first("rejected", rejected_by=None), r"rejected\[0\]\.rejected_by: is not a text"),
    (first("seen", tls_since="once"), r"seen\[0\]\.tls_since: is not a time"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_whatever_is_wrong_nothing_is_taken_over(
    full: Keyring, elsewhere: Keyring, change: Callable[[Any], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        import_into(elsewhere, text(full, change), NOW)
    assert str(raised.value).isprintable()
    assert (elsewhere.entries(), elsewhere.rejected(), elsewhere.all_seen()) == ((), (), ())


@pytest.mark.parametrize(
    ("given_text", "words"),
    [
        ("", "it is not JSON"),
        ("[]", "it: is not an object"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "format": 2}', "an object has a member twice"),
    ],
)
def test_what_is_no_such_text(elsewhere: Keyring, given_text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        import_into(elsewhere, given_text, NOW)


def test_a_fault_in_the_middle_undoes_all(
    full: Keyring, elsewhere: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> bool:
        raise NotFoundError("no")

    monkeypatch.setattr(elsewhere, "merge_rejected", fail)
    with pytest.raises(NotFoundError):
        import_into(elsewhere, exported(full), NOW)
    assert elsewhere.entries() == ()


@given(st.binary(min_size=1, max_size=300))
def test_pem_is_as_openssl_writes_it(der: bytes) -> None:
    lines = pem(der).splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")
    assert all(len(line) == 64 for line in lines[1:-2])
    assert 0 < len(lines[-2]) <= 64


def test_permissions_that_have_ended_stay_so(keyring: Keyring, elsewhere: Keyring) -> None:
    held = keyring.hold(NAME, "s2s", certificate(), "why", NOW)
    keyring.approve(held.id, "alice", NOW)
    waiting = elsewhere.hold(NAME, "s2s", certificate(), "why", EXPIRED)
    import_into(elsewhere, exported(keyring), EXPIRED)
    assert elsewhere.held(waiting.id).state is State.PENDING


def test_the_later_permission_counts(keyring: Keyring, elsewhere: Keyring) -> None:
    for where, by, at in ((keyring, "alice", EXPIRED), (elsewhere, "bob", NOW)):
        held = where.hold(NAME, "s2s", certificate(), "why", NOW)
        where.approve(held.id, by, at)
    early, late = exported(elsewhere), exported(keyring)
    assert import_into(keyring, early, EXPIRED) == Imported(0, 1)
    assert import_into(elsewhere, late, EXPIRED) == Imported(1, 1)
    assert elsewhere.entries()[0].permitted_by == keyring.entries()[0].permitted_by == "alice"
