"""What the keyring says of one domain, read without changing it."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from proxy.daemon.keyring_place import Place, keyring_at
from proxy.daemon.model import Conf
from proxy.daemon.trusting.opening import takes_keyring
from proxy.session.kinds import Kind
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.entry import Entry, Held, How, Seen, State
from proxy.trust.policy import Policy
from proxy.xmpp.text import printable

_COMPARE: Final = "once you have compared the fingerprint with what the domain's operator says"
_ASK: Final = "ask the domain's operator by another way whether its certificate has changed"
_BEGIN: Final = len("AB:CD:EF:")  # enough of a fingerprint to find it among a few


class Standing(Enum):
    """What a certificate is to the keyring, and what would become of it in a session."""

    KNOWN = "known"
    """It is there, and let in."""
    NEW = "new"
    """It would be let in, and added."""
    HELD = "held"
    """It waits for an operator."""
    UNSEEN = "unseen"
    """It would be held, to wait for an operator."""
    REJECTED = "rejected"
    """An operator has rejected it."""
    REVOKED = "revoked"
    """An operator has revoked it."""


@attrs.frozen
class Memory:
    """What a keyring says of the certificates of one domain, for one kind of stream.

    Attributes:
        file: the keyring.
        domain: the domain, in A-labels.
        stream: the kind of stream, in the words of the keyring.
        exists: whether it is there; the daemon makes it if it is not.
        entries: the certificates that were believed once.
        held: those that were not, and wait or have been decided about.
        seen: what the domain was once reached with.
        problem: why nothing of that is known, fit to be shown; empty if it is.
    """

    file: Path
    domain: str
    stream: str
    exists: bool = True
    entries: tuple[Entry, ...] = ()
    held: tuple[Held, ...] = ()
    seen: Seen = attrs.field(factory=Seen)
    problem: str = ""

    def entry_of(self, certificate: bytes) -> Entry | None:
        """Return the entry of a certificate, given in DER."""
        return next((each for each in self.entries if each.certificate == certificate), None)

    def held_of(self, certificate: bytes) -> Held | None:
        """Return what a certificate, given in DER, is held as."""
        return next((each for each in self.held if each.certificate == certificate), None)


def recall(conf: Conf, file: Path | None, domain: str, policy: Policy, kind: Kind) -> Memory | None:
    """Read what the keyring of a conf says of a domain.

    Args:
        conf: the conf.
        file: where it was read; None if it is nobody's, so that there is no daemon with a keyring.
        domain: the domain, as A-labels.
        policy: the policy for it.
        kind: the kind of stream.

    Returns:
        None where the policy has no use for a keyring.
    """
    if file is None or not takes_keyring(policy):
        return None
    place, stream = conf.state_directory / FILE_NAME, kind.value
    try:
        place.lstat()
    except FileNotFoundError:
        return Memory(place, domain, stream, exists=False)
    except OSError:
        pass  # opening it tells why
    try:
        with keyring_at(Place(file, conf_chosen=True, state_directory=place.parent)) as keyring:
            return Memory(
                place,
                domain,
                stream,
                entries=keyring.find(domain, stream),
                held=tuple(held for held in keyring.all_held(domain) if held.stream == stream),
                seen=keyring.seen(domain, stream),
            )
    except KeyringError as error:
        return Memory(place, domain, stream, problem=str(error))


@attrs.frozen
class Kept:
    """What a keyring has to say of a certificate that was shown.

    Attributes:
        standing: the same in a word.
        text: the same for people, fit to be shown.
        id: what it is held as; empty if it is not.
        remedy: what lets it in, if it is not; fit to be shown.
        alarming: whether it may be that of an attacker.
    """

    standing: Standing
    text: str
    id: str = ""
    remedy: str = ""
    alarming: bool = False


def kept(
    memory: Memory, policy: Policy, certificate: bytes, *, accepted: bool, holds: bool
) -> Kept | None:
    """Say what a keyring has to say of a certificate.

    Args:
        memory: the keyring.
        policy: the policy.
        certificate: the certificate in DER.
        accepted: whether a session would let it in.
        holds: whether it would hold it, or hold it still.

    Returns:
        None if it does not come to asking the keyring.
    """
    entry, held = memory.entry_of(certificate), memory.held_of(certificate)
    if (barred := _barred(entry, held)) is not None:
        return barred
    if accepted and entry is not None:
        return Kept(Standing.KNOWN, _known(entry))
    if accepted:
        return Kept(Standing.NEW, _new(memory))
    if not holds:
        return None
    others = () if entry is not None else memory.entries
    return _waiting(held, others, policy.approval_timeout)


def _barred(entry: Entry | None, held: Held | None) -> Kept | None:
    held_id = "" if held is None else held.id
    if entry is not None and entry.revocation is not None:
        text = f"revoked {_on(entry.revocation.at, entry.revocation.by)}"
        remedy = "you have revoked it: ask the operator for the server's new certificate"
        if held_id:
            remedy += f'; "bascule keyring approve {held_id}" only if revoking was a mistake'
        return Kept(Standing.REVOKED, text, held_id, remedy)
    remedy = f"bascule keyring approve {held_id} lets the certificate in again"
    if held is not None and held.state is State.REJECTED:
        text = f"rejected {_on(held.since, held.by)}, held as {held_id}"
        return Kept(Standing.REJECTED, text, held_id, remedy)
    return None


def _waiting(held: Held | None, others: Sequence[Entry], seconds: float) -> Kept:
    wait = f"; sessions wait {seconds:g} s for an operator" if seconds else ""
    if others:
        return _changed(held, others, wait)
    if held is not None and held.state is State.PENDING:
        text = f"held as {held.id} since {_date(held.since)}{wait}"
        remedy = f"bascule keyring approve {held.id} permits the certificate, {_COMPARE}"
        return Kept(Standing.HELD, text, held.id, remedy)
    text = f"not there; it would be held for an operator{wait}"
    remedy = (
        "after a session has met the certificate, bascule keyring pending shows its id: approve "
        f"that, {_COMPARE}"
    )
    return Kept(Standing.UNSEEN, text, "", remedy)


def _changed(held: Held | None, others: Sequence[Entry], wait: str) -> Kept:
    """Say what waits though the domain has others in the keyring."""
    latest = max(others, key=lambda entry: entry.last_seen)
    begin = latest.facts.fingerprint[:_BEGIN]
    which = f"{'the latest ' * (len(others) > 1)}{begin}…, last seen {_date(latest.last_seen)}"
    text = (
        f"another certificate than the {len(others)} in the keyring ({which}): "
        "possible security breach; "
    )
    if held is not None and held.state is State.PENDING:
        text += f"held as {held.id}{wait}"
        remedy = f"{_ASK}; only then bascule keyring approve {held.id}"
        return Kept(Standing.HELD, text, held.id, remedy, alarming=True)
    text += f"it would be held for an operator{wait}"
    remedy = (
        f"{_ASK}; only then approve the id that bascule keyring pending shows after a session has "
        "met the certificate"
    )
    return Kept(Standing.UNSEEN, text, "", remedy, alarming=True)


def _known(entry: Entry) -> str:
    if entry.how is How.OPERATOR:
        return f"permitted {_on(entry.permitted_at, entry.permitted_by)}"
    return f"there since {_date(entry.first_seen)} ({entry.how.value})"


def _new(memory: Memory) -> str:
    if not memory.entries:
        return "not there; it would be added, as the first of the domain"
    others = f"{len(memory.entries)} other{'s' * (len(memory.entries) > 1)}"
    return f"not there; it would be added beside {others}, and operators told of the change"


def _on(moment: datetime, by: str) -> str:
    return f"on {_date(moment)}" + (f" by {printable(by)}" if by else "")


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
