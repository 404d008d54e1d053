"""Alerts as XMPP messages: they wait, are sent all at once, and sent again if that failed.

Each time the messenger connects, logs in, sends what waits, and leaves: an account that stayed
logged in would cost a connection all the time, and would have to be watched over.
"""

import itertools
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from proxy.daemon.alerting.conversation import Bounced, hand_over, leave, log_in, message
from proxy.daemon.alerting.hook import Report
from proxy.daemon.alerting.password import read_password
from proxy.daemon.alerting.stream import DeliveryError, Stream
from proxy.daemon.alerting.told import Told
from proxy.daemon.alerting.ways import Connect
from proxy.session.commands import Severity
from proxy.xmpp.jids import Jid
from proxy.xmpp.text import printable

SECONDS: Final = 60.0
"""How long it may take in all to connect, log in, send and leave."""

FAREWELL: Final = 5.0
"""How long the server may take to end its stream after we have ended ours."""

DELAYS: Final = (15.0, 60.0, 300.0, 1_800.0)
"""How long to wait before each further attempt; an alert for which the last one failed is lost."""

BURST: Final = 16
"""Alerts that are sent at once: servers slow down those who send a lot."""

MOST_WAITING: Final = 256
"""Alerts that wait to be sent; of more, the newest are lost."""


@attrs.define(eq=False)
class _Waiting:
    """An alert that has not been sent."""

    told: Told
    failures: int = 0


class Messenger:
    """Sends alerts from an account to people.

    Args:
        account: the account.
        recipients: who gets each alert.
        password_file: holds the account's password; see `read_password`.
        connect: finds the way to the account's server.
        reactor: the reactor.
        report: told of what fails.
    """

    def __init__(
        self,
        account: Jid,
        recipients: Sequence[Jid],
        *,
        password_file: Path,
        connect: Connect,
        reactor: Any,
        report: Report,
    ) -> None:
        self._account = account
        self._recipients = tuple(recipients)
        self._password_file = password_file
        self._connect = connect
        self._reactor = reactor
        self._report = report
        self._waiting: deque[_Waiting] = deque()
        self._attempt: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._failures = 0
        self._stopped = False
        self._ids = itertools.count(1)

    def tell(self, told: Told) -> None:
        """Send an alert: now, with the next ones, or when it is time for another attempt."""
        if self._stopped or len(self._waiting) >= MOST_WAITING:
            why = "Bascule stops" if self._stopped else "too many wait to be sent already"
            self._say("an alert was not sent", why, alerts=1)
            return
        self._waiting.append(_Waiting(told))
        self._begin()

    def stop(self) -> None:
        """Send nothing more, and leave at once."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self._waiting:
            self._say("alerts were not sent", "Bascule stops", alerts=len(self._waiting))
            self._waiting.clear()

    def _begin(self) -> None:
        if self._attempt is None and self._timer is None and self._waiting and not self._stopped:
            attempt = Deferred.fromCoroutine(self._deliver())
            self._attempt = attempt
            attempt.addTimeout(SECONDS, self._reactor, _too_late)
            attempt.addCallbacks(self._delivered, self._failed)

    async def _deliver(self) -> None:
        """Send what waits; what has been sent waits no longer."""
        try:
            password = read_password(self._password_file)
        except ValueError as error:
            raise DeliveryError(str(error)) from error
        way = await self._connect(self._account.domain)
        stream = self._adopted(way.connection)
        try:
            await log_in(stream, self._account, password, self._aside, plain=way.plain)
            sent = list(itertools.islice(self._waiting, BURST))
            written = [
                (recipient, f"alert-{next(self._ids)}", waiting.told)
                for waiting in sent
                for recipient in self._recipients
            ]
            messages = [message(told, recipient, name) for recipient, name, told in written]
            bounced = await hand_over(stream, self._account.domain, messages)
            for waiting in sent:
                self._waiting.remove(waiting)
            self._tell_of(bounced, {name: recipient for recipient, name, _ in written})
            leaving = Deferred.fromCoroutine(leave(stream))
            await leaving.addTimeout(FAREWELL, self._reactor, lambda *_: None)
        except BaseException:
            stream.abort()
            raise
        stream.close()

    def _adopted(self, connection: socket.socket) -> Stream:
        stream = Stream()
        factory = Factory.forProtocol(lambda: stream)
        factory.noisy = False
        with connection:  # the reactor has a descriptor of its own
            self._reactor.adoptStreamConnection(connection.fileno(), connection.family, factory)
        return stream

    async def _aside(self, function: Callable[[str], str], data: str) -> str:
        pool = self._reactor.getThreadPool()
        return await deferToThreadPool(self._reactor, pool, function, data)

    def _tell_of(self, bounced: Sequence[Bounced], recipients: dict[str, Jid]) -> None:
        """Log who did not get alerts, once for each."""
        reasons = {recipients[each.id]: each.reason for each in bounced if each.id in recipients}
        for recipient, reason in reasons.items():
            self._say("alerts were sent back", reason, to=recipient)

    def _delivered(self, _nothing: None) -> None:
        self._attempt = None
        self._failures = 0
        self._begin()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._stopped:
            return
        if not self._waiting:  # all had been sent when the time was over
            self._failures = 0
            return
        for waiting in self._waiting:
            waiting.failures += 1
        lost = [each for each in self._waiting if each.failures > len(DELAYS)]
        for each in lost:
            self._waiting.remove(each)
        delay = DELAYS[min(self._failures, len(DELAYS) - 1)]
        self._failures += 1
        self._say(
            "alerts could not be sent",
            _reason(failure),
            alerts=len(self._waiting) + len(lost),
            lost=len(lost),
            again_in=f"{delay:g}s" if self._waiting else None,
        )
        if self._waiting:
            self._timer = self._reactor.callLater(delay, self._again)
        else:
            self._failures = 0

    def _again(self) -> None:
        self._timer = None
        self._begin()

    def _say(self, text: str, reason: str, **fields: object) -> None:
        self._report(Severity.ERROR, text, {"account": self._account, "reason": reason, **fields})


def _too_late(_result: object, seconds: float) -> None:
    raise DeliveryError(f"the server took longer than {seconds:g} seconds")


def _reason(failure: Failure) -> str:
    error = failure.value
    text = str(error) if isinstance(error, DeliveryError) else f"{type(error).__name__}: {error}"
    return printable(text)
