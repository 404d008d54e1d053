"""Asks name servers, and says what their answers come to.

An answer that says "no such name" or "no such record" is an answer. Whatever else happens, from
SERVFAIL (which is what a validating name server makes of forged records) to silence, is an error
and never taken for one: else whoever can suppress an answer chooses where we connect to.

Signatures are not checked here. A name server that does says by the AD bit that an answer is secure
(RFC 4035, section 3.2.3); whether it may be believed depends on who it is and on the way to it. If
any may, no others are asked: else what it has found to be forged would come from the next one, as
if there were no signatures.
"""

import io
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import attrs
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.resolver
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.TLSA import TLSA
from dns.rdtypes.IN.SRV import SRV

from proxy.net.lookup import Answer, Lookup, Malformed, Problem, Refused, Server, Unreachable
from proxy.net.targets import literal, unmapped
from proxy.net.tcp import is_address
from proxy.net.validating import Validating

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
_TRUST_AD: Final = "trust-ad"

_BOGUS: Final = frozenset(
    (
        dns.edns.EDECode.DNSSEC_BOGUS,
        dns.edns.EDECode.SIGNATURE_EXPIRED,
        dns.edns.EDECode.SIGNATURE_NOT_YET_VALID,
        dns.edns.EDECode.DNSKEY_MISSING,
        dns.edns.EDECode.RRSIGS_MISSING,
        dns.edns.EDECode.NO_ZONE_KEY_BIT_SET,
        dns.edns.EDECode.NSEC_MISSING,
    )
)
"""What extended DNS errors (RFC 8914) call records that did not stand up to validation."""


class Security(Enum):
    """What is known of answers by DNSSEC (RFC 4035, section 4.3).

    What is bogus is no answer but a failure, and what is indeterminate counts as insecure, as does
    all that a name server says that is not believed.
    """

    SECURE = "secure"
    """A name server that is believed has checked all signatures, of aliases too."""
    INSECURE = "insecure"
    """It has not, as there are none or nobody is believed: it may be forged."""


class LookupFailedError(Exception):
    """A lookup gave nothing to connect to; the message is one clause that says why.

    Attributes:
        absent: whether it is certain that there is no such domain, host or service. False if
            that is not known, as after SERVFAIL, a timeout or a malformed answer.
        overload: whether it is we who have too much to do, which says nothing of the name.
        bogus: whether a name server says that signatures are wrong or missing. Not all say why
            they fail, so that False says nothing; who must tell bogus from absent needs `absent`.
    """

    def __init__(
        self, reason: str, *, absent: bool = False, overload: bool = False, bogus: bool = False
    ) -> None:
        super().__init__(reason)
        self.absent = absent
        self.overload = overload
        self.bogus = bogus

    def again(self) -> "LookupFailedError":
        """Return one that says the same; raising it leaves the traceback of this one alone."""
        return LookupFailedError(
            str(self), absent=self.absent, overload=self.overload, bogus=self.bogus
        )


@attrs.frozen
class Records:
    """What DNS says of one name and type.

    Attributes:
        values: the records, at most `MOST_RECORDS`; of SRV those of the lowest priorities, of TLSA
            all, and for each that is malformed one without parameters that anybody knows.
        exists: whether the name exists; False for NXDOMAIN.
        security: whether that is secure: the records and all aliases on the way to them, or that
            there are none.
        seconds: how long it holds.
    """

    values: tuple[dns.rdata.Rdata, ...]
    exists: bool
    security: Security
    seconds: float


Outcome = Records | LookupFailedError


