"""Attacks on TLS itself: tickets carried elsewhere, early data, faults while it is set up."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

import proxy.daemon.own
from proxy.net.tls import server_context
from proxy.session.kinds import Kind
from tests.authority import Authority
from tests.net.client import ALERT, HandTLS, connected, lax_context, log_in, read_all, secure
from tests.net.front import DOMAIN, OTHER_DOMAIN, Front
from tests.net.in_process import InProcess
from tests.net.legacy import LegacyServer
from tests.servers.bascule import Served
from tests.servers.program import HOST
from tests.servers.stream import plaintext

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def ticket(context: ssl.SSLContext, port: int) -> ssl.SSLSession:
    """Return the session of a connection to the first domain on a port, with its ticket."""
    with connected(port) as connection:
        tls = HandTLS(context, DOMAIN)
        connection.sendall(tls.hello())
        tls.finish(connection)
        tls.send(connection, "<")
        tls.send(connection, "x/>")  # tickets of TLS 1.3 come with the answer
        tls.read_until(connection, b"</stream:stream>")
        session = tls.tls.session
    assert session is not None
    assert session.has_ticket
    return session


def resumes(context: ssl.SSLContext, port: int, name: str | None, session: ssl.SSLSession) -> bool:
    """Present a ticket; return whether the session was resumed."""
    with connected(port) as connection:
        tls = HandTLS(context, name, session)
        hello = tls.hello()
        assert len(hello) > len(HandTLS(context, name).hello()), "the ticket was not presented"
        connection.sendall(hello)
        tls.finish(connection)
        return bool(tls.tls.session_reused)


@pytest.mark.parametrize("version", VERSIONS)
def test_attack_08_a_ticket_is_good_where_it_was_given_and_nowhere_else(
    front: Front, legacy: LegacyServer, version: ssl.TLSVersion
) -> None:
    context = lax_context()
    context.minimum_version = context.maximum_version = version
    port = front.port
    assert resumes(context, port, DOMAIN, ticket(context, port))
    assert not resumes(context, port, OTHER_DOMAIN, ticket(context, port))
    assert not resumes(context, front.named["second"], DOMAIN, ticket(context, port))
    assert not resumes(context, front.named["direct"], DOMAIN, ticket(context, port))


@pytest.mark.parametrize("version", VERSIONS)
def test_attack_08_a_resumed_session_is_bound_to_its_domain(
    front: Front, legacy: LegacyServer, version: ssl.TLSVersion
) -> None:
    context = lax_context()
    context.minimum_version = context.maximum_version = version
    session = ticket(context, front.port)
    with connected(front.port) as connection:
        tls = HandTLS(context, DOMAIN, session)
        connection.sendall(tls.hello())
        tls.finish(connection)
        assert tls.tls.session_reused
        tls.send(
            connection,
            f"<stream:stream to='{OTHER_DOMAIN}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>",
        )
        assert b"<policy-violation " in tls.read_until(connection, b"</stream:stream>")
    assert not legacy.connections


@pytest.mark.server("openssl")
def test_attack_08_early_data_is_never_accepted(
    front: Front, legacy: LegacyServer, tmp_path: Path
) -> None:
    program = shutil.which("openssl")
    assert program is not None
    saved = tmp_path / "session"
    arguments = [program, "s_client", "-connect", f"{HOST}:{front.port}", "-servername", DOMAIN]
    arguments += ["-tls1_3", "-ign_eof", "-sess_out", str(saved)]
    subprocess.run(arguments, input=b"<x/>", capture_output=True, timeout=30, check=True)
    told = subprocess.run(
        [program, "sess_id", "-in", str(saved), "-noout", "-text"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert re.search(r"Max Early Data: 0\b", told)


def _raise(*_arguments: object) -> Any:
    raise RuntimeError("made up")


def _refuse_name(context: SSL.Context) -> None:
    context.set_tlsext_servername_callback(_raise)


def _refuse_protocol(context: SSL.Context) -> None:
    context.set_alpn_select_callback(_raise)


@pytest.mark.parametrize("break_context", [_refuse_name, _refuse_protocol])
@pytest.mark.parametrize("version", VERSIONS)
def test_attack_09_an_exception_in_a_callback_of_tls_refuses_the_handshake(
    tmp_path: Path,
    authority: Authority,
    legacy: LegacyServer,
    domains: list[Served],
    monkeypatch: pytest.MonkeyPatch,
    *,
    break_context: Callable[[SSL.Context], None],
    version: ssl.TLSVersion,
) -> None:
    """CVE-2026-27448: what goes wrong while a certificate is chosen must not let TLS go on."""

    def broken(certificates: Iterable[tuple[Path, Path]], scope: str, kind: Kind) -> SSL.Context:
        context = server_context(certificates, scope, kind)
        if scope.endswith(f"/{DOMAIN}"):
            break_context(context)
        return context

    monkeypatch.setattr(proxy.daemon.own, "server_context", broken)
    front = Front(tmp_path, domains)
    front.write()
    context = lax_context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["xmpp-client"])
    with InProcess(front.configuration_path) as service:
        for _ in range(3):
            with connected(front.port) as connection:
                tls = HandTLS(context, DOMAIN)
                connection.sendall(tls.hello())
                answer = read_all(connection)
            assert not answer or answer[0] == ALERT
        assert service.running
        # The other domain does not suffer.
        with plaintext(front.port, OTHER_DOMAIN) as stream:
            secure(stream, authority.ca_path, OTHER_DOMAIN)
            log_in(stream)
    assert len(legacy.connections) == 1


def test_tls_that_breaks_elsewhere_does_not_touch_a_session(
    front: Front, legacy: LegacyServer, authority: Authority
) -> None:
    """OpenSSL keeps its errors in one place for all connections."""
    with plaintext(front.port, DOMAIN) as stream:
        secure(stream, authority.ca_path)
        log_in(stream)
        server = legacy.next()
        for round_ in range(40):
            with connected(front.port) as connection:
                tls = HandTLS(lax_context(), DOMAIN)
                connection.sendall(tls.hello())
                if round_ % 2:
                    tls.finish(connection)
                # A record that cannot be read, in the handshake or after it.
                connection.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                read_all(connection)
            stanza = f"<message id='{round_}'/>"
            stream.send(stanza)
            server.read_until(stanza.encode())
            server.send(stanza.encode())
            assert stream.read_until("/>") == stanza
