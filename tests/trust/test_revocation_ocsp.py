"""Stapled OCSP responses: the one that counts, and all that do not."""

import re
from collections.abc import Callable
from typing import Any, get_args

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from proxy.trust import ocsp as module
from proxy.trust.certificate import Certificate
from proxy.trust.evidence import Evidence
from proxy.trust.ocsp import LARGEST_RESPONSE, MOST_RESPONDERS
from proxy.trust.policy import Level, pin_of
from proxy.trust.verdict import Status, UntrustedError
from tests.authority import ANY, CLIENT, SERVER, Authority, KeyKind
from tests.trust.revoking import (
    MUST_STAPLE,
    RESPONDER,
    REVOKED,
    UNKNOWN,
    Responder,
    number,
    stapling,
)
from tests.trust.showing import DAY, NAME, NOW, evidence, issued, judged

Make = Callable[[Authority, bytes], bytes]
"""Makes a response about a certificate of an authority's."""

OURS = f"the certificate of {NAME}"
DEMANDS = f"{OURS} demands a stapled OCSP response, and"
COMPROMISE = x509.ReasonFlags.key_compromise
CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)


@pytest.fixture(scope="module")
def chain(middle: Authority) -> tuple[bytes, ...]:
    return stapling(middle)


@pytest.fixture(scope="module")
def demanding(chain: tuple[bytes, ...], authority: Authority) -> Evidence:
    """What demands a response."""
    return evidence(chain, [authority])


@pytest.fixture(scope="module")
def plain(middle: Authority, authority: Authority) -> Evidence:
    """What demands none."""
    return evidence(issued(middle), [authority])


def passes(shown: Evidence, staple: bytes, **how: Any) -> bool:
    return judged(attrs.evolve(shown, staple=staple), **how).status is Status.VERIFIED


def refusal(shown: Evidence, staple: bytes, **how: Any) -> str:
    """Why a server is refused; where nothing is demanded, it is as untrusted as that."""
    given = attrs.evolve(shown, staple=staple)
    with pytest.raises(UntrustedError) as refused:
        judged(given, **how)
    assert refused.value.status is Status.UNTRUSTED
    tolerant = judged(given, Level.ENCRYPT, **how)
    assert (tolerant.status, tolerant.problem) == (Status.UNTRUSTED, str(refused.value))
    assert tolerant.problem.isprintable()
    return tolerant.problem


def another(beside: Authority, name: str, **how: Any) -> Authority:
    """A new authority, whose files lie with another's."""
    return Authority(beside._directory / name, name=name, **how)


def said(**what: Any) -> Make:
    """The authority itself says something."""
    return lambda authority, certificate: Responder(authority).response(certificate, **what)


def charged(*usages: x509.ObjectIdentifier, **identities: Any) -> Make:
    """A responder that the authority has made so, or has not, says that all is well."""

    def make(authority: Authority, certificate: bytes) -> bytes:
        return Responder(authority, usages=usages or None, **identities).response(certificate)

    return make


def signed_by_the_server(authority: Authority, certificate: bytes) -> bytes:
    """The server answers for itself, with a certificate of the same authority."""
    return charged(SERVER)(authority, certificate)


def from_stranger(authority: Authority, certificate: bytes) -> bytes:
    """An authority of the same name, with another key, makes a responder."""
    stranger = another(authority, "middle")
    return Responder(authority, stranger, usages=[RESPONDER]).response(certificate)


def from_stranger_itself(authority: Authority, certificate: bytes) -> bytes:
    stranger = Responder(another(authority, "middle"))
    stranger._authority = authority
    return stranger.response(certificate)


def from_below(authority: Authority, certificate: bytes) -> bytes:
    """An authority that the issuer has made answers in the issuer's stead."""
    below = another(authority, "below", parent=authority)
    own = Responder(below)
    own._authority = authority
    return own.response(certificate, sends=[below.certificate])


def without_certificate(authority: Authority, certificate: bytes) -> bytes:
    return Responder(authority, usages=[RESPONDER]).response(certificate, sends=[])


def after_others(authority: Authority, certificate: bytes) -> bytes:
    """The responder's certificate is one of very many."""
    responder = Responder(authority, usages=[RESPONDER])
    others = [authority.certificate] * MOST_RESPONDERS
    return responder.response(certificate, sends=[*others, responder._own])


def about_another(authority: Authority, _certificate: bytes) -> bytes:
    return Responder(authority).response(issued(authority)[0])


def of_another_issuer(authority: Authority, certificate: bytes) -> bytes:
    """The same number, of another authority."""
    return Responder(another(authority, "another")).response(certificate)


def unsuccessful(_authority: Authority, _certificate: bytes) -> bytes:
    failed = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    return failed.public_bytes(Encoding.DER)


def altered(authority: Authority, certificate: bytes) -> bytes:
    """Another certificate's good word, with the number put in place."""
    other = issued(authority)[0]
    old, new = (number(each).to_bytes(20) for each in (other, certificate))
    return Responder(authority).response(other).replace(old, new)


