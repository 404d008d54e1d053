"""Fetching POSH documents: real servers and handshakes, and a scripted name server."""

import base64
import datetime as dt
import hashlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from proxy.net import https as https_module
from proxy.net import posh as posh_module
from proxy.net.https import HEADERS
from proxy.net.leg import Leg
from proxy.net.posh import FAILURE, Posh, PoshError
from proxy.net.resolver import Resolver
from proxy.net.targets import forbidden
from proxy.net.tls import client_context
from proxy.trust.policy import Level, Pattern, Pin, Policy
from proxy.trust.posh import LARGEST_DOCUMENT, Document, Fingerprint, Material
from proxy.trust.revocation import NO_LISTS, RevocationLists
from tests.authority import Authority, now
from tests.net.certificates import BAD, Authorities, Bad
from tests.net.name_server import NameServer
from tests.net.steady import SteadyTurning, turning
from tests.net.web_site import WebSite, document
from tests.servers.program import HOST, free_port
from tests.trust.revoking import FILE, crl, entry, revocation

__all__ = ["turning"]

DOMAIN = "example.net"
HOSTING = "web.hosting.example"
SERVICE = "xmpp-server"
PATH = f"/.well-known/posh/{SERVICE}.json"
URL = f"https://{DOMAIN}{PATH}"
SECOND = dt.timedelta(seconds=1)

Pair = tuple[Path, Path]


def prints(*texts: bytes, expires: object = 3600) -> dict[str, Any]:
    """A fingerprints document about "certificates"."""
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
    return {"fingerprints": [{"sha-256": each} for each in hashes], "expires": expires}


def read(text: bytes, seconds: int = 3600) -> Document:
    """What `prints` of one text says."""
    digests = (("sha-256", hashlib.sha256(text).digest()),)
    return Document((Fingerprint(digests),), seconds)


ONE = prints(b"one")
GOOD = document(ONE)


@attrs.define
class Fetching:
    """What fetches, on a reactor that is turned until there is an outcome."""

    turning: SteadyTurning
    names: NameServer
    authority: Authority
    policy: Policy
    stack: ExitStack
    posh: Any = None
    clock: dt.datetime = attrs.field(factory=now)
    revocation: RevocationLists = NO_LISTS

    def site(self, *answers: bytes, files: Pair | None = None, **how: Any) -> WebSite:
        """Have the domain's web site answer so, and fetch from there."""
        site = WebSite(files or self.authority.issue(DOMAIN), *answers, **how)
        self.stack.enter_context(site)
        self.begin(site.port)
        return site

    def hosting(self, *answers: bytes, files: Pair | None = None, **how: Any) -> WebSite:
        """Have another web site answer so."""
        site = WebSite(files or self.authority.issue(HOSTING), *answers, **how)
        return self.stack.enter_context(site)

    def silence(self) -> None:
        """Fetch from where connections are taken and nothing is said."""
        listening = self.stack.enter_context(socket.create_server((HOST, 0)))
        self.begin(listening.getsockname()[1])

    def begin(self, port: int) -> None:
        """Fetch from this port."""
        resolver = Resolver(self.turning.reactor, [self.names.address])
        self.stack.callback(resolver.close)
        context = client_context(self.policy)
        self.posh = Posh(
            self.turning.reactor,
            resolver,
            context=lambda _domain: context,
            policy=lambda _domain: self.policy,
            port=port,
            now=lambda: self.clock,
            revocation=lambda: self.revocation,
        )

    def fetch(self, domain: str = DOMAIN, *, anew: bool = False) -> Material:
        outcome = self.begun(domain, anew=anew)
        self.turning.until(lambda: outcome)
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        assert isinstance(outcome[0], Material)
        return outcome[0]

    def begun(self, domain: str = DOMAIN, *, anew: bool = False) -> list[Any]:
        """Begin to fetch; what comes of it goes into the list."""
        outcome: list[Any] = []
        self.posh.fetch(domain, SERVICE, anew=anew).addBoth(outcome.append)
        return outcome

    def problem(self, domain: str = DOMAIN, *, anew: bool = False) -> str:
        with pytest.raises(PoshError) as caught:
            self.fetch(domain, anew=anew)
        return str(caught.value)

    def cached(self) -> Any:
        return self.posh.cached(DOMAIN, SERVICE, self.clock)

    def legs(self) -> list[Leg]:
        """The connections to web sites."""
        return [each for each in self.turning.reactor.getReaders() if isinstance(each, Leg)]

    def still(self) -> None:
        """Nothing is left of connections, nor of deadlines."""
        self.turning.until(lambda: not self.legs())
        calls = [call.func for call in self.turning.reactor.getDelayedCalls()]
        assert [call for call in calls if "_expire" in str(call)] == []


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        names.add(DOMAIN, "A", HOST)
        names.add(HOSTING, "A", HOST)
        yield names


