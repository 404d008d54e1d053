"""The PROXY protocol with those who made it, on both sides, and with a server that knows it."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.session.hooks import Address
from tests.authority import Authority
from tests.net.client import log_in
from tests.net.front import DOMAIN, Front
from tests.net.legacy import LegacyServer
from tests.pages import ROOT, blocks
from tests.servers.bascule import Served
from tests.servers.client import Client, converse
from tests.servers.ejabberd import Ejabberd
from tests.servers.haproxy import HAProxy, receiving
from tests.servers.program import HOST
from tests.servers.prosody import Prosody
from tests.servers.stream import SECONDS, direct, starttls

pytestmark = pytest.mark.server("haproxy")

SENDING = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "checked": "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl",
}
"""How HAProxy is told to send a header; the second one as in the guide."""


def in_front(directory: Path, bascule: Front, sending: str) -> HAProxy:
    """Return one as the guide configures it, elsewhere, and with checks in quick succession."""
    [conf] = blocks(ROOT / "docs/guide.md", "haproxy")
    for said, meant in (
        (":::5222 v4v6", "{host}:{port}"),
        ("192.0.2.20:5222 send-proxy-v2 check", "{host}:{bascule} {sending} check inter 50"),
    ):
        assert said in conf
        conf = conf.replace(said, meant)
    return HAProxy(directory, conf, bascule=bascule.port, sending=sending)


def logged_in(bascule: Front) -> list[dict[str, str]]:
    """Return what it has logged of each session that got so far."""
    return [each for each in bascule.summaries() if each["authenticated"] == "yes"]


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sending", SENDING)
@pytest.mark.parametrize("versions", ["exact", "any"])
def test_haproxy_in_front_tells_of_clients(
    tmp_path: Path, authority: Authority, sending: str, versions: str
) -> None:
    exact = "v1" if sending == "v1" else "v2"
    proxies = {"c2s": exact if versions == "exact" else "any"}
    real = []
    with LegacyServer() as legacy:
        served = Served(DOMAIN, [authority.issue(DOMAIN)], legacy.port)
        with (
            Front(tmp_path / "bascule", [served], proxies=proxies) as bascule,
            in_front(tmp_path / "haproxy", bascule, SENDING[sending]) as haproxy,
        ):
            for way in (starttls, direct):
                with way(haproxy.port, DOMAIN, authority.ca_path) as stream:
                    real.append(str(Address(*stream.connection.getsockname())))
                    log_in(stream)
                until(lambda: len(logged_in(bascule)) == len(real))
            time.sleep(0.5)  # for some checks
            assert haproxy.processes[0].poll() is None
            assert [each["client"] for each in logged_in(bascule)] == real
            # The other one has only looked whether HAProxy listens.
            assert len(bascule.summaries()) <= len(real) + 1
            assert " warning connection closed: " not in bascule.log()
    assert "DOWN" not in haproxy.log_text()


def test_a_bascule_that_expects_no_header_gets_none_from_haproxys_clients(
    tmp_path: Path, authority: Authority
) -> None:
    """A header that is not taken for one ends the session."""
    with LegacyServer() as legacy:
        served = Served(DOMAIN, [authority.issue(DOMAIN)], legacy.port)
        with (
            Front(tmp_path / "bascule", [served]) as bascule,
            in_front(tmp_path / "haproxy", bascule, "send-proxy") as haproxy,
        ):
            with pytest.raises((AssertionError, OSError)):
                starttls(haproxy.port, DOMAIN, authority.ca_path).__enter__()
            until(lambda: "not-well-formed" in bascule.log())
        assert legacy.heard == b""


@pytest.mark.server("prosody")
def test_a_client_comes_through_haproxy_on_both_sides(
    tmp_path: Path, authority: Authority, prosody: Prosody
) -> None:
    """Client, HAProxy, Bascule, HAProxy, Prosody: the last but one knows the first."""

    async def run(port: int) -> None:
        async with (
            Client("alice", prosody.domain, port, "starttls", authority.ca_path) as alice,
            Client("bob", prosody.domain, port, "direct", authority.ca_path) as bob,
        ):
            await converse(alice, bob)

    with receiving(tmp_path / "behind", prosody.port) as behind:
        pairs = [authority.issue(prosody.domain)]
        served = Served(prosody.domain, pairs, behind.port, proxy_protocol="v2")
        with (
            Front(tmp_path / "bascule", [served], proxies={"c2s": "v2"}) as bascule,
            in_front(tmp_path / "front", bascule, "send-proxy-v2") as front,
        ):
            asyncio.run(run(front.port))
            until(lambda: len(logged_in(bascule)) == 2)
            told = {
                f"client=[{HOST}]:{each['client'].partition(':')[2]} place=[{HOST}]:{front.port} "
                f"domain={prosody.domain} id={each['session']}"
                for each in logged_in(bascule)
            }
            until(lambda: len(lines(behind)) == 2)
    assert told == lines(behind)


def lines(haproxy: HAProxy) -> set[str]:
    """Return what it has logged of connections that had a header."""
    return set(re.findall(r"client=.* domain=[^-].*", haproxy.log_text()))


@pytest.mark.server("ejabberd")
def test_ejabberd_knows_whom_it_is_told_of(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue(DOMAIN)
    with Ejabberd(tmp_path / "ejabberd", {DOMAIN: pair}) as ejabberd:
        served = Served(DOMAIN, [pair], ejabberd.told_port, proxy_protocol="v2")
        with Front(tmp_path / "bascule", [served]) as bascule:
            with starttls(bascule.port, DOMAIN, authority.ca_path) as stream:
                real = Address(*stream.connection.getsockname())
                stream.send_header()
                assert "<mechanism>PLAIN" in stream.read_until("</stream:features>")
            until(lambda: f"{HOST}:{real.port}" in ejabberd.own_log())