GOOD_ONES: dict[str, Make] = {
    "by the issuer": said(),
    "SHA-256 in the CertID": said(digest=hashes.SHA256()),
    "SHA-384": said(signed=hashes.SHA384(), digest=hashes.SHA384()),
    "to the second": said(life=(NOW, NOW)),
    "by a responder": charged(RESPONDER),
    "by a responder that is more": charged(CLIENT, RESPONDER),
    "by a responder with RSA": charged(RESPONDER, key="rsa"),
    "by a responder with Ed25519": charged(RESPONDER, key="ed25519"),
}

BAD_ONES: dict[str, tuple[Make, str]] = {
    "unknown": (said(status=UNKNOWN), "says that its issuer does not know it"),
    "out of date": (said(life=(NOW - 9 * DAY, NOW - DAY)), f"ended on {NOW - DAY:%Y-%m-%d}"),
    "too early": (said(life=(NOW + DAY, NOW + 2 * DAY)), f"begins on {NOW + DAY:%Y-%m-%d}"),
    "for ever": (said(life=(NOW - DAY, None)), r"does not say how long it holds \(nextUpdate\)"),
    "about another": (about_another, "is about another certificate"),
    "of another issuer": (of_another_issuer, "is about another certificate"),
    "altered": (altered, "is not signed by .*"),
    "an error": (unsuccessful, r"is only an error \(try_later\)"),
    "critical": (said(extensions=[CRITICAL]), "has a critical extension .*"),
    "the server's own": (signed_by_the_server, "is not signed by .*"),
    "a client's": (charged(CLIENT), "is not signed by .*"),
    "anybody's": (charged(), "is not signed by .*"),
    "good for any use": (charged(ANY), "is not signed by .*"),
    "a responder of the past": (
        charged(RESPONDER, not_after=NOW - DAY / 2),
        "is not signed by .*",
    ),
    "a responder to be": (charged(RESPONDER, not_before=NOW + DAY), "is not signed by .*"),
    "a responder that may not sign": (charged(RESPONDER, signs=False), "is not signed by .*"),
    "a weak responder": (charged(RESPONDER, key="rsa 1024"), "is not signed by .*"),
    "a stranger": (from_stranger_itself, "is not signed by .*"),
    "a stranger's responder": (from_stranger, "is not signed by .*"),
    "an authority below": (from_below, "is not signed by .*"),
    "a responder not shown": (without_certificate, "is not signed by .*"),
    "a responder behind others": (after_others, "is not signed by .*"),
    "garbage": (lambda *_: b"hello", "cannot be read"),
    "empty": (lambda *_: b"\x30\x00", "cannot be read"),
    "cut short": (lambda *given: said()(*given)[:-1], "cannot be read"),
    "and more": (lambda *given: said()(*given) + b"\x00", "cannot be read"),
    "too large": (lambda *_: bytes(LARGEST_RESPONSE + 1), "is too large"),
}


@pytest.mark.parametrize("name", GOOD_ONES)
def test_a_good_response(demanding: Evidence, middle: Authority, name: str) -> None:
    assert passes(demanding, GOOD_ONES[name](middle, demanding.chain[0]))


@pytest.mark.parametrize("name", BAD_ONES)
def test_what_is_not_as_demanded(
    demanding: Evidence, plain: Evidence, middle: Authority, name: str
) -> None:
    make, why = BAD_ONES[name]
    text = refusal(demanding, make(middle, demanding.chain[0]))
    assert re.fullmatch(f"{DEMANDS} the one that came {why}", text)
    # Where none is demanded, it says nothing.
    assert passes(plain, make(middle, plain.chain[0]))


def test_none_at_all(demanding: Evidence, plain: Evidence) -> None:
    assert refusal(demanding, b"") == f"{DEMANDS} none came"
    assert passes(plain, b"")


@pytest.mark.parametrize("reason", [None, COMPROMISE])
@pytest.mark.parametrize("responder", [{}, {"usages": [RESPONDER]}])
def test_the_revoked_are_refused(
    demanding: Evidence,
    plain: Evidence,
    middle: Authority,
    reason: x509.ReasonFlags | None,
    responder: dict[str, Any],
) -> None:
    """Whether a response was demanded or not."""
    why = "" if reason is None else f" ({reason.value})"
    for shown in (demanding, plain):
        found = Responder(middle, **responder).response(shown.chain[0], REVOKED, reason=reason)
        text = refusal(shown, found)
        assert text == f"{OURS} was revoked on {NOW - DAY:%Y-%m-%d}{why}"


def test_a_revocation_counts_only_if_it_holds(plain: Evidence, middle: Authority) -> None:
    """Else strangers could have servers refused."""
    stranger = Responder(another(middle, "middle"))
    stranger._authority = middle
    assert passes(plain, stranger.response(plain.chain[0], REVOKED))
    past = Responder(middle).response(plain.chain[0], REVOKED, life=(NOW - 9 * DAY, NOW - DAY))
    assert passes(plain, past)