class NameServers:
    """Some name servers.

    Args:
        servers: their addresses and ports; none for the system's, which are read anew when they
            change. Search lists are not looked at, nor are host files.
        validating: which of them are believed. If any is, the others are not asked.
    """

    def __init__(self, servers: Sequence[Server], validating: Validating = Validating.AUTO) -> None:
        self._own = tuple(servers)
        self._validating = validating
        self._system: tuple[int, _System] | None = None

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

        asked, believed = self._asked()

        def tell(make: Callable[[], Outcome]) -> None:
            try:
                outcome = make()
            except Exception as error:  # noqa: BLE001 - else nobody would ever be told
                outcome = LookupFailedError(f"the lookup of {name} failed: {error!r}")
            answered(outcome)

        return Lookup(
            reactor,
            asked,
            absolute,
            kind,
            answered=lambda answer: tell(lambda: _records(answer, kind, believed)),
            failed=lambda problems: tell(lambda: _complaint(problems, name, seconds)),
            seconds=seconds,
        )

    def servers(self) -> tuple[Server, ...]:
        """Return the addresses and ports, in the order in which they are to be asked.

        Raises:
            LookupFailedError: there are none.
        """
        return self._asked()[0]

    def believed(self) -> bool:
        """Whether those that are asked are believed about DNSSEC.

        Raises:
            LookupFailedError: nobody can be asked.
        """
        return bool(self._asked()[1])

    def _asked(self) -> tuple[tuple[Server, ...], frozenset[Server]]:
        """Return who is asked, in order, and who of these is believed: all or none."""
        servers, vouched = (self._own, False) if self._own else self._of_system()
        believed = tuple(each for each in servers if self._believes(each, vouched=vouched))
        return believed or servers, frozenset(believed)

    def _believes(self, server: Server, *, vouched: bool) -> bool:
        match self._validating:
            case Validating.YES:
                return True
            case Validating.AUTO:
                return vouched or _is_loopback(server[0])
            case _:
                return False

    def _of_system(self) -> tuple[tuple[Server, ...], bool]:
        """Return the system's, and whether it vouches for them."""
        try:
            system = self._read_system()
        except (OSError, dns.exception.DNSException, ValueError) as error:
            raise LookupFailedError("no name server is configured") from error
        if not system.servers:
            raise LookupFailedError("no name server is configured")
        servers = list(system.servers)
        if system.rotates:
            random.shuffle(servers)
        return tuple(servers), system.vouches

    def _read_system(self) -> "_System":
        """Return what the system's configuration says."""
        try:
            stamp = _SYSTEM.stat().st_mtime_ns
        except OSError:
            stamp = -1
        system = self._system
        if system is None or system[0] != stamp:
            system = self._system = stamp, _System.read(_SYSTEM.read_text("utf-8", "replace"))
        return system[1]


@attrs.frozen
class _System:
    """The name servers of a ``resolv.conf``.

    Attributes:
        servers: they, in order.
        rotates: whether they are asked by turns.
        vouches: whether they, and the way to them, may be trusted (``trust-ad``).
    """

    servers: tuple[Server, ...]
    rotates: bool
    vouches: bool

    @classmethod
    def read(cls, text: str) -> "_System":
        read = dns.resolver.Resolver(io.StringIO(text))
        servers = [
            (address, read.port)
            for address in read.nameservers
            if isinstance(address, str) and is_address(address)
        ]
        words = [line.split() for line in text.splitlines()]
        vouches = any(line[:1] == ["options"] and _TRUST_AD in line for line in words)
        return cls(tuple(servers), read.rotate, vouches)


def _is_loopback(address: str) -> bool:
    plain = literal(unmapped(address))
    return plain is not None and plain.is_loopback


def _records(answer: Answer, kind: RdataType, believed: Collection[Server]) -> Records:
    """Return what an answer holds."""
    response, chain = answer.response, answer.chain
    values: list[dns.rdata.Rdata] = list(chain.answer or ())
    if kind is RdataType.SRV:
        values.sort(key=lambda record: record.priority if isinstance(record, SRV) else 0)
    if kind is RdataType.TLSA:
        # One that is left out may be the one that counts.
        values += [_MALFORMED] * len(response.errors)
    else:
        del values[MOST_RECORDS:]
    longest = _LONGEST
    if not values:
        # Without a SOA record nothing says how long there will be none (RFC 2308, section 5).
        known = any(rrset.rdtype == RdataType.SOA for rrset in response.authority)
        longest = _LONGEST_NEGATIVE if known else SHORTEST
    secure = response.flags & dns.flags.AD and answer.server in believed
    return Records(
        values=tuple(values),
        exists=response.rcode() != dns.rcode.NXDOMAIN,
        security=Security.SECURE if secure else Security.INSECURE,
        seconds=min(max(chain.minimum_ttl, SHORTEST), longest),
    )


_MALFORMED: Final[dns.rdata.Rdata] = TLSA(  # type: ignore[no-untyped-call]
    RdataClass.IN, RdataType.TLSA, usage=255, selector=255, mtype=255, cert=b""
)
"""Its parameters are for private use (RFC 6698, section 7)."""


def _complaint(problems: Iterable[Problem], name: str, seconds: float) -> LookupFailedError:
    """Return what went wrong, of all name servers that which says most."""
    said = LookupFailedError(f"no name server gave a usable answer for {name} within {seconds:g} s")
    for problem in problems:
        match problem:
            case Refused(response):
                code = dns.rcode.to_text(response.rcode())
                errors = {error.code for error in response.extended_errors()}
                return LookupFailedError(
                    f"the name server answered {code}{_explanation(response)} for {name}",
                    bogus=not _BOGUS.isdisjoint(errors),
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
