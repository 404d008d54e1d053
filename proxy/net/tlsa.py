"""Asks for TLSA records, where they count (RFC 6698, section 3; RFC 7673, section 3)."""

from collections.abc import Callable
from typing import Final

import attrs
import dns.rdtypes.ANY.TLSA
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from proxy.net.name_servers import LookupFailedError, Records, Security
from proxy.net.targets import Target, literal
from proxy.net.together import together
from proxy.trust.dane.records import TLSA
from proxy.trust.dane.references import References

Ask = Callable[[str, RdataType], Deferred[Records]]
"""What asks for the records of a name and type, as `proxy.net.resolver.Resolver.records`."""

_ADDRESSES: Final = (RdataType.AAAA, RdataType.A)


@attrs.frozen
class TLSARecords:
    """The TLSA records of a target that count.

    Attributes:
        values: they; none if the answer, or what leads to it, is insecure.
        security: whether that is secure: that there are these, or none.
    """

    values: tuple[TLSA, ...]
    security: Security


_INSECURE: Final = TLSARecords((), Security.INSECURE)


async def find(ask: Ask, target: Target) -> TLSARecords:
    """Return the TLSA records of a target.

    They are asked for by the target's own name (RFC 7673, section 3.3), which SRV records do not
    let be an alias, and only if that name comes from a secure answer and has secure addresses:
    name servers of unsigned zones may well fail on questions for a type that they do not know.

    Args:
        ask: what asks name servers.
        target: the target; an IP address has no such records.

    Raises:
        LookupFailedError: that cannot be known, or is bogus.
    """
    if not target.secure or literal(target.host) is not None:
        return _INSECURE
    if not await _has_secure_addresses(ask, target.host):
        return _INSECURE
    records = await ask(f"_{target.port}._tcp.{target.host}", RdataType.TLSA)
    if records.security is not Security.SECURE:
        return _INSECURE
    values = [
        TLSA(record.usage, record.selector, record.mtype, record.cert)
        for record in records.values
        if isinstance(record, dns.rdtypes.ANY.TLSA.TLSA)
    ]
    if len(values) != len(records.values):
        raise LookupFailedError(f"the TLSA records of {target} cannot be read")
    return TLSARecords(tuple(values), Security.SECURE)


async def _has_secure_addresses(ask: Ask, host: str) -> bool:
    """Whether any address of a host is secure (RFC 7673, section 3.2).

    Raises:
        LookupFailedError: a lookup of addresses failed, and the other does not make up for it.
    """
    outcomes = await together(ask(host, kind).addErrback(_failure) for kind in _ADDRESSES)
    found = [outcome for outcome in outcomes if isinstance(outcome, Records) and outcome.values]
    if any(records.security is Security.SECURE for records in found):
        return True
    # An address that is insecure says for sure that the host's zone is; then nothing in it can be
    # bogus.
    for outcome in outcomes:
        if isinstance(outcome, LookupFailedError) and (outcome.bogus or not found):
            raise outcome
    return False


def _failure(failure: Failure) -> LookupFailedError | Failure:
    return failure.value if isinstance(failure.value, LookupFailedError) else failure


def references(domain: str, service: str, target: Target) -> References:
    """Return the identities by which the server at a target may prove a domain.

    Args:
        domain: the domain, as A-labels.
        service: the SRV service name that counts, with its underscore.
        target: one of the domain's own targets, not one that a server has sent us to.
    """
    host = target.host if target.secure and literal(target.host) is None else ""
    return References(domain, service, host)
