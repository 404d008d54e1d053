"""The made-up authority issues what it says, or the tests that build on it mean nothing."""

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNSPattern, SRVPattern

from tests.authority import CLIENT, Authority, KeyKind, now, srv_name, xmpp_addr


def _leaf(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


@pytest.mark.parametrize(
    ("key", "kind"), [("ec", ec.EllipticCurvePublicKey), ("rsa", rsa.RSAPublicKey)]
)
def test_certificate_and_key_belong_together(
    authority: Authority, key: KeyKind, kind: type[object]
) -> None:
    certificate, private_key = authority.issue("a.test", key=key)
    assert isinstance(_leaf(certificate).public_key(), kind)
    said = [
        subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout
        for arguments in (
            ("x509", "-in", str(certificate), "-noout", "-pubkey"),
            ("pkey", "-in", str(private_key), "-pubout"),
        )
    ]
    assert said[0] == said[1]
    assert private_key.stat().st_mode & 0o077 == 0


def test_identities_are_those_asked_for(authority: Authority) -> None:
    certificate, _ = authority.issue(
        "a.test", wildcard=True, srv=["_xmpp-client.a.test"], xmpp=["bücher.test"]
    )
    leaf = _leaf(certificate)
    patterns = extract_patterns(leaf)
    assert {each.pattern for each in patterns if isinstance(each, DNSPattern)} == {
        b"a.test",
        b"*.a.test",
    }
    assert [each for each in patterns if isinstance(each, SRVPattern)] == [
        SRVPattern.from_bytes(b"_xmpp-client.a.test")
    ]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    others = names.get_values_for_type(x509.OtherName)
    assert xmpp_addr("bücher.test") in others
    assert xmpp_addr("bücher.test").value == b"\x0c\x0cb\xc3\xbccher.test"


def test_long_names_have_long_lengths() -> None:
    assert srv_name("x" * 300).value == b"\x16\x82\x01\x2c" + b"x" * 300


def test_a_certificate_without_any_identity(authority: Authority) -> None:
    certificate, _ = authority.issue("a.test", dns=(), common_name="a.test", usages=None)
    extensions = _leaf(certificate).extensions
    for absent in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        with pytest.raises(x509.ExtensionNotFound):
            extensions.get_extension_for_class(absent)


def test_dates_and_usages(authority: Authority) -> None:
    end = now() - dt.timedelta(days=3)
    certificate, _ = authority.issue(
        "a.test", not_before=end - dt.timedelta(days=1), not_after=end, usages=[CLIENT]
    )
    leaf = _leaf(certificate)
    assert leaf.not_valid_after_utc == end
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [CLIENT]


@pytest.mark.server("openssl")
def test_openssl_accepts_a_chain_of_three(authority: Authority, tmp_path: Path) -> None:
    issuing = Authority(tmp_path, name="issuing", parent=authority)
    certificate, _ = issuing.issue("a.test")
    arguments = ["-CAfile", str(authority.ca_path), "-untrusted", str(certificate)]
    arguments += ["-x509_strict", "-purpose", "sslserver", "-verify_hostname", "a.test"]
    said = subprocess.run(
        ["openssl", "verify", *arguments, str(certificate)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
