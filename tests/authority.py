"""A made-up certificate authority for tests.

`Authority` issues certificates with every kind of identity that RFC 6120 section 13.7 and
RFC 9525 know, right or wrong as a test wants them. Keys are made once for each kind and reused:
making an RSA key takes longer than most tests.
"""

import datetime as dt
import functools
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

KeyKind = Literal["ec", "rsa"]
OddKeyKind = Literal[
    "rsa 1024", "P-224", "P-384", "P-521", "secp256k1", "brainpool", "ed25519", "ed448"
]
Digest = Literal["sha256", "sha1", "md5"]
PrivateKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

STRONG: tuple[KeyKind | OddKeyKind, ...] = ("ec", "rsa", "P-384", "P-521", "ed25519", "ed448")
"""The keys that are strong enough for certificates."""

WEAK: tuple[OddKeyKind, ...] = tuple(each for each in get_args(OddKeyKind) if each not in STRONG)
"""Those that are not."""

XMPP_ADDR = ObjectIdentifier("1.3.6.1.5.5.7.8.5")
"""The otherName of RFC 6120 section 13.7.1.4: a JID as UTF8String."""

SRV_NAME = ObjectIdentifier("1.3.6.1.5.5.7.8.7")
"""The otherName of RFC 4985: a service and a domain as IA5String."""

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
CODE = ExtendedKeyUsageOID.CODE_SIGNING
MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ec": ec.SECP256R1,
    "P-224": ec.SECP224R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
    "brainpool": ec.BrainpoolP256R1,
}

_WITH_RSA = bytes.fromhex("06092a864886f70d0101")
_OLD_DIGESTS: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "sha1": (_WITH_RSA + b"\x05", hashes.SHA1()),
    "md5": (_WITH_RSA + b"\x04", hashes.MD5()),
}

_UTF8_STRING = 0x0C
_IA5_STRING = 0x16


