"""What a server says under TLS before anybody authenticates: how others may prove themselves to it.

Nothing is decided here; it is for those who only want to know.
"""

from typing import Final

import attrs

from proxy.session import external
from proxy.session.ids import StreamIds
from proxy.session.securing import CEILING, CircleError, WayError, redirected
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError, describe
from proxy.xmpp.events import Element, Event, Footer, Header
from proxy.xmpp.framing import Framer
from proxy.xmpp.headers import read_answer

_DIALBACK: Final = ns.qualified(ns.DIALBACK_FEATURE, "dialback")


@attrs.frozen
class Proofs:
    """By what a server lets other servers prove their domains.

    Attributes:
        external: whether it offers SASL EXTERNAL, which takes a certificate.
        dialback: whether it announces server dialback: as a feature, or by declaring the namespace
            in its header, as XEP-0220 knows both.
    """

    external: bool
    dialback: bool


class Welcome:
    """Reads a server's stream up to its features.

    Args:
        ids: those of the proxy's own streams.
    """

    __slots__ = ("_declared", "_framer", "_ids")

    def __init__(self, ids: StreamIds) -> None:
        self._declared = False  # whether its header announces dialback
        self._framer = Framer(CEILING)
        self._ids = ids

    def feed(self, data: bytes) -> Proofs | None:
        """Take bytes of the server's; return what they come to, None while that is not known.

        Raises:
            WayError: it opens no stream.
            RedirectedError: it wants another server to be asked.
            CircleError: it is the proxy itself.
        """
        try:
            self._framer.feed(data)
            while (event := self._framer.next_event()) is not None:
                found = self._event(event)
                if found is not None:
                    return found
        except StreamError as error:
            raise WayError("does not speak XMPP for servers", detail=str(error)) from error
        return None

    def _event(self, event: Event) -> Proofs | None:
        match event:
            case Header():
                return self._header(event)
            case Element(name=ns.ERROR):
                redirected(event)
                raise WayError("ended the stream under TLS", detail=describe(event.tree))
            case Element(name=ns.FEATURES):
                announced = any(child.tag == _DIALBACK for child in event.tree)
                return Proofs(external.offered(event), self._declared or announced)
            case Element():  # as if it had no features
                return Proofs(external=False, dialback=self._declared)
            case Footer():
                raise WayError("ended the stream under TLS")
            case _:
                return None

    def _header(self, header: Header) -> Proofs | None:
        found = read_answer(header, ns.SERVER)
        if found.id is not None and self._ids.issued(found.id):
            raise CircleError
        self._declared = ns.DIALBACK in header.namespaces.values()
        return None if found.has_features else Proofs(external=False, dialback=self._declared)
