"""Attack 20: what may go wrong while a certificate is verified. Nothing of it lets anybody pass."""

import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import pytest
from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import SRV_ID, DNSPattern, SRVPattern

from proxy.trust import der, identities, strength, verdict
from proxy.trust.certificate import Certificate
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE, Presented
from proxy.trust.policy import Level, pin_of
from proxy.trust.verdict import Status, UntrustedError, judge
from tests.authority import CLIENT, Authority
from tests.trust.showing import DAY, NAME, NOW, believed, chain_of, evidence, issued, judged, policy


class PanicException(BaseException):
    """As Rust's panics arrive: not an Exception."""


class MuteError(Exception):
    """An error that cannot even be told."""

    def __str__(self) -> str:
        raise RuntimeError


FAULTS: list[BaseException] = [
    ValueError("broken\n\x1b[31m"),
    TypeError("broken"),
    KeyError("broken"),
    AttributeError("broken"),
    AssertionError(),
    UnicodeDecodeError("ascii", b"\xff", 0, 1, "broken"),
    OSError(5, "broken"),
    MemoryError(),
    RecursionError("broken"),
    StopIteration(),
    CertificateError("broken"),
    VerificationError(errors=[]),
    PanicException("broken"),
    MuteError(),
]

PLACES = [
    (Certificate, "read"),
    (Certificate, "extensions"),
    (Certificate, "validity"),
    (verdict, "_check_sizes"),
    (verdict, "dates_problem"),
    (verdict, "is_for_servers"),
    (verdict, "is_authority"),
    (verdict, "presented"),
    (Presented, "match"),
    (verdict, "permits"),
    (verdict, "pin_of_key"),
    (identities, "DNS_ID"),
    (DNSPattern, "from_bytes"),
    (SRVPattern, "from_bytes"),
    (SRV_ID, "verify"),
    (identities, "domain"),
]

INITIATING: Final[list[tuple[Any, str]]] = [
    *(place for place in PLACES if place[1] != "is_for_servers"),
    (verdict, "is_for_signatures"),
    (verdict, "purposes"),
    (verdict, "key_weakness"),
    (verdict, "signature_weakness"),
    (strength, "_algorithm"),
    (der, "only"),
]
"""What is asked about a server that connects to us."""


