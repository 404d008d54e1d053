"""The whole service, as its operator and its clients see it: rules, certificates, signals."""

import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.authority import Authority
from tests.daemon.notifying import Notifying
from tests.net.client import (
    FOOTER,
    SECRET,
    log_in,
    logged_in,
    offered,
    proceeding,
    read_all,
    secure,
)
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front, served
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST
from tests.servers.stream import STARTTLS, Stream, plaintext, tls_context

BASCULE = Path(sys.executable).with_name("bascule")
RULES = {"c2s": "required", "report": "report", "none": "none"}


@pytest.fixture(scope="module")
def domains(authority: Authority, _legacy: LegacyServer) -> list[Served]:
    """The first domain has certificates of both kinds of key."""
    both = [authority.issue(DOMAIN, key="ec"), authority.issue(DOMAIN, key="rsa")]
    return [
        served(_legacy, both),
        served(_legacy, [authority.issue(OTHER_DOMAIN)], OTHER_DOMAIN),
    ]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, domains: list[Served]) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("service"), domains, listeners=RULES) as front:
        yield front
        assert front.alive()


@pytest.fixture
def lone(tmp_path: Path, domains: list[Served]) -> Iterator[Front]:
    """A daemon for one test that ends it."""
    with Front(tmp_path, domains, listeners=RULES) as front:
        yield front


# Rules of listeners


def test_report_lets_a_client_pass_without_tls_and_says_so(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.named["report"], DOMAIN) as stream:
        stream.send_header()
        features = stream.read_until("</stream:features>")
        assert "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" in features
        assert "<mechanism>PLAIN</mechanism>" in features
    with logged_in(front.named["report"], authority.ca_path, "plaintext") as stream:
        legacy.next()
        front.wait_for_log("would be refused: authenticated without TLS")
    line = next(line for line in front.log().split("\n") if "would be refused" in line)
    assert re.fullmatch(
        r"\S+Z warning would be refused: authenticated without TLS session=\w+ "
        rf"listener=report client={HOST}:\d+ domain={re.escape(DOMAIN)}",
        line,
    )


