"""Whether a server proves itself by its TLSA records (RFC 6698, RFC 7671, RFC 7673 section 4.2).

That the records are secure is for the caller to see to: insecure ones must not come here at all.
OpenSSL's own verifier for DANE cannot be reached from Python, so that its work is done here; what
verifies the path to an authority of a record is given by the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from proxy.trust.certificate import EXTENDED_KEY_USAGE, Certificate, purposes
from proxy.trust.certificate import CLIENT_AUTH, SERVER_AUTH
from proxy.trust.dane.records import TLSA, Matching, Selector, Usage, effective
from proxy.trust.dane.references import References
from proxy.trust.evidence import Evidence
from proxy.trust.policy import Level, Policy, pin_of_key
from proxy.trust.strength import key_weakness, signature_weakness
from proxy.trust.verdict import LARGEST_CERTIFICATE, LONGEST_CHAIN, UntrustedError
from proxy.xmpp.text import printable

MOST_RECORDS: Final = 100
"""How many TLSA records are looked at: a server with more proves nothing."""

MOST_PATHS: Final = 10
"""How many paths to authorities are verified for one server."""

VerifyPath = Callable[[bytes, Sequence[bytes], datetime], Evidence]
"""What verifies the path from a server's certificate to one authority, and to no other.

It gets the authority's certificate, the chain as the server sent it, both in DER, and the time to
verify by. What it returns has that chain, and, without an error, the path in ``verified``, from the
server's certificate to the authority's.
"""


@attrs.frozen
class Proved:
    """The server has proven itself.

    Attributes:
        identity: By what, for people to read: ``DANE-EE 3 1 1 0123456789abcdef…``, after the
            identity of the certificate where that counted.
        record: The record.
    """

    identity: str
    record: TLSA


@attrs.frozen
class Failed:
    """There are usable records, and the server does not prove itself by any.

    Attributes:
        problem: Why, as one clause fit to be shown.
    """

    problem: str


@attrs.frozen
class Unusable:
    """There are records, but none that can be used.

    It is as if there were none, but for TLS, which they demand all the same.
    """


@attrs.frozen
class Absent:
    """There are no records."""


Outcome = Proved | Failed | Unusable | Absent


@attrs.frozen
class Server:
    """A server that is to prove itself.

    Attributes:
        references: The identities by which it may.
        evidence: What its handshake showed, verified against the policy's roots.
        policy: Whose pins hold besides all records, and whose roots count for PKIX-TA and PKIX-EE.
            Its level does not matter.
        initiating: Whether it has connected to us, not we to it.
    """

    references: References
    evidence: Evidence
    policy: Policy
    initiating: bool = False

    @property
    def shown(self) -> str:
        """The domain, fit to be shown."""
        return printable(self.references.domain)


class _NoProofError(Exception):
    """A server does not prove itself: why, as a clause."""


def match(records: Sequence[TLSA], server: Server, now: datetime, verify: VerifyPath) -> Outcome:
    """Return what a server's secure TLSA records say of it.

    Any record will do. With DANE-EE it is the record alone that counts, whatever names, dates and
    issuers say; keys must be strong all the same. With all others the certificate must also be
    valid and prove one of the reference identities.

    Args:
        records: All that there are.
        server: The server.
        now: The time to judge validity by, with a time zone.
        verify: What verifies paths to authorities that only the records vouch for.
    """
    try:
        if not records:
            return Absent()
        if len(records) > MOST_RECORDS:
            return Failed(f"{server.shown} has more than {MOST_RECORDS} TLSA records")
        usable = effective(records)
        if not usable:
            return Unusable()
        return _Matching(server, now, verify).outcome(usable)
    except (KeyboardInterrupt, SystemExit):
        raise
    except _NoProofError as error:
        return Failed(str(error))
    except BaseException as error:  # noqa: BLE001 - a panic of cryptography is no Exception
        return Failed(f"the TLSA records could not be checked ({type(error).__name__})")


class _Matching:
    """One server's certificates against its records."""

    def __init__(self, server: Server, now: datetime, verify: VerifyPath) -> None:
        self._server = server
        self._now = now
        self._verify = verify
        chain = server.evidence.chain
        if not chain:
            raise _NoProofError(f"{server.shown} showed no certificate")
        if len(chain) > LONGEST_CHAIN or max(map(len, chain)) > LARGEST_CERTIFICATE:
            raise _NoProofError(f"the certificates of {server.shown} are too many or too large")
        self._leaf = Certificate.read(chain[0])

    def outcome(self, records: Sequence[TLSA]) -> Outcome:
        """Try one usage after the other, those that take least work first."""
        pins = self._server.policy.pins
        if pins and (pin := pin_of_key(self._leaf.key)) not in pins:
            raise _NoProofError(f"the key of {self._server.shown}, {pin}, is not one of its pins")
        problem = ""
        for attempt in self._attempts(records):
            try:
                return attempt()
            except (_NoProofError, UntrustedError) as error:
                problem = problem or str(error)
        return Failed(problem or self._no_match(records))

    def _no_match(self, records: Sequence[TLSA]) -> str:
        count = len(records)
        which = "its TLSA record" if count == 1 else f"any of its {count} TLSA records"
        return f"the certificate of {self._server.shown} does not match {which}"
