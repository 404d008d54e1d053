"""What TLSA records make of servers' certificates (RFC 6698, RFC 7671, RFC 7673 section 4)."""

import datetime as dt
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509

from proxy.net.dane_path import verify_path
from proxy.trust.certificate import Certificate
from proxy.trust.dane import matching
from proxy.trust.dane.matching import (
    MOST_PATHS,
    MOST_RECORDS,
    Absent,
    Proved,
    Server,
    Unusable,
    match,
)
from proxy.trust.dane.records import TLSA, Matching, Selector, Usage
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, pin_of
from tests.authority import CLIENT, CODE, MAIL, Authority, self_signed
from tests.trust.dane import (
    BOTH,
    DOMAIN,
    TARGET,
    der,
    matched,
    problem,
    proof,
    record,
    unverified,
)
from tests.trust.showing import DAY, NAME, NOW, chain_of, evidence, issued, policy

Parts = tuple[Selector, Matching]

ALL_PARTS = [(selector, matching) for selector in Selector for matching in Matching]

IGNORED = [
    {"dns": ["elsewhere.example"]},
    {"dns": []},
    {"not_after": NOW - DAY, "not_before": NOW - 2 * DAY},
    {"not_before": NOW + DAY},
    {"usages": [CODE]},
    {"ca": True},
]
"""What DANE-EE does not look at (RFC 7671, section 5.1)."""

BAD = [
    ({"dns": ["elsewhere.example"]}, "is for elsewhere.example, not for example.net"),
    ({"dns": []}, "has no subjectAltName"),
    ({"not_after": NOW - DAY, "not_before": NOW - 2 * DAY}, "expired on"),
    ({"not_before": NOW + DAY}, "is not valid before"),
    ({"usages": [CODE]}, "is not meant for servers"),
    ({"ca": True}, "is one of an authority"),
]


@pytest.fixture(scope="module")
def sent(middle: Authority) -> tuple[bytes, ...]:
    """A good certificate and the one of the authority above it; not the root's."""
    chain = issued(middle)
    assert len(chain) == 2
    return chain


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), name="stranger")


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., Authority]:
    """Make an authority; `Authority` says what it may be asked for."""
    numbers = itertools.count()
    return lambda **asked: Authority(tmp_path / str(next(numbers)), **asked)


# Whether there is anything to match


def test_no_records_are_none(sent: tuple[bytes, ...]) -> None:
    assert matched([], unverified(*sent)) == Absent()


@pytest.mark.parametrize("count", [1, 3])
def test_records_of_which_none_can_be_used(sent: tuple[bytes, ...], count: int) -> None:
    unusable = [TLSA(3, 1, 1, b"short"), TLSA(4, 1, 1, bytes(32)), TLSA(3, 1, 9, bytes(32))]
    assert matched(unusable[:count], unverified(*sent)) == Unusable()


def test_one_usable_record_among_others_decides(sent: tuple[bytes, ...]) -> None:
    wrong = TLSA(3, 1, 1, bytes(32))
    assert problem(matched([TLSA(3, 1, 1, b"short"), wrong], unverified(*sent)))


def test_attack_a_server_without_a_certificate_matches_nothing() -> None:
    for usage in Usage:
        outcome = matched([TLSA(usage, 1, 1, bytes(32))], Evidence((), 0, "ok"))
        assert problem(outcome) == "example.net showed no certificate"


def test_attack_more_records_than_are_looked_at_prove_nothing(sent: tuple[bytes, ...]) -> None:
    records = [TLSA(3, 1, 1, number.to_bytes(32)) for number in range(MOST_RECORDS - 1)]
    records.append(record(sent[0], 3))
    assert isinstance(matched(records, unverified(*sent)), Proved)
    more = [*records, TLSA(3, 1, 1, bytes(32))]
    assert "more than 100 TLSA records" in problem(matched(more, unverified(*sent)))


