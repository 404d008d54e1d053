"""Servers that connect, in handshakes in memory, and what is made of what they show."""

import contextlib
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from OpenSSL import SSL

from proxy.net.peer import Verifier
from proxy.trust.evidence import Evidence
from proxy.trust.identities import SERVER_SERVICE
from proxy.trust.policy import Level, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from tests.authority import now
from tests.trust.showing import NAME

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

Pair = tuple[Path, Path]


def agree(
    server: SSL.Context, client: SSL.Context | SSL.Connection
) -> tuple[SSL.Connection, SSL.Connection]:
    """Let two ends shake hands in memory; return both, the server first."""
    theirs = SSL.Connection(client, None) if isinstance(client, SSL.Context) else client
    ends = SSL.Connection(server, None), theirs
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    for _ in range(10):
        for end, other in (ends[::-1], ends):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            try:
                while data := end.bio_read(65536):
                    other.bio_write(data)
            except SSL.WantReadError:
                pass
    return ends


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def remote(pair: Pair | None, version: str = "TLSv1.3") -> SSL.Context:
    """A server that connects, as careless about its own certificate as can be."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.set_min_proto_version(VERSIONS[version])
    context.set_max_proto_version(VERSIONS[version])
    if pair is not None:
        context.use_certificate_chain_file(str(pair[0]))
        context.use_privatekey_file(str(pair[1]))
    return context


def sending(pair: Pair, version: str, above: list[x509.Certificate]) -> SSL.Context:
    """As `remote`, with these certificates after its own."""
    context = remote(None, version)
    context.use_certificate(certificates(pair[0])[0])
    context.use_privatekey_file(str(pair[1]))
    for each in above:
        context.add_extra_chain_cert(each)
    return context


def handshake(
    ours: SSL.Context, theirs: SSL.Context | SSL.Connection, version: str
) -> SSL.Connection:
    """Our end of a handshake that has succeeded on both ends."""
    ends = agree(ours, theirs)
    for end in ends:
        assert end.get_protocol_version_name() == version
        assert end.get_state_string() == b"SSL negotiation finished successfully"
        with contextlib.suppress(SSL.WantReadError):
            end.recv(1)
    return ends[0]


class Trusting:
    """A policy, and who verifies by its roots."""

    def __init__(self, policy: Policy, verifier: Verifier | None = None) -> None:
        self.policy = policy
        self._verifier = verifier or Verifier([policy])

    def evidence(self, chain: tuple[bytes, ...]) -> Evidence:
        return self._verifier.evidence(self.policy, chain)

    def judged(self, chain: tuple[bytes, ...], policy: Policy | None = None) -> Verdict:
        shown = self.evidence(chain)
        assert shown.chain == chain
        given = policy or self.policy
        return judge(NAME, SERVER_SERVICE, given, shown, now(), initiating=True)

    def outcome(self, chain: tuple[bytes, ...]) -> tuple[Status, str]:
        """How far a chain has proven the domain, and by what or why no further.

        It is the same where nothing is demanded, but for an exception.
        """
        found = self.judged(chain, attrs.evolve(self.policy, level=Level.ENCRYPT))
        assert found.problem.isprintable()
        strict = attrs.evolve(self.policy, level=Level.SECURE)
        if found.status is Status.VERIFIED:
            assert found == self.judged(chain, strict)
        else:
            with pytest.raises(UntrustedError) as refused:
                self.judged(chain, strict)
            assert (found.status, found.problem) == (refused.value.status, str(refused.value))
        return found.status, found.identity or found.problem
