"""Attack 20, of servers that connect: whatever goes wrong on the way is an error, never trust."""

import contextlib
from typing import Any, NoReturn

import attrs
import pytest
from OpenSSL import SSL, crypto

from proxy.net import openssl, peer
from proxy.net.peer import Verifier, shown
from proxy.net.tls import evidence, server_context
from proxy.session.kinds import Kind
from proxy.trust.identities import SERVER_SERVICE
from proxy.trust.policy import Pattern, Policy
from proxy.trust.verdict import LARGEST_CERTIFICATE, Status, UntrustedError, judge
from tests.authority import Authority, now
from tests.net.peers import Trusting, handshake, remote
from tests.trust.showing import NAME, chain_of


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", key="rsa", parent=authority)


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> Trusting:
    return Trusting(Policy(Pattern("*"), anchors=authority.ca_path))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> SSL.Context:
    return server_context([authority.issue("example.com")], "s2s/example.com", Kind.S2S)


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


NONSENSE = (b"", b"\x30", b"\x30\x00", b"\x00" * 1000, b"-----BEGIN CERTIFICATE-----\n")


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("data", [*NONSENSE, b"\x30" * LARGEST_CERTIFICATE + b"\x30"])
def test_what_cannot_be_read_is_an_error(
    trusting: Trusting, middle: Authority, place: int, data: bytes
) -> None:
    chain = list(chain_of(middle.issue(NAME)[0]))
    chain[place] = data
    found = trusting.evidence(tuple(chain))
    assert found.error != 0
    assert found.verified == ()
    assert trusting.outcome(tuple(chain))[0] is Status.UNTRUSTED


@pytest.mark.parametrize("strange", [(None,), ("",), (b"\x30\x00", None), ((),), 5, "chain", [b""]])
def test_chains_of_a_wrong_kind(trusting: Trusting, strange: Any) -> None:
    with contextlib.suppress(TypeError):
        assert trusting.evidence(strange).error != 0


def test_a_policy_without_roots(authority: Authority, policy: Policy) -> None:
    chain = chain_of(authority.issue(NAME)[0])
    found = Verifier([]).evidence(policy, chain)
    assert (found.error != 0, found.verified) == (True, ())
    assert Trusting(policy, Verifier([])).outcome(chain)[0] is Status.UNTRUSTED


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
    middle: Authority,
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    chain = chain_of(middle.issue(NAME)[0])
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
    middle: Authority,
    answer: object,
) -> None:
    monkeypatch.setattr(crypto.X509StoreContext, "get_verified_chain", lambda _: answer)
    chain = chain_of(middle.issue(NAME)[0])
    assert trusting.outcome(chain)[0] is Status.UNTRUSTED


def test_without_a_store(
    monkeypatch: pytest.MonkeyPatch, trusting: Trusting, middle: Authority
) -> None:
    monkeypatch.setattr(SSL.Context, "get_cert_store", lambda _: None)
    chain = chain_of(middle.issue(NAME)[0])
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


def test_a_handshake_is_no_verdict(ours: SSL.Context, authority: Authority, version: str) -> None:
    """Who takes the connection for one to a server finds nothing to believe."""
    connection = handshake(ours, remote(authority.issue(NAME), version), version)
    assert openssl.verify_result(connection)[0] != 0
    found = evidence(connection)
    for mistaken in (found, attrs.evolve(found, chain=shown(connection))):
        with pytest.raises(UntrustedError):
            judge(NAME, SERVER_SERVICE, Policy(Pattern("*")), mistaken, now(), initiating=True)