def test_attack_chains_too_long_or_too_large_prove_nothing(sent: tuple[bytes, ...]) -> None:
    records = [record(sent[0], 3)]
    for shown in (unverified(sent[0], *[sent[1]] * 10), unverified(sent[0], bytes(65 * 1024))):
        assert problem(matched(records, shown)).endswith("are too many or too large")


# DANE-EE


@pytest.mark.parametrize("parts", ALL_PARTS)
def test_dane_ee_is_the_servers_own_certificate_or_key(
    sent: tuple[bytes, ...], parts: Parts
) -> None:
    right = record(sent[0], 3, *parts)
    outcome = matched([right], unverified(*sent))
    assert outcome == Proved(str(right), right)
    assert proof(outcome).startswith("DANE-EE 3 ")


@pytest.mark.parametrize("asked", IGNORED)
def test_dane_ee_looks_at_neither_names_nor_dates_nor_issuers(
    stranger: Authority, asked: dict[str, Any]
) -> None:
    shown = unverified(*issued(stranger, **asked))
    assert proof(matched([record(shown.chain[0], 3)], shown))


def test_dane_ee_needs_no_authority(tmp_path: Path) -> None:
    shown = unverified(*chain_of(self_signed(tmp_path, "other.example")[0]))
    assert proof(matched([record(shown.chain[0], 3)], shown))


def test_dane_ee_looks_at_no_certificate_but_the_servers_own(sent: tuple[bytes, ...]) -> None:
    shown = unverified(sent[0], b"nonsense")
    assert proof(matched([record(sent[0], 3)], shown))


@pytest.mark.parametrize("parts", ALL_PARTS)
def test_attack_an_authoritys_certificate_is_not_the_servers_own(
    sent: tuple[bytes, ...], parts: Parts
) -> None:
    text = problem(matched([record(sent[1], 3, *parts)], unverified(*sent)))
    assert text == "the certificate of example.net does not match its TLSA record"


@pytest.mark.parametrize("usage", Usage)
@pytest.mark.parametrize("parts", ALL_PARTS)
def test_attack_another_certificate_does_not_match(
    sent: tuple[bytes, ...], authority: Authority, usage: Usage, parts: Parts
) -> None:
    """A good one, by a trusted root, for the right name."""
    other = record(issued(authority)[0], usage, *parts)
    text = problem(matched([other, other], evidence(sent, [authority])))
    tried = (usage, parts[1]) == (Usage.DANE_TA, Matching.FULL)
    expected = f"({other})" if tried else "does not match its TLSA record"
    assert text.endswith(expected)


@pytest.mark.parametrize("usage", Usage)
def test_any_of_several_records_will_do(
    sent: tuple[bytes, ...], authority: Authority, usage: Usage
) -> None:
    """As while a key is changed."""
    about = sent[0] if usage in {Usage.PKIX_EE, Usage.DANE_EE} else sent[1]
    records = [TLSA(usage, 1, 1, bytes(32)), record(about, usage)]
    shown = evidence(sent, [authority])
    for each in (records, records[::-1]):
        outcome = matched(each, shown)
        assert isinstance(outcome, Proved)
        assert outcome.record == records[1]
    text = problem(matched([records[0], TLSA(3, 1, 1, b"x" * 32)], shown))
    assert text == "the certificate of example.net does not match any of its 2 TLSA records"


def test_attack_a_weaker_digest_does_not_count_beside_a_stronger(sent: tuple[bytes, ...]) -> None:
    records = [record(sent[0], 3, 1, 1), TLSA(3, 1, 2, bytes(64))]
    assert problem(matched(records, unverified(*sent)))


@pytest.mark.parametrize("key", ["rsa 1024", "P-224", "secp256k1"])
def test_attack_no_record_makes_a_weak_key_strong(stranger: Authority, key: Any) -> None:
    shown = unverified(*issued(stranger, key=key))
    assert "has a key that is too weak" in problem(matched([record(shown.chain[0], 3)], shown))


