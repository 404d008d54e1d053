"""The path to one authority, as OpenSSL verifies it."""

import datetime as dt
from pathlib import Path

import pytest

from proxy.net import dane_path
from proxy.net.dane_path import verify_path
from proxy.trust.evidence import Evidence
from tests.authority import Authority
from tests.trust.dane import der
from tests.trust.showing import DAY, NOW, issued


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", parent=authority)


@pytest.fixture(scope="module")
def chain(middle: Authority) -> tuple[bytes, ...]:
    return issued(middle)


def test_the_path_ends_at_the_authority(chain: tuple[bytes, ...], authority: Authority) -> None:
    """An intermediate one is enough, and need not have been sent."""
    root = der(authority)
    assert verify_path(chain[1], chain, NOW) == Evidence(chain, 0, "ok", chain)
    assert verify_path(chain[1], chain[:1], NOW) == Evidence(chain[:1], 0, "ok", chain)
    assert verify_path(root, chain, NOW) == Evidence(chain, 0, "ok", (*chain, root))
    assert verify_path(chain[1], (*chain, root), NOW).verified == chain


def test_attack_no_other_authority_is_trusted(
    chain: tuple[bytes, ...], authority: Authority, tmp_path: Path
) -> None:
    stranger = der(Authority(tmp_path, name="stranger"))
    for sent in (chain, (*chain, der(authority)), chain[:1]):
        found = verify_path(stranger, sent, NOW)
        assert found.error != 0
        assert found.verified == ()
    assert verify_path(der(authority), chain[:1], NOW).error != 0


@pytest.mark.parametrize(("at", "error"), [(NOW, 0), (NOW + 91 * DAY, 10), (NOW - 9 * DAY, 9)])
def test_dates_are_those_of_the_time_that_is_given(
    chain: tuple[bytes, ...], at: dt.datetime, error: int
) -> None:
    zone = dt.timezone(dt.timedelta(hours=-11))
    for moment in (at, at.astimezone(zone)):
        assert verify_path(chain[1], chain, moment).error == error


def test_the_time_is_that_of_its_zone(middle: Authority) -> None:
    late = issued(middle, not_before=NOW - dt.timedelta(hours=1))
    zone = dt.timezone(dt.timedelta(hours=-11))
    assert verify_path(late[1], late, NOW.astimezone(zone)).error == 0


@pytest.mark.parametrize(
    ("anchor", "own"), [(b"", None), (b"nonsense", None), (None, b""), (None, b"nonsense")]
)
def test_attack_what_is_malformed_is_not_verified(
    chain: tuple[bytes, ...], anchor: bytes | None, own: bytes | None
) -> None:
    sent = chain if own is None else (own, *chain[1:])
    found = verify_path(chain[1] if anchor is None else anchor, sent, NOW)
    assert (found.error, found.verified) == (1, ())
    assert verify_path(chain[1], (), NOW).error == 1


@pytest.mark.parametrize("fault", [ZeroDivisionError, GeneratorExit])
def test_every_fault_is_an_error(
    chain: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    def broken() -> None:
        raise fault

    monkeypatch.setattr(dane_path, "X509Store", broken)
    text = f"it was not verified ({fault.__name__})"
    assert verify_path(chain[1], chain, NOW) == Evidence(chain, 1, text)
    monkeypatch.setattr(dane_path, "X509Store", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify_path(chain[1], chain, NOW)


def _interrupted() -> None:
    raise KeyboardInterrupt
