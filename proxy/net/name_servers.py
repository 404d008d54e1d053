"""Asks name servers one question at a time, and waits for the answer.

An answer that says "no such name" or "no such record" is an answer. Whatever else happens, from
SERVFAIL (which is what a validating name server makes of forged records) to silence, is an error
and never taken for one: else whoever can suppress an answer chooses where we connect to.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdata
import dns.resolver
from dns.rdatatype import RdataType
from dns.rdtypes.IN.SRV import SRV

from proxy.net.tls import describe

LIFETIME: Final = 5.0
"""Seconds until a lookup has failed, the wait for a free thread included."""

MOST_RECORDS: Final = 20
"""Records of one name, and targets of one domain, that are taken; others are ignored."""

SHORTEST: Final = 1.0
"""Seconds that any outcome is kept at least (for failures RFC 9520, section 3.2)."""

_SYSTEM: Final = Path("/etc/resolv.conf")
_LONGEST: Final = 86_400.0
_LONGEST_NEGATIVE: Final = 300.0
_EACH_SERVER: Final = 1.5  # seconds until the next name server, or the same again, is asked
_PAYLOAD: Final = 1232  # octets of UDP that need no fragments anywhere


class LookupFailedError(Exception):
    """A lookup gave nothing to connect to; the message is one clause that says why.

    Attributes:
        absent: whether it is certain that there is no such domain, host or service. False if
            that is not known, as after SERVFAIL, a timeout or a malformed answer.
    """

    def __init__(self, reason: str, *, absent: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent


@attrs.frozen
class Records:
    """What DNS says of one name and type.

    Attributes:
        values: the records, at most `MOST_RECORDS`; of SRV those of the lowest priorities.
        exists: whether the name exists; False for NXDOMAIN.
        authenticated: whether the name server vouches for it by DNSSEC (the AD bit, RFC 6840).
            What that is worth depends on who the name server is and how it is reached.
        seconds: how long it holds.
    """

    values: tuple[dns.rdata.Rdata, ...]
    exists: bool
    authenticated: bool
    seconds: float


class NameServers:
    """Some name servers, which any thread may ask.

    Args:
        servers: their addresses and ports; none for the system's, which are read anew when they
            change. Search lists are not looked at, nor are host files.
    """

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        self._own = (
            _adjusted(
                dns.resolver.Resolver(configure=False),
                [dns.nameserver.Do53Nameserver(address, port) for address, port in servers],
            )
            if servers
            else None
        )
        self._system: tuple[int, dns.resolver.Resolver] | None = None

    def ask(self, name: str, kind: RdataType, until: float) -> Records | LookupFailedError:
        """Ask for the records of a name, aliases followed, until the monotonic clock says so."""
        left = until - time.monotonic()
        if left <= 0:
            return LookupFailedError(f"too many lookups are under way to look up {name}")
        try:
            absolute = dns.name.from_text(f"{name}.")
            answer = self._resolver().resolve(
                absolute, kind, raise_on_no_answer=False, lifetime=left
            )
        except dns.resolver.NXDOMAIN as error:
            return _records(error.kwargs["responses"][absolute], kind)
        except dns.resolver.NoResolverConfiguration:
            return LookupFailedError("no name server is configured")
        except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
            return LookupFailedError(_complaint(error.kwargs["errors"], name))
        except dns.exception.DNSException as error:
            return LookupFailedError(f"{name} cannot be looked up: {type(error).__name__}")
        return _records(answer.response, kind)

    def _resolver(self) -> dns.resolver.Resolver:
        if self._own is not None:
            return self._own
        try:
            stamp = _SYSTEM.stat().st_mtime_ns
        except OSError:
            stamp = -1
        system = self._system
        if system is None or system[0] != stamp:
            resolver = dns.resolver.Resolver(str(_SYSTEM))
            system = self._system = stamp, _adjusted(resolver, resolver.nameservers)
        return system[1]


def _adjusted(
    resolver: dns.resolver.Resolver, servers: Sequence[str | dns.nameserver.Nameserver]
) -> dns.resolver.Resolver:
    resolver.nameservers = servers
    resolver.timeout = _EACH_SERVER
    resolver.use_edns(0, dns.flags.DO, _PAYLOAD)
    resolver.set_flags(dns.flags.RD | dns.flags.AD)
    return resolver


def _records(response: dns.message.QueryMessage, kind: RdataType) -> Records:
    """Return what an answer holds."""
    chain = response.resolve_chaining()
    values: list[dns.rdata.Rdata] = list(chain.answer or ())
    if kind is RdataType.SRV:
        values.sort(key=lambda record: record.priority if isinstance(record, SRV) else 0)
    longest = _LONGEST
    if not values:
        # Without a SOA record nothing says how long there will be none (RFC 2308, section 5).
        known = any(rrset.rdtype == RdataType.SOA for rrset in response.authority)
        longest = _LONGEST_NEGATIVE if known else SHORTEST
    return Records(
        values=tuple(values[:MOST_RECORDS]),
        exists=response.rcode() != dns.rcode.NXDOMAIN,
        authenticated=bool(response.flags & dns.flags.AD),
        seconds=min(max(chain.minimum_ttl, SHORTEST), longest),
    )


def _complaint(errors: Iterable[Sequence[Any]], name: str) -> str:
    """Return what went wrong, of all name servers that which says most."""
    said = f"no name server gave a usable answer for {name} within {LIFETIME:g} s"
    for _server, _tcp, _port, problem, response in errors:
        if isinstance(problem, str):  # a response code
            return f"the name server answered {problem}{_explanation(response)} for {name}"
        if isinstance(problem, OSError):
            said = f"no name server can be reached for {name}: {describe(problem)}"
        elif not isinstance(problem, dns.exception.Timeout | dns.message.Truncated):
            said = f"the name server's answer for {name} is malformed"
    return said


def _explanation(response: dns.message.Message | None) -> str:
    """Return what an extended DNS error (RFC 8914) adds; its text is the server's, and left out."""
    errors = [] if response is None else response.extended_errors()
    names = ", ".join(error.code.name.replace("_", " ") for error in errors)
    return f" ({names})" if names else ""
