"""Attack 20: the code that verifies a server fails itself. Nobody is let through by that."""

import errno
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from proxy.daemon.forwarding import ForwardRules
from proxy.daemon.trusting import judge as judging
from proxy.net import leg, openssl, tls_start
from proxy.session.outward import Outward
from proxy.session.securing import Securing
from proxy.trust import proof, verdict
from proxy.trust.certificate import Certificate
from proxy.trust.policy import Ladder
from proxy.trust.verdict import Status, Verdict
from tests.authority import Authority
from tests.net.forward import Forward, meeting
from tests.net.hostile import Peer, Secure, direct, login, upgraded

DOMAIN = "example.net"
DIRECT = "direct.example.net"
LEVELS = ("may", "encrypt")


class PanicException(BaseException):
    """As Rust's panics arrive: not an Exception."""


FAULTS = [
    ValueError("broken\n\x1b[31m"),
    TypeError("broken"),
    OSError(errno.EIO, "broken"),
    MemoryError(),
    RecursionError("broken"),
    StopIteration(),
    SystemExit(0),
    KeyboardInterrupt(),
    GeneratorExit(),
    PanicException("broken"),
]

PLACES: list[tuple[Any, str]] = [
    (ForwardRules, "judge"),
    (judging, "prove"),
    (proof, "judge"),
    (verdict, "_proof"),
    (verdict, "presented"),
    (verdict, "_check_use"),
    (Certificate, "read"),
    (openssl, "verify_result"),
    (leg, "evidence"),
    (leg.Leg, "evidence"),
]


class Agreeable:
    """Is what one would like it to be."""

    status = Status.VERIFIED
    identity = "DNS-ID example.net"
    problem = ""

    def __bool__(self) -> bool:
        return True


WRONG: list[object] = [None, True, 1, "Verified", Status.VERIFIED, Agreeable(), Verdict, object()]


@pytest.fixture(scope="module")
def _forward(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Forward]:
    met: dict[str, dict[str, object]] = {
        DOMAIN: {},
        DIRECT: {"direct_tls": True},
        **{f"{level}.example.net": {"level": level} for level in LEVELS},
    }
    with meeting(tmp_path_factory.mktemp("forward"), authority, met) as forward:
        yield forward


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Secure:
    """Show a good certificate, a new one each time: no verdict on it can be remembered."""

    def show(peer: Peer) -> None:
        peer.secure(*authority.issue(DOMAIN, dns=[DOMAIN, "*.example.net"]))

    return show


@pytest.fixture
def forward(_forward: Forward, secure: Secure) -> Iterator[Forward]:
    """A certificate that is good, and after each test a login that succeeds."""
    _forward.hostile.play(upgraded(secure))
    yield _forward
    _forward.hostile.play(upgraded(secure))
    _forward.login(DOMAIN)
    _forward.hostile.play(login)


def fail_with(fault: BaseException, calls: list[None]) -> Any:
    def failing(*_: Any, **__: Any) -> NoReturn:
        calls.append(None)
        raise fault

    return failing


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0].__name__}.{place[1]}")
def test_attack_20_any_fault_in_the_verifier_is_a_refusal(
    forward: Forward,
    secure: Secure,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    calls: list[None] = []
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail_with(fault, calls))
        assert forward.refusal(DOMAIN).condition == "policy-violation"
        forward.hostile.play(direct(secure))
        assert forward.refusal(DIRECT).condition == "policy-violation"
    assert len(calls) == 2


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_attack_20_what_is_no_verdict_is_a_refusal(
    forward: Forward, monkeypatch: pytest.MonkeyPatch, wrong: object
) -> None:
    for place in [(ForwardRules, "judge"), (judging, "prove")]:
        with monkeypatch.context() as patch:
            patch.setattr(*place, lambda *_, **__: wrong)
            refusal = forward.refusal(DOMAIN)
        assert refusal.condition == "policy-violation"
        assert refusal.text == f"the certificate of {DOMAIN} could not be checked"


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.VERIFIED])
def test_attack_20_a_verdict_that_proves_nothing_is_none_where_proof_is_demanded(
    forward: Forward, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ForwardRules, "judge", lambda *_: Verdict(status, "", "it looked odd"))
        refusal = forward.refusal(DOMAIN)
    assert refusal.condition == "policy-violation"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_attack_20_faults_refuse_where_nothing_is_demanded_too(
    forward: Forward, monkeypatch: pytest.MonkeyPatch, level: str, fault: BaseException
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ForwardRules, "judge", fail_with(fault, []))
        assert forward.refusal(f"{level}.example.net").condition == "policy-violation"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(
    "place",
    [
        (leg.Leg, "start_client_tls"),
        (Ladder, "find"),
        (tls_start, "server_facts"),
        (Securing, "secured"),
        (Outward, "secured"),
    ],
    ids=lambda place: f"{place[0].__name__}.{place[1]}",
)
def test_attack_20_faults_around_the_verifier_leak_nothing(
    forward: Forward,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    fault: BaseException,
) -> None:
    calls: list[None] = []
    since = len(forward.lines())
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail_with(fault, calls))
        said = forward.attempt(DOMAIN)
        forward.wait_for_line("session ended", since)
        peers = forward.hostile.settle()
    assert calls
    assert b"success" not in said
    assert all(peer.sealed == b"" and b"x-mole" not in peer.plain for peer in peers)
    assert forward.running