def now() -> dt.datetime:
    """Return the present, aware of its time zone, in whole seconds as certificates count."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def xmpp_addr(jid: str) -> x509.OtherName:
    """Return the XmppAddr identity of a JID, U-labels as they stand."""
    return x509.OtherName(XMPP_ADDR, _der_string(_UTF8_STRING, jid.encode()))


def srv_name(name: str) -> x509.OtherName:
    """Return the SRV-ID of a name such as ``_xmpp-client.example.com``."""
    return x509.OtherName(SRV_NAME, _der_string(_IA5_STRING, name.encode("ascii")))


class Authority:
    """A certificate authority whose files live in a directory of their own.

    Args:
        directory: where files go; without one a temporary directory that lasts as long as this
            object.
        name: the common name of the authority.
        key: the kind of its key.
        parent: the authority that signs this one; without one it is a root. Certificates of an
            intermediate authority are written with its chain, leaf first, the root left out.
        life: its first and last moment; from a day ago, for ten years.
        constraints: the names that it may vouch for; any.
        usages: extended key usages; None leaves the extension out.
        digest: what its own certificate is signed with; an old one needs an RSA key above it.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        name: str = "Bascule test root",
        key: KeyKind | OddKeyKind = "ec",
        parent: "Authority | None" = None,
        life: tuple[dt.datetime, dt.datetime] | None = None,
        constraints: x509.NameConstraints | None = None,
        usages: Sequence[ObjectIdentifier] | None = None,
        digest: Digest = "sha256",
    ) -> None:
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bascule-authority-")
            directory = Path(self._temporary.name)
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = itertools.count(1)
        self._key = new_key(key)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._parent = parent
        signer = parent or self
        life = life or (now() - dt.timedelta(days=1), now() + dt.timedelta(days=3650))
        extensions: list[x509.ExtensionType] = [] if constraints is None else [constraints]
        if usages is not None:
            extensions.append(x509.ExtendedKeyUsage(usages))
        self.certificate: x509.Certificate = self._sign_authority(signer, life, extensions, digest)
        self.ca_path: Path = directory / "ca.pem"
        self.ca_path.write_bytes(_pem(self.certificate))

    def _sign_authority(
        self,
        signer: "Authority",
        life: tuple[dt.datetime, dt.datetime],
        extensions: list[x509.ExtensionType],
        digest: Digest,
    ) -> x509.Certificate:
        builder = (
            _builder(self._name, signer._name, self._key)
            .not_valid_before(life[0])
            .not_valid_after(life[1])
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return signer._signed(builder, digest)

    def _signed(
        self, builder: x509.CertificateBuilder, digest: Digest = "sha256"
    ) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if isinstance(self._key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
            return builder.sign(self._key, None)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed if digest == "sha256" else self._signed_anew(signed, digest)

    def _signed_anew(self, signed: x509.Certificate, digest: Digest) -> x509.Certificate:
        """Sign with an old digest, which cryptography does not do for certificates."""
        assert isinstance(self._key, rsa.RSAPrivateKey)
        name, old = _OLD_DIGESTS[digest]
        inside = signed.tbs_certificate_bytes.replace(_WITH_RSA + b"\x0b", name)
        whole = signed.public_bytes(serialization.Encoding.DER).replace(_WITH_RSA + b"\x0b", name)
        signature = self._key.sign(inside, padding.PKCS1v15(), old)
        return x509.load_der_x509_certificate(whole.replace(signed.signature, signature))

    def chain(self) -> list[x509.Certificate]:
        """Return the certificates between a leaf and its root, lowest first, without the root."""
        if self._parent is None:
            return []
        return [self.certificate, *self._parent.chain()]

    def issue(
        self,
        domain: str,
        *,
        key: KeyKind | OddKeyKind = "ec",
        dns: Iterable[str] | None = None,
        srv: Iterable[str] = (),
        xmpp: Iterable[str] = (),
        wildcard: bool = False,
        common_name: str | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        usages: Sequence[ObjectIdentifier] | None = (SERVER,),
        names: Iterable[x509.GeneralName] = (),
        ca: bool = False,
        extensions: Iterable[x509.ExtensionType] = (),
        signs: bool = True,
        digest: Digest = "sha256",
    ) -> tuple[Path, Path]:
        """Issue a certificate and write it and its key as PEM files.

        Args:
            domain: what the certificate is for, as an A-label; its DNS-ID unless `dns` says
                otherwise.
            key: the kind of its key.
            dns: the DNS-IDs; empty for none.
            srv: SRV-IDs such as ``_xmpp-client.example.com``.
            xmpp: JIDs for XmppAddr identities.
            wildcard: also the DNS-ID ``*.`` and the domain.
            common_name: a common name for the subject, which otherwise is empty.
            not_before: start of its life; a day ago.
            not_after: end of its life; in ninety days.
            usages: extended key usages; None leaves the extension out.
            names: further subject alternative names, as they are.
            ca: whether the leaf claims to be an authority itself.
            extensions: further extensions, as they are.
            signs: whether its key may sign in handshakes, by its key usage.
            digest: what it is signed with; an old one needs an authority with an RSA key.

        Returns:
            The paths of the certificate (with its chain, leaf first) and of its private key.
        """
        identities: list[x509.GeneralName] = [
            x509.DNSName(name) for name in ((domain,) if dns is None else dns)
        ]
        if wildcard:
            identities.append(x509.DNSName(f"*.{domain}"))
        identities += [srv_name(name) for name in srv]
        identities += [xmpp_addr(jid) for jid in xmpp]
        identities += names
        private = new_key(key)
        builder = (
            _builder(_subject(common_name), self._name, private)
            .not_valid_before(not_before or now() - dt.timedelta(days=1))
            .not_valid_after(not_after or now() + dt.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_key_usage(authority=ca, signs=signs), critical=True)
        )
        if identities:
            # RFC 5280 section 4.2.1.6: critical where the subject is empty.
            alternatives = x509.SubjectAlternativeName(identities)
            builder = builder.add_extension(alternatives, critical=common_name is None)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return self._write(domain, self._signed(builder, digest), private)

    def _write(self, domain: str, leaf: x509.Certificate, private: PrivateKey) -> tuple[Path, Path]:
        stem = f"{next(self._numbers)}-{domain.replace('*', '_').replace('/', '_')}"
        paths = self._directory / f"{stem}.crt", self._directory / f"{stem}.key"
        write_pair(paths, [leaf, *self.chain()], private)
        return paths


def self_signed(directory: Path, domain: str, *, ca: bool = False) -> tuple[Path, Path]:
    """Write a certificate that is its own issuer, as ``openssl req -x509`` makes it, and its key.

    Returns:
        Their paths, as for `Authority.issue`.
    """
    private = new_key("ec")
    subject = _subject(domain)
    certificate = (
        _builder(subject, subject, private)
        .not_valid_before(now() - dt.timedelta(days=1))
        .not_valid_after(now() + dt.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    paths = directory / f"{domain}-self-signed.crt", directory / f"{domain}-self-signed.key"
    write_pair(paths, [certificate], private)
    return paths


def write_pair(
    paths: tuple[Path, Path], chain: Iterable[x509.Certificate], private: PrivateKey
) -> None:
    """Write a chain, leaf first, and a private key as PEM files."""
    paths[0].write_bytes(b"".join(_pem(each) for each in chain))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def new_key(kind: KeyKind | OddKeyKind) -> PrivateKey:
    """Return a private key: "ec" is on P-256, "rsa" has 2048 bits, from a small stock."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    return _rsa_key(next(_rsa_turn), 1024 if kind == "rsa 1024" else 2048)


_rsa_turn = itertools.cycle(range(4))


@functools.cache
def _rsa_key(_turn: int, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _builder(subject: x509.Name, issuer: x509.Name, private: PrivateKey) -> x509.CertificateBuilder:
    public = private.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _subject(common_name: str | None) -> x509.Name:
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, authority: bool, signs: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _der_string(tag: int, value: bytes) -> bytes:
    """Return a DER string; lengths of 128 and more take the long form."""
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + value
