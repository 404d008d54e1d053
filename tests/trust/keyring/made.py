"""Certificates and keyrings for tests of the keyring."""

import datetime as dt
import functools
import os
import tempfile
from pathlib import Path

from proxy.trust.evidence import Evidence
from proxy.trust.keyring.entry import How
from proxy.trust.keyring.judging import Consulted, consult
from proxy.trust.keyring.store import Keyring
from proxy.trust.policy import OnChange
from proxy.trust.verdict import Status, UntrustedError, Verdict
from tests.authority import self_signed
from tests.trust.showing import NAME, NOW, believed, chain_of

SELF_SIGNED = "the certificate of example.net is self-signed, and not among the trusted ones"
PROVED = Verdict(Status.VERIFIED, f"DNS-ID {NAME}", "")
PINNED = Verdict(Status.VERIFIED, "pin sha256:" + "A" * 43 + "=", "")
UNPROVED = UntrustedError(SELF_SIGNED)

LATER = NOW + dt.timedelta(minutes=5)
"""A moment at which nothing that was seen just now is written anew."""

EXPIRED = NOW + dt.timedelta(days=91)
"""A moment at which the certificates made here have ended."""


HANDED_DOWN = "BASCULE_TEST_CERTIFICATE"
"""The variable in which a child process finds the certificate of its parent's."""


@functools.cache
def original() -> bytes:
    """The certificate that all others here are made of."""
    if HANDED_DOWN in os.environ:
        return bytes.fromhex(os.environ[HANDED_DOWN])
    with tempfile.TemporaryDirectory() as directory:
        return chain_of(self_signed(Path(directory), NAME)[0])[0]


def certificate(number: int = 0) -> bytes:
    """One of many certificates, which differ in their signatures only: nobody checks them here."""
    return original()[:-4] + number.to_bytes(4, "big")


def shown(
    keyring: Keyring,
    der: bytes,
    verdict: Verdict | UntrustedError = UNPROVED,
    *,
    now: dt.datetime = NOW,
    on_change: OnChange = OnChange.NOTIFY,
    domain: str = NAME,
    stream: str = "s2s",
    how: How | None = None,
    initiating: bool = False,
) -> Consulted:
    """What comes of a certificate that a domain shows."""
    evidence: Evidence = believed(der)
    return consult(
        keyring,
        domain,
        stream,
        evidence,
        verdict,
        on_change=on_change,
        now=now,
        how=how,
        initiating=initiating,
    )
