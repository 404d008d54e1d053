"""OCSP stapling in handshakes of our leg with servers that staple whatever they like."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from OpenSSL import SSL

from proxy.net import openssl, stapling, tls
from proxy.net.tls import client_context, evidence
from proxy.trust import ocsp as judging
from proxy.trust.evidence import Evidence
from proxy.trust.identities import CLIENT_SERVICE
from proxy.trust.policy import Level, Pattern, Policy
from proxy.trust.verdict import Status, UntrustedError, Verdict, judge
from tests.authority import SERVER, Authority, now
from tests.net.conftest import Turning
from tests.net.peers import VERSIONS, agree
from tests.net.test_leg import Ends
from tests.servers.program import HOST, Program, free_port
from tests.trust.revoking import (
    MUST_STAPLE,
    RESPONDER,
    REVOKED,
    UNKNOWN,
    Responder,
)
from tests.trust.showing import DAY, NAME, chain_of, issued

OURS = f"the certificate of {NAME}"
DEMANDS = f"{OURS} demands a stapled OCSP response, and"
UNSIGNED = "the one that came is not signed by its issuer, nor by a responder of that"

Make = Callable[[Authority, bytes], bytes]
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Authority:
    return Authority(tmp_path_factory.mktemp("middle"), name="middle", parent=authority)


@pytest.fixture(scope="module")
def policy(authority: Authority) -> Policy:
    return Policy(Pattern.parse("*"), anchors=authority.ca_path)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["demanded", "not demanded"])
def demanded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def pair(middle: Authority, demanded: bool) -> Pair:
    """A server's certificate, which demands a response or does not."""
    return middle.issue(NAME, extensions=[MUST_STAPLE] if demanded else [])


