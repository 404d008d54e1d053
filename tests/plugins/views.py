"""Views and elements as plugins are shown them."""

from proxy.session.hooks import Address, Element, TLSFacts, TLSRule, View
from tests.xmpp.streams import element

TLS = TLSFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", "example.com", False, False)


def view(
    host: str = "192.0.2.1",
    *,
    session_id: str = "1",
    rule: TLSRule = TLSRule.REQUIRED,
    secured: bool = False,
    authenticated: bool = False,
) -> View:
    return View(
        id=session_id,
        listener="c2s",
        rule=rule,
        client=Address(host, 5000),
        tls=TLS if secured else None,
        authenticated=authenticated,
    )


def features(inside: str) -> Element:
    """The features of a stream, of exactly these bytes."""
    return element(f"<stream:features>{inside}</stream:features>".encode())