@pytest.mark.parametrize("kind", [*get_args(KeyKind), "P-384", "P-521", "ed25519", "ed448"])
def test_authorities_of_every_kind(authority: Authority, kind: Any) -> None:
    below = another(authority, "below", key=kind, parent=authority)
    shown = evidence(stapling(below), [authority])
    assert passes(shown, Responder(below).response(shown.chain[0]))
    assert refusal(shown, about_another(below, shown.chain[0])).startswith(DEMANDS)


@pytest.mark.parametrize(
    ("features", "demanded"),
    [([5], True), ([17, 5], True), ([17], False)],
)
def test_what_demands_a_response(
    authority: Authority, middle: Authority, features: list[int], demanded: bool
) -> None:
    kinds = {5: x509.TLSFeatureType.status_request, 17: x509.TLSFeatureType.status_request_v2}
    extension = x509.TLSFeature([kinds[each] for each in features])
    shown = evidence(issued(middle, extensions=[extension]), [authority])
    if demanded:
        assert refusal(shown, b"") == f"{DEMANDS} none came"
    else:
        assert passes(shown, b"")


@pytest.mark.parametrize("value", [b"", b"\x30\x01", b"\x05\x00", b"\x30\x03\x04\x01\x05"])
def test_a_demand_that_is_malformed_is_a_refusal(
    authority: Authority, middle: Authority, value: bytes
) -> None:
    extension = x509.UnrecognizedExtension(x509.TLSFeature.oid, value)
    shown = evidence(issued(middle, extensions=[extension]), [authority])
    assert refusal(shown, b"").startswith(f"{OURS} could not be checked: ")


def test_an_authority_demands_it_for_all_that_it_issues(
    monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    with monkeypatch.context() as patched:
        signed = Authority._signed

        def demanding(
            self: Authority, builder: x509.CertificateBuilder, digest: Any = "sha256"
        ) -> x509.Certificate:
            return signed(self, builder.add_extension(MUST_STAPLE, critical=False), digest)

        patched.setattr(Authority, "_signed", demanding)
        below = another(authority, "below", parent=authority)
    shown = evidence(issued(below), [authority])
    assert refusal(shown, b"") == f"{DEMANDS} none came"
    assert passes(shown, Responder(below).response(shown.chain[0]))


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_a_weak_signature_is_none(
    monkeypatch: pytest.MonkeyPatch, demanding: Evidence, middle: Authority, digest: str
) -> None:
    """Such as nothing here can make any more."""

    class Weak:
        def __init__(self, response: ocsp.OCSPResponse) -> None:
            self._response = response

        def __getattr__(self, name: str) -> Any:
            weak = hashes.SHA1() if digest == "sha1" else hashes.MD5()
            return weak if name == "signature_hash_algorithm" else getattr(self._response, name)

    found = Responder(middle).response(demanding.chain[0])
    load = ocsp.load_der_ocsp_response
    monkeypatch.setattr(module, "load_der_ocsp_response", lambda whole: Weak(load(whole)))
    text = refusal(demanding, found)
    assert text == f"{DEMANDS} the one that came is signed too weakly ({digest.upper()})"


def test_servers_that_connect_are_not_asked(authority: Authority, middle: Authority) -> None:
    """TLS as it is here lets clients show no response."""
    shown = evidence(stapling(middle), [authority])
    assert passes(shown, b"", initiating=True)


def test_with_a_pin_nobody_is_asked(demanding: Evidence) -> None:
    verdict = judged(demanding, Level.PIN, pin_of(demanding.chain[0]))
    assert verdict.status is Status.VERIFIED


def test_who_trusts_the_certificate_itself_asks_that(tmp_path: Any) -> None:
    """A server that is its own authority may say of itself that all is well."""
    own = Authority(tmp_path, name=NAME)
    shown = Evidence((own.certificate.public_bytes(Encoding.DER),), 0, "ok")
    path = [Certificate.read(shown.chain[0])]
    found = Responder(own).response(shown.chain[0])
    assert module.staple_problem(NAME, path, found, NOW) == ""
    revoked = Responder(own).response(shown.chain[0], REVOKED)
    assert "was revoked" in module.staple_problem(NAME, path, revoked, NOW)


def test_any_octet_may_be_wrong(demanding: Evidence, middle: Authority) -> None:
    whole = Responder(middle).response(demanding.chain[0])
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x41
        with pytest.raises(UntrustedError):
            judged(attrs.evolve(demanding, staple=bytes(broken)))


class PanicError(BaseException):
    """As cryptography raises it: no Exception."""


@pytest.mark.parametrize(
    "fault", [ValueError, RuntimeError, MemoryError, TypeError, KeyError, PanicError]
)
@pytest.mark.parametrize(
    "part",
    [
        "demands_staple",
        "load_der_ocsp_response",
        "_check_form",
        "_check_subject",
        "_check_signature",
        "_check_dates",
        "_is_signed_by",
        "_revoked",
    ],
)
def test_whatever_fails_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
    demanding: Evidence,
    middle: Authority,
    part: str,
    fault: type[BaseException],
) -> None:
    def fail(*_: object) -> None:
        raise fault("a fault")

    found = Responder(middle).response(demanding.chain[0])
    assert passes(demanding, found)
    monkeypatch.setattr(module, part, fail)
    assert refusal(demanding, found)