# DANE-TA


@pytest.mark.parametrize("parts", ALL_PARTS)
def test_dane_ta_is_an_authority_that_was_sent(sent: tuple[bytes, ...], parts: Parts) -> None:
    right = record(sent[1], 2, *parts)
    outcome = matched([right], unverified(*sent))
    assert outcome == Proved(f"DNS-ID example.net, {right}", right)


def test_dane_ta_may_be_a_root_that_was_sent(sent: tuple[bytes, ...], authority: Authority) -> None:
    whole = (*sent, der(authority))
    assert proof(matched([record(whole[2], 2)], unverified(*whole)))


@pytest.mark.parametrize("selector", Selector)
@pytest.mark.parametrize("above", [1, 2])
def test_dane_ta_may_stand_in_full_in_the_record(
    sent: tuple[bytes, ...], authority: Authority, selector: Selector, above: int
) -> None:
    """RFC 7671, sections 5.2.2 and 5.2.3: then the server need not send it."""
    whole = (*sent, der(authority))
    shown = unverified(*whole[:above])
    assert proof(matched([record(whole[above], 2, selector, 0)], shown))
    assert problem(matched([record(whole[above], 2, selector, 1)], shown))


@pytest.mark.parametrize("selector", Selector)
def test_attack_an_authority_in_full_must_have_issued_the_certificate(
    sent: tuple[bytes, ...], stranger: Authority, selector: Selector, new: Callable[..., Authority]
) -> None:
    same_name = new(name="Bascule test root")
    for authority in (stranger, same_name):
        text = problem(matched([record(der(authority), 2, selector, 0)], unverified(*sent)))
        assert "DANE-TA 2" in text


def test_attack_a_certificate_that_is_only_sent_along_vouches_for_nothing(
    sent: tuple[bytes, ...], stranger: Authority
) -> None:
    """An authority in the chain that has not issued what is below it."""
    shown = unverified(issued(stranger)[0], *sent[1:])
    assert "DANE-TA 2" in problem(matched([record(sent[1], 2)], shown))


def test_attack_an_authority_with_the_same_name_is_another(
    authority: Authority, new: Callable[..., Authority]
) -> None:
    right = new(name="one name", parent=authority)
    forged = new(name="one name")
    shown = unverified(issued(forged)[0], der(right))
    assert "DANE-TA 2" in problem(matched([record(der(right), 2)], shown))
    assert "DANE-TA 2" in problem(matched([record(der(right), 2, 1, 0)], shown))


def test_attack_a_server_is_no_authority_for_itself(tmp_path: Path, authority: Authority) -> None:
    """DANE-TA is about what stands above the server's certificate, sent twice or not."""
    for own in (chain_of(self_signed(tmp_path, NAME, ca=True)[0])[0], issued(authority)[0]):
        for shown in (unverified(own), unverified(own, own)):
            for parts in ALL_PARTS:
                assert problem(matched([record(own, 2, *parts)], shown))


def test_attack_a_servers_certificate_issues_none(
    middle: Authority, new: Callable[..., Authority]
) -> None:
    """Basic constraints hold below an authority of a record, too."""
    path, _ = middle.issue("holder.example", common_name="holder")
    holder = x509.load_pem_x509_certificates(path.read_bytes())
    forger = new(name="holder")
    shown = unverified(issued(forger)[0], *chain_of(path))
    assert holder[0].subject == forger.certificate.subject
    assert problem(matched([record(shown.chain[2], 2)], shown))


@pytest.mark.parametrize(("asked", "text"), BAD)
def test_attack_dane_ta_looks_at_all_that_is_wrong_with_the_certificate(
    stranger: Authority, asked: dict[str, Any], text: str
) -> None:
    shown = unverified(*issued(stranger, **asked), der(stranger))
    right = record(der(stranger), 2)
    assert text in problem(matched([right], shown))
    assert problem(matched([right], shown)).endswith(f" ({right})")


