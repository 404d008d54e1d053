"""The ground a benchmark stands on: the C programs, certificates, ports and processors."""

import datetime as dt
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bench.errors import BenchError

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(__file__).resolve().parent / "build"

FIRST_PORT = 21000  # below the range from which outgoing connections take theirs
PORTS = 400

KeyKind = Literal["ecdsa", "rsa"]
StreamKind = Literal["c2s", "s2s"]


@attrs.frozen
class Service:
    """A domain of the benchmark's and who serves it.

    Attributes:
        name: Its name.
        backend: At which of the ports behind the relay it is served.
        key: The kind of key of the certificate that clients, or the relay, get to see.
        stream: Whether its streams are those of clients or of servers.
        label: The first label of its domain; empty where that is its name.
    """

    name: str
    backend: str
    key: KeyKind
    stream: StreamKind = "c2s"
    label: str = ""

    @property
    def domain(self) -> str:
        """The domain for SNI and the stream's `to`: one for each kind of stream can share it."""
        return f"{self.label or self.name}.bench.test"

    @property
    def protocol(self) -> str:
        """What its clients ask for by ALPN."""
        return "xmpp-client" if self.stream == "c2s" else "xmpp-server"


BACKENDS = ("echo", "sink", "source", "s2s", "counts")
"""The ports of the server behind the relays, in the order of its arguments. No relay leads to the
last: there the load generator asks what has come of streams between servers."""

SERVICES = (
    Service("echo", "echo", "ecdsa"),
    Service("sink", "sink", "ecdsa"),
    Service("source", "source", "ecdsa"),
    Service("rsa", "echo", "rsa"),
    Service("s2s", "s2s", "ecdsa", stream="s2s", label="echo"),
)
"""What a reverse relay offers, each with a plaintext server behind it."""

UPSTREAMS = ("starttls", "direct")
REMOTES = tuple(Service(name, name, "ecdsa") for name in UPSTREAMS)
"""What a forward relay leads to: servers that speak TLS, and that are found by DNS."""

FAR_DOMAIN = f"far.{REMOTES[0].domain}"
"""A domain that the first of `REMOTES` serves too, at the other end of a slow link."""

FAR_MICROSECONDS = 10_000
"""How long that link takes, each way."""


@attrs.frozen
class Certificate:
    """A self-signed certificate and its key, as PEM files.

    Attributes:
        chain: The certificate.
        private_key: Its key.
        both: Key and certificate in one file, as HAProxy and stunnel read them.
    """

    chain: Path
    private_key: Path
    both: Path


@attrs.frozen
class Authority:
    """A certificate authority and what it has issued, as PEM files.

    Attributes:
        roots: Its own certificate, which clients trust.
        chain: The certificate of the servers of `REMOTES` and of all domains below them, and an
            intermediate authority's.
        private_key: The key of the former.
    """

    roots: Path
    chain: Path
    private_key: Path


@attrs.frozen
class Processors:
    """Which processor each side is bound to.

    Attributes:
        relay: The relays'.
        load: That of the servers behind them, and of the load generator where it is not said
            otherwise.
    """

    relay: int
    load: int


def choose_processors() -> Processors:
    """Takes the first two processors that this process may use.

    Raises:
        BenchError: There is only one.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchError(
            "two processors are needed: one for the relay and one for the load generator",
            os.EX_UNAVAILABLE,
        )
    return Processors(relay=usable[0], load=usable[1])


def compile_programs() -> None:
    """Builds the load generator and its servers into `BUILD`, if they are not up to date.

    Raises:
        BenchError: A compiler or OpenSSL's headers are missing, or they do not compile.
    """
    missing = [name for name in ("gcc", "make") if shutil.which(name) is None]
    if not missing and not _has_openssl_headers():
        missing = ["libssl-dev"]
    if missing:
        raise BenchError(
            f"to compile the load generator, install the Debian packages {' '.join(missing)}",
            os.EX_UNAVAILABLE,
        )
    built = subprocess.run(
        ["make", "--quiet", "-C", str(ROOT / "bench" / "loadgen"), f"OUT={BUILD}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        first = next(iter(built.stderr.strip().splitlines()), "make failed")
        raise BenchError(f"the load generator does not compile: {first}")


def _has_openssl_headers() -> bool:
    probe = subprocess.run(
        ["gcc", "-fsyntax-only", "-x", "c", "-"],
        input=b"#include <openssl/ssl.h>\n",
        capture_output=True,
        check=False,
    )
    return probe.returncode == 0


def make_certificates() -> dict[KeyKind, Certificate]:
    """Makes (once) a certificate of each kind of key, for the domains that use it."""
    return {"ecdsa": _certificate("ecdsa"), "rsa": _certificate("rsa")}


def _certificate(kind: KeyKind) -> Certificate:
    names = ("crt", "key", "pem")
    files = Certificate(*(BUILD / f"{kind}.{extension}" for extension in names))
    if files.both.exists():
        return files
    key: _Key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ecdsa"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    domains = list(dict.fromkeys(service.domain for service in SERVICES if service.key == kind))
    builder = _builder(domains[0], domains[0], key).add_extension(_alternatives(domains), False)
    chain, private_key = _pem(builder.sign(key, hashes.SHA256())), _key_pem(key)
    _write_private(files.chain, chain)
    _write_private(files.private_key, private_key)
    _write_private(files.both, private_key + chain)
    return files


def make_authority() -> Authority:
    """Makes (once) an authority, an intermediate one, and a certificate for `REMOTES`.

    All keys are ECDSA P-256.
    """
    files = Authority(*(BUILD / f"remote-{name}" for name in ("roots.crt", "chain.crt", "key")))
    if files.private_key.exists():
        return files
    root, intermediate, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    domains = [name for service in REMOTES for name in (service.domain, f"*.{service.domain}")]
    authority = x509.BasicConstraints(ca=True, path_length=None)
    signed = [
        builder.sign(issuer, hashes.SHA256())
        for builder, issuer in (
            (_builder("Root", "Root", root).add_extension(authority, True), root),
            (_builder("Between", "Root", intermediate).add_extension(authority, True), root),
            (
                _builder(domains[0], "Between", leaf).add_extension(_alternatives(domains), False),
                intermediate,
            ),
        )
    ]
    _write_private(files.roots, _pem(signed[0]))
    _write_private(files.chain, _pem(signed[2]) + _pem(signed[1]))
    _write_private(files.private_key, _key_pem(leaf))
    return files


_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def _builder(subject: str, issuer: str, key: _Key) -> x509.CertificateBuilder:
    subject_name, issuer_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
    )
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
    )


def _alternatives(domains: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


class Ports:
    """Hands out ports of 127.0.0.1 that nobody listens on, each only once."""

    def __init__(self) -> None:
        self._next = FIRST_PORT

    def take(self) -> int:
        """Returns the next free port.

        Raises:
            BenchError: None is left.
        """
        while self._next < FIRST_PORT + PORTS:
            port = self._next
            self._next += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise BenchError(f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS}")
