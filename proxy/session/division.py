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
from proxy.session.addresses import addresses, domain_of
from proxy.session.dialback import Dialback, Pair
from proxy.session.federation import STANZAS
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
class OpenBranch:
    """Make the branch of ``domain``."""

    domain: str


@attrs.frozen
class ToBranch:
    """Write to the branch of ``domain``."""

    domain: str
    data: bytes


@attrs.frozen
class EndBranch:
    """The branch of ``domain`` has nothing more to say or to hear."""

    domain: str


@attrs.frozen
class EndTrunk:
    """Nothing more is written to our server; what it still sends is taken until it has closed.

    Attributes:
        reason: why, for the log.
    """

    reason: str


@attrs.frozen
class Close:
    """Close everything, with what is still to be written.

    Attributes:
        reason: why, for the log.
    """

    reason: str


Order = ToTrunk | OpenBranch | ToBranch | EndBranch | EndTrunk | Close

_Question = tuple[str, Pair, str]
"""What tells a request from others: its name, its pair, and the id of ``<db:verify/>``."""


@attrs.define
class _Waiting:
    asked: Dialback
    times: int = 0


@attrs.define
class _Branch:
    framer: Framer
    waiting: dict[_Question, _Waiting] = attrs.field(factory=dict)
    proved: set[Pair] = attrs.field(factory=set)


class Division:
    """The stream, and its branches: what comes in, and what is to be done about it.

    Args:
        header: the header that our server has sent, and been answered.
        limits: what its elements may cost.

    Attributes:
        dropped: how many stanzas our server has sent to branches that had ended.
    """

    def __init__(self, header: bytes, limits: Limits) -> None:
        self.dropped = 0
        self._header = header
        self._framer = Framer(limits)
        self._framer.feed(header)
        self._framer.next_event()
        self._branches: dict[str, _Branch] = {}
        self._deaf = False  # whether our server can say nothing more
        self._last_words = ""  # a stream error of our server's
        self._over: str | None = None  # why our server is told nothing more
        self._out: list[Order] = []

    def received(self, data: bytes) -> list[Order]:
        """Take bytes of our server's."""
        if not self._deaf:
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
        while True:
            self._skim()
            event = self._framer.next_event()
            match event:
                case None:
                    return
                case Footer():
                    self._leave(event)
                    return
                case Element():
                    self._take(event)
                case _:
                    pass  # white space keeps only this connection alive

    def _skim(self) -> None:
        """Pass on runs of stanzas that are for one domain each."""
        while True:
            run = ""

            def is_of_run(pair: tuple[bytes, bytes]) -> bool:
                nonlocal run
                try:
                    target = domain_of(pair[1].decode())
                except ValueError:
                    return False
                run = run or target
                return target == run and self._leads_to(run)

            taken = self._framer.skim(is_of_run)
            if not taken:
                return
            self._out.append(ToBranch(run, taken))

    def _leads_to(self, domain: str) -> bool:
        """Whether stanzas to a domain may go to its branch, which judges their pairs itself."""
        branch = self._branches.get(domain)
        return branch is not None and bool(branch.proved)

    def _take(self, element: Element) -> None:
        namespace, local = ns.split(element.name)
        if namespace == ns.DIALBACK:
            asked = dialback.read(element)
            if asked.kind is None:
                self._ask(asked, element.raw)
        elif element.name in STANZAS:
            self._pass(addresses(element).to, element.raw)
        elif element.name == ns.ERROR:
            self._last_words = " with an error"
            self._tell_branches(element.raw)
        else:
            raise StreamError(
                Condition.UNSUPPORTED_STANZA_TYPE,
                f"<{local}/> was not on offer and is not supported",
            )

    def _pass(self, target: str, stanza: bytes) -> None:
        if self._leads_to(target):
            self._out.append(ToBranch(target, stanza))
        elif self._over is not None:
            self.dropped += 1  # it was sent before our server could know
        else:
            text = f"no domain is proved towards {target} on this stream"
            raise StreamError(Condition.NOT_AUTHORIZED, text)

    def _ask(self, asked: Dialback, raw: bytes) -> None:
        """Pass a request to the branch of the domain that it is about."""
        target = asked.pair.to
        branch = self._branches.get(target)
        if branch is None:
            if self._over is not None:
                return
            if len(self._branches) >= MOST_BRANCHES:
                self._tell(dialback.answer(asked, dialback.ERROR, "resource-constraint"))
                return
            branch = self._branches[target] = _Branch(Framer(ceilings.STRANGER))
            self._out += (OpenBranch(target), ToBranch(target, self._header))
        branch.waiting.setdefault(_question(asked), _Waiting(asked)).times += 1
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
            if answer.kind is not None:
                self._heed(branch, answer, answer.kind)

    def _heed(self, branch: _Branch, answer: Dialback, kind: str) -> None:
        """Pass on an answer that this very branch was asked for: none speaks for another domain."""
        question = _question(attrs.evolve(answer, pair=answer.pair.turned))
        waiting = branch.waiting.get(question)
        if waiting is None:
            return
        waiting.times -= 1
        if not waiting.times:
            del branch.waiting[question]
        if answer.name == dialback.RESULT and kind == dialback.VALID:
            branch.proved.add(waiting.asked.pair)
        self._tell(dialback.answer(waiting.asked, kind, answer.condition))

    def _drop(self, domain: str, reason: str) -> None:
        """Give a branch up; what has waited for it is answered.

        Our server cannot be told that a proof is no longer good; it learns that by the end of the
        stream, after which it opens another one.
        """
        branch = self._branches.pop(domain, None)
        if branch is None:
            return
        self._out.append(EndBranch(domain))
        for waiting in branch.waiting.values():
            asked = waiting.asked
            if asked.name == dialback.VERIFY or asked.pair not in branch.proved:
                self._tell(dialback.answer(asked, dialback.ERROR, "remote-server-timeout"))
        if branch.proved:
            self._end(f"the stream to {domain} has ended: {reason}")

    def _tell_branches(self, data: bytes) -> None:
        self._out += [ToBranch(domain, data) for domain in self._branches]

    # The end

    def _tell(self, data: bytes) -> None:
        """Write to our server, whose stream may have been ended, and then is no more."""
        if self._over is None:
            self._out.append(ToTrunk(data))

    def _end(self, reason: str) -> None:
        if self._over is None:
            self._tell(FOOTER)
            self._over = reason
            self._out.append(EndTrunk(reason))

    def _leave(self, footer: Footer) -> None:
        """End everything as our server has ended its stream."""
        self._tell_branches(footer.raw)
        self._tell(FOOTER)
        self._close(f"the client closed the stream{self._last_words}")

    def _refuse(self, error: StreamError) -> None:
        self._tell(error.serialise() + FOOTER)
        self._close(str(error))

    def _close(self, reason: str) -> None:
        self._deaf = True
        self._branches.clear()
        self._over = self._over or reason
        self._out.append(Close(self._over))

    def _flush(self) -> list[Order]:
        out = self._out.copy()
        self._out.clear()
        return out


def _question(asked: Dialback) -> _Question:
    return asked.name, asked.pair, asked.id
