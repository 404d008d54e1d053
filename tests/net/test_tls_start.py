"""How TLS starts on a leg: with a ClientHello, once, and never as something else than was begun."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost

from proxy.net import openssl, tls_start
from proxy.net.tls import client_context, server_context
from proxy.session.hooks import TLSFacts
from proxy.trust.policy import Pattern, Policy
from tests.authority import Authority
from tests.net.client import HandTLS, lax_context
from tests.net.conftest import Turning
from tests.net.test_leg import DOMAIN, Ends, peeking, secured

__all__ = ["peeking", "secured"]


def test_without_a_client_hello_it_is_our_own_fault(
    turning: Turning, peeking: Ends, authority: Authority
) -> None:
    peeking.leg.await_hello(direct=True)
    with pytest.raises(RuntimeError, match="without a ClientHello"):
        peeking.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    turning.turn(3)
    assert "lost" not in peeking.notes.told
    with pytest.raises(ConnectionLost):
        peeking.leg.evidence()


def test_it_starts_once(
    turning: Turning, secured: tuple[Ends, HandTLS], authority: Authority
) -> None:
    ends, tls = secured
    with pytest.raises(RuntimeError, match="without a ClientHello"):
        ends.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    tls.send(ends.peer, b"<presence/>")
    turning.until(lambda: ends.notes.data == b"<presence/>")


def cannot_say(*_arguments: object, **_options: object) -> None:
    raise SSL.Error([("", "", "no such thing")])


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ((openssl, "took_up", lambda *_: False), "the ClientHello has changed under way"),
        ((openssl, "took_up", cannot_say), "no such thing"),
        ((tls_start, "facts", cannot_say), "no such thing"),
    ],
    ids=["it has changed", "whether cannot be said", "on what cannot be said"],
)
def test_what_was_not_begun_with_a_client_is_no_tls(  # noqa: PLR0917 - fixtures
    turning: Turning,
    peeking: Ends,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str, Callable[..., object]],
    told: str,
) -> None:
    monkeypatch.setattr(*place)
    peeking.leg.await_hello(direct=True)
    tls = HandTLS(lax_context(), DOMAIN)
    peeking.peer.sendall(tls.hello())
    turning.until(lambda: peeking.notes.hellos)
    peeking.leg.start_tls(server_context([authority.issue(DOMAIN)], "test"))
    with beside(lambda: tls.finish(peeking.peer)):
        turning.until(lambda: f"TLS failed: {told}" in peeking.notes.told)
    assert peeking.notes.facts is None


@pytest.mark.parametrize(
    ("instead", "told"),
    [
        (lambda *_, **__: facts("http/1.1"), "ALPN has chosen what was not offered"),
        (cannot_say, "no such thing"),
    ],
    ids=["another protocol", "on what cannot be said"],
)
def test_what_was_not_begun_with_a_server_is_no_tls(
    turning: Turning,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    instead: Callable[..., object],
    told: str,
) -> None:
    monkeypatch.setattr(tls_start, "server_facts", instead)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(DOMAIN))
    ends = Ends(turning, peek=False)
    with beside(lambda: context.wrap_socket(ends.peer, server_side=True).close()):
        ends.leg.start_client_tls(client_context(Policy(Pattern("*"))), DOMAIN, direct=True)
        turning.until(lambda: f"TLS failed: {told}" in ends.notes.told)
        ends.leg.abortConnection()
    assert ends.notes.facts is None
    ends.close()


def facts(protocol: str) -> TLSFacts:
    return TLSFacts("TLSv1.3", "", "", protocol, DOMAIN, resumed=False, direct=True)


@contextmanager
def beside(act: Callable[[], object]) -> Iterator[None]:
    """Have the peer do its part meanwhile, however that ends."""

    def tried() -> None:
        with suppress(OSError):
            act()

    thread = threading.Thread(target=tried)
    thread.start()
    yield
    thread.join()
