"""What passes in a stream of a client: its login, and what is offered to it for that."""

from typing import Final

from proxy.session.authentication import Authentication, Step
from proxy.session.chain import Chain
from proxy.session.commands import Command, Report, Severity
from proxy.session.hooks import Direction, Element, View
from proxy.session.passage import Passage
from proxy.xmpp import namespaces as ns

_WAYS_TO_LOG_IN: Final = frozenset(
    (
        ns.qualified(ns.SASL, "mechanisms"),
        ns.qualified(ns.SASL2, "authentication"),
        ns.qualified(ns.AUTH_FEATURE, "auth"),
    )
)


class ClientPassage(Passage):
    """The way between a client and its server; arguments as for `Passage`."""

    __slots__ = ("_authentication",)

    def __init__(self, view: View, chain: Chain, out: list[Command]) -> None:
        super().__init__(view, chain, out)
        self._authentication = Authentication()

    @property
    def holds(self) -> bool:
        """Whether it is the server's turn."""
        return self._authentication.awaiting_server

    def begin_anew(self) -> None:
        """Forget the server, for there is a new start; refused logins stay counted."""
        super().begin_anew()
        failures = self._authentication.failures
        self._authentication = Authentication()
        self._authentication.failures = failures

    def from_client(self, element: Element) -> Step:
        """Pass on an element of the client's; raises StreamError."""
        self._count_element()
        self._authentication.from_client(element)
        if not self._pass(element, Direction.TO_SERVER):
            self._authentication.awaiting_server = False  # it has got nothing to answer
        return Step.NONE

    def from_server(self, element: Element) -> Step:
        """Pass on an element of the server's, and say what it brings about; raises StreamError."""
        if self.established:
            self._pass(element, Direction.TO_CLIENT)
            return Step.NONE
        step = self._authentication.from_server(element)
        if self._authentication.failures != self.view.failed_logins:
            self.view = self.view.but(failed_logins=self._authentication.failures)
        if element.name == ns.FEATURES:
            self._offer(element)
        else:
            self._pass(element, Direction.TO_CLIENT)
        self.established = step is Step.ESTABLISHED
        return step

    def _offer(self, features: Element) -> None:
        """Pass on what is left of the features; say so if nobody can log in by them."""
        if not self.view.authenticated and not _WAYS_TO_LOG_IN.intersection(
            child.tag for child in features.tree
        ):
            fields = {"domain": self.view.domain}
            self._out.append(Report(Severity.WARNING, "the server offers no way to log in", fields))
        super()._offer(features)
