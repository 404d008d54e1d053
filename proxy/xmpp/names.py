"""The names of elements and attributes that lxml may see: a table that cannot grow without end.

libxml2 keeps each name it ever met for as long as the thread lives, so names that strangers make
up must not reach it. It is shown those that this project knows, those that plugins `know`, and
the first `MOST` others of either kind. What prefixes and namespaces are declared, texts and values
of attributes it frees with the tree, but for values of ``xml:id``.
"""

from collections.abc import Callable, Iterable
from typing import Final

from lxml import etree

from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import Condition
from proxy.xmpp.expat import SEPARATOR, clark

MOST: Final = 4_096
"""How many names that nobody announced are kept: of elements, and as many of attributes."""

LONGEST: Final = 128
"""Characters of the longest name that is kept unannounced, in Clark notation."""

UNKNOWN: Final = "{urn:x-bascule:unknown}unknown"
"""What an element is called in a tree whose own name is not kept."""


class Names(dict[str, str]):
    """What lxml is shown for each name in expat's form, without prefix; any name may be asked for.

    Args:
        placeholder: what is shown for names that are not kept.
        accepts: whether lxml takes a name in Clark notation.
        most: how many names may be kept that nobody announced.
    """

    def __init__(self, placeholder: str, accepts: Callable[[str], bool], most: int = MOST) -> None:
        super().__init__()
        self._placeholder = placeholder
        self._accepts = accepts
        self._room = most

    def __missing__(self, name: str) -> str:
        """Keep ``name`` if there is room for it; return what to show for it."""
        if self._room <= 0:
            return self._placeholder
        qualified, _ = clark(name)
        if len(qualified) > LONGEST:
            return self._placeholder
        # A name that is refused takes room too: libxml2 may have kept a part of it.
        self._room -= 1
        self[name] = qualified if self._accepts(qualified) else self._placeholder
        return self[name]

    def know(self, names: Iterable[str]) -> None:
        """Keep ``names``, in Clark notation, whether there is room or not.

        Raises:
            ValueError: lxml does not take one of them.
        """
        for qualified in names:
            if not self._accepts(qualified):
                raise ValueError(f"{qualified!r} is no name that lxml takes")
            namespace, local = ns.split(qualified)
            self[f"{namespace}{SEPARATOR}{local}" if namespace else local] = qualified


def know(*names: str, attributes: Iterable[str] = ()) -> None:
    """Have ``names`` of elements, and of ``attributes``, appear in trees whatever comes before.

    For plugins, once, when they are imported: strangers can fill the table, and a name that was
    not announced may then be shown as `UNKNOWN`. Each name is kept for as long as the process
    lives.

    Args:
        names: qualified names of elements, in Clark notation.
        attributes: qualified names of attributes, likewise.

    Raises:
        ValueError: lxml does not take one of them.
    """
    ELEMENTS.know(names)
    ATTRIBUTES.know(attributes)


def is_element(name: str) -> bool:
    """Whether lxml takes ``name``, in Clark notation, for an element; it keeps it from then on."""
    try:
        return etree.Element(name).tag == name
    except ValueError:
        return False


def is_attribute(name: str) -> bool:
    """Whether lxml takes ``name``, in Clark notation, for an attribute; it keeps it likewise."""
    try:
        return etree.Element("e", {name: ""}).keys() == [name]
    except ValueError:
        return False


ELEMENTS: Final = Names(UNKNOWN, is_element)
"""Names of elements; what is not kept is shown as `UNKNOWN`."""

ATTRIBUTES: Final = Names("", is_attribute)
"""Names of attributes; what is not kept is shown as an empty string: leave the attribute out."""

_CONDITIONS: Final = " ".join(condition.value for condition in Condition)

_VOCABULARY: Final = {
    "": "enclosure",
    ns.STREAMS: "stream features error",
    ns.STREAM_ERRORS: f"text see-other-host {_CONDITIONS}",
    ns.CLIENT: "enclosure iq message presence body subject thread show status priority error",
    ns.TLS: "starttls required optional proceed failure",
    ns.SASL: (
        "mechanisms mechanism required optional auth challenge response abort success failure text "
        "aborted account-disabled credentials-expired encryption-required incorrect-encoding "
        "invalid-authzid invalid-mechanism malformed-request mechanism-too-weak not-authorized "
        "temporary-auth-failure"
    ),
    ns.SASL2: (
        "authentication mechanism inline authenticate initial-response user-agent software device "
        "challenge response abort success additional-data authorization-identifier failure text "
        "continue tasks task next task-data parameters upgrade"
    ),
    ns.FAST: "fast mechanism request-token token",
    ns.BIND: "bind required resource jid",
    ns.BIND2: "bind inline feature tag bound metadata",
    ns.SESSION: "session optional",
    ns.AUTH: "query username password digest resource",
    ns.AUTH_FEATURE: "auth",
    ns.REGISTER: "query username password instructions registered remove email",
    "http://jabber.org/features/iq-register": "register",
    ns.STREAM_MANAGEMENT: "sm required optional enable enabled resume resumed failed r a",
    ns.COMPRESSION: "compress compressed failure method setup-failed unsupported-method",
    ns.COMPRESSION_FEATURE: "compression method",
    ns.CHANNEL_BINDING: "sasl-channel-binding channel-binding",
    ns.CONFIG_VERSION: "config-version",
    ns.STREAM_LIMITS: "limits max-bytes idle-seconds",
    "http://jabber.org/protocol/caps": "c",
    "http://jabber.org/protocol/disco#info": "query identity feature",
    "http://jabber.org/protocol/disco#items": "query item",
    "jabber:iq:roster": "query item group",
    ns.STANZA_ERRORS: f"text {_CONDITIONS}",
    ns.SERVER: "iq message presence error",
    ns.COMPONENT: "handshake iq message presence error",
    ns.DIALBACK: "result verify",
    ns.DIALBACK_FEATURE: "dialback errors",
    ns.BIDIRECTIONAL: "bidi",
    ns.BIDIRECTIONAL_FEATURE: "bidi",
    "urn:xmpp:csi:0": "csi active inactive",
    "urn:xmpp:features:pre-approval": "sub",
    "urn:xmpp:features:rosterver": "ver",
    "urn:x-bascule:unknown": "unknown",
    "urn:xmpp:ping": "ping",
    "vcard-temp": "vCard",
}
_ATTRIBUTES: Final = (
    "algo ask by category code from h hash id jid location max mechanism name node previd resume "
    "stamp subscription tls-0rtt to type ver version"
)


def know_vocabulary(elements: Names, attributes: Names) -> None:
    """Put into two tables the names that this project and its plugins know."""
    elements.know(
        ns.qualified(namespace, local)
        for namespace, locals_ in _VOCABULARY.items()
        for local in locals_.split()
    )
    attributes.know((*_ATTRIBUTES.split(), ns.qualified(ns.XML, "lang")))
    # libxml2 keeps the values of this one, as it keeps names.
    attributes[f"{ns.XML}{SEPARATOR}id"] = ""


know_vocabulary(ELEMENTS, ATTRIBUTES)