@pytest.fixture
def fetching(turning: SteadyTurning, names: NameServer, authority: Authority) -> Iterator[Fetching]:
    policy = Policy(Pattern("*"), anchors=authority.ca_path, private_addresses=True)
    with ExitStack() as stack:
        fetching = Fetching(turning, names, authority, policy, stack)
        yield fetching
        if fetching.posh is not None:
            fetching.posh.close()
            fetching.still()


# What is fetched


def test_a_document_is_fetched_and_kept(fetching: Fetching) -> None:
    site = fetching.site(GOOD)
    assert fetching.cached() is None
    material = Material(DOMAIN, SERVICE, read(b"one"), fetching.clock)
    assert fetching.fetch() == material
    assert fetching.fetch() == material
    assert fetching.cached() == material
    assert site.requests() == [f"GET {PATH} HTTP/1.1"]
    fields = site.received[0].decode().lower().split("\r\n")[1:-2]
    assert sorted(fields) == [
        "accept: application/json",
        "connection: close",
        f"host: {DOMAIN}",
        "user-agent: bascule",
    ]


def test_services_are_kept_apart(fetching: Fetching) -> None:
    site = fetching.site(GOOD, document(prints(b"two")))
    fetching.fetch()
    assert fetching.posh.cached(DOMAIN, "xmpp-client", fetching.clock) is None
    outcome: list[Any] = []
    fetching.posh.fetch(DOMAIN, "xmpp-client").addBoth(outcome.append)
    fetching.turning.until(lambda: outcome)
    assert outcome[0].document == read(b"two")
    assert site.requests()[1] == "GET /.well-known/posh/xmpp-client.json HTTP/1.1"
    assert fetching.cached().document == read(b"one")


@pytest.mark.parametrize("service", ["_xmpp-server", "", "../x", "xmpp-server "])
def test_other_services_are_unknown(fetching: Fetching, service: str) -> None:
    fetching.begin(1)
    with pytest.raises(ValueError, match="no service"):
        fetching.posh.fetch(DOMAIN, service)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEXT = GOOD.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(TEXT), TEXT),
        b"HTTP/1.0 200 OK\r\n\r\n" + TEXT,
        b"HTTP/1.1 200 OK\r\nContent-Type: APPLICATION/json; charset=utf-8\r\n\r\n" + TEXT,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOOD,
    ],
    ids=["chunked", "without length", "with charset", "after hints"],
)
@pytest.mark.parametrize("pieces", [0, 7])
def test_ways_to_answer(fetching: Fetching, answer: bytes, pieces: int) -> None:
    fetching.site(answer, pieces=pieces)
    assert fetching.fetch().document == read(b"one")


def test_the_policys_revocation_lists_are_for_web_sites_too(
    fetching: Fetching, authority: Authority
) -> None:
    files = authority.issue(DOMAIN)
    serial = x509.load_pem_x509_certificate(files[0].read_bytes()).serial_number
    fetching.policy = attrs.evolve(fetching.policy, crl_files=(FILE,))
    fetching.site(GOOD, files=files)
    assert "the revocation lists of its policy were not read" in fetching.problem()
    fetching.clock += FAILURE
    fetching.revocation = revocation(crl(authority, entry(serial)))
    assert "revoked" in fetching.problem()
    fetching.clock += FAILURE
    fetching.revocation = revocation(crl(authority))
    assert fetching.fetch().document == read(b"one")


def test_the_policys_pins_and_level_are_not_for_web_sites(fetching: Fetching) -> None:
    pins = frozenset({Pin.parse("00" * 32)})
    fetching.policy = attrs.evolve(fetching.policy, level=Level.PIN, pins=pins)
    fetching.site(GOOD)
    assert fetching.fetch().document == read(b"one")


# Who may say it


