"""What the usual auditors find when they look at Bascule: TLS 1.2 and 1.3, and no weakness."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.servers.client import Transport
from tests.servers.conftest import AUDITED, Front
from tests.servers.jabberd2 import DOMAIN as JABBERD2
from tests.servers.program import HOST
from tests.servers.prosody import DOMAIN as PROSODY
from tests.servers.test_login import each_transport

EXPECTED = {
    "cert_revocation": "the made-up authority publishes no revocation lists",
}
"""Findings of testssl.sh that are the test's own doing, and why."""

LOCAL = {
    "engine_problem": "this machine's OpenSSL has no GOST",
    "RC4": "this machine's OpenSSL has no RC4 to try; the cipher categories cover it",
}
"""Warnings of testssl.sh about the machine it runs on."""

RACES = {
    "sessionresumption_ticket": "s_client reads no input, and may leave before its ticket comes",
    "sessionresumption_ID": "as above",
}
"""Checks that testssl.sh loses by its own doing; of resumption, tests here are surer."""

HARMLESS = {"OK", "INFO", "DEBUG", "LOW"}

WEAK = ("NULL", "EXP", "RC4", "DES", "CBC", "MD5", "ADH", "AECDH", "PSK", "SHA")
"""What no name of a cipher suite may end with or contain as a part; AEAD suites end otherwise."""

openssl = pytest.mark.server("openssl")
each_domain = pytest.mark.parametrize("domain", [PROSODY, JABBERD2])


def _said(text: bytes) -> Callable[[bytes], bool]:
    return lambda output: text in output


_up = _said(b"Verify return code: ")


def _has_ticket(path: Path) -> Callable[[bytes], bool]:
    """Return what tells whether a session has been written: the ticket comes after all else."""
    return lambda _output: path.exists() and b"-----END SSL SESSION" in path.read_bytes()


