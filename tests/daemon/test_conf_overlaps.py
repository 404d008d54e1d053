"""proxy.daemon.conf: addresses that cannot be listened on together."""

import socket
from pathlib import Path

import pytest

from proxy.daemon import conf as conf_module
from proxy.daemon.endpoints import listening_endpoint
from tests.daemon.conf_fakes import MAIN, forward_table, mistakes


@pytest.fixture
def both_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the system says whether a listener on [::] leaves IPv4 alone: it does not."""
    file = tmp_path / "bindv6only"
    file.write_text("0\n")
    monkeypatch.setattr(conf_module, "_BINDV6ONLY", file)
    return file


ANY_4, ANY_6 = "0.0.0.0 is every address of IPv4", ":: is every address of IPv6"


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ("[::]:5222", "127.0.0.1:5222", ":: is every address, those of IPv4 too"),
        ("127.0.0.1:5222", "[::]:5222", ":: is every address, those of IPv4 too"),
        ("[::]:5222", "0.0.0.0:5222", ":: is every address, those of IPv4 too"),
        ("[::]:5222", "[::1]:5222", ANY_6),
        ("[::]:5222", "[fe80::1%eth0]:5222", ANY_6),
        ("0.0.0.0:5222", "127.0.0.1:5222", ANY_4),
        ("0.0.0.0:5222", "[::ffff:127.0.0.1]:5222", ANY_4),
        ("0.0.0.0:5222", "[::1]:5222", ""),
        ("127.0.0.1:5222", "[::1]:5222", ""),
        ("[::]:5222", "127.0.0.1:5221", ""),
        ("[::]:0", "127.0.0.1:0", ""),
    ],
)
def test_an_address_that_takes_another_one_with_it(
    both_families: Path, first: str, second: str, why: str
) -> None:
    listeners = [forward_table(address=first), forward_table(name="b", address=second)]
    found = mistakes({"listener": listeners})
    expected = (
        f'listener "b".address: {listening_endpoint(second)} and {first}, where listener "legacy" '
        f"in {MAIN} listens, cannot be taken together: {why}; allowed: another port"
    )
    assert found == ([expected] if why else [])
    both_families.write_text("1\n")
    assert bool(mistakes({"listener": listeners})) is (why in (ANY_4, ANY_6))
    both_families.unlink()  # as where there is no IPv6
    assert mistakes({"listener": listeners}) == found


def test_the_kernel_says_the_same() -> None:
    """What is called impossible is so, at least where this test runs."""
    with socket.socket(socket.AF_INET6) as wide, socket.socket() as narrow:
        wide.bind(("::", 0))
        wide.listen()
        port = wide.getsockname()[1]
        only_ipv6 = wide.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        listeners = [
            forward_table(address=f"[::]:{port}"),
            forward_table(name="b", address=f"127.0.0.1:{port}"),
        ]
        possible = mistakes({"listener": listeners}) == []
        assert possible is bool(only_ipv6)
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if possible:
            narrow.bind(("127.0.0.1", port))
        else:
            with pytest.raises(OSError, match="in use"):
                narrow.bind(("127.0.0.1", port))
