import pytest
from lxml import etree

from plugins.require_tls import RequireTLS, RequireTLSConfig
from proxy.session.hooks import Condition, Continue, Direction, Reject, Reply, TLSRule
from proxy.xmpp import namespaces as ns
from tests.plugins.views import view
from tests.xmpp.streams import element

PLUGIN = RequireTLS(RequireTLSConfig())
AUTH = element(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>AAA=</auth>".encode())
TO_SERVER = Direction.TO_SERVER


def iq(kind: str, namespace: str) -> bytes:
    return f"<iq type='{kind}' id='1'><query xmlns='{namespace}'/></iq>".encode()


CREDENTIALS = {
    "jabber:iq:auth get": iq("get", ns.AUTH),
    "jabber:iq:auth set": iq("set", ns.AUTH),
    "jabber:iq:register get": iq("get", ns.REGISTER),
    "jabber:iq:register set": iq("set", ns.REGISTER),
    "SASL2": f"<authenticate xmlns='{ns.SASL2}' mechanism='PLAIN'/>".encode(),
    "a SASL response": f"<response xmlns='{ns.SASL}'>AAA=</response>".encode(),
    "bind": f"<iq type='set' id='1'><bind xmlns='{ns.BIND}'/></iq>".encode(),
    "a message": b"<message><body>hello</body></message>",
    "presence": b"<presence/>",
    "dialback": b"<db:result xmlns:db='jabber:server:dialback'>key</db:result>",
    "a component's handshake": b"<handshake>00</handshake>",
    "compression": f"<compress xmlns='{ns.COMPRESSION}'/>".encode(),
    "stream management": f"<enable xmlns='{ns.STREAM_MANAGEMENT}'/>".encode(),
    "auth of no namespace of SASL": b"<auth/>",
}


def test_sasl_fails_with_encryption_required() -> None:
    verdict = PLUGIN.on_element(view(), TO_SERVER, AUTH)
    assert isinstance(verdict, Reply)
    failure = etree.fromstring(verdict.raw)
    assert failure.tag == ns.qualified(ns.SASL, "failure")
    assert [child.tag for child in failure] == [
        ns.qualified(ns.SASL, "encryption-required"),
        ns.qualified(ns.SASL, "text"),
    ]


@pytest.mark.parametrize("raw", CREDENTIALS.values(), ids=CREDENTIALS)
def test_all_else_is_a_policy_violation(raw: bytes) -> None:
    verdict = PLUGIN.on_element(view(), TO_SERVER, element(raw))
    assert isinstance(verdict, Reject)
    assert verdict.condition is Condition.POLICY_VIOLATION
    assert "<starttls/>" in verdict.text


@pytest.mark.parametrize("rule", TLSRule)
def test_nothing_is_said_against_a_session_under_tls(rule: TLSRule) -> None:
    assert PLUGIN.on_element(view(rule=rule, secured=True), TO_SERVER, AUTH) == Continue()


@pytest.mark.parametrize("rule", [TLSRule.REPORT, TLSRule.NONE])
def test_nor_where_the_listener_enforces_nothing(rule: TLSRule) -> None:
    assert PLUGIN.on_element(view(rule=rule), TO_SERVER, AUTH) == Continue()


def test_nor_against_what_the_server_says() -> None:
    assert PLUGIN.on_element(view(), Direction.TO_CLIENT, AUTH) == Continue()


def test_every_element_is_asked_about() -> None:
    assert RequireTLS.elements is None
