"""Attack 20, of servers that connect: whatever goes wrong on the way is an error, never trust."""

from typing import Any, NoReturn

import pytest
from cryptography import x509
from OpenSSL import SSL, crypto

from proxy.net import peer
from proxy.net.peer import Verifier
from proxy.trust.policy import Pattern, Policy
from proxy.trust.verdict import LARGEST_CERTIFICATE, Status
from tests.authority import Authority
from tests.net.peers import Trusting
from tests.trust.showing import NAME, chain_of


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Trusting:
    return Trusting(Policy(Pattern("*"), anchors=authority.ca_path))


@pytest.fixture(scope="module")
def chain(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    """One that is believed, with an authority below the root."""
    middle = Authority(tmp_path_factory.mktemp("middle"), name="middle", parent=authority)
    return chain_of(middle.issue(NAME)[0])


NONSENSE = (b"", b"\x30", b"\x30\x00", b"\x00" * 1000, b"-----BEGIN CERTIFICATE-----\n")


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("data", [*NONSENSE, b"\x30" * LARGEST_CERTIFICATE + b"\x30"])
def test_what_cannot_be_read_is_an_error(
    trusting: Trusting, chain: tuple[bytes, ...], place: int, data: bytes
) -> None:
    broken = (*chain[:place], data, *chain[place + 1 :])
    found = trusting.evidence(broken)
    assert found.error != 0
    assert found.verified == ()
    assert trusting.outcome(broken)[0] is Status.UNTRUSTED


def test_what_is_large_is_not_even_read(trusting: Trusting, authority: Authority) -> None:
    bulk = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(LARGEST_CERTIFICATE))
    large = chain_of(authority.issue(NAME, extensions=[bulk])[0])
    assert trusting.evidence(large).error_text == "a certificate is too large"
    _, text = trusting.outcome(large)
    assert text.endswith(f"at most {LARGEST_CERTIFICATE} are read")


@pytest.mark.parametrize("strange", [(None,), ("",), (b"\x30\x00", None), ((),), 5, "chain", [b""]])
def test_chains_of_a_wrong_kind(trusting: Trusting, strange: Any) -> None:
    assert trusting.evidence(strange).error != 0


def test_a_policy_without_roots(trusting: Trusting, chain: tuple[bytes, ...]) -> None:
    stranger = Trusting(trusting.policy, Verifier([]))
    found = stranger.evidence(chain)
    assert (found.error != 0, found.verified) == (True, ())
    assert stranger.outcome(chain)[0] is Status.UNTRUSTED


class PanicError(BaseException):
    """No Exception."""


def refused_with(code: Any) -> crypto.X509StoreContextError:
    return crypto.X509StoreContextError("words", [code, 0, "words"], crypto.X509())


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("broken"),
        MemoryError(),
        SSL.Error([]),
        crypto.Error([]),
        StopIteration(),
        PanicError(),
        refused_with(0),
        refused_with(None),
        refused_with(50),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize(
    "place",
    [
        (peer, "load_certificate"),
        (peer, "dump_certificate"),
        (peer, "X509StoreContext"),
        (crypto.X509StoreContext, "get_verified_chain"),
        (SSL.Context, "get_cert_store"),
    ],
    ids=lambda place: place[1],
)
def test_any_fault_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    trusting: Trusting,
    chain: tuple[bytes, ...],
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    assert trusting.outcome(chain)[0] is Status.VERIFIED

    def failing(*_: Any) -> NoReturn:
        raise fault

    monkeypatch.setattr(*place, failing)
    found = trusting.evidence(chain)
    assert (found.chain, bool(found.error), found.verified) == (chain, True, ())
    assert trusting.outcome(chain)[0] is Status.UNTRUSTED


@pytest.mark.parametrize("answer", [None, (), [], 5, "yes"])
def test_a_path_of_a_wrong_kind(
    monkeypatch: pytest.MonkeyPatch,
    trusting: Trusting,
    chain: tuple[bytes, ...],
    answer: object,
) -> None:
    monkeypatch.setattr(crypto.X509StoreContext, "get_verified_chain", lambda _: answer)
    assert trusting.outcome(chain)[0] is Status.UNTRUSTED


def test_without_a_store(
    monkeypatch: pytest.MonkeyPatch, trusting: Trusting, chain: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(SSL.Context, "get_cert_store", lambda _: None)
    assert trusting.evidence(chain).error_text == "it was not verified (LookupError)"


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_only_the_end_of_the_program_passes_through(
    monkeypatch: pytest.MonkeyPatch,
    trusting: Trusting,
    signal: type[BaseException],
) -> None:
    def stopping(*_: Any) -> NoReturn:
        raise signal

    monkeypatch.setattr(peer, "load_certificate", stopping)
    with pytest.raises(signal):
        trusting.evidence((b"\x30\x00",))
