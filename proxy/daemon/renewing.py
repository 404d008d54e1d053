"""Renewal: certificates, keys, roots and revocation lists as they are now, for sessions to come."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.daemon.certificates import examine
from proxy.daemon.conf import Claim
from proxy.daemon.file_watch import INTERVAL, FileWatch, Signature, signatures
from proxy.daemon.generation import Generation
from proxy.daemon.log import Log
from proxy.daemon.model import FORWARD, Conf
from proxy.daemon.pem import read_chain
from proxy.daemon.served import Domain
from proxy.daemon.tables import Placed
from proxy.daemon.trusting.trust import revocation_of
from proxy.net.tls import TLSSetupError
from proxy.session.commands import Severity
from proxy.session.kinds import Kind
from proxy.trust.keyring.facts import facts_of
from proxy.trust.revocation import RevocationLists

TICKET_KEYS: Final = 86_400.0
"""Seconds after which the keys of session tickets are replaced."""

_log = Logger()


@attrs.define
class _Presented:
    """The certificates that are presented for a domain: their fingerprints, and since when."""

    fingerprints: frozenset[str]
    since: float


class Renewal:
    """Renews what comes of files.

    Args:
        reactor: the reactor.
        log: where to write; None keeps quiet.
        generations: returns those that there are, the current one first.
        interval: seconds from one look at files to the next.
    """

    def __init__(
        self,
        reactor: Any,
        log: Log | None,
        generations: Callable[[], Collection[Generation]],
        interval: float = INTERVAL,
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._generations = generations
        self.watch: Final = FileWatch(reactor, self._changed, interval)
        """Looks at the files of the current conf."""
        self._presented: dict[str, _Presented] = {}
        self._warned: dict[str, str] = {}
        self._daily: Any = None

    def start(self) -> None:
        """Begin to renew: what has changed soon, and everything once a day."""
        self.watch.start()
        self._daily = self._reactor.callLater(TICKET_KEYS, self._renew_all)

    def stop(self) -> None:
        """Renew no more."""
        self.watch.stop()
        if self._daily is not None:
            self._daily.cancel()
            self._daily = None

    def adopt(self, conf: Conf, taken: dict[Path, Signature]) -> tuple[str, ...]:
        """Take note of what a conf presents.

        Args:
            conf: the conf.
            taken: what its files were before they were read, as `seen` returns it.

        Returns:
            The domains whose certificates are others than before.
        """
        self.watch.adopt(taken)
        self._warned.clear()
        before = self._presented
        self._presented = {name: before[name] for name in _names(conf) if name in before}
        others = [domain.name for domain in conf.domains if self._take_note(domain, quiet=True)]
        return tuple(name for name in others if name in before)

    def since(self, domain: str) -> float | None:
        """Return since when (monotonic) a domain's certificates are presented; None if none are."""
        found = self._presented.get(domain)
        return None if found is None else found.since

    def _changed(self, paths: frozenset[Path]) -> "Deferred[frozenset[Path]]":
        """Take up files that have changed; return those with which that succeeded."""
        return self._renew(paths, whole=False)

    def _renew_all(self) -> None:
        """Make the TLS contexts anew, and with them the keys of session tickets.

        Who has such a key can read what was said in sessions that its tickets resumed, so no key
        is kept for long (RFC 9325, section 3.4).
        """
        self._daily = self._reactor.callLater(TICKET_KEYS, self._renew_all)
        paths = frozenset(files(self._current.conf))
        self._renew(paths, whole=True).addErrback(_failed)

    @property
    def _current(self) -> Generation:
        return next(iter(self._generations()))

    def _renew(self, paths: frozenset[Path], *, whole: bool) -> "Deferred[frozenset[Path]]":
        """Renew what comes of files; ``whole``, the keys of all tickets and all roots as well."""
        current = self._current
        policies = current.conf.policies
        lists = {path for policy in policies for path in policy.crl_files}
        reading: Deferred[RevocationLists | None] = succeed(None)
        if lists & paths:
            # Those of large authorities take a second to read.
            pool = self._reactor.getThreadPool()
            reading = deferToThreadPool(self._reactor, pool, revocation_of, policies)

        def unread(failure: Failure) -> None:
            if not isinstance(failure.value, TLSSetupError):
                failure.raiseException()
            self._warn("revocation lists", failure.value)

        def read(revocation: RevocationLists | None) -> frozenset[Path]:
            if self._current is not current:
                return frozenset()  # another conf holds meanwhile, which has read its files itself
            done = self._take_up(paths - lists, revocation, whole=whole)
            if revocation is None:
                return done
            self._settle("revocation lists")
            for path in () if whole else sorted(lists & paths):
                self._write(Severity.INFO, "revocation lists taken up", {"file": path})
            return done | (lists & paths)

        return reading.addErrback(unread).addCallback(read)

    def _take_up(
        self, paths: frozenset[Path], revocation: RevocationLists | None, *, whole: bool
    ) -> frozenset[Path]:
        """Renew what comes of files, and of revocation lists that were read."""
        current = self._current
        domains = [each for each in current.conf.domains if paths & _files_of(each)]
        done: set[Path] = set()
        good: list[Domain] = []
        for domain in domains:
            if self._renew_domain(domain):
                good.append(domain)
                done |= paths & _files_of(domain)
        roots = {path for path in paths & _roots(current.conf) if self._is_readable(path)}
        shown = frozenset(each.name for each in good) if _shows_own(current.conf) else frozenset()
        if whole or roots or revocation is not None:
            failed = current.trust.renew(revocation)
            for problem in failed:
                self._warn("roots", problem)
            if not failed:
                self._settle("roots")
                done |= roots
                for path in () if whole else sorted(roots):
                    self._write(Severity.INFO, "roots taken up", {"file": path})
            for other in self._others():
                other.trust.renew(revocation)
        elif shown:
            for problem in current.trust.show(shown):
                self._warn("roots", problem)
        return frozenset(done)

    def _is_readable(self, roots: Path) -> bool:
        """Whether a file has roots in it, which is found out before all contexts are made anew."""
        try:
            read_chain(roots)
        except ValueError as error:
            self._warn(str(roots), error)
            return False
        self._settle(str(roots))
        return True

    def _others(self) -> Iterable[Generation]:
        return list(self._generations())[1:]

    def _renew_domain(self, domain: Domain) -> bool:
        """Renew the TLS contexts of a domain; whether that could be done."""
        current = self._current
        problem = _unfit(current.conf, domain)
        if not problem:
            try:
                current.accepting.renew(domain)
            except TLSSetupError as error:
                problem = str(error)
        if problem:
            self._warn(domain.name, problem)
            return False
        self._settle(domain.name)
        self._take_note(domain)
        return True

    def _take_note(self, domain: Domain, *, quiet: bool = False) -> bool:
        """Take note of what is presented for a domain; whether it is something else than before."""
        found: dict[str, tuple[Path, x509.Certificate]] = {}
        for pair in domain.certificates:
            try:
                leaf = read_chain(pair.certificate)[0]
                fingerprint = facts_of(leaf.public_bytes(Encoding.DER)).fingerprint
            except ValueError:
                continue  # it is being replaced right now: the next look is for that
            found[fingerprint] = pair.certificate, leaf
        before = self._presented.get(domain.name)
        if before is not None and before.fingerprints == found.keys():
            return False
        self._presented[domain.name] = _Presented(frozenset(found), time.monotonic())
        known = frozenset() if before is None else before.fingerprints
        for fingerprint, (path, leaf) in found.items():
            if fingerprint not in known and not quiet:
                self._write(Severity.INFO, "certificate taken up", _told(domain, path, leaf))
        return True

    def _warn(self, whose: str, problem: object) -> None:
        """Write why something stays as it was, once as long as nothing else is wrong with it."""
        text = str(problem)
        if self._warned.get(whose) != text:
            self._warned[whose] = text
            self._write(Severity.WARNING, f"certificates stay as they were: {text}", {})

    def _settle(self, whose: str) -> None:
        """Nothing is wrong with something any more."""
        self._warned.pop(whose, None)

    def _write(self, severity: Severity, message: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.write(severity, message, fields)


def seen(conf: Conf) -> dict[Path, Signature]:
    """Return what the files of a conf are known by; to be asked before they are read."""
    return signatures(files(conf))


def files(conf: Conf) -> set[Path]:
    """Return the files of a conf that may be replaced while the daemon runs."""
    lists = {path for policy in conf.policies for path in policy.crl_files}
    certificates = {path for domain in conf.domains for path in _files_of(domain)}
    return lists | certificates | _roots(conf)


def _roots(conf: Conf) -> set[Path]:
    return {policy.anchors for policy in conf.policies if policy.anchors is not None}


def _files_of(domain: Domain) -> set[Path]:
    pairs = domain.certificates
    return {path for pair in pairs for path in (pair.certificate, pair.private_key)}


def _names(conf: Conf) -> Iterable[str]:
    return (domain.name for domain in conf.domains)


def _shows_own(conf: Conf) -> bool:
    """Whether certificates of ours are shown to servers of others."""
    return any(each.direction == FORWARD and each.stream is Kind.S2S for each in conf.listeners)


def _unfit(conf: Conf, domain: Domain) -> str:
    """Say why the certificates of a domain must not be taken up; nothing if they may be."""
    served = {kind for kind in Kind if domain.server(kind) is not None}
    if _shows_own(conf):
        served.add(Kind.S2S)
    claim = Claim(domain.name, domain.certificates, frozenset(served))
    placed = Placed(claim, Path(), domain.name, frozenset())
    return "; ".join(each.text for each in examine([placed], datetime.now(UTC)).mistakes)


def _told(domain: Domain, path: Path, leaf: x509.Certificate) -> dict[str, object]:
    """Return what the log tells of a certificate."""
    facts = facts_of(leaf.public_bytes(Encoding.DER))
    return {
        "domain": domain.name,
        "file": path,
        "fingerprint": facts.fingerprint,
        "pin": facts.pin,
        "serial": f"{leaf.serial_number:x}",
        "days_left": (facts.not_after.date() - datetime.now(UTC).date()).days,
    }


def _failed(failure: Failure) -> None:
    _log.failure("certificates could not be renewed", failure=failure)
