"""TLS contexts (RFC 9325): which versions, suites and groups, and a context for each domain."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate
from twisted.internet.error import ConnectionLost

from proxy.net import openssl
from proxy.net.client_hello import Hello
from proxy.net.stapling import staple
from proxy.session.hooks import TLSFacts
from proxy.session.kinds import Kind
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Policy, Version

CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
"""The suites of TLS 1.2 (RFC 9325, section 4.2): forward secrecy and authenticated encryption."""

GROUPS: Final = "X25519MLKEM768:X25519:secp256r1:secp384r1"
"""The groups of key exchange, the hybrid that resists quantum computers first."""

CLIENT_GROUPS: Final = "*X25519MLKEM768:*X25519:secp256r1:secp384r1"
"""The same for the client: with a key share for each marked one, so that servers which do not know
the hybrid need not ask again, which takes a round trip."""

_SERVERS_GROUPS: Final = f"{GROUPS}:secp521r1"
"""For servers that connect: the curve of a certificate must be among them with TLS 1.2."""

_VERSIONS: Final = {Version.TLS_1_2: SSL.TLS1_2_VERSION, Version.TLS_1_3: SSL.TLS1_3_VERSION}
_NO_AUTO_CHAIN: Final = 0x8
"""``SSL_MODE_NO_AUTO_CHAIN``, which pyOpenSSL does not name.

The chain that is sent is the file's. Else OpenSSL looks for one in each handshake where the file
has the leaf alone, and checks signatures as it goes.
"""


class TLSSetupError(Exception):
    """A TLS context cannot be made; the message says why."""


def server_context(
    certificates: Iterable[tuple[Path, Path]], scope: str, kind: Kind = Kind.C2S
) -> SSL.Context:
    """Make the context for one domain on one listener.

    Its session tickets are good for no other: each context has ticket keys of its own, and its
    session id context is bound to ``scope`` (cf. CVE-2025-23419).

    Servers that connect are asked for a certificate (RFC 6120, section 13.7.1.2). A handshake with
    one succeeds without it and whatever it vouches for: that is judged later, by what
    `proxy.net.peer` makes of it. There are no sessions to resume, for the chain would be missing.

    Args:
        certificates: files of certificate chain (PEM, leaf first) and private key; several for
            several kinds of key.
        scope: names the listener and the domain.
        kind: whose streams are taken, which says what ALPN may agree on: its protocol, or nothing
            where there is no name for it.

    Raises:
        TLSSetupError: a file cannot be read, or key and certificate do not belong together.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    context.set_cipher_list(CIPHERS.encode())
    _set_groups(context, _SERVERS_GROUPS if kind is Kind.S2S else GROUPS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets only
    context.set_session_id(hashlib.sha256(scope.encode()).digest())
    openssl.agree_on(context, kind.protocol)
    if kind is Kind.S2S:
        openssl.request_certificate(context)
        # With TLS 1.3 OpenSSL issues tickets even so: references to a cache, which is off.
        context.set_options(SSL.OP_NO_TICKET)
    _load(context, certificates)
    return context


def client_context(policy: Policy, certificates: Iterable[tuple[Path, Path]] = ()) -> SSL.Context:
    """Make the context in which servers are spoken to that a policy is for.

    A handshake in it succeeds whatever the certificate is: who may be believed is decided by
    `proxy.trust`, which is shown what OpenSSL makes of the chain (`evidence`).

    Args:
        policy: the policy.
        certificates: what is shown to servers that ask for a certificate, by the kinds of keys
            that they take, with TLS 1.2 the last one or none; files as for `server_context`.

    Raises:
        TLSSetupError: the roots or a file cannot be read, or key and certificate do not belong
            together.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(_VERSIONS[policy.min_version])
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    context.set_cipher_list(CIPHERS.encode())
    _set_groups(context, CLIENT_GROUPS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # each handshake shows the certificate
    context.set_verify(SSL.VERIFY_NONE)
    trust(context, policy.anchors)
    _load(context, certificates)
    return context


def trust(context: SSL.Context, anchors: Path | None) -> None:
    """Give a context its roots: those of a file (PEM), or the system's.

    Raises:
        TLSSetupError: the file cannot be read.
    """
    if anchors is None:
        context.set_default_verify_paths()
        return
    _open(anchors)
    try:
        context.load_verify_locations(str(anchors))
    except (SSL.Error, OSError) as error:
        raise TLSSetupError(f"{anchors}: {describe(error)}") from error


def _set_groups(context: SSL.Context, groups: str) -> None:
    if not openssl.set_groups(context, groups):
        raise TLSSetupError(f"OpenSSL does not know the groups {groups}")


def _load(context: SSL.Context, certificates: Iterable[tuple[Path, Path]]) -> None:
    for certificate, key in certificates:
        _open(certificate)
        _open(key)
        try:
            context.use_certificate_chain_file(str(certificate))
            context.use_privatekey_file(str(key))
            context.check_privatekey()
        except (SSL.Error, OSError) as error:
            raise TLSSetupError(f"{certificate} with {key}: {describe(error)}") from error


def _open(file: Path) -> None:
    """Make sure that a file can be opened: OpenSSL has no words for one that cannot."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise TLSSetupError(f"{file}: cannot be read: {error.strerror}") from error


def evidence(connection: SSL.Connection) -> Evidence:
    """Return what the finished handshake of ``connection`` has shown of the server."""
    code, words = openssl.verify_result(connection)
    return Evidence(
        chain=_der(connection.get_peer_cert_chain()),
        error=code,
        error_text=words,
        verified=_der(connection.get_verified_chain()),
        staple=staple(connection),
    )


def _der(chain: list[X509] | None) -> tuple[bytes, ...]:
    return tuple(dump_certificate(FILETYPE_ASN1, certificate) for certificate in chain or ())


def facts(
    connection: SSL.Connection, hello: Hello, *, direct: bool, kind: Kind = Kind.C2S
) -> TLSFacts:
    """Return what the finished handshake of ``connection``, begun with ``hello``, agreed on.

    ``kind`` is the one of the `server_context` that it was in.
    """
    return _kept(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        connection.get_group_name() or "",
        # There is one protocol that can have been chosen, if any was offered.
        kind.protocol.decode() if hello.protocols else "",
        hello.server_name,
        openssl.was_resumed(connection),
        direct,
    )


# The same few facts in very many sessions: each is kept once.
_kept: Final = lru_cache(maxsize=256)(TLSFacts)


def server_facts(connection: SSL.Connection, server_name: str, *, direct: bool) -> TLSFacts:
    """As `facts`, for a handshake with a server."""
    return _kept(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        connection.get_group_name() or "",
        connection.get_alpn_proto_negotiated().decode("ascii", "replace"),
        server_name,
        openssl.was_resumed(connection),
        direct,
    )


def alert(description: int) -> bytes:
    """Return a fatal alert as a record of its own (RFC 8446, section 6), in plaintext."""
    return bytes((0x15, 3, 1, 0, 2, 2, description))


def describe(error: BaseException | None) -> str:
    """Return what OpenSSL or the operating system says of an error, for a log."""
    if isinstance(error, SSL.SysCallError):
        return "connection lost" if error.args[0] == -1 else str(error.args[1])
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        reasons = [entry[2] or entry[0] for entry in error.args[0]]
        return "; ".join(dict.fromkeys(reasons)) or "unknown TLS error"
    if isinstance(error, ConnectionLost):
        return str(error.args[0]) if error.args else "connection lost"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