def test_attack_authorities_below_that_of_the_record_must_be_valid(
    new: Callable[..., Authority],
) -> None:
    root = new(name="root", life=(NOW - 9 * DAY, NOW + 9 * DAY))
    old = new(name="old", parent=root, life=(NOW - 9 * DAY, NOW - DAY))
    shown = unverified(*issued(old, not_before=NOW - 9 * DAY), der(root))
    for right in (record(der(root), 2), record(der(root), 2, 1, 0)):
        assert "above that of example.net, expired on" in problem(matched([right], shown))
        assert proof(matched([right], shown, now=NOW - 2 * DAY))


@pytest.mark.parametrize("identities", [{}, {"dns": [], "xmpp": [NAME]}])
def test_attack_name_constraints_of_an_authority_of_a_record_hold(
    identities: dict[str, Any], new: Callable[..., Authority]
) -> None:
    tree = x509.NameConstraints([x509.DNSName("example.org")], None)
    narrow = new(name="narrow", constraints=tree)
    shown = unverified(*issued(narrow, **identities), der(narrow))
    assert problem(matched([record(der(narrow), 2)], shown))


def test_attack_an_authority_kept_to_other_uses_vouches_for_no_server(
    authority: Authority, new: Callable[..., Authority]
) -> None:
    mail = new(name="mail", parent=authority, usages=[MAIL])
    shown = unverified(*issued(mail), der(authority))
    assert "is not meant for servers" in problem(matched([record(der(authority), 2)], shown))


@pytest.mark.parametrize(
    ("asked", "words"), [({"digest": "sha1"}, "signed too weakly (SHA-1)"), ({}, "")]
)
def test_attack_signatures_up_to_the_authority_must_be_strong(
    asked: dict[str, Any], words: str, new: Callable[..., Authority]
) -> None:
    old = new(name="RSA", key="rsa")
    shown = unverified(*issued(old, **asked), der(old))
    outcome = matched([record(der(old), 2)], shown)
    assert words in (problem(outcome) if words else proof(outcome))


def test_who_has_signed_the_authority_of_a_record_and_how_does_not_matter(
    new: Callable[..., Authority],
) -> None:
    old = new(name="old root", key="rsa", digest="sha1")
    shown = unverified(*issued(old), der(old))
    assert proof(matched([record(der(old), 2)], shown))


@pytest.mark.parametrize("key", ["rsa 1024", "P-224"])
def test_attack_keys_up_to_the_authority_must_be_strong(
    key: Any, new: Callable[..., Authority]
) -> None:
    weak = new(name="weak", key=key)
    shown = unverified(*issued(weak), der(weak))
    for parts in ALL_PARTS:
        assert "too weak" in problem(matched([record(der(weak), 2, *parts)], shown))


def test_who_connects_to_us_may_have_a_certificate_of_a_client(stranger: Authority) -> None:
    shown = unverified(*issued(stranger, usages=[CLIENT]), der(stranger))
    right = record(der(stranger), 2)
    assert proof(matched([right], shown, initiating=True))
    assert problem(matched([right], shown))


def test_attack_the_paths_to_verify_are_bounded(
    sent: tuple[bytes, ...], stranger: Authority
) -> None:
    asked: list[bytes] = []

    def counting(anchor: bytes, chain: tuple[bytes, ...], now: dt.datetime) -> Evidence:
        asked.append(anchor)
        return verify_path(anchor, chain, now)

    records = [record(issued(stranger)[0], 2, 0, 0) for _ in range(2 * MOST_PATHS)]
    server = Server(DOMAIN, unverified(*sent), policy())
    assert problem(match(records, server, NOW, counting))
    assert len(asked) == MOST_PATHS
    # Those that were sent come first, and once.
    assert proof(match([*records, record(sent[1], 2)], server, NOW, counting))
    assert len(asked) == MOST_PATHS + 1
    elsewhere = Server(References("other.example", CLIENT_SERVICE), unverified(*sent), policy())
    asked.clear()
    assert problem(match([record(sent[1], 2, 0, 0)], elsewhere, NOW, counting))
    assert asked == [sent[1]]


