"""The proxy authenticates as a domain of ours at another server: SASL EXTERNAL under TLS."""

from enum import Enum

from proxy.session import external
from proxy.session.hooks import Element, View
from proxy.xmpp import namespaces as ns


class Next(Enum):
    """What follows from something that the other server sends."""

    PASS = "it is for our server"  # noqa: S105 - no password
    ASK = "the request is to be sent"
    RESTART = "accepted: a new stream must be opened"
    REFUSED = "refused: this connection is of no use any more"


class _Progress(Enum):
    UNTRIED = "not tried on this connection"
    ASKED = "asked, and not answered"
    ACCEPTED = "accepted"
    REFUSED = "refused; not to be tried again in this session"


class Presenting:
    """How far a certificate of ours has come with another server.

    Attributes:
        request: what is to be sent with `Next.ASK`.
    """

    __slots__ = ("_progress", "request")

    def __init__(self) -> None:
        self._progress = _Progress.UNTRIED
        self.request = b""

    @property
    def awaits_answer(self) -> bool:
        """Whether the other server has still to say what it makes of it."""
        return self._progress is _Progress.ASKED

    def begin_anew(self) -> None:
        """Begin on a new connection; what was refused once is not tried again."""
        if self._progress is not _Progress.REFUSED:
            self._progress = _Progress.UNTRIED

    def give_up(self) -> None:
        """Try no more in this session."""
        self._progress = _Progress.REFUSED

    def take(self, element: Element, view: View) -> Next:
        """Take the next element of a stream that our server has not been told of yet."""
        if self._progress is _Progress.ASKED:
            if external.accepted(element):
                self._progress = _Progress.ACCEPTED
                return Next.RESTART
            return Next.REFUSED
        if (
            self._progress is _Progress.UNTRIED
            and element.name == ns.FEATURES
            and view.server_tls is not None
            and view.origin is not None
            and external.offered(element)
        ):
            self._progress = _Progress.ASKED
            self.request = external.request(view.origin)
            return Next.ASK
        return Next.PASS
