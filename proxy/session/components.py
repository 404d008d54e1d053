"""What passes in a stream of a component (XEP-0114): a handshake, then stanzas."""

from typing import Final

from proxy.session.authentication import Step
from proxy.session.chain import Chain
from proxy.session.commands import Command
from proxy.session.hooks import Condition, Direction, Element, View
from proxy.session.passage import Passage
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import StreamError

HANDSHAKE: Final = ns.qualified(ns.COMPONENT, "handshake")
"""Carries a hash of the stream's id and a secret; empty, it is the answer."""


class ComponentPassage(Passage):
    """The way between a component and its server; arguments as for `Passage`.

    The server's id reaches the component as it is, for the handshake hashes it.
    """

    __slots__ = ("_awaiting_server",)

    def __init__(self, view: View, chain: Chain, out: list[Command]) -> None:
        super().__init__(view, chain, out)
        self._awaiting_server = False

    @property
    def holds(self) -> bool:
        """Whether it is the server's turn."""
        return self._awaiting_server

    def from_client(self, element: Element) -> Step:
        """Pass on an element of the component's; raises StreamError."""
        self._count_element()
        if not self.view.authenticated:
            if element.name not in (HANDSHAKE, ns.ERROR):
                raise StreamError(Condition.NOT_AUTHORIZED, "the handshake must come first")
            self._awaiting_server = element.name == HANDSHAKE
        if not self._pass(element, Direction.TO_SERVER):
            self._awaiting_server = False  # it has got nothing to answer
        return Step.NONE

    def from_server(self, element: Element) -> Step:
        """Pass on an element of the server's, and say what it brings about; raises StreamError."""
        accepted = self._awaiting_server and element.name == HANDSHAKE
        if element.name == ns.FEATURES and not self.established:
            self._offer(element)  # XEP-0114 knows none, but no STARTTLS may be among them
        else:
            self._pass(element, Direction.TO_CLIENT)
        if not accepted:
            return Step.NONE
        self._awaiting_server = False
        self.established = True
        return Step.ESTABLISHED