@pytest.mark.parametrize(
    "bad", [bad for bad in BAD if bad.name != "ten-thousand"], ids=lambda bad: bad.name
)
@pytest.mark.parametrize("level", [Level.SECURE, Level.ENCRYPT])
def test_attack_a_site_that_does_not_prove_its_name_is_not_even_asked(
    fetching: Fetching, tmp_path: Path, bad: Bad, level: Level
) -> None:
    """Whatever the level of the domain is: the fingerprints would prove the domain."""
    fetching.policy = attrs.evolve(fetching.policy, level=level)
    files = bad.issue(Authorities(tmp_path, fetching.authority), DOMAIN)
    site = fetching.site(GOOD, files=files)
    assert fetching.problem().startswith(f"{URL} cannot be fetched: ")
    assert site.connections == 1
    assert not any(site.received)


@pytest.mark.parametrize(
    "identities",
    [{"xmpp": [DOMAIN]}, {"srv": [f"_https.{DOMAIN}", f"_xmpp-server.{DOMAIN}"]}],
    ids=["XmppAddr", "SRV-ID"],
)
def test_attack_certificates_for_xmpp_alone_are_not_for_web_sites(
    fetching: Fetching, identities: dict[str, Any]
) -> None:
    site = fetching.site(GOOD, files=fetching.authority.issue(DOMAIN, dns=[], **identities))
    assert "names it, but not as a host (DNS-ID)" in fetching.problem()
    assert not any(site.received)


def test_attack_a_check_that_fails_is_no_proof(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **_named: object) -> None:
        raise ZeroDivisionError

    site = fetching.site(GOOD)
    monkeypatch.setattr(https_module, "judge", broken)
    assert "could not be read (ZeroDivisionError)" in fetching.problem()
    assert not any(site.received)


def test_attack_private_addresses_are_not_asked(fetching: Fetching) -> None:
    fetching.policy = attrs.evolve(fetching.policy, private_addresses=False)
    site = fetching.site(GOOD)
    assert fetching.problem() == f"{URL} cannot be fetched: 127.0.0.1 is a loopback address"
    assert site.connections == 0


def test_attack_references_to_private_addresses_are_not_followed(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosting = fetching.hosting(GOOD)
    fetching.policy = attrs.evolve(fetching.policy, private_addresses=False)
    site = fetching.site(document({"url": f"https://{HOSTING}:{hosting.port}/", "expires": 9}))
    allowed = (HOST, site.port)
    monkeypatch.setattr(https_module, "is_ours", lambda _: False)
    monkeypatch.setattr(
        https_module, "forbidden", lambda *place: None if place == allowed else forbidden(*place)
    )
    assert "127.0.0.1 is a loopback address" in fetching.problem()
    assert len(site.received) == 1
    assert hosting.connections == 0


def test_this_machine_itself_is_not_asked(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching.policy = attrs.evolve(fetching.policy, private_addresses=False)
    site = fetching.site(GOOD)
    monkeypatch.setattr(https_module, "forbidden", lambda *_: None)
    assert "127.0.0.1 is this machine itself" in fetching.problem()
    assert site.connections == 0


@pytest.mark.parametrize("domain", ["192.0.2.1", "::1", "a..b", "x" * 300])
def test_what_is_no_host_has_no_site(fetching: Fetching, domain: str) -> None:
    fetching.begin(1)
    assert "can have no web site" in fetching.problem(domain)


def test_sites_that_are_not_there(fetching: Fetching, names: NameServer) -> None:
    fetching.begin(free_port())
    assert "cannot be reached" in fetching.problem()
    assert "the name nowhere.example does not exist" in fetching.problem("nowhere.example")


# What is no document

REDIRECTION = f"Location: https://{HOSTING}/"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (document({}, status="404 Not Found"), "has no such document (status 404)"),
        (document(ONE, REDIRECTION, status="302 Found"), "redirects (status 302), which is not"),
        (document(ONE, REDIRECTION, status="301 Moved"), "redirects (status 301), which is not"),
        (document(ONE, status="203 Other"), "answered with status 203"),
        (document(ONE, status="500 Error"), "answered with status 500"),
        (document(ONE, "Content-Type: text/html"), "answered with text/html, and not with JSON"),
        (document(ONE, "Content-Type: \x1b[31m"), "answered with \\x1b[31m, and not"),
        (document(ONE, "Content-Encoding: gzip"), "in an encoding that was not asked for"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answered with status 204"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "gave no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", "gave no answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n{}", "gave no answer"),
        (CHUNKED + b"x\r\n", "gave no answer"),
        (CHUNKED + b"5\r\n", "gave no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + TEXT, "gave no answer"),
        (b"HTTP/1.1 200 OK\r\nA: b", "gave no answer"),
        (b"", "gave no answer"),
    ],
)
@pytest.mark.parametrize("polite", [True, False])
def test_answers_that_are_no_document(
    fetching: Fetching, answer: bytes, text: str, polite: bool
) -> None:
    site = fetching.site(answer, polite=polite)
    problem = fetching.problem()
    assert problem.startswith(f"{URL} cannot be fetched: {DOMAIN} ")
    assert text in problem
    assert site.connections == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (document(b"garbage"), "it is not JSON in UTF-8"),
        (document(b""), "it is not JSON in UTF-8"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + TEXT[:-1], "it is not JSON in UTF-8"),
        (document(prints(b"one", expires=0)), 'it is withdrawn ("expires" is 0)'),
        (document({"fingerprints": [], "expires": 1}), "are not an array of some"),
        (document({"url": f"http://{HOSTING}/", "expires": 1}), 'its "url" cannot be used'),
        (document({"url": f"https://{HOST}/", "expires": 1}), 'its "url" cannot be used'),
        (document(b" " * LARGEST_DOCUMENT + b"{}"), "it is larger than 65536 octets"),
    ],
)
@pytest.mark.parametrize("polite", [True, False])
def test_documents_that_do_not_count(
    fetching: Fetching, answer: bytes, text: str, polite: bool
) -> None:
    fetching.site(answer, polite=polite)
    problem = fetching.problem()
    assert problem.startswith(f"{URL} is no POSH document that counts: ")
    assert text in problem