def stapler(pair: Pair, version: str, response: Callable[[], bytes]) -> SSL.Context:
    """A server that staples what it is told."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(VERSIONS[version])
    context.use_certificate_chain_file(str(pair[0]))
    context.use_privatekey_file(str(pair[1]))
    context.set_ocsp_server_callback(lambda *_: response())
    return context


def reached(turning: Turning, policy: Policy, server: SSL.Context) -> Evidence | str:
    """What a handshake of our leg with a server shows, or how it fails."""
    ends = Ends(turning, peek=False)
    ends.peer.settimeout(0)
    theirs = SSL.Connection(server, ends.peer)
    theirs.set_accept_state()
    ends.leg.start_client_tls(client_context(policy), NAME, direct=False)

    def over() -> bool:
        with contextlib.suppress(SSL.WantReadError, SSL.Error, RuntimeError):
            theirs.do_handshake()
        return ends.notes.facts is not None or "TLS failed" in "".join(ends.notes.told)

    try:
        turning.until(over)
        return ends.leg.evidence() if ends.notes.facts else ends.notes.told[-1]
    finally:
        ends.close()


@attrs.frozen
class Meeting:
    """What a server is judged by, and its certificate."""

    turning: Turning
    policy: Policy
    issuer: Authority
    pair: Pair

    def said(self, make: Make) -> bytes:
        """A response for the server to staple."""
        return make(self.issuer, chain_of(self.pair[0])[0])

    def shown(self, version: str, response: Callable[[], bytes]) -> Evidence | str:
        return reached(self.turning, self.policy, stapler(self.pair, version, response))


@pytest.fixture
def meeting(turning: Turning, policy: Policy, middle: Authority, pair: Pair) -> Meeting:
    return Meeting(turning, policy, middle, pair)


def judged(policy: Policy, shown: Evidence | str) -> Verdict:
    assert isinstance(shown, Evidence)
    return judge(NAME, CLIENT_SERVICE, policy, shown, now())


def refusal(policy: Policy, shown: Evidence | str) -> str:
    with pytest.raises(UntrustedError) as refused:
        judged(policy, shown)
    assert refused.value.status is Status.UNTRUSTED
    return str(refused.value)


def said(**what: Any) -> Make:
    return lambda authority, leaf: Responder(authority).response(leaf, **what)


def by_responder(authority: Authority, leaf: bytes) -> bytes:
    return Responder(authority, usages=[RESPONDER]).response(leaf)


def by_server(authority: Authority, leaf: bytes) -> bytes:
    """By the holder of any certificate of the same authority."""
    return Responder(authority, usages=[SERVER]).response(leaf)


def by_stranger(authority: Authority, leaf: bytes) -> bytes:
    stranger = Authority(authority._directory / "stranger", name="middle")
    return Responder(authority, stranger, usages=[RESPONDER]).response(leaf)


def about_another(authority: Authority, _leaf: bytes) -> bytes:
    return Responder(authority).response(issued(authority)[0])


def later(_authority: Authority, _leaf: bytes) -> bytes:
    failed = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    return failed.public_bytes(Encoding.DER)


@pytest.mark.parametrize("make", [said(), by_responder], ids=["issuer", "responder"])
def test_a_good_response_is_taken_from_the_handshake(
    meeting: Meeting, version: str, make: Make
) -> None:
    response = meeting.said(make)
    shown = meeting.shown(version, lambda: response)
    assert isinstance(shown, Evidence)
    assert shown.staple == response
    assert judged(meeting.policy, shown).status is Status.VERIFIED


def test_a_revoked_server_is_refused(meeting: Meeting, version: str) -> None:
    response = meeting.said(said(status=REVOKED, reason=x509.ReasonFlags.key_compromise))
    shown = meeting.shown(version, lambda: response)
    day = f"{now() - DAY:%Y-%m-%d}"
    assert refusal(meeting.policy, shown).startswith(f"{OURS} was revoked on {day[:7]}")
    assert (
        judged(attrs.evolve(meeting.policy, level=Level.ENCRYPT), shown).status is Status.UNTRUSTED
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (said(status=UNKNOWN), "the one that came says that its issuer does not know it"),
        (said(life=(now() - 9 * DAY, now() - DAY)), "the one that came ended on "),
        (said(life=(now() + DAY, now() + 2 * DAY)), "the one that came begins on "),
        (by_server, UNSIGNED),
        (by_stranger, UNSIGNED),
        (later, "the one that came is only an error (try_later)"),
        # Servers of OpenSSL send none of the next two from version 4 on.
        (about_another, ("none came", "the one that came is about another certificate")),
        (lambda *_: b"garbage", ("none came", "the one that came cannot be read")),
        (lambda *_: b"", "none came"),
    ],
    ids="unknown expired early server stranger later other garbage none".split(),  # noqa: SIM905
)
def test_what_is_no_good_response(
    meeting: Meeting,
    version: str,
    demanded: bool,
    make: Make,
    why: str | tuple[str, ...],
) -> None:
    """It counts only where one is demanded."""
    response = meeting.said(make)
    shown = meeting.shown(version, lambda: response)
    if not demanded:
        assert judged(meeting.policy, shown).status is Status.VERIFIED
        return
    text = refusal(meeting.policy, shown)
    assert text.startswith(DEMANDS)
    assert text.removeprefix(f"{DEMANDS} ").startswith(why)


def test_a_server_that_fails_while_it_staples_is_not_reached(
    meeting: Meeting, version: str
) -> None:
    def fail() -> bytes:
        raise RuntimeError("no response")

    found = meeting.shown(version, fail)
    assert isinstance(found, str)
    assert found.startswith("TLS failed: ")


class PanicError(BaseException):
    """As cryptography raises it: no Exception."""


@pytest.mark.parametrize("fault", [RuntimeError, MemoryError, PanicError])
def test_a_fault_of_the_check_is_a_refusal(
    meeting: Meeting,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[BaseException],
) -> None:
    response = meeting.said(said())
    shown = meeting.shown("TLSv1.3", lambda: response)
    assert judged(meeting.policy, shown).status is Status.VERIFIED

    def fail(_response: bytes) -> None:
        raise fault("a fault")

    monkeypatch.setattr(judging, "load_der_ocsp_response", fail)
    assert refusal(meeting.policy, shown).startswith(f"{OURS} could not be checked: ")


@pytest.mark.parametrize("fault", [SSL.Error, RuntimeError])
def test_a_fault_of_taking_it_out_leaves_no_evidence(
    meeting: Meeting,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[Exception],
) -> None:
    def fail(_connection: SSL.Connection) -> bytes:
        raise fault("a fault")

    monkeypatch.setattr(tls, "staple", fail)
    response = meeting.said(said())
    with pytest.raises(fault):
        meeting.shown("TLSv1.3", lambda: response)


def test_without_being_asked_nothing_is_stapled(
    policy: Policy, middle: Authority, version: str
) -> None:
    """That the leg asks is what makes the difference."""
    pair = middle.issue(NAME, extensions=[MUST_STAPLE])
    response = said()(middle, chain_of(pair[0])[0])
    for asked in (False, True):
        ours = SSL.Connection(client_context(policy), None)
        if asked:
            stapling.request_staple(ours)
        agree(stapler(pair, version, lambda: response), ours)
        shown = evidence(ours)
        if asked:
            assert judged(policy, shown).status is Status.VERIFIED
        else:
            assert refusal(policy, shown) == f"{DEMANDS} none came"


def test_no_session_is_resumed(policy: Policy, middle: Authority, version: str) -> None:
    """A resumed one brings no response; each handshake with a server is a whole one."""
    pair = middle.issue(NAME, extensions=[MUST_STAPLE])
    response = said()(middle, chain_of(pair[0])[0])
    context, server = client_context(policy), stapler(pair, version, lambda: response)
    for _ in range(3):
        ours = SSL.Connection(context, None)
        stapling.request_staple(ours)
        _, theirs = agree(server, ours)
        with contextlib.suppress(SSL.WantReadError):
            theirs.recv(1)  # takes the tickets in
        assert not openssl.was_resumed(theirs)
        assert judged(policy, evidence(theirs)).status is Status.VERIFIED


class Stapling(Program):
    """``openssl s_server``, which staples what is in a file, whatever that is about."""

    def __init__(self, directory: Path, pair: Pair, response: bytes) -> None:
        self.port = free_port()
        super().__init__("openssl", directory, [self.port])
        self._pair = pair
        self._file = directory / "response.der"
        self._file.write_bytes(response)

    def start(self) -> None:
        """Start it."""
        certificate, key = self._pair
        files = ("-cert", certificate, "-key", key, "-cert_chain", certificate)
        place = ("-www", "-accept", f"{HOST}:{self.port}")
        self.launch("openssl", "s_server", *place, *files, "-status_file", self._file)
        self.wait_until_ready()


@pytest.fixture
def misled(tmp_path: Path, middle: Authority) -> Iterator[Stapling]:
    pair = middle.issue(NAME, extensions=[MUST_STAPLE])
    server = Stapling(tmp_path / "openssl", pair, about_another(middle, b""))
    server.start()
    yield server
    server.stop()


@pytest.mark.server("openssl")
def test_the_good_word_for_another_certificate_is_none(policy: Policy, misled: Stapling) -> None:
    with socket.create_connection((HOST, misled.port), timeout=20) as peer:
        peer.settimeout(None)
        ours = SSL.Connection(client_context(policy), peer)
        stapling.request_staple(ours)
        ours.set_connect_state()
        ours.do_handshake()
        shown = evidence(ours)
    assert shown.staple
    text = f"{DEMANDS} the one that came is about another certificate"
    assert refusal(policy, shown) == text
