"""POSH in sessions: the domain's web site is asked while the client waits; real handshakes."""

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxy.daemon.trusting import trust
from proxy.net.posh import Posh
from tests.authority import Authority, self_signed
from tests.net import namespaces
from tests.net.client import log_in
from tests.net.forward import Forward
from tests.net.hostile import Hostile, showing, upgraded
from tests.net.name_server import NameServer
from tests.net.namespaces import Namespace
from tests.net.test_posh import prints
from tests.net.trusting import Operated
from tests.net.web_site import WebSite, document
from tests.servers.program import HOST
from tests.servers.stream import Stream, plaintext
from tests.trust.showing import chain_of

DOMAIN = "hosted.example"
UNASKED = "unasked.example"
ABSENT = document(b"", status="404 Not Found")

Pair = tuple[Path, Path]


@attrs.frozen
class Hosted:
    """A domain that is hosted elsewhere, and its web site."""

    forward: Forward
    site: WebSite
    pair: Pair

    def says(self, *answers: Any) -> None:
        self.site.answers = list(answers)

    def show(self, pair: Pair) -> None:
        self.forward.hostile.play(upgraded(showing(pair)))

    def asked(self) -> list[str]:
        return self.site.requests()


@pytest.fixture
def hosted(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hosted]:
    pair = self_signed(tmp_path, "xmpp.hosting.example")
    files = authority.issue(DOMAIN)
    with WebSite(files, ABSENT) as site, Hostile() as hostile, NameServer() as names:
        monkeypatch.setattr(trust, "Posh", partial(Posh, port=site.port))
        common = {"server": f"{HOST}:{hostile.port}", "private_addresses": True}
        policies = [
            {"domain": DOMAIN, "posh": True, **common},
            {"domain": UNASKED, **common},
        ]
        for domain in (DOMAIN, UNASKED):
            names.add(domain, "A", HOST)
        with Forward(tmp_path, authority, hostile, names, policies=policies) as forward:
            hosted = Hosted(forward, site, pair)
            hosted.show(pair)
            yield hosted


def test_a_session_waits_for_the_web_site_which_proves_the_server(hosted: Hosted) -> None:
    hosted.says(document(prints(chain_of(hosted.pair[0])[0])))
    lines = hosted.forward.login(DOMAIN)
    assert any("the session waits: " in line and "(POSH)" in line for line in lines)
    assert any(" Verified TLS " in line and 'matched="POSH ' in line for line in lines)
    assert hosted.asked() == ["GET /.well-known/posh/xmpp-client.json HTTP/1.1"]
    assert len(hosted.forward.hostile.peers) == 2  # the first was left while the site was asked
    hosted.show(hosted.pair)
    hosted.forward.login(DOMAIN)
    assert len(hosted.forward.hostile.peers) == 1
    assert len(hosted.asked()) == 1  # what it says is kept


def test_a_certificate_that_names_the_domain_asks_nobody(
    hosted: Hosted, authority: Authority
) -> None:
    hosted.show(authority.issue(DOMAIN))
    hosted.forward.login(DOMAIN)
    assert hosted.asked() == []


def test_one_that_the_site_does_not_know_is_refused(hosted: Hosted) -> None:
    hosted.says(document(prints(b"another one")))
    refusal = hosted.forward.refusal(DOMAIN)
    assert refusal.condition == "policy-violation"
    assert "nor has its web site proved it (POSH): the certificate of" in refusal.text


def test_a_site_that_says_nothing_proves_nothing(hosted: Hosted) -> None:
    refusal = hosted.forward.refusal(DOMAIN)
    assert refusal.condition == "policy-violation"
    assert "self-signed" in refusal.text


def test_attack_a_site_with_a_certificate_of_another_proves_nothing(
    hosted: Hosted, authority: Authority, tmp_path: Path
) -> None:
    other = authority.issue("elsewhere.example")
    hosted.site._context.use_certificate_chain_file(str(other[0]))
    hosted.site._context.use_privatekey_file(str(other[1]))
    hosted.says(document(prints(chain_of(hosted.pair[0])[0])))
    assert hosted.forward.refusal(DOMAIN).condition == "policy-violation"
    assert hosted.site.connections == 1
    assert not any(b"posh" in bytes(request) for request in hosted.site.received)


def test_without_the_policys_word_no_site_is_asked(hosted: Hosted) -> None:
    hosted.says(document(prints(chain_of(hosted.pair[0])[0])))
    assert hosted.forward.refusal(UNASKED).condition == "policy-violation"
    assert hosted.site.connections == 0


def test_a_client_that_leaves_while_the_site_is_asked_is_gone(hosted: Hosted) -> None:
    hosted.site._pause = 600
    since = len(hosted.forward.lines())
    with plaintext(hosted.forward.ports["legacy"], DOMAIN) as stream:
        stream.send_header()
        hosted.forward.wait_for_line("the session waits: ", since)
    hosted.forward.wait_for_line("session ended", since)
    assert len(hosted.forward.hostile.peers) == 1


# As it is


@pytest.fixture
def apart() -> Iterator[Namespace]:
    """A network of a machine's own, on which port 443 leads to the web site."""
    lack = namespaces.lack()
    if lack is not None:
        if os.environ.get("CI"):
            pytest.fail(lack, pytrace=False)
        pytest.skip(lack)
    namespace = Namespace()
    yield namespace
    namespace.close()


class Apart(Operated):
    """A daemon on that network."""

    def __init__(self, namespace: Namespace, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._namespace = namespace

    def launch(self, *arguments: str | Path, **options: Any) -> None:
        super().launch(*self._namespace.command(*arguments), **options)

    def wait_until_ready(self, *_ports: int, seconds: float = 30) -> None:
        self.until(self._listens, seconds)

    def _listens(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self, listener: str = "legacy") -> socket.socket:
        return self._namespace.connect(HOST, self.named[listener])


def test_the_daemon_asks_port_443_of_the_domain(
    apart: Namespace, authority: Authority, tmp_path: Path
) -> None:
    pair = self_signed(tmp_path, "xmpp.hosting.example")
    says = document(prints(chain_of(pair[0])[0]))
    files = authority.issue(DOMAIN)
    with (
        apart.inside(lambda: WebSite(files, says)) as site,
        apart.inside(Hostile) as hostile,
        apart.inside(NameServer) as names,
    ):
        apart.shell(f"""\
nft add table ip t
nft 'add chain ip t out {{ type nat hook output priority -100; }}'
nft 'add rule ip t out tcp dport 443 redirect to :{site.port}'
""")
        names.add(DOMAIN, "A", HOST)
        names.add(f"_xmpp-client._tcp.{DOMAIN}", "SRV", f"0 5 {hostile.port} xmpp.hosting.example.")
        names.add("xmpp.hosting.example", "A", HOST)
        policy = {"domain": DOMAIN, "posh": True, "private_addresses": True}
        policies = [{**policy, "ca_file": str(authority.ca_path)}]
        hostile.play(upgraded(showing(pair)))
        with Apart(apart, tmp_path / "daemon", policies, names=names.port) as bascule:
            stream = Stream(bascule.connect(), DOMAIN)
            log_in(stream)
            hostile.next().close()
            stream.connection.close()
            assert 'matched="POSH ' in bascule.log()
        assert site.requests() == ["GET /.well-known/posh/xmpp-client.json HTTP/1.1"]
