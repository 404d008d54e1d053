"""Asks name servers, and says what their answers come to.

An answer that says "no such name" or "no such record" is an answer. Whatever else happens, from
SERVFAIL (which is what a validating name server makes of forged records) to silence, is an error
and never taken for one: else whoever can suppress an answer chooses where we connect to.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.resolver
from dns.rdatatype import RdataType
from dns.rdtypes.IN.SRV import SRV

from proxy.net.lookup import Lookup, Malformed, Problem, Refused, Server, Unreachable
from proxy.net.tcp import is_address

LIFETIME: Final = 5.0
"""Seconds until a lookup has failed."""

MOST_RECORDS: Final = 20
"""Records of one name, and targets of one domain, that are taken; others are ignored."""

SHORTEST: Final = 1.0
"""Seconds that an answer is kept at least."""

FAILURE: Final = 5.0
"""Seconds that a failure is kept (RFC 9520, section 3.2)."""

_SYSTEM: Final = Path("/etc/resolv.conf")
_LONGEST: Final = 86_400.0
_LONGEST_NEGATIVE: Final = 300.0


class LookupFailedError(Exception):
    """A lookup gave nothing to connect to; the message is one clause that says why.

    Attributes:
        absent: whether it is certain that there is no such domain, host or service. False if
            that is not known, as after SERVFAIL, a timeout or a malformed answer.
        overload: whether it is we who have too much to do, which says nothing of the name.
    """

    def __init__(self, reason: str, *, absent: bool = False, overload: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent
        self.overload = overload


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


Outcome = Records | LookupFailedError


class NameServers:
    """Some name servers.

    Args:
        servers: their addresses and ports; none for the system's, which are read anew when they
            change. Search lists are not looked at, nor are host files.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._own = tuple(servers)
        self._system: tuple[int, dns.resolver.Resolver] | None = None

    def ask(
        self,
        reactor: Any,
        name: str,
        kind: RdataType,
        answered: Callable[[Outcome], None],
        *,
        seconds: float,
    ) -> Lookup:
        """Return what asks for the records of a name, aliases followed, once it is started.

        Args:
            reactor: the reactor.
            name: the name, without a final dot.
            kind: the type of record.
            answered: gets the outcome.
            seconds: how long it may take.

        Raises:
            LookupFailedError: nobody can be asked.
        """
        try:
            absolute = dns.name.from_text(f"{name}.")
        except dns.exception.DNSException as error:
            reason = f"{name} cannot be looked up: {type(error).__name__}"
            raise LookupFailedError(reason) from error

        def tell(make: Callable[[], Outcome]) -> None:
            try:
                outcome = make()
            except Exception as error:  # noqa: BLE001 - else nobody would ever be told
                outcome = LookupFailedError(f"the lookup of {name} failed: {error!r}")
            answered(outcome)

        return Lookup(
            reactor,
            self.servers(),
            absolute,
            kind,
            answered=lambda response, chain: tell(lambda: _records(response, chain, kind)),
            failed=lambda problems: tell(lambda: _complaint(problems, name, seconds)),
            seconds=seconds,
        )

    def servers(self) -> tuple[Server, ...]:
        """Return the addresses and ports, in the order in which they are to be asked.

        Raises:
            LookupFailedError: there are none.
        """
        if self._own:
            return self._own
        try:
            resolver = self._resolver()
        except (dns.resolver.NoResolverConfiguration, ValueError) as error:
            raise LookupFailedError("no name server is configured") from error
        servers = [
            (address, resolver.port)
            for address in resolver.nameservers
            if isinstance(address, str) and is_address(address)
        ]
        if not servers:
            raise LookupFailedError("no name server is configured")
        if resolver.rotate:
            random.shuffle(servers)
        return tuple(servers)

    def _resolver(self) -> dns.resolver.Resolver:
        """Return what the system's configuration says."""
        try:
            stamp = _SYSTEM.stat().st_mtime_ns
        except OSError:
            stamp = -1
        system = self._system
        if system is None or system[0] != stamp:
            system = self._system = stamp, dns.resolver.Resolver(str(_SYSTEM))
        return system[1]


def _records(
    response: dns.message.QueryMessage, chain: dns.message.ChainingResult, kind: RdataType
) -> Records:
    """Return what an answer holds."""
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


def _complaint(problems: Iterable[Problem], name: str, seconds: float) -> LookupFailedError:
    """Return what went wrong, of all name servers that which says most."""
    said = LookupFailedError(f"no name server gave a usable answer for {name} within {seconds:g} s")
    for problem in problems:
        match problem:
            case Refused(response):
                code = dns.rcode.to_text(response.rcode())
                return LookupFailedError(
                    f"the name server answered {code}{_explanation(response)} for {name}"
                )
            case Unreachable(reason, ours):
                said = LookupFailedError(
                    f"no name server can be reached for {name}: {reason}", overload=ours
                )
            case Malformed():
                said = LookupFailedError(f"the name server's answer for {name} is malformed")
    return said


def _explanation(response: dns.message.Message) -> str:
    """Return what an extended DNS error (RFC 8914) adds; its text is the server's, and left out."""
    errors = response.extended_errors()
    names = ", ".join(error.code.name.replace("_", " ") for error in errors)
    return f" ({names})" if names else ""
