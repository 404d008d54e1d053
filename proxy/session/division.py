"""One stream of a server of ours, divided by the domains that it is for.

Some old servers open a single stream for all domains that they reach by the same address, which,
where a proxy stands before the network, are all of them. Its header says neither from whom nor to
whom it is; each request of dialback says that, and each stanza. Every domain has a branch: a
session of its own, with the same header, that gets what is for this domain alone and deals with
that domain's server.
"""

from typing import Final

import attrs

from proxy.session import ceilings, dialback
from proxy.session.dialback import Dialback, Pair
from proxy.session.federation import STANZAS, addresses, domain_of
from proxy.session.hooks import Condition
from proxy.xmpp import namespaces as ns
from proxy.xmpp.errors import FOOTER, StreamError
from proxy.xmpp.events import Element, Footer
from proxy.xmpp.framing import Framer, Limits

MOST_BRANCHES: Final = 1_000
"""How many domains one stream may be for."""


@attrs.frozen
class ToTrunk:
    """Write to our server."""

    data: bytes


@attrs.frozen
class ToBranch:
    """Write to the branch of ``domain``; the first time that makes it."""

    domain: str
    data: bytes


@attrs.frozen
class EndTrunk:
    """Nothing more is written to our server; what it still sends is taken until it has closed.

    Attributes:
        reason: why, for the log.
    """

    reason: str


@attrs.frozen
class EndBranch:
    """The branch of ``domain`` has nothing more to say or to hear."""

    domain: str


Order = ToTrunk | ToBranch | EndTrunk | EndBranch


@attrs.define
class _Branch:
    framer: Framer
    pending: dict[Pair, Dialback] = attrs.field(factory=dict)
    proved: bool = False


class Division:
    """The stream, and its branches: what comes in, and what is to be done about it.

    Args:
        header: the header that our server has sent, and been answered.
        limits: what its elements may cost.
    """

    def __init__(self, header: bytes, limits: Limits) -> None:
        self._header = header
        self._framer = Framer(limits)
        self._framer.feed(header)
        self._framer.next_event()
        self._branches: dict[str, _Branch] = {}
        self._over = False
        self._out: list[Order] = []

    def received(self, data: bytes) -> list[Order]:
        """Take bytes of our server's."""
        self._framer.feed(data)
        try:
            self._read()
        except StreamError as error:
            self._refuse(error)
        return self._flush()

    def branch_received(self, domain: str, data: bytes) -> list[Order]:
        """Take bytes that the branch of ``domain`` has for our server."""
        branch = self._branches.get(domain)
        if branch is not None:
            branch.framer.feed(data)
            try:
                self._read_branch(domain, branch)
            except StreamError as error:
                self._drop(domain, str(error))
        return self._flush()

    def branch_ended(self, domain: str, reason: str) -> list[Order]:
        """Take note that the branch of ``domain`` is gone."""
        self._drop(domain, reason)
        return self._flush()

    def shut_down(self, error: StreamError) -> list[Order]:
        """End the stream, and all its branches."""
        self._refuse(error)
        return self._flush()

    # Our server

    def _read(self) -> None:
        while not self._framed_out():
            self._skim()
            event = self._framer.next_event()
            match event:
                case None:
                    return
                case Footer():
                    self._end("the client closed the stream")
                    return
                case Element():
                    try:
                        self._take(event)
                    except StreamError:
                        if not self._over:
                            raise
                case _:
                    pass  # white space keeps only this connection alive

    def _framed_out(self) -> bool:
        return self._over and not self._branches

    def _skim(self) -> None:
        """Pass on runs of stanzas that are for one domain each."""
        while True:
            run = ""

            def is_of_run(_sender: bytes, to: bytes) -> bool:
                nonlocal run
                try:
                    target = domain_of(to.decode())
                except ValueError:
                    return False
                run = run or target
                return target == run and run in self._branches

            taken = self._framer.skim(is_of_run)
            if not taken:
                return
            self._out.append(ToBranch(run, taken))

    def _take(self, element: Element) -> None:
        namespace, local = ns.split(element.name)
        if namespace == ns.DIALBACK:
            asked = dialback.read(element)
            if asked.kind is None:
                self._ask(asked, element.raw)
        elif element.name in STANZAS:
            target = addresses(element).to
            if target not in self._branches:
                text = f"no domain is proved towards {target} on this stream"
                raise StreamError(Condition.NOT_AUTHORIZED, text)
            self._out.append(ToBranch(target, element.raw))
        elif element.name == ns.ERROR:
            self._end("the client closed the stream with an error")
        else:
            raise StreamError(
                Condition.UNSUPPORTED_STANZA_TYPE,
                f"<{local}/> was not on offer and is not supported",
            )

    def _ask(self, asked: Dialback, raw: bytes) -> None:
        """Pass a request to the branch of the domain that it is about."""
        target = asked.pair.to
        branch = self._branches.get(target)
        if branch is None:
            if self._over or len(self._branches) >= MOST_BRANCHES:
                answer = dialback.answer(asked, dialback.ERROR, "resource-constraint")
                self._out.append(ToTrunk(answer))
                return
            branch = self._branches[target] = _Branch(Framer(ceilings.STRANGER))
            self._out.append(ToBranch(target, self._header))
        if asked.name == dialback.RESULT:
            branch.pending[asked.pair] = asked
        self._out.append(ToBranch(target, raw))

    # Branches

    def _read_branch(self, domain: str, branch: _Branch) -> None:
        while (event := branch.framer.next_event()) is not None:
            if isinstance(event, Footer):
                self._drop(domain, "the branch closed its stream")
                return
            if not isinstance(event, Element) or ns.split(event.name)[0] != ns.DIALBACK:
                continue  # headers, features and errors are the branch's own
            answer = dialback.read(event)
            if answer.kind is None:
                continue
            if answer.name == dialback.RESULT:
                branch.pending.pop(answer.pair.turned, None)
                branch.proved = branch.proved or answer.kind == dialback.VALID
            self._out.append(ToTrunk(dialback.retold(answer)))

    def _drop(self, domain: str, reason: str) -> None:
        """Give a branch up; what has waited for it is answered.

        Our server cannot be told that a proof is no longer good; it learns that by the end of the
        stream, after which it opens another one.
        """
        branch = self._branches.pop(domain, None)
        if branch is None:
            return
        self._out.append(EndBranch(domain))
        for asked in branch.pending.values():
            answer = dialback.answer(asked, dialback.ERROR, "remote-server-timeout")
            self._out.append(ToTrunk(answer))
        if branch.proved:
            self._end(f"the stream to {domain} has ended: {reason}")

    # The end

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._out += (ToTrunk(FOOTER), EndTrunk(reason))

    def _refuse(self, error: StreamError) -> None:
        if not self._over:
            self._over = True
            self._out += (ToTrunk(error.serialise() + FOOTER), EndTrunk(str(error)))

    def _flush(self) -> list[Order]:
        out = self._out.copy()
        self._out.clear()
        return out
