"""Revocation lists: which certificates they are held against, and all that makes them refuse."""

from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
)

import tests.authority
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, pin_of
from proxy.trust.revocation import RevocationList
from proxy.trust.verdict import Status, UntrustedError, judge
from tests.authority import CLIENT, Authority, KeyKind, OddKeyKind
from tests.trust.revoking import (
    POLICY,
    crl,
    entry,
    number,
    passes,
    refusal,
    revocation,
)
from tests.trust.showing import DAY, NAME, NOW, evidence, issued

OURS = f"the certificate of {NAME}"
ABOVE = f"an authority's certificate above that of {NAME}"
REMOVED = x509.ReasonFlags.remove_from_crl
COMPROMISE = x509.ReasonFlags.key_compromise
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.fixture(scope="module")
def chain(middle: Authority) -> tuple[bytes, ...]:
    return issued(middle)


@pytest.fixture(scope="module")
def shown(chain: tuple[bytes, ...], authority: Authority) -> Evidence:
    return evidence(chain, [authority])


def test_who_is_on_no_list_passes(shown: Evidence, authority: Authority, middle: Authority) -> None:
    assert passes(shown, crl(middle), crl(authority))
    assert passes(shown, crl(middle, entry(1), entry(2, COMPROMISE)))


def test_lists_of_other_authorities_do_not_matter(
    shown: Evidence, chain: tuple[bytes, ...], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, name="stranger")
    past = (NOW - 9 * DAY, NOW - DAY)
    assert passes(shown, crl(stranger, entry(number(chain[0])), life=past))


@pytest.mark.parametrize("initiating", [False, True])
@pytest.mark.parametrize("reason", [None, COMPROMISE, x509.ReasonFlags.certificate_hold])
def test_who_is_on_a_list_is_refused(
    shown: Evidence,
    chain: tuple[bytes, ...],
    middle: Authority,
    reason: x509.ReasonFlags | None,
    initiating: bool,
) -> None:
    why = "" if reason is None else f" ({reason.value})"
    found = crl(middle, entry(1), entry(number(chain[0]), reason), entry(2))
    text = refusal(shown, found, initiating=initiating)
    assert text == f"{OURS} was revoked on {NOW - DAY:%Y-%m-%d}{why}"


@pytest.mark.parametrize("initiating", [False, True])
def test_authorities_between_are_held_against_lists(
    shown: Evidence, chain: tuple[bytes, ...], authority: Authority, initiating: bool
) -> None:
    text = refusal(shown, crl(authority, entry(number(chain[1]))), initiating=initiating)
    assert text == f"{ABOVE} was revoked on {NOW - DAY:%Y-%m-%d}"


def test_the_trust_anchor_is_not(shown: Evidence, authority: Authority) -> None:
    assert passes(shown, crl(authority, entry(authority.certificate.serial_number)))


def test_it_does_not_matter_for_what_use_the_certificate_is(
    middle: Authority, authority: Authority
) -> None:
    chain = issued(middle, usages=[CLIENT])
    theirs = evidence(chain, [authority])
    assert passes(theirs, crl(middle), initiating=True)
    text = refusal(theirs, crl(middle, entry(number(chain[0]))), initiating=True)
    assert text.startswith(f"{OURS} was revoked")


def test_what_was_taken_back_is_not_revoked(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority
) -> None:
    serial = number(chain[0])
    assert passes(shown, crl(middle, entry(serial, REMOVED)))
    for entries in ([REMOVED, COMPROMISE], [COMPROMISE, REMOVED]):
        twice = crl(middle, *(entry(serial, reason) for reason in entries))
        assert "was revoked" in refusal(shown, twice)


def test_a_list_that_is_out_of_date_lets_nobody_in(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority
) -> None:
    past = crl(middle, life=(NOW - 9 * DAY, NOW - DAY))
    what = 'the revocation list of "CN=middle"'
    expected = f"{what}, which must not name {OURS}, ended on {NOW - DAY:%Y-%m-%d}"
    assert refusal(shown, past) == expected
    assert refusal(shown, crl(middle), past) == expected
    future = crl(middle, life=(NOW + DAY, NOW + 2 * DAY))
    begins = f"{what}, which must not name {OURS}, begins on {NOW + DAY:%Y-%m-%d}"
    assert refusal(shown, future) == begins
    revoked = crl(middle, entry(number(chain[0])), life=(NOW - 9 * DAY, NOW - DAY))
    assert "was revoked" in refusal(shown, crl(middle), revoked)


def test_a_list_holds_to_the_last_second(shown: Evidence, middle: Authority) -> None:
    found = crl(middle, life=(NOW - DAY, NOW))
    assert passes(shown, found)
    assert "ended" in refusal(shown, found, now=NOW + DAY / 86_400)
    assert passes(shown, crl(middle, life=(NOW, NOW + DAY)))


