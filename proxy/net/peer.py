"""Servers that connect to us: the chain that one showed, and what OpenSSL makes of it.

Their handshakes succeed whatever they show (`proxy.net.tls.server_context`). The chain is verified
here, against the roots of a policy that is known only when the stream names the server's domain.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from OpenSSL import SSL
from OpenSSL.crypto import (
    FILETYPE_ASN1,
    X509StoreContext,
    X509StoreContextError,
    dump_certificate,
    load_certificate,
)

from proxy.net.tls import trust
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Policy
from proxy.trust.verdict import LARGEST_CERTIFICATE, LONGEST_CHAIN

_UNSPECIFIED: Final = 1  # X509_V_ERR_UNSPECIFIED
_TOO_LONG: Final = 22  # X509_V_ERR_CERT_CHAIN_TOO_LONG


def shown(connection: SSL.Connection) -> tuple[bytes, ...]:
    """Return the certificates in DER that a peer showed, its own first; empty if it showed none."""
    own = connection.get_peer_certificate()
    if own is None:
        return ()
    first = dump_certificate(FILETYPE_ASN1, own)
    chain = tuple(
        dump_certificate(FILETYPE_ASN1, each) for each in connection.get_peer_cert_chain() or ()
    )
    # A server's chain of a client leaves the client's own certificate out; a client's does not.
    return chain if chain[:1] == (first,) else (first, *chain)


class Verifier:
    """Verifies chains against the roots of policies.

    Args:
        policies: the policies that count; no others can be asked about.

    Raises:
        TLSSetupError: the roots of a policy cannot be read.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        # The stores belong to the contexts, and last no longer than they do.
        self._contexts: dict[Path | None, SSL.Context] = {}
        for policy in policies:
            if policy.anchors not in self._contexts:
                context = SSL.Context(SSL.TLS_METHOD)
                trust(context, policy.anchors)
                self._contexts[policy.anchors] = context

    def evidence(self, policy: Policy, chain: tuple[bytes, ...]) -> Evidence:
        """Return what OpenSSL makes of a chain now, by the roots of a policy.

        Neither names nor uses nor strength are looked at: `proxy.trust.verdict.judge` does that
        with ``initiating``. Whatever goes wrong is an error in the evidence, and no exception.

        Args:
            policy: one of the policies.
            chain: certificates in DER, as `shown` gives them.
        """
        try:
            if not chain:
                return Evidence((), _UNSPECIFIED, "no certificate was shown")
            if len(chain) > LONGEST_CHAIN:
                return Evidence(chain, _TOO_LONG, "the chain is too long")
            if max(map(len, chain)) > LARGEST_CERTIFICATE:
                return Evidence(chain, _UNSPECIFIED, "a certificate is too large")
            return Evidence(chain, 0, "ok", self._verified(policy, chain))
        except X509StoreContextError as error:
            code, _, words = error.errors
            return Evidence(chain, code or _UNSPECIFIED, words)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is no proof
            return Evidence(chain, _UNSPECIFIED, f"it was not verified ({type(error).__name__})")

    def _verified(self, policy: Policy, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        store = self._contexts[policy.anchors].get_cert_store()
        if store is None:
            raise LookupError("no roots")
        own, *above = (load_certificate(FILETYPE_ASN1, each) for each in chain)
        path = X509StoreContext(store, own, above).get_verified_chain()
        return tuple(dump_certificate(FILETYPE_ASN1, each) for each in path)
