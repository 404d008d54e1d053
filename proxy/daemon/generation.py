"""A generation: all that comes of one conf, for as long as sessions are left that it began."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from proxy.daemon.accepting import Accepting
from proxy.daemon.model import Conf, Listener
from proxy.daemon.sessions import Marks, Sessions
from proxy.daemon.shared import Shared
from proxy.daemon.trusting.trust import Prepared, Trust
from proxy.net.bridge import Bridge
from proxy.net.divider import Divider
from proxy.net.hub import Hub
from proxy.net.outgoing import Outgoing
from proxy.net.summary import Summary
from proxy.session.chain import Chain, Failure, share
from proxy.session.commands import Report
from proxy.session.hooks import Address
from proxy.trust.keyring.alerts import Alert

if TYPE_CHECKING:
    from proxy.daemon.metrics.counting import Metrics


@attrs.frozen
class Lasting:
    """What outlives a generation.

    Attributes:
        reactor: the reactor.
        sessions: takes the sessions of every generation.
        tell: gets what operators should know.
        plugin_failed: told of a plugin that failed.
        shared: what it shares with other workers.
        marks: what our own streams are known by.
        outgoing: knows our own connections.
    """

    reactor: Any
    sessions: Sessions
    tell: Callable[[Alert], None]
    plugin_failed: Failure
    shared: Shared = attrs.field(factory=Shared.alone)
    marks: Marks = attrs.field(init=False)
    outgoing: Outgoing = attrs.field(init=False)

    @marks.default
    def _marks(self) -> Marks:
        return Marks(self.shared.ids(), self.shared.ledger())

    @outgoing.default
    def _outgoing(self) -> Outgoing:
        return self.shared.outgoing()


class Generation:
    """What comes of one conf: plugins, whom to believe, and what becomes of connections.

    A plugin whose configuration is as it was goes on as it is, with all that it has counted; one
    that follows another of its name goes on with what that has counted in `Counts`.

    Args:
        conf: the conf, without mistakes.
        lasting: what outlives it.
        before: the generation that it is to follow; None for the first.
        metrics: takes what is measured; None if nothing is.
        prepared: what takes long to read; None has it read here.

    Raises:
        ChainError: a plugin is not fit for the chain, or fails to take what it shares.
        KeyringError: the keyring cannot be opened.
        TLSSetupError: a certificate, roots or revocation lists cannot be used.

    Attributes:
        conf: the conf.
        trust: whom to believe.
        accepting: makes the sessions.
    """

    def __init__(
        self,
        conf: Conf,
        lasting: Lasting,
        *,
        before: "Generation | None" = None,
        metrics: "Metrics | None" = None,
        prepared: Prepared | None = None,
    ) -> None:
        self.conf = conf
        self._lasting = lasting
        self._sessions: set[Bridge | Divider] = set()
        self._plugins = tuple(
            setting.plugin(setting.config)
            if before is None or (found := before.plugin(setting)) is None
            else found
            for setting in conf.plugins
        )
        chain = Chain(self._plugins, lasting.plugin_failed)
        for plugin in self._plugins:
            if before is None or not before.has(plugin):
                share(plugin, lasting.shared.counts)
        self.trust = Trust(
            conf,
            lasting.reactor,
            lasting.tell,
            lasting.outgoing,
            Prepared.of(conf) if prepared is None else prepared,
        )
        try:
            self.accepting = Accepting(
                conf,
                lasting.reactor,
                self.trust,
                chain,
                self,
                marks=lasting.marks,
                metrics=metrics,
            )
        except BaseException:
            self.trust.close()
            raise

    def plugin(self, setting: object) -> Any:
        """Return the plugin that came of a setting; None if none did."""
        found = zip(self.conf.plugins, self._plugins, strict=True)
        return next((plugin for each, plugin in found if each == setting), None)

    def has(self, plugin: object) -> bool:
        """Whether a plugin is one of its own."""
        return any(each is plugin for each in self._plugins)

    def first(self, listener: Listener, hub: Hub) -> Callable[[socket.socket, Address], None]:
        """Return what a listener does first of all with a connection."""
        return self.accepting.first(listener, hub)

    @property
    def idle(self) -> bool:
        """Whether no session of it is left, nor any connection that may become one."""
        return not self._sessions and not self.accepting.waits

    def close(self) -> None:
        """Give up everything."""
        self.accepting.close()
        self.trust.close()

    # What comes of connections: see `Sessions`

    def begin(self, session: Bridge | Divider) -> None:
        """Take one that is about to start."""
        self._sessions.add(session)
        self._lasting.sessions.begin(session)

    def closed(self, session: Bridge | Divider, summary: Summary) -> None:
        """Take note of one that is over."""
        self._sessions.discard(session)
        self._lasting.sessions.closed(session, summary)

    def replaced(self, session: Bridge, by: Divider) -> None:
        """Take note of one that goes on as another."""
        self._sessions.discard(session)
        self._sessions.add(by)
        self._lasting.sessions.replaced(session, by)

    def report(self, listener: str, session_id: str, report: Report) -> None:
        """Write to the log what a session reports."""
        self._lasting.sessions.report(listener, session_id, report)

    def turned_away(self, listener: str, client: Address, reason: object) -> None:
        """Take note of a connection that is closed before it becomes a session."""
        self._lasting.sessions.turned_away(listener, client, reason)

    def is_own(self, address: str, port: int) -> bool:
        """Whether an IP address and a port are a listener of ours."""
        return self._lasting.sessions.is_own(address, port)