# PKIX-EE and PKIX-TA


@pytest.mark.parametrize("parts", ALL_PARTS)
@pytest.mark.parametrize(("usage", "place"), [(1, 0), (0, 1), (0, 2)])
def test_pkix_records_need_a_trusted_root_as_well(
    sent: tuple[bytes, ...], authority: Authority, parts: Parts, usage: int, place: int
) -> None:
    whole = (*sent, der(authority))
    right = record(whole[place], usage, *parts)
    outcome = matched([right], evidence(sent, [authority]))
    assert outcome == Proved(f"DNS-ID example.net, {right}", right)
    assert "is not a trusted root" in problem(matched([right], unverified(*whole)))


@pytest.mark.parametrize(("asked", "text"), BAD)
def test_attack_pkix_records_look_at_all_that_is_wrong(
    middle: Authority, authority: Authority, asked: dict[str, Any], text: str
) -> None:
    chain = issued(middle, **asked)
    shown = evidence(chain, [authority])
    for usage, place in ((1, 0), (0, 1)):
        assert text in problem(matched([record(chain[place], usage)], shown))


@pytest.mark.parametrize(("usage", "place"), [(1, 1), (0, 0), (2, 0), (3, 1)])
def test_attack_a_record_is_about_one_place_of_the_chain(
    sent: tuple[bytes, ...], authority: Authority, usage: int, place: int
) -> None:
    assert problem(matched([record(sent[place], usage)], evidence(sent, [authority])))


def test_attack_pkix_ta_must_be_on_the_path_that_was_verified(
    sent: tuple[bytes, ...], authority: Authority, stranger: Authority
) -> None:
    shown = evidence((*sent, der(stranger)), [authority])
    assert shown.error == 0
    assert problem(matched([record(der(stranger), 0)], shown))


# Names


@pytest.mark.parametrize("usage", [0, 1, 2])
@pytest.mark.parametrize("name", [NAME, TARGET])
def test_a_certificate_may_be_for_the_domain_or_its_secure_target(
    middle: Authority, authority: Authority, usage: int, name: str
) -> None:
    """RFC 7673, sections 4.1 and 6."""
    chain = issued(middle, name)
    right = record(chain[0 if usage == 1 else 1], usage)
    shown = evidence(chain, [authority])
    outcome = matched([right], shown, references=BOTH)
    assert proof(outcome) == f"DNS-ID {name}, {right}"


@pytest.mark.parametrize("usage", [0, 1, 2])
def test_attack_an_insecure_target_is_no_name_to_prove(
    middle: Authority, authority: Authority, usage: int
) -> None:
    chain = issued(middle, TARGET)
    right = record(chain[0 if usage == 1 else 1], usage)
    text = problem(matched([right], evidence(chain, [authority]), references=DOMAIN))
    assert f"is for {TARGET}, not for {NAME}" in text


@pytest.mark.parametrize("level", Level)
def test_the_level_of_the_policy_does_not_weaken_records(
    middle: Authority, authority: Authority, level: Level
) -> None:
    chain = issued(middle, "elsewhere.example")
    shown = evidence(chain, [authority])
    lenient = attrs.evolve(policy(), level=level, pins=frozenset({pin_of(chain[0])}))
    for usage, place in ((0, 1), (1, 0), (2, 1)):
        assert problem(matched([record(chain[place], usage)], shown, by=lenient))