def _s_client(
    front: Front,
    transport: Transport,
    *options: str,
    domain: str = PROSODY,
    typed: Sequence[tuple[Callable[[bytes], bool], bytes]] = (),
) -> tuple[int, str]:
    """Run ``openssl s_client``; return exit status and output.

    Args:
        front: what it connects to.
        transport: how TLS begins.
        options: more of its options.
        domain: the domain that it wants to reach.
        typed: lines that are typed, each as soon as what stands before it is true of what it has
            said until then.
    """
    arguments = ["openssl", "s_client", "-connect", f"{HOST}:{front.port}", "-servername", domain]
    arguments += ["-CAfile", str(front.authority.ca_path), "-verify_return_error"]
    if transport == "starttls":
        arguments += ["-starttls", "xmpp", "-xmpphost", domain]
    with subprocess.Popen(
        [*arguments, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin
        assert process.stdout
        output = b""
        os.set_blocking(process.stdout.fileno(), False)
        for ready, line in typed:
            while not ready(output) and process.poll() is None:
                time.sleep(0.02)
                with contextlib.suppress(BlockingIOError):
                    output += os.read(process.stdout.fileno(), 65536)
            with contextlib.suppress(BrokenPipeError):  # it has left
                process.stdin.write(line)
                process.stdin.flush()
        try:
            output += process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, output.decode(errors="replace")


@openssl
@each_domain
@each_transport
def test_openssl_verifies_chain_and_name(front: Front, transport: Transport, domain: str) -> None:
    status, output = _s_client(
        front, transport, "-verify_hostname", domain, "-brief", domain=domain
    )
    assert status == 0, output
    assert "Protocol version: TLSv1.3" in output
    assert "Verification: OK" in output
    assert f"Verified peername: {domain}" in output


@openssl
@each_transport
def test_openssl_would_notice_a_wrong_name(front: Front, transport: Transport) -> None:
    status, output = _s_client(front, transport, "-verify_hostname", "other.test", "-brief")
    assert status == 1
    assert "hostname mismatch" in output


@openssl
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
@each_transport
def test_tls_before_1_2_is_refused(front: Front, transport: Transport, version: str) -> None:
    status, output = _s_client(front, transport, version, "-cipher", "ALL:@SECLEVEL=0", "-brief")
    assert status == 1
    assert "SSL alert number 70" in output, output  # protocol_version


@openssl
@each_domain
@each_transport
def test_tls_1_2_is_accepted(front: Front, transport: Transport, domain: str) -> None:
    status, output = _s_client(front, transport, "-tls1_2", "-brief", domain=domain)
    assert status == 0, output
    assert "Protocol version: TLSv1.2" in output


@openssl
@pytest.mark.parametrize(
    ("algorithms", "signature"),
    [("ECDSA+SHA256", "ECDSA"), ("rsa_pss_rsae_sha256", "RSA-PSS")],
)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@each_transport
def test_a_domain_with_two_kinds_of_keys_uses_what_the_client_knows(
    front: Front, transport: Transport, version: str, algorithms: str, signature: str
) -> None:
    status, output = _s_client(
        front, transport, version, "-sigalgs", algorithms, "-brief", domain=AUDITED
    )
    assert status == 0, output
    assert f"Signature type: {signature}" in output


@openssl
@each_transport
def test_another_protocol_by_alpn_is_refused(front: Front, transport: Transport) -> None:
    status, output = _s_client(front, transport, "-alpn", "h2", "-brief")
    assert status == 1
    assert "SSL alert number 120" in output, output  # no_application_protocol


@openssl
@each_transport
def test_xmpp_by_alpn_is_accepted(front: Front, transport: Transport) -> None:
    status, output = _s_client(front, transport, "-alpn", "xmpp-client")
    assert status == 0, output
    assert "ALPN protocol: xmpp-client" in output


@openssl
@each_transport
def test_renegotiation_is_refused(front: Front, transport: Transport) -> None:
    typed = [(_up, b"R\n"), (_said(b"no renegotiation"), b"Q\n")]
    _, output = _s_client(front, transport, "-tls1_2", typed=typed)
    assert "RENEGOTIATING" in output
    assert "no renegotiation" in output


@openssl
@each_transport
def test_no_early_data_is_allowed(front: Front, transport: Transport, tmp_path: Path) -> None:
    ticket = tmp_path / "session"
    options = ("-tls1_3", "-sess_out", str(ticket))
    _, output = _s_client(front, transport, *options, typed=[(_has_ticket(ticket), b"Q\n")])
    assert "Protocol  : TLSv1.3" in output or "New, TLSv1.3" in output
    allowed = [line for line in output.splitlines() if "Max Early Data:" in line]
    assert all(line.strip() == "Max Early Data: 0" for line in allowed), allowed


@openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@each_transport
def test_a_session_is_resumed_for_its_own_domain_only(
    front: Front, transport: Transport, version: str, tmp_path: Path
) -> None:
    file = tmp_path / "session"
    ticket = str(file)
    wait = [(_has_ticket(file), b"Q\n")]
    status, output = _s_client(front, transport, version, "-sess_out", ticket, typed=wait)
    assert status == 0, output
    assert "\nNew, " in output

    wait = [(_up, b"Q\n")]
    status, output = _s_client(front, transport, version, "-sess_in", ticket, typed=wait)
    assert status == 0, output
    assert "\nReused, " in output

    status, output = _s_client(
        front, transport, version, "-sess_in", ticket, typed=wait, domain=JABBERD2
    )
    assert status == 0, output
    assert "\nNew, " in output


@pytest.mark.server("sslscan")
def test_sslscan_finds_only_strong_tls(front: Front, tmp_path: Path) -> None:
    """Sslscan addresses its stream to the host it connects to, hence a domain by that name."""
    report = tmp_path / "sslscan.xml"
    arguments = ["sslscan", "--no-colour", "--ipv4", "--starttls-xmpp", f"--sni-name={AUDITED}"]
    arguments += [f"--xml={report}", f"{AUDITED}:{front.port}"]
    subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    found = ET.parse(report).getroot().find("ssltest")
    assert found is not None
    enabled = {
        (each.get("type"), each.get("version"))
        for each in found.iter("protocol")
        if each.get("enabled") == "1"
    }
    assert enabled == {("tls", "1.2"), ("tls", "1.3")}
    assert [each.get("supported") for each in found.iter("renegotiation")] == ["0"]
    assert {each.get("vulnerable") for each in found.iter("heartbleed")} == {"0"}
    assert all(each.get("supported") == "0" for each in found.iter("compression"))
    suites = {str(each.get("cipher")): int(each.get("bits", 0)) for each in found.iter("cipher")}
    assert len(suites) > 3
    assert min(suites.values()) >= 128
    weak = [name for name in suites if _is_weak(name)]
    assert not weak
    assert all(int(each.get("bits", 0)) >= 112 for each in found.iter("group"))


def _is_weak(suite: str) -> bool:
    parts = suite.replace("-", "_").split("_")
    return any(part in WEAK for part in parts) or not any(
        part in {"GCM", "CHACHA20", "CCM"} for part in parts
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.server("testssl")
@pytest.mark.parametrize(
    ("transport", "domain"),
    [("starttls", PROSODY), ("starttls", JABBERD2), ("direct", PROSODY)],
)
def test_testssl_finds_no_weakness(
    front: Front, tmp_path: Path, transport: Transport, domain: str
) -> None:
    findings = _findings(front, tmp_path / "first.json", transport, domain)
    if any(_failed(each) for name, each in findings.items() if name not in RACES):
        # It says itself that it could not do its work: on a busy machine it loses its patience.
        findings = _findings(front, tmp_path / "second.json", transport, domain)
    offered = {
        name for name in _PROTOCOLS if not findings[name]["finding"].startswith("not offered")
    }
    assert offered == {"TLS1_2", "TLS1_3"}
    assert findings["cert_trust"]["severity"] == "OK"
    assert findings["cert_chain_of_trust"]["severity"] == "OK"
    assert "heartbleed" in findings, "testssl.sh did not get to the vulnerabilities"
    weaknesses = {
        name: f"{each['severity']}: {each['finding']}"
        for name, each in findings.items()
        if each["severity"] not in HARMLESS
        and name not in EXPECTED
        and name not in LOCAL
        and not (name in RACES and _failed(each))
    }
    assert not weaknesses


def _findings(
    front: Front, report: Path, transport: Transport, domain: str
) -> dict[str, dict[str, str]]:
    """Run testssl.sh, and return what it has found, by name."""
    arguments = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"]
    if transport == "starttls":
        arguments += ["--starttls", "xmpp", "--xmpphost", domain]
    arguments += ["--protocols", "--std", "--server-preference", "--server-defaults"]
    arguments += ["--vulnerable", "--fast", "--add-ca", str(front.authority.ca_path)]
    arguments += ["--ip", HOST, "--jsonfile", str(report), f"{domain}:{front.port}"]
    ran = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), ran.stdout + ran.stderr
    return {each["id"]: each for each in json.loads(report.read_text())}


def _failed(finding: dict[str, str]) -> bool:
    return finding["severity"] == "WARN" and "check failed" in finding["finding"]


_PROTOCOLS = ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3")
