"""The made-up authority and what it signs."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from proxy.daemon.demo import authority


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_certificate_proves_its_domain_to_who_trusts_the_authority(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "localhost")
    leaf = certificate(files.certificate)
    store = Store([certificate(files.authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost"))
    assert verifier.verify(leaf, [])[0] == leaf
    other = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("else.example"))
    with pytest.raises(VerificationError):
        other.verify(leaf, [])


def test_the_certificate_names_the_service(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "localhost")
    names = certificate(files.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    (service,) = names.value.get_values_for_type(x509.OtherName)
    assert service.type_id.dotted_string == "1.3.6.1.5.5.7.8.7"
    assert service.value == b"\x16\x16_xmpp-client.localhost"


def test_the_key_belongs_to_the_certificate(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "localhost")
    key = load_pem_private_key(files.private_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == certificate(files.certificate).public_key()


def test_no_file_is_for_others_and_the_authority_has_no_key_on_disk(tmp_path: Path) -> None:
    files = authority.write(tmp_path, "localhost")
    written = {files.authority, files.certificate, files.private_key}
    assert set(tmp_path.iterdir()) == written
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert b"PRIVATE" not in files.authority.read_bytes() + files.certificate.read_bytes()


def test_files_that_are_there_already_are_not_overwritten(tmp_path: Path) -> None:
    authority.write(tmp_path, "localhost")
    with pytest.raises(FileExistsError):
        authority.write(tmp_path, "localhost")
