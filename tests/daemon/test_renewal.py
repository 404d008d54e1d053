"""Ticket keys are not kept for long, and certificates are read again with them."""

import io
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from proxy.daemon.conf import load
from proxy.daemon.log import Log
from proxy.daemon.renewing import TICKET_KEYS
from proxy.daemon.service import Service
from tests.authority import Authority

DOMAIN = "example.com"


class Readers(Clock):
    """A reactor whose time is turned by hand and which reads nothing."""

    def addReader(self, reader: object) -> None:
        pass

    def removeReader(self, reader: object) -> None:
        pass


@pytest.fixture
def written(tmp_path: Path, authority: Authority) -> Path:
    """A conf with one listener on any port; its certificate is a copy of its own."""
    certificate, key = authority.issue(DOMAIN)
    (tmp_path / "crt").write_bytes(Path(certificate).read_bytes())
    (tmp_path / "key").write_bytes(Path(key).read_bytes())
    conf = tmp_path / "bascule.toml"
    conf.write_text(
        f"""
        [[domain]]
        name = "{DOMAIN}"
        certificate = "crt"
        private_key = "key"
        c2s_server = "127.0.0.1:9"
        [[listener]]
        name = "c2s"
        direction = "reverse"
        stream = "c2s"
        address = "127.0.0.1:0"
        """
    )
    return conf


def test_contexts_are_made_anew_every_day_unless_they_cannot_be(written: Path) -> None:
    conf = load(written).conf
    assert conf is not None
    reactor, told = Readers(), io.StringIO()
    service = Service(conf, reactor, Log(told))
    service.start()
    contexts = service._current.accepting._contexts["c2s"]
    first = contexts[DOMAIN]
    reactor.advance(TICKET_KEYS)
    second = contexts[DOMAIN]
    assert second is not first
    (written.parent / "crt").write_text("no certificate")
    reactor.advance(TICKET_KEYS)
    assert contexts[DOMAIN] is second
    assert "certificates stay as they were" in told.getvalue()
    service.stop()


def test_roots_that_cannot_be_read_keep_no_ticket_keys(written: Path, authority: Authority) -> None:
    """And certificates that cannot be read keep no roots."""
    roots = written.parent / "roots.pem"
    roots.write_bytes(authority.ca_path.read_bytes())
    written.write_text(
        written.read_text()
        + f"""
[[listener]]
name = "legacy"
direction = "forward"
stream = "c2s"
address = "127.0.0.1:0"
domains = ["*"]
[[policy]]
domain = "*"
ca_file = "{roots}"
"""
    )
    conf = load(written).conf
    assert conf is not None
    reactor, told = Readers(), io.StringIO()
    service = Service(conf, reactor, Log(told))
    service.start()
    remote = service._current.trust.remote
    assert remote is not None
    own, abroad = service._current.accepting._contexts["c2s"][DOMAIN], remote.context("example.net")
    roots.write_text("no certificate")
    reactor.advance(TICKET_KEYS)
    assert service._current.accepting._contexts["c2s"][DOMAIN] is not own
    assert remote.context("example.net") is abroad
    assert "certificates stay as they were" in told.getvalue()
    roots.write_bytes(authority.ca_path.read_bytes())
    (written.parent / "crt").write_text("no certificate")
    reactor.advance(TICKET_KEYS)
    assert remote.context("example.net") is not abroad
    service.stop()
