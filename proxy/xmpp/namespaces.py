"""Namespace names and qualified names, the latter in Clark notation (``{namespace}local``)."""

from typing import Final

STREAMS: Final = "http://etherx.jabber.org/streams"
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"
CLIENT: Final = "jabber:client"
SERVER: Final = "jabber:server"
COMPONENT: Final = "jabber:component:accept"
DIALBACK: Final = "jabber:server:dialback"
DIALBACK_FEATURE: Final = "urn:xmpp:features:dialback"
BIDIRECTIONAL: Final = "urn:xmpp:bidi"
BIDIRECTIONAL_FEATURE: Final = "urn:xmpp:features:bidi"
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"
SASL: Final = "urn:ietf:params:xml:ns:xmpp-sasl"
SASL2: Final = "urn:xmpp:sasl:2"
FAST: Final = "urn:xmpp:fast:0"
BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"
BIND2: Final = "urn:xmpp:bind:0"
SESSION: Final = "urn:ietf:params:xml:ns:xmpp-session"
AUTH: Final = "jabber:iq:auth"
AUTH_FEATURE: Final = "http://jabber.org/features/iq-auth"
REGISTER: Final = "jabber:iq:register"
STREAM_MANAGEMENT: Final = "urn:xmpp:sm:3"
COMPRESSION: Final = "http://jabber.org/protocol/compress"
COMPRESSION_FEATURE: Final = "http://jabber.org/features/compress"
CHANNEL_BINDING: Final = "urn:xmpp:sasl-cb:0"
CONFIG_VERSION: Final = "urn:xmpp:config-version:0"
STREAM_LIMITS: Final = "urn:xmpp:stream-limits:0"
XML: Final = "http://www.w3.org/XML/1998/namespace"


def qualified(namespace: str, local: str) -> str:
    """Return the qualified name of ``local`` in ``namespace``; without one if that is empty."""
    return f"{{{namespace}}}{local}" if namespace else local


def split(name: str) -> tuple[str, str]:
    """Return the namespace (empty if there is none) and the local part of a qualified name."""
    if name.startswith("{"):
        # A namespace may hold a brace, a local part may not.
        namespace, _, local = name[1:].rpartition("}")
        return namespace, local
    return "", name


STREAM: Final = qualified(STREAMS, "stream")
FEATURES: Final = qualified(STREAMS, "features")
ERROR: Final = qualified(STREAMS, "error")
STARTTLS: Final = qualified(TLS, "starttls")
IQ: Final = qualified(CLIENT, "iq")
MESSAGE: Final = qualified(CLIENT, "message")
PRESENCE: Final = qualified(CLIENT, "presence")
STANZAS: Final = frozenset((IQ, MESSAGE, PRESENCE))