def test_an_authority_between_needs_its_list_too(shown: Evidence, authority: Authority) -> None:
    past = crl(authority, life=(NOW - 9 * DAY, NOW - DAY))
    assert ABOVE in refusal(shown, past)


def test_a_list_must_be_signed_by_the_authority_itself(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority, tmp_path: Path
) -> None:
    impostor = Authority(tmp_path, name="middle")
    forged = crl(impostor)
    expected = f'no revocation list of "CN=middle" is signed by the authority that issued {OURS}'
    assert refusal(shown, forged) == expected
    whole = crl(middle)
    assert refusal(shown, whole[:-1] + bytes([whole[-1] ^ 1])) == expected
    # One of another authority of the same name says nothing beside the right one.
    assert passes(shown, forged, crl(middle))
    right = crl(middle, entry(number(chain[0])))
    assert "was revoked" in refusal(shown, forged, right)


def test_the_authority_must_be_one_that_signs_lists(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    def without(**_: bool) -> x509.KeyUsage:
        usages = ["digital_signature", "content_commitment", "key_encipherment"]
        usages += ["data_encipherment", "key_agreement", "crl_sign", "encipher_only"]
        return x509.KeyUsage(**dict.fromkeys([*usages, "decipher_only"], False), key_cert_sign=True)

    with monkeypatch.context() as patched:
        patched.setattr(tests.authority, "_key_usage", without)
        below = Authority(tmp_path, name="below", parent=authority)
    shown = evidence(issued(below), [authority])
    assert passes(shown)
    assert "is signed by the authority" in refusal(shown, crl(below))


@pytest.mark.parametrize("kind", ["ec", "rsa", "P-384", "ed25519"])
def test_authorities_of_every_kind(
    authority: Authority, tmp_path: Path, kind: KeyKind | OddKeyKind
) -> None:
    below = Authority(tmp_path, name="below", key=kind, parent=authority)
    chain = issued(below)
    shown = evidence(chain, [authority])
    assert passes(shown, crl(below))
    assert "was revoked" in refusal(shown, crl(below, entry(number(chain[0]))))


def test_names_count_that_differ_in_how_they_are_written(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority
) -> None:
    """Else a list would be no matter of the certificates that it is about."""
    old = x509.NameAttribute(
        x509.NameOID.COMMON_NAME, " MIDDLE ", _type=x509.name._ASN1Type.PrintableString
    )
    found = crl(middle, entry(number(chain[0])), name=x509.Name([old]))
    assert "was revoked" in refusal(shown, found)


# Faults


def test_lists_that_were_not_read_let_nobody_in(shown: Evidence) -> None:
    expected = f"{OURS} could not be checked: the revocation lists of its policy were not read"
    with pytest.raises(UntrustedError) as refused:
        judge(NAME, CLIENT_SERVICE, POLICY, shown, NOW)
    assert str(refused.value) == expected
    two = attrs.evolve(POLICY, crl_files=(*POLICY.crl_files, Path("/nowhere")))
    with pytest.raises(UntrustedError, match="were not read"):
        judge(NAME, CLIENT_SERVICE, two, shown, NOW, revocation=revocation())


def test_where_nobody_vouches_there_is_nothing_to_revoke(
    shown: Evidence, chain: tuple[bytes, ...], middle: Authority
) -> None:
    policy = attrs.evolve(POLICY, level=Level.PIN, pins=frozenset({pin_of(chain[0])}))
    lists = revocation(crl(middle, entry(number(chain[0]))))
    verdict = judge(NAME, CLIENT_SERVICE, policy, shown, NOW, revocation=lists)
    assert verdict.status is Status.VERIFIED


class PanicError(BaseException):
    """As cryptography raises it: no Exception."""


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, MemoryError, PanicError])
@pytest.mark.parametrize("part", ["is_of", "is_signed_by", "covers", "revoked"])
def test_whatever_fails_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
    shown: Evidence,
    middle: Authority,
    part: str,
    fault: type[BaseException],
) -> None:
    def fail(*_: object) -> None:
        raise fault("a fault")

    found = crl(middle)
    assert passes(shown, found)
    monkeypatch.setattr(RevocationList, part, fail)
    for initiating in (False, True):
        text = refusal(shown, found, initiating=initiating)
        assert text.startswith(f"{OURS} could not be checked: ")


def test_a_signature_is_verified_once(
    monkeypatch: pytest.MonkeyPatch, shown: Evidence, middle: Authority
) -> None:
    """It takes as long as the list is."""
    found = revocation(crl(middle))
    calls = []

    def load(key: bytes) -> object:
        calls.append(key)
        return load_der_public_key(key)

    monkeypatch.setattr("proxy.trust.revocation.load_der_public_key", load)
    for _ in range(3):
        judge(NAME, CLIENT_SERVICE, POLICY, shown, NOW, revocation=found)
    assert len(calls) == 1