@pytest.fixture(scope="module")
def sound(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A chain that is believed after every single check has been asked."""
    constraints = x509.NameConstraints([x509.DNSName(NAME)], None)
    directory = tmp_path_factory.mktemp("constrained")
    above = Authority(directory, name="constrained", parent=authority, constraints=constraints)
    chain = issued(above, dns=["chat.example.net"], srv=["_xmpp-client.example.net"])
    return evidence(chain, [authority])


def secured(shown: Evidence) -> str:
    """The identity that lets a chain pass at the highest level, by a known key besides."""
    return judged(shown, Level.SECURE, pin_of(shown.chain[0])).identity


def test_the_chain_is_sound(sound: Evidence) -> None:
    assert secured(sound) == "SRV-ID _xmpp-client.example.net"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
def test_any_fault_anywhere_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
    sound: Evidence,
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    pin = pin_of(sound.chain[0])
    calls = []

    def failing(*_: Any, **__: Any) -> NoReturn:
        calls.append(place)
        raise fault

    monkeypatch.setattr(*place, failing)
    for level in (Level.SECURE, Level.PIN):
        asked = level is Level.SECURE or place[1] in {"read", "_check_sizes", "pin_of_key"}
        if not asked:
            continue
        with pytest.raises(UntrustedError) as refused:
            judged(sound, level, pin)
        assert str(refused.value).isprintable()
    assert calls
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT):
        assert judged(sound, level, pin).status is not Status.VERIFIED


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", INITIATING, ids=lambda place: place[1])
def test_any_fault_anywhere_refuses_a_server_that_connects(
    monkeypatch: pytest.MonkeyPatch,
    sound: Evidence,
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    pin = pin_of(sound.chain[0])
    calls = []

    def failing(*_: Any, **__: Any) -> NoReturn:
        calls.append(place)
        raise fault

    assert judged(sound, Level.SECURE, pin, initiating=True).status is Status.VERIFIED
    monkeypatch.setattr(*place, failing)
    with pytest.raises(UntrustedError) as refused:
        judged(sound, Level.SECURE, pin, initiating=True)
    assert str(refused.value).isprintable()
    assert calls
    for level in (Level.NONE, Level.MAY, Level.ENCRYPT):
        assert judged(sound, level, pin, initiating=True).status is not Status.VERIFIED


@pytest.mark.parametrize("answer", [None, 0, 1, object(), frozenset({b"other"})])
@pytest.mark.parametrize("place", ["purposes", "key_weakness", "signature_weakness"])
def test_answers_of_a_wrong_kind_about_a_server_that_connects(
    monkeypatch: pytest.MonkeyPatch, sound: Evidence, place: str, answer: object
) -> None:
    monkeypatch.setattr(verdict, place, lambda *_: answer)
    with pytest.raises(UntrustedError):
        judged(sound, initiating=True)


@pytest.mark.parametrize("fault", [ValueError("broken"), PanicException("broken")])
@pytest.mark.parametrize("error", [10, 19, 20, 26])
def test_faults_while_words_are_sought(
    monkeypatch: pytest.MonkeyPatch, sound: Evidence, error: int, fault: BaseException
) -> None:
    def failing(*_: Any) -> NoReturn:
        raise fault

    monkeypatch.setattr(x509, "load_der_x509_certificate", failing)
    monkeypatch.setattr(Certificate, "validity", failing)
    with pytest.raises(UntrustedError):
        secured(attrs.evolve(sound, error=error))


@pytest.mark.parametrize("answer", [None, "", "yes", 1, object()])
@pytest.mark.parametrize("place", [(verdict, "presented"), (Presented, "match")])
def test_answers_of_a_wrong_kind(
    monkeypatch: pytest.MonkeyPatch, sound: Evidence, place: tuple[Any, str], answer: object
) -> None:
    monkeypatch.setattr(*place, lambda *_: answer)
    with pytest.raises(UntrustedError):
        secured(sound)


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_only_the_end_of_the_program_passes_through(
    monkeypatch: pytest.MonkeyPatch, sound: Evidence, signal: type[BaseException]
) -> None:
    def stopping(*_: Any) -> NoReturn:
        raise signal

    monkeypatch.setattr(verdict, "presented", stopping)
    with pytest.raises(signal):
        judged(sound, Level.MAY)


@pytest.mark.parametrize(
    "strange",
    [
        Evidence(None, 0, "ok"),  # type: ignore[arg-type]
        Evidence((None,), 0, "ok"),  # type: ignore[arg-type]
        Evidence(("",), 0, "ok"),  # type: ignore[arg-type]
        Evidence((b"",), 0, "ok"),
        Evidence(((),), 0, "ok"),  # type: ignore[arg-type]
    ],
)
def test_evidence_of_a_wrong_kind(strange: Evidence) -> None:
    for level in (Level.SECURE, Level.PIN):
        with pytest.raises(UntrustedError):
            judged(strange, level, "0" * 64)


@pytest.mark.parametrize("error", [None, "0", 1, -1, 2**70, 0.5, ()])
def test_only_the_code_for_success_is_success(sound: Evidence, error: Any) -> None:
    with pytest.raises(UntrustedError):
        secured(attrs.evolve(sound, error=error))


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "secure", "", 0, False, None])
def test_a_policy_of_a_wrong_kind_tolerates_nothing(sound: Evidence, level: Any) -> None:
    strange: list[Any] = [attrs.evolve(policy(), level=level), level]
    for given in strange:
        with pytest.raises(UntrustedError):
            judge("example.org", CLIENT_SERVICE, given, sound, NOW)


def test_openssl_is_not_believed_alone(
    authority: Authority, middle: Authority, tmp_path: Path
) -> None:
    """A callback that was not called, or says yes to everything, looks like this."""
    made = {
        "expired": issued(middle, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        "not yet": issued(middle, not_before=NOW + DAY),
        "other host": issued(middle, dns=["xmpp.hosting.example"]),
        "no name": issued(middle, dns=[], common_name=NAME),
        "client": issued(middle, usages=[CLIENT]),
        "authority": chain_of(Authority(tmp_path, name=NAME).ca_path),
        "root": chain_of(authority.ca_path),
        "none": (),
    }
    for chain in made.values():
        with pytest.raises(UntrustedError):
            judged(believed(*chain))


def test_nothing_is_remembered(sound: Evidence, middle: Authority) -> None:
    """Neither does a chain that passed help the next one, nor does one that failed harm it."""
    wrong = believed(*issued(middle, dns=["example.org"]))
    for _ in range(3):
        assert secured(sound)
        with pytest.raises(UntrustedError):
            secured(wrong)
        with pytest.raises(UntrustedError):
            secured(attrs.evolve(sound, error=18))
        with pytest.raises(UntrustedError):
            judged(sound, name="example.org")


def test_little_room_on_the_stack(sound: Evidence, middle: Authority) -> None:
    wrong = believed(*issued(middle, dns=["example.org"]))

    def below(depth: int, shown: Evidence) -> str:
        return below(depth - 1, shown) if depth else secured(shown)

    for depth in range(sys.getrecursionlimit()):
        with pytest.raises((UntrustedError, RecursionError)):
            below(depth, wrong)
    assert below(0, sound)
