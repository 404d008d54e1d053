"""Nothing that carries a credential passes before TLS (RFC 6120, section 5.3.1).

The core lets nothing pass before TLS in any case. This plugin gives the answers that the
specifications ask for, so that a client knows what it did wrong and its user can be told.
"""

from typing import Final

import attrs

from proxy.session.hooks import (
    Condition,
    Continue,
    Direction,
    Element,
    Plugin,
    Reject,
    Reply,
    Verdict,
    View,
)
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import sasl_failure

_TEXT: Final = "TLS is required: send <starttls/> first"


@attrs.frozen
class RequireTLSConfig:
    """Nothing to set: whether TLS is required is said by each listener's ``tls``."""


class RequireTLS(Plugin):
    """Tells a client that tries to log in without TLS why it is refused; nothing of it passes.

    Which listeners require TLS is said by each listener's ``tls``.
    """

    name = "require_tls"
    Config = RequireTLSConfig

    def __init__(self, config: RequireTLSConfig) -> None:
        self.config = config

    def on_element(self, view: View, direction: Direction, element: Element) -> Verdict:
        """SASL fails with ``encryption-required`` (RFC 6120, 6.5.4); all else ends the stream."""
        if view.secured or view.exempt or direction is not Direction.TO_SERVER:
            return Continue()
        if element.name == ns.qualified(ns.SASL, "auth"):
            return Reply(sasl_failure("encryption-required", _TEXT))
        return Reject(Condition.POLICY_VIOLATION, _TEXT)