def test_report_lets_a_client_turn_to_tls(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(front.named["report"], authority.ca_path) as stream:
        server = legacy.next()
        stream.send("<presence/>")
        server.read_until(b"<presence/>")
    # The connection that plaintext had begun is given up: TLS makes a new start.
    assert len(legacy.connections) == 2


def test_none_offers_no_tls_and_refuses_it(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with plaintext(front.named["none"], DOMAIN) as stream:
        stream.send_header()
        assert "starttls" not in stream.read_until("</stream:features>")
        stream.send(STARTTLS)
        answer = stream.read_to_end()
        assert "<proceed" not in answer
        assert answer.endswith(FOOTER)
    with logged_in(front.named["none"], authority.ca_path, "plaintext"):
        legacy.next()


# Certificates


@pytest.mark.parametrize("domain", [DOMAIN, OTHER_DOMAIN])
def test_each_domain_has_its_own_certificate(
    front: Front, legacy: LegacyServer, authority: Authority, domain: str
) -> None:
    for way in ("starttls", "direct"):
        with plaintext(front.port, domain) as stream:
            if way == "starttls":
                proceeding(stream)
            secure(stream, authority.ca_path, domain)
            assert isinstance(stream.connection, ssl.SSLSocket)
            certificate = stream.connection.getpeercert()
            assert certificate is not None
            assert (("DNS", domain),) == certificate["subjectAltName"]
            log_in(stream)
            server = legacy.next()
        assert f"to='{domain}'".encode() in server.got


@pytest.mark.parametrize(
    ("suites", "expected"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA"),
    ],
)
def test_rsa_and_ecdsa_stand_side_by_side(
    front: Front, authority: Authority, suites: str, expected: str
) -> None:
    context = tls_context(authority.ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suites)
    with plaintext(front.port, DOMAIN) as stream:
        stream.secure(context)
        assert isinstance(stream.connection, ssl.SSLSocket)
        cipher = stream.connection.cipher()
    assert cipher is not None
    assert cipher[0].startswith(expected)


@pytest.mark.server("openssl")
@pytest.mark.parametrize(
    ("algorithms", "expected"),
    [("RSA-PSS+SHA256", "rsa_pss_rsae_sha256"), ("ECDSA+SHA256", "ecdsa_secp256r1_sha256")],
)
def test_signature_algorithms_choose_the_certificate_in_tls_1_3(
    front: Front, authority: Authority, algorithms: str, expected: str
) -> None:
    program = shutil.which("openssl")
    assert program is not None
    arguments = [program, "s_client", "-connect", f"{HOST}:{front.port}", "-servername", DOMAIN]
    arguments += ["-tls1_3", "-sigalgs", algorithms, "-CAfile", str(authority.ca_path)]
    told = subprocess.run(
        [*arguments, "-verify_return_error"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    kind = {"rsa_pss_rsae_sha256": "RSA-PSS", "ecdsa_secp256r1_sha256": "ECDSA"}[expected]
    assert f"Peer signature type: {kind}" in told


def test_a_capable_client_gets_the_hybrid_key_exchange(front: Front, authority: Authority) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(authority.ca_path))
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection((HOST, front.port)) as connection:
        client = SSL.Connection(context, connection)
        client.set_tlsext_host_name(DOMAIN.encode())
        client.set_connect_state()
        client.do_handshake()
        assert client.get_group_name() == "X25519MLKEM768"


# The log


def told(front: Front) -> list[dict[str, str]]:
    """The summaries of sessions in which the client has said anything."""
    return [summary for summary in front.summaries() if summary["from_client"] != "0"]


def test_each_session_leaves_one_line(
    lone: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with logged_in(lone.port, authority.ca_path) as stream:
        server = legacy.next()
        up = len(server.got)
        server.send(b"<message/></stream:stream>")
        server.close()
        assert stream.read_to_end() == "<message/></stream:stream>"
    lone.wait_for_log(f"domain={DOMAIN}")
    (summary,) = told(lone)
    assert re.fullmatch(r"[0-9a-f]{12}", summary["session"])
    assert re.fullmatch(rf"{HOST}:\d+", summary["client"])
    assert re.fullmatch(r"TLSv1\.3/TLS_AES_256_GCM_SHA384/\w+", summary["tls"])
    assert re.fullmatch(r"\d+\.\d{3}", summary["seconds"])
    assert int(summary["from_client"]) > up
    assert int(summary["from_server"]) > 500
    expected = {
        "listener": "c2s",
        "domain": DOMAIN,
        "start": "starttls",
        "authenticated": "yes",
        "reason": "the server closed the connection",
    }
    assert expected == {name: summary[name] for name in expected}
    assert SECRET not in lone.log()


def test_a_session_that_comes_to_nothing_leaves_one_line_too(lone: Front) -> None:
    with plaintext(lone.port, "other.example") as stream:
        stream.send_header()
        assert "<host-unknown " in stream.read_to_end()
    lone.wait_for_log("host-unknown")
    (summary,) = told(lone)
    assert summary["tls"] == "none"
    assert summary["authenticated"] == "no"
    assert summary["reason"].startswith("host-unknown: ")


# Start and stop


def test_sigterm_ends_sessions_and_the_daemon(
    lone: Front, legacy: LegacyServer, authority: Authority
) -> None:
    with (
        plaintext(lone.port, DOMAIN) as waiting,
        plaintext(lone.port, DOMAIN) as offered_tls,
        plaintext(lone.port, DOMAIN) as secured,
        logged_in(lone.port, authority.ca_path) as relayed,
        logged_in(lone.port, authority.ca_path) as interrupted,
    ):
        servers = [legacy.next(), legacy.next()]
        servers[1].send(b"<message><body>half")
        interrupted.read_until("half")
        addresses = {
            "{}:{}".format(*stream.connection.getsockname())
            for stream in (waiting, offered_tls, secured, relayed, interrupted)
        }
        offered(offered_tls)
        secure(secured, authority.ca_path)
        secured.send_header()
        secured.read_until("</stream:features>")
        (daemon,) = lone.processes
        daemon.send_signal(signal.SIGTERM)
        for stream in (waiting, offered_tls, secured, relayed):
            answer = stream.read_to_end()
            assert "<stream:error><system-shutdown " in answer
            assert answer.endswith(FOOTER)
            stream.connection.close()
        # In the middle of a stanza no error can stand, and no end of stream is invented.
        assert read_all(interrupted.connection) == b""
        interrupted.connection.close()
        for server in servers:
            assert b"</stream" not in server.read_to_end()
            server.close()
        assert daemon.wait(20) == 0
    assert "stopping" in lone.log()
    ended = {summary["client"] for summary in lone.summaries()}
    assert addresses <= ended


def test_a_port_in_use_is_told_in_one_line(
    front: Front, tmp_path: Path, domains: list[Served]
) -> None:
    second = Front(tmp_path, domains)
    second.named["c2s"] = front.port
    ended = run(second)
    assert ended.returncode == 69
    (line,) = (line for line in ended.stderr.splitlines() if " warning " not in line)
    assert line.endswith(f"listener c2s: {HOST}:{front.port}: Address already in use")


@pytest.mark.parametrize("fault", ["missing", "not its key", "another domain"])
def test_a_certificate_that_cannot_serve_stops_the_start(
    tmp_path: Path, middle: Authority, legacy: LegacyServer, fault: str
) -> None:
    certificate, key = middle.issue(DOMAIN)
    pair, text = {
        "missing": ((tmp_path / "no.crt", key), "cannot be read: No such file or directory"),
        "not its key": ((certificate, middle.issue(DOMAIN)[1]), "is not the key of"),
        "another domain": (middle.issue(OTHER_DOMAIN), f"does not cover {DOMAIN}"),
    }[fault]
    front = Front(tmp_path, [served(legacy, [pair])])
    ended = run(front)
    assert ended.returncode == 78
    (line,) = ended.stderr.splitlines()
    assert text in line


def run(front: Front) -> "subprocess.CompletedProcess[str]":
    """Run a daemon that should not stay."""
    front.write()
    return subprocess.run(
        [BASCULE, "run", "-c", front.configuration_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_service_manager_is_told_of_start_and_stop(
    tmp_path: Path, domains: list[Served]
) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        with Notifying(tmp_path, domains, environment={"NOTIFY_SOCKET": str(address)}) as front:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"STATUS=0 sessions"
            with plaintext(front.port, DOMAIN) as stream:
                offered(stream)  # it keeps what it has promised
        while (said := manager.recv(100)).startswith(b"STATUS="):
            pass  # it tells of the session, if that is there for long
        assert said.startswith(b"STOPPING=1\n")


def test_descriptors_that_run_out_come_back(
    tmp_path: Path, domains: list[Served], legacy: LegacyServer, authority: Authority
) -> None:
    with Front(tmp_path, domains, descriptors=48) as front:
        held = [socket.create_connection((HOST, front.port), timeout=20) for _ in range(100)]
        try:
            # It lives on, and serves those that it has.
            first = Stream(held[0], DOMAIN)
            offered(first)
            front.wait_for_log("accepting pauses: too few of 48 file descriptors are left beside")
        finally:
            for connection in held:
                connection.close()
        for _ in range(3):
            with logged_in(front.port, authority.ca_path) as stream:
                server = legacy.next()
                stream.send("<presence/>")
                server.read_until(b"<presence/>")
                server.close()
                stream.read_to_end()
        assert front.alive()


def test_sighup_has_the_conf_read_again(lone: Front) -> None:
    lone.wait_for_log("listening")
    for _ in range(2):
        lone.processes[0].send_signal(signal.SIGHUP)
    lone.wait_for_log("info reloaded changed=nothing")
    with plaintext(lone.port, DOMAIN) as stream:
        offered(stream)
    assert lone.alive()
