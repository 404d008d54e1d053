"""Verifies the path from a server's certificate to one authority, for DANE (RFC 7671, section 5.2).

pyOpenSSL has nothing of OpenSSL's own DANE; a store with that authority alone does the same.
"""

from datetime import UTC, datetime
from typing import Final

from OpenSSL.crypto import (
    FILETYPE_ASN1,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
    dump_certificate,
    load_certificate,
)

from proxy.trust.evidence import Evidence

_UNSPECIFIED: Final = 1  # X509_V_ERR_UNSPECIFIED


def verify_path(anchor: bytes, chain: tuple[bytes, ...], now: datetime) -> Evidence:
    """Return what OpenSSL makes of a chain if one authority is trusted, and nobody else.

    Signatures, dates, basic constraints and name constraints are verified, and the authority may
    be an intermediate one. Neither uses nor strength are looked at, and no names but by
    constraints. Whatever goes wrong is an error in the evidence, and no exception.

    Args:
        anchor: the authority's certificate in DER.
        chain: certificates in DER as the server sent them, its own first.
        now: the time to verify by, with a time zone.
    """
    try:
        return Evidence(chain, 0, "ok", _verified(anchor, chain, now))
    except X509StoreContextError as error:
        code, _, words = error.errors
        return Evidence(chain, code or _UNSPECIFIED, words)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is no proof
        return Evidence(chain, _UNSPECIFIED, f"it was not verified ({type(error).__name__})")


def _verified(anchor: bytes, chain: tuple[bytes, ...], now: datetime) -> tuple[bytes, ...]:
    store = X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.astimezone(UTC))
    store.add_cert(load_certificate(FILETYPE_ASN1, anchor))
    own, *above = (load_certificate(FILETYPE_ASN1, each) for each in chain)
    path = X509StoreContext(store, own, above).get_verified_chain()
    return tuple(dump_certificate(FILETYPE_ASN1, each) for each in path)
