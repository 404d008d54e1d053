"""Takes out of the server's features what cannot hold through a proxy that ends TLS.

The rest stays byte for byte: clients that compare what they were offered with what the server
says it offered (XEP-0474) must see the same.
"""

import re
from typing import Final

import attrs
from lxml import etree

from proxy.session.hooks import Continue, Element, Plugin, Replace, Verdict, View
from proxy.xmpp import namespaces as ns
from proxy.xmpp.features import Rewrite, cut, edit

_WITHOUT: Final = frozenset(
    (
        # TLS ends here, and the server knows nothing of it.
        ns.qualified(ns.TLS, "starttls"),
        # Under TLS, compression lets an attacker guess secrets by size (RFC 9325, 3.4), and
        # servers have counted the compressed bytes only (CVE-2014-2744, CVE-2014-2745).
        ns.qualified(ns.COMPRESSION_FEATURE, "compression"),
        # A binding ties SASL to the one TLS channel that the server does not see.
        ns.qualified(ns.CHANNEL_BINDING, "sasl-channel-binding"),
        # It names a set of features that is no longer the one on offer (XEP-0509).
        ns.qualified(ns.CONFIG_VERSION, "config-version"),
    )
)
_MECHANISM: Final = frozenset(
    ns.qualified(namespace, "mechanism") for namespace in (ns.SASL, ns.SASL2, ns.FAST)
)
_UNBOUND_SUFFIX: Final = "-NONE"
"""Ends the name of a FAST mechanism that binds to no channel (XEP-0484)."""

_EARLY_DATA: Final = re.compile(rb"""\s+tls-0rtt\s*=\s*(?:"[^"]*"|'[^']*')""")


@attrs.frozen
class FeaturesConfig:
    """Nothing to set."""


class Features(Plugin):
    """Hides what the server offers and cannot keep here: STARTTLS, compression, channel binding.

    Without this plugin clients may choose a SASL mechanism that must fail here, one of ``-PLUS``.
    """

    name = "features"
    Config = FeaturesConfig

    def __init__(self, config: FeaturesConfig) -> None:
        self.config = config

    def on_features(self, _view: View, features: Element) -> Verdict:
        """Cut out what cannot hold, and nothing else."""
        raw = edit(features, _change)
        if _EARLY_DATA.search(raw):
            raw = edit(attrs.evolve(features, raw=raw), _without_early_data)
        return Continue() if raw == features.raw else Replace(raw)


def _change(element: etree._Element) -> Rewrite | None:
    if element.tag in _WITHOUT:
        return cut
    if element.tag in _MECHANISM and not _holds(str(element.tag), element.text or ""):
        return cut
    return None


def _holds(tag: str, mechanism: str) -> bool:
    """Whether a mechanism works where the server does not see the client's TLS."""
    name = mechanism.strip().upper()
    if tag == ns.qualified(ns.FAST, "mechanism"):
        return name.endswith(_UNBOUND_SUFFIX)
    return not name.endswith("-PLUS")


def _without_early_data(element: etree._Element) -> Rewrite | None:
    """FAST is not to be used in TLS early data, which is never taken (RFC 9325, 3.3.1)."""
    if element.tag == ns.qualified(ns.FAST, "fast") and "tls-0rtt" in element.attrib:
        return lambda raw: _EARLY_DATA.sub(b"", raw, count=1)
    return None
