"""proxy.daemon.certificates: the files of trust anchors that policies name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.daemon.certificates import examine_anchors
from proxy.daemon.check import inspect
from proxy.daemon.tables import Placed
from tests.authority import Authority
from tests.daemon.conf_fakes import MAIN, PLUGINS

NOW = datetime.now(UTC)
KEY = 'policy "example.net"'


def examined(path: Path, now: datetime = NOW) -> tuple[list[str], list[str]]:
    mistakes, cautions = examine_anchors([Placed(path, MAIN, KEY)], now)
    prefix = f"{MAIN}: {KEY}.ca_file: "
    for finding in (*mistakes, *cautions):
        assert str(finding).startswith(prefix)
    return (
        [str(mistake).removeprefix(prefix) for mistake in mistakes],
        [str(caution).removeprefix(prefix) for caution in cautions],
    )


def only_mistake(path: Path) -> str:
    [mistake], cautions = examined(path)
    assert cautions == []
    return mistake


def test_roots_in_pem(authority: Authority, middle: Authority, tmp_path: Path) -> None:
    assert examined(authority.ca_path) == ([], [])
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.ca_path.read_bytes() * 2)
    assert examined(bundle) == ([], [])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a; b.pem"
    assert only_mistake(path) == (
        f"{path} cannot be read: No such file or directory; "
        "allowed: certificates of authorities in PEM"
    )


@pytest.mark.parametrize("content", [b"", b"no PEM"])
def test_a_file_without_certificates(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    assert only_mistake(path) == (
        f"{path} holds no certificate in PEM that can be read; "
        "allowed: certificates of authorities in PEM"
    )


def test_what_is_no_certificate_is_called_what_it_is(authority: Authority, tmp_path: Path) -> None:
    _, key = authority.issue("example.net")
    assert (
        only_mistake(key) == f"{key} is a private key; allowed: certificates of authorities in PEM"
    )
    der = tmp_path / "ca.der"
    root = authority.certificate
    der.write_bytes(root.public_bytes(Encoding.DER))
    assert only_mistake(der).startswith(f"{der} is a certificate in DER; allowed: ")


def test_roots_that_have_expired(authority: Authority) -> None:
    root = authority.certificate
    end = root.not_valid_after_utc
    assert examined(authority.ca_path, end) == ([], [])
    mistakes, [caution] = examined(authority.ca_path, end + timedelta(seconds=1))
    assert mistakes == []
    assert caution == (
        f"warning: {authority.ca_path} holds only what EXPIRED, at last on {end:%Y-%m-%d}: "
        "no server will be believed"
    )


def test_one_root_that_is_valid_is_enough(authority: Authority, tmp_path: Path) -> None:
    chain, _ = authority.issue("example.net")
    first = x509.load_pem_x509_certificate(chain.read_bytes())
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(chain.read_bytes() + authority.ca_path.read_bytes())
    assert examined(bundle, first.not_valid_after_utc + timedelta(days=1)) == ([], [])


def test_a_bad_file_withholds_the_conf(authority: Authority, tmp_path: Path) -> None:
    main = tmp_path / "bascule.toml"
    text = """
        [[listener]]
        name = "legacy"
        direction = "forward"
        stream = "c2s"
        address = "127.0.0.1:5222"
        domains = ["*"]
        [[policy]]
        domain = "example.net"
        ca_file = "ca.pem"
    """
    main.write_text(text)
    report = inspect(main, NOW, PLUGINS)
    assert report.conf is None
    [mistake] = report.mistakes
    assert str(mistake).startswith(
        f'{main}: policy "example.net".ca_file: {tmp_path}/ca.pem cannot be read: '
    )
    (tmp_path / "ca.pem").write_bytes(authority.ca_path.read_bytes())
    report = inspect(main, NOW, PLUGINS)
    assert (report.mistakes, report.cautions) == ((), ())
    assert report.conf is not None
    assert report.conf.policies[0].anchors == tmp_path / "ca.pem"
    later = inspect(main, authority.certificate.not_valid_after_utc + timedelta(days=1), PLUGINS)
    assert later.conf is not None
    [caution] = later.cautions
    assert caution.key == 'policy "example.net".ca_file'
