"""A certificate authority that exists for one demo, and the certificate it signs."""

import datetime as dt
import os
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

LIFETIME = dt.timedelta(days=7)
CLOCK_SKEW = dt.timedelta(minutes=5)
SRV_NAME = ObjectIdentifier("1.3.6.1.5.5.7.8.7")
"""id-on-dnsSRV (RFC 4985): a service and a domain in one name."""
IA5_STRING = 0x16
"""The DER tag of an ASCII string."""


@attrs.frozen
class Files:
    """Where the PEM files lie: what clients trust, and the server's chain and key."""

    authority: Path
    certificate: Path
    private_key: Path


def write(directory: Path, domain: str) -> Files:
    """Make an authority and a certificate for the XMPP clients of ``domain``.

    The authority's own key is never written, so that it signs nothing else. Every file is
    readable by its owner only.

    Args:
        directory: where the files go; it must exist and be empty.
        domain: an A-label of ASCII letters, as a DNS-ID and SRV-ID hold it (RFC 9525).

    Raises:
        OSError: a file cannot be written.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf(domain, key.public_key(), authority, authority_key)
    files = Files(directory / "ca.pem", directory / "demo.crt", directory / "demo.key")
    _private(files.authority, authority.public_bytes(serialization.Encoding.PEM))
    _private(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    _private(
        files.private_key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return files


def _private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


_AUTHORITY_NAME = "Bascule demo authority (made up)"


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        _builder(_AUTHORITY_NAME, _AUTHORITY_NAME, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    domain: str,
    key: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    service = f"_xmpp-client.{domain}".encode("ascii")
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName(domain),
            x509.OtherName(SRV_NAME, bytes((IA5_STRING, len(service))) + service),
        ]
    )
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(domain, _AUTHORITY_NAME, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key is for: signing certificates, or signing handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