@pytest.mark.parametrize("usage", Usage)
def test_attack_pins_hold_besides_records(
    sent: tuple[bytes, ...], authority: Authority, usage: Usage
) -> None:
    right = record(sent[0 if usage % 2 else 1], usage)
    shown = evidence(sent, [authority])
    pinned = attrs.evolve(policy(), pins=frozenset({pin_of(sent[0])}))
    other = attrs.evolve(policy(), pins=frozenset({pin_of(sent[1])}))
    assert proof(matched([right], shown, by=pinned))
    assert problem(matched([right], shown, by=other)).endswith("is not one of its pins")


# Faults


def _raises(_anchor: bytes, _chain: tuple[bytes, ...], _now: dt.datetime) -> Evidence:
    raise MemoryError


def _believes(_anchor: bytes, chain: tuple[bytes, ...], _now: dt.datetime) -> Evidence:
    return Evidence(chain, 0, "ok", chain[:1])


def _leads_elsewhere(_anchor: bytes, chain: tuple[bytes, ...], _now: dt.datetime) -> Evidence:
    return Evidence(chain, 0, "ok", (chain[0], chain[0]))


def _verifies_another(anchor: bytes, chain: tuple[bytes, ...], _now: dt.datetime) -> Evidence:
    return Evidence(chain[::-1], 0, "ok", (*chain, anchor))


def _says_nothing(_anchor: bytes, _chain: tuple[bytes, ...], _now: dt.datetime) -> Any:
    return None


@pytest.mark.parametrize(
    "verify", [_raises, _believes, _leads_elsewhere, _verifies_another, _says_nothing]
)
def test_attack_a_path_that_is_not_verified_proves_nothing(
    sent: tuple[bytes, ...], verify: matching.VerifyPath
) -> None:
    server = Server(DOMAIN, unverified(*sent), policy())
    assert proof(match([record(sent[1], 2)], server, NOW, verify_path))
    assert problem(match([record(sent[1], 2)], server, NOW, verify))


@pytest.mark.parametrize("error", [ValueError, RecursionError, BaseException, GeneratorExit])
def test_every_fault_is_a_failure(
    sent: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def broken(*_: object) -> None:
        raise error("text")

    monkeypatch.setattr(matching, "effective", broken)
    text = problem(matched([record(sent[0], 3)], unverified(*sent)))
    assert text == f"the TLSA records could not be checked ({error.__name__})"


@pytest.mark.parametrize("usage", Usage)
@pytest.mark.parametrize(
    "spoil", [lambda whole: whole[:-1], lambda whole: b"", lambda _whole: b"\x30\x00"]
)
def test_attack_a_malformed_certificate_proves_nothing(
    sent: tuple[bytes, ...], usage: Usage, spoil: Callable[[bytes], bytes]
) -> None:
    place = 0 if usage % 2 else 1
    chain = [*sent]
    chain[place] = spoil(chain[place])
    data = chain[place]
    for parts in ((0, 0), (0, 1), (1, 1)):
        good = record(sent[place], usage, *parts)
        assert problem(matched([good, TLSA(usage, 0, 1, data.ljust(32))], unverified(*chain)))


def test_interruptions_pass(sent: tuple[bytes, ...]) -> None:
    def interrupted(_anchor: bytes, _chain: tuple[bytes, ...], _now: dt.datetime) -> Evidence:
        raise KeyboardInterrupt

    server = Server(DOMAIN, unverified(*sent), policy())
    with pytest.raises(KeyboardInterrupt):
        match([record(sent[1], 2)], server, NOW, interrupted)


def test_keys_that_nobody_can_use_prove_nothing(sent: tuple[bytes, ...]) -> None:
    """One whose algorithm is unknown, but well-formed; the others still count."""
    unknown = TLSA(2, 1, 0, bytes.fromhex("300b300506032a0304030200ff"))
    assert unknown.usable
    text = problem(matched([unknown], unverified(*sent)))
    assert text == "the certificate of example.net does not match its TLSA record"
    good = record(Certificate.read(sent[1]).whole, 2, 1, 0)
    assert proof(matched([unknown, good], unverified(*sent[:1])))
