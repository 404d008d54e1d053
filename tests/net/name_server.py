"""A name server that says what a test wants, on loopback, by UDP and TCP, in threads of its own."""

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import attrs
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.edns import EDECode
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from tests.servers.program import HOST


@attrs.frozen
class Asked:
    """A question that came."""

    name: str
    kind: str
    tcp: bool
    flags: int
    dnssec: bool


class NameServer:
    """Knows the records it is given; other names do not exist.

    Args:
        host: the address of this machine where it listens.
        port: the port, over UDP and TCP; 0 for any.

    Attributes:
        asked: the questions that came, in order.
        authenticated: whether it sets the AD bit.
        minimum: the TTL that a SOA record gives negative answers; None for no such record.
        bogus: whether SERVFAIL is explained by an extended DNS error.
        explanation: which one that is.
    """

    def __init__(self, host: str = HOST, port: int = 0) -> None:
        self._host = host
        self.asked: list[Asked] = []
        self.authenticated = False
        self.minimum: int | None = 60
        self.bogus = False
        self.explanation = EDECode.DNSSEC_BOGUS
        self._unsigned: set[dns.name.Name] = set()
        self._records: dict[tuple[dns.name.Name, RdataType], dns.rrset.RRset] = {}
        self._codes: dict[tuple[dns.name.Name, RdataType], Rcode] = {}
        self._silent: set[tuple[dns.name.Name, RdataType]] = set()
        self._malformed: set[tuple[dns.name.Name, RdataType]] = set()
        self._held = threading.Event()
        self._held.set()
        while True:
            self._tcp = _TCPServer((host, port), _OverTCP)
            self.port: int = self._tcp.server_address[1]
            try:
                self._udp = _UDPServer((host, self.port), _OverUDP)
                break
            except OSError:  # the UDP port may be another's
                self._tcp.server_close()
                if port:
                    raise
        self._tcp.names = self._udp.names = self
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            for server in (self._tcp, self._udp)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.set()
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._host, self.port

    def add(self, name: str, kind: str, *values: str, ttl: int = 300) -> None:
        """Know records, in the form of zone files (``0 5 5222 xmpp.example.net.``)."""
        rrset = dns.rrset.from_text(_absolute(name), ttl, "IN", kind, *values)
        self._records[rrset.name, rrset.rdtype] = rrset

    def add_octets(self, name: str, kind: str, *values: bytes, ttl: int = 300) -> None:
        """Know records whose data is not what that type asks for."""
        owner, rdtype = _key(name, kind)
        rrset = dns.rrset.RRset(owner, RdataClass.IN, rdtype)
        for value in values:
            rrset.add(dns.rdata.GenericRdata(RdataClass.IN, rdtype, value), ttl)
        self._records[owner, rdtype] = rrset

    def distrust(self, name: str) -> None:
        """Leave the AD bit out where an answer has to do with a name or one below it."""
        self._unsigned.add(_absolute(name))

    def fail(self, name: str, kind: str, code: Rcode = Rcode.SERVFAIL) -> None:
        """Answer a question with a response code."""
        self._codes[_key(name, kind)] = code

    def ignore(self, name: str, kind: str) -> None:
        """Do not answer a question."""
        self._silent.add(_key(name, kind))

    def spoil(self, name: str, kind: str) -> None:
        """Answer a question with bytes that are no record."""
        self._malformed.add(_key(name, kind))

    def forget(self) -> None:
        """Know nothing any more; what was asked is forgotten too."""
        for memory in (self._records, self._codes, self._silent, self._malformed, self.asked):
            memory.clear()
        self._unsigned.clear()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Answer nothing until the end of the block, and then all."""
        self._held.clear()
        try:
            yield
        finally:
            self._held.set()

    def questions(self) -> list[tuple[str, str]]:
        """Return names and types of what was asked."""
        return [(asked.name, asked.kind) for asked in self.asked]

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return what answers a query; None if nothing does."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        key = question.name, question.rdtype
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        dnssec = bool(query.ednsflags & dns.flags.DO)
        self.asked.append(Asked(name, kind, tcp, query.flags, dnssec))
        self._held.wait()
        if key in self._silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if self.authenticated:
            response.flags |= dns.flags.AD
        if key in self._malformed:
            broken = b"\xc0\x0c" + struct.pack("!HHIH", question.rdtype, 1, 300, 3) + b"\0\0\0"
            plain = bytearray(response.to_wire())
            plain[6:8] = struct.pack("!H", 1)  # the number of answers
            return bytes(plain) + broken
        if key in self._codes:
            response.set_rcode(self._codes[key])
            if self.bogus:
                bogus = dns.edns.EDEOption(self.explanation, "text of the server")
                response.use_edns(0, options=[bogus])
        else:
            self._fill(response, *key)
            if self._unsigned and self._touches_unsigned(response):
                response.flags &= ~dns.flags.AD
        return _sized(response, query, tcp=tcp)

    def _touches_unsigned(self, response: dns.message.Message) -> bool:
        names = [each.name for each in (*response.question, *response.answer)]
        names += [each[0].target for each in response.answer if each.rdtype == RdataType.CNAME]
        return any(name.is_subdomain(above) for name in names for above in self._unsigned)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: RdataType) -> None:
        while (alias := self._records.get((name, RdataType.CNAME))) is not None:
            response.answer.append(alias)
            name = alias[0].target
        rrset = self._records.get((name, kind))
        if rrset is not None:
            response.answer.append(rrset)
            return
        if not any(known.is_subdomain(name) for known, _ in self._records):
            response.set_rcode(Rcode.NXDOMAIN)
        if self.minimum is not None:
            data = f"ns.example. root.example. 1 3600 600 86400 {self.minimum}"
            response.authority.append(dns.rrset.from_text(".", 3600, "IN", "SOA", data))


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name)


def _key(name: str, kind: str) -> tuple[dns.name.Name, RdataType]:
    return _absolute(name), dns.rdatatype.from_text(kind)


def _sized(response: dns.message.Message, query: dns.message.Message, *, tcp: bool) -> bytes:
    """Return the answer as it goes out: truncated where it is too long for UDP."""
    if tcp:
        return response.to_wire(max_size=65535)
    try:
        return response.to_wire(max_size=query.payload or 512)
    except dns.exception.TooBig:
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()


class _UDPServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False
    names: NameServer


class _TCPServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    names: NameServer


class _OverUDP(socketserver.BaseRequestHandler):
    server: _UDPServer

    def handle(self) -> None:
        wire, replies = self.request
        answer = self.server.names.answer(wire, tcp=False)
        if answer is not None:
            replies.sendto(answer, self.client_address)


class _OverTCP(socketserver.StreamRequestHandler):
    server: _TCPServer
    request: socket.socket

    def handle(self) -> None:
        (length,) = struct.unpack("!H", self.rfile.read(2))
        answer = self.server.names.answer(self.rfile.read(length), tcp=True)
        if answer is not None:
            self.wfile.write(struct.pack("!H", len(answer)) + answer)