ENDLESS = LARGEST_DOCUMENT + HEADERS + 100_000


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * ENDLESS,
        document(b" " * ENDLESS),
        b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"b" * 1000) * 200 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nA: b\r\n" + b" c\r\n" * 50_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
        CHUNKED + b"1\r\n \r\n" * 50_000,
    ],
    ids=["body", "length", "fields", "folded", "hints", "chunks"],
)
def test_attack_too_much_is_given_up(fetching: Fetching, answer: bytes) -> None:
    fetching.site(answer)
    assert fetching.problem() == f"{URL} cannot be fetched: {DOMAIN} answered with too much"


# How long it may take


@pytest.mark.parametrize("way", ["pause", "drip", "silent", "hop"])
def test_attack_slow_sites_are_given_up(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The deadline is for all of it."""
    monkeypatch.setattr(posh_module, "SECONDS", 60)
    if way == "silent":
        fetching.silence()
    elif way == "hop":
        asked = fetching.hosting(GOOD, pause=600)
        fetching.site(document({"url": f"https://{HOSTING}:{asked.port}/", "expires": 9}))
    elif way == "drip":
        asked = fetching.site(document(b" " * 60_000), pieces=1)
    else:
        asked = fetching.site(GOOD, pause=600)
    outcome = fetching.begun()
    fetching.turning.until(lambda: fetching.legs() if way == "silent" else asked.received)
    fetching.turning.turn()
    for _ in range(2):
        assert not outcome
        fetching.turning.reactor.advance(30)
    assert str(outcome[0].value) == f"the POSH document of {DOMAIN} took over 60 s"
    assert str(fetching.cached()) == f"the POSH document of {DOMAIN} took over 60 s"


# References


def refer(port: int, path: str = "/posh?x=1", expires: int = 3600) -> bytes:
    return document({"url": f"https://{HOSTING}:{port}{path}", "expires": expires})


def test_a_reference_is_followed(fetching: Fetching) -> None:
    hosting = fetching.hosting(GOOD)
    fetching.site(refer(hosting.port))
    assert fetching.fetch() == Material(DOMAIN, SERVICE, read(b"one"), fetching.clock)
    assert hosting.requests() == ["GET /posh?x=1 HTTP/1.1"]


@pytest.mark.parametrize(("first", "second"), [(50, 100), (100, 50)])
def test_the_lesser_lifetime_counts(fetching: Fetching, first: int, second: int) -> None:
    hosting = fetching.hosting(document(prints(b"one", expires=second)))
    fetching.site(refer(hosting.port, expires=first))
    assert fetching.fetch().document.seconds == 50
    fetching.clock += 49 * SECOND
    assert fetching.cached() is not None
    fetching.clock += SECOND
    assert fetching.cached() is None


def test_attack_a_second_reference_is_not_followed(fetching: Fetching) -> None:
    third = fetching.hosting(GOOD)
    hosting = fetching.hosting(refer(third.port))
    fetching.site(refer(hosting.port))
    assert fetching.problem().endswith(" is a POSH document that refers to yet another one")
    assert third.connections == 0


def test_attack_a_reference_to_itself_is_not_followed(fetching: Fetching) -> None:
    site = fetching.site(GOOD)
    url = f"https://{DOMAIN}:{site.port}{PATH}"
    site.answers = [document({"url": url, "expires": 9})]
    assert fetching.problem().endswith(" is a POSH document that refers to yet another one")
    assert site.connections == 2


@pytest.mark.parametrize("name", [DOMAIN, "elsewhere.example"])
def test_attack_who_is_referred_to_must_prove_its_own_name(fetching: Fetching, name: str) -> None:
    hosting = fetching.hosting(GOOD, files=fetching.authority.issue(name))
    fetching.site(refer(hosting.port))
    assert f"the certificate is for {name}, not for {HOSTING}" in fetching.problem()
    assert not any(hosting.received)


def test_ports_of_other_services_are_not_asked(fetching: Fetching) -> None:
    fetching.policy = attrs.evolve(fetching.policy, private_addresses=False)
    site = fetching.site(refer(25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(https_module, "is_ours", lambda _: False)
        patch.setattr(
            https_module,
            "forbidden",
            lambda _, port: None if port == site.port else forbidden("1.1.1.1", port),
        )
        assert "port 25 is not one of XMPP" in fetching.problem()


# What is kept


def test_a_changed_document_counts_when_the_old_one_is_out_of_date(fetching: Fetching) -> None:
    site = fetching.site(GOOD, document(prints(b"two")))
    fetching.fetch()
    fetching.clock += 3599 * SECOND
    assert fetching.fetch().document == read(b"one")
    fetching.clock += SECOND
    assert fetching.cached() is None
    assert fetching.fetch().document == read(b"two")
    assert site.connections == 2


def test_a_changed_document_is_fetched_anew_on_demand(fetching: Fetching) -> None:
    site = fetching.site(GOOD, document(prints(b"two")))
    fetching.fetch()
    fetching.clock += FAILURE - SECOND
    assert fetching.fetch(anew=True).document == read(b"one")
    assert site.connections == 1
    fetching.clock += SECOND
    assert fetching.fetch(anew=True).document == read(b"two")
    assert fetching.cached().document == read(b"two")


def test_what_is_known_outlives_a_failure(fetching: Fetching) -> None:
    fetching.site(GOOD, document({}, status="500 Error"))
    fetching.fetch()
    fetching.clock += FAILURE
    assert "status 500" in fetching.problem(anew=True)
    assert fetching.cached().document == read(b"one")
    assert fetching.fetch().document == read(b"one")
    fetching.clock += 3600 * SECOND - FAILURE
    assert fetching.cached() is None


@pytest.mark.parametrize("answer", [prints(b"one", expires=0), b"garbage"])
def test_what_is_known_is_withdrawn_by_the_domain_itself(fetching: Fetching, answer: Any) -> None:
    fetching.site(GOOD, document(answer))
    fetching.fetch()
    fetching.clock += FAILURE
    problem = fetching.problem(anew=True)
    assert str(fetching.cached()) == problem
    assert fetching.problem() == problem


def test_no_document_counts_for_more_than_a_day(fetching: Fetching) -> None:
    fetching.site(document(prints(b"one", expires=10**19)))
    fetching.fetch()
    fetching.clock += dt.timedelta(days=1) - SECOND
    assert fetching.cached() is not None
    fetching.clock += SECOND
    assert fetching.cached() is None


def test_nothing_counts_when_the_clock_was_put_back(fetching: Fetching) -> None:
    site = fetching.site(GOOD, document({}, status="404 Not Found"), GOOD)
    fetching.fetch()
    fetching.clock -= SECOND
    assert fetching.cached() is None
    assert "404" in fetching.problem()
    fetching.clock -= SECOND
    assert fetching.cached() is None
    fetching.fetch()
    assert site.connections == 3


def test_a_failure_is_kept_for_a_minute(fetching: Fetching) -> None:
    site = fetching.site(document({}, status="404 Not Found"), GOOD)
    problem = fetching.problem()
    fetching.clock += FAILURE - SECOND
    assert fetching.problem() == fetching.problem(anew=True) == str(fetching.cached()) == problem
    assert site.connections == 1
    fetching.clock += SECOND
    assert fetching.cached() is None
    assert fetching.fetch().document == read(b"one")


def test_attack_many_domains_take_the_places_of_the_oldest(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posh_module, "MOST_KNOWN", 3)
    fetching.site(GOOD)
    fetching.fetch()
    for number in range(2):
        fetching.problem(f"{number}.invalid")
    assert fetching.cached() is not None
    fetching.problem("2.invalid")
    assert fetching.cached() is None
    for number in range(3):
        found = fetching.posh.cached(f"{number}.invalid", SERVICE, fetching.clock)
        assert isinstance(found, PoshError)


# Several at once


def test_those_who_want_the_same_wait_for_one_fetch(fetching: Fetching) -> None:
    site = fetching.site(GOOD, pause=0.1)
    outcomes = [fetching.begun() for _ in range(3)]
    fetching.turning.until(lambda: all(outcomes))
    assert [each[0].document for each in outcomes] == [read(b"one")] * 3
    assert site.connections == 1


def test_those_who_want_the_same_fail_together(fetching: Fetching) -> None:
    fetching.site(document({}, status="404 Not Found"), pause=0.1)
    outcomes = [fetching.begun() for _ in range(2)]
    fetching.turning.until(lambda: all(outcomes))
    first, second = (each[0].value for each in outcomes)
    assert str(first) == str(second)
    assert first is not second


def test_one_who_gives_up_leaves_the_others(fetching: Fetching) -> None:
    fetching.site(GOOD, pause=0.1)
    first, second = (fetching.posh.fetch(DOMAIN, SERVICE) for _ in range(2))
    outcome: list[Any] = []
    second.addBoth(outcome.append)
    first.cancel()
    fetching.turning.until(lambda: outcome)
    assert outcome[0].document == read(b"one")
    first.addErrback(lambda failure: failure.trap(CancelledError))


@pytest.mark.parametrize("until", ["lookup", "tls", "request"])
def test_when_all_give_up_it_ends(fetching: Fetching, names: NameServer, until: str) -> None:
    if until == "tls":
        fetching.silence()
    else:
        site = fetching.site(GOOD, pause=600)
    deferred: Deferred[Material] = fetching.posh.fetch(DOMAIN, SERVICE)
    problems: list[Any] = []
    deferred.addErrback(problems.append)
    if until == "tls":
        fetching.turning.turn()
    elif until == "request":
        fetching.turning.until(lambda: any(site.received))
    deferred.cancel()
    assert problems[0].check(CancelledError)
    fetching.still()
    assert fetching.cached() is None


def test_no_more_than_some_at_once(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posh_module, "MOST_FETCHES", 1)
    fetching.site(GOOD, pause=0.1)
    first, again = fetching.begun(), fetching.begun()
    assert fetching.problem(HOSTING) == "too many POSH documents are being fetched"
    assert fetching.posh.cached(HOSTING, SERVICE, fetching.clock) is None
    fetching.turning.until(lambda: first and again)
    assert first[0].document == read(b"one")


def test_closing_fails_all(fetching: Fetching) -> None:
    fetching.site(GOOD, pause=600)
    outcome = fetching.begun()
    fetching.turning.turn()
    fetching.posh.close()
    assert str(outcome[0].value) == "fetching POSH documents is over"
    assert fetching.problem() == "fetching POSH documents is over"
    fetching.still()


def test_every_fault_is_an_error(fetching: Fetching) -> None:
    def broken(_domain: str) -> SSL.Context:
        raise ZeroDivisionError

    fetching.begin(1)
    fetching.posh._context = broken
    text = f"the POSH document of {DOMAIN} cannot be fetched (ZeroDivisionError)"
    assert fetching.problem() == text
