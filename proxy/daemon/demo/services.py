"""What the demo server itself answers: the requests every ordinary client makes."""

from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import quoteattr

from proxy.daemon.demo import stanzas
from proxy.daemon.demo.accounts import Accounts
from proxy.xmpp import namespaces as ns
from proxy.xmpp.events import Element
from proxy.xmpp.jids import Jid

ROSTER: Final = "jabber:iq:roster"
PING: Final = "urn:xmpp:ping"
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"
VCARD: Final = "vcard-temp"

Service = Callable[[Element, Accounts, Jid], bytes]


def answer(request: Element, accounts: Accounts, jid: Jid) -> bytes:
    """Return the answer to ``request``, an iq of type get or set meant for the server.

    Args:
        request: the iq.
        accounts: the server's users.
        jid: the full JID of the session that asks.
    """
    names = [child.tag for child in request.tree]
    if len(names) != 1:  # RFC 6120, section 8.2.3
        return stanzas.error(request, "bad-request", recipient=str(jid))
    service = _SERVICES.get((request.attributes["type"], str(names[0])))
    if service is None:
        return stanzas.error(request, "service-unavailable", recipient=str(jid))
    return service(request, accounts, jid)


def _empty(request: Element, _accounts: Accounts, jid: Jid) -> bytes:
    return stanzas.result(request, recipient=str(jid))


def _roster(request: Element, accounts: Accounts, jid: Jid) -> bytes:
    """Everyone is on everyone's roster (RFC 6121, section 2.1)."""
    items = "".join(
        f"<item jid={quoteattr(f'{name}@{accounts.domain}')} name={quoteattr(name.capitalize())}"
        " subscription='both'/>"
        for name in accounts.contacts(jid.local)
    )
    payload = f"<query xmlns='{ROSTER}'>{items}</query>"
    return stanzas.result(request, payload, recipient=str(jid))


def _information(request: Element, _accounts: Accounts, jid: Jid) -> bytes:
    features = "".join(f"<feature var='{name}'/>" for name in (DISCO_INFO, DISCO_ITEMS, PING))
    identity = "<identity category='server' type='im' name='Bascule demo'/>"
    payload = f"<query xmlns='{DISCO_INFO}'>{identity}{features}</query>"
    return stanzas.result(request, payload, recipient=str(jid))


def _no_items(request: Element, _accounts: Accounts, jid: Jid) -> bytes:
    return stanzas.result(request, f"<query xmlns='{DISCO_ITEMS}'/>", recipient=str(jid))


def _no_vcard(request: Element, _accounts: Accounts, jid: Jid) -> bytes:
    return stanzas.error(request, "item-not-found", recipient=str(jid))


_SERVICES: Final[dict[tuple[str, str], Service]] = {
    ("get", ns.qualified(ROSTER, "query")): _roster,
    ("get", ns.qualified(PING, "ping")): _empty,
    ("get", ns.qualified(DISCO_INFO, "query")): _information,
    ("get", ns.qualified(DISCO_ITEMS, "query")): _no_items,
    ("get", ns.qualified(VCARD, "vCard")): _no_vcard,
    ("set", ns.qualified(ns.SESSION, "session")): _empty,
}
