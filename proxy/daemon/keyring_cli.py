"""The commands ``bascule keyring``: what is known of other domains' certificates, and decisions.

They work on the keyring's file, whether the daemon runs or not.
"""

import json
import os
import pwd
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from proxy.daemon.exits import Exit
from proxy.daemon.keyring_named import instead_of_certificate, instead_of_id
from proxy.daemon.keyring_own import Format, Wanted, export_own, write
from proxy.daemon.keyring_place import Place, at_place, complain, keyring_at
from proxy.daemon.keyring_shown import (
    entry_card,
    entry_structure,
    held_card,
    held_structure,
    print_cards,
    print_entries,
    seen_card,
    seen_structure,
)
from proxy.trust.keyring.entry import Entry, Held, Seen
from proxy.trust.keyring.exchange import exported, import_into
from proxy.trust.keyring.facts import fingerprint_octets
from proxy.trust.keyring.reading import NotFoundError
from proxy.trust.keyring.store import Keyring
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

_HIGHEST_PORT: Final = 65535

_by = click.option(
    "--by",
    callback=lambda _context, _parameter, text: _operator(text),
    metavar="NAME",
    help="Who decides; the user who runs the command when left out.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, not text for people.")


def _operator(text: str | None) -> str:
    if text is not None:
        if not text.strip():
            raise click.BadParameter("a name is empty")
        return printable(text.strip())
    user = os.getuid()
    if user == 0 and os.environ.get("SUDO_USER"):
        return printable(os.environ["SUDO_USER"])
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _domain(_context: click.Context, _parameter: click.Parameter, given: Any) -> Any:
    try:
        return (
            tuple(map(a_labels, given)) if isinstance(given, tuple) else given and a_labels(given)
        )
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _output(text: str | None) -> Path | None:
    if text is None:
        return None
    # A path forgets that it was written as that of a directory.
    if text.endswith("/") and not Path(text).is_dir():
        raise click.BadParameter(f"there is no directory {printable(text)}")
    return Path(text)


@click.group(short_help="Show and decide which certificates of other domains are believed.")
def keyring() -> None:
    """Show and decide which certificates of other domains are believed.

    The keyring has every certificate that was believed, and those that nothing vouches for, until
    they are approved or rejected. Compare fingerprints with what the domain's operator says by
    another way than the one that is to be trusted.

    Start with "bascule keyring pending". Decisions hold at once, whether Bascule runs or not; run
    the commands as root, or as the user that Bascule runs as.
    """


@keyring.command("list", short_help="List the certificates that were believed.")
@click.argument("domain", required=False, callback=_domain)
@_as_json
@at_place
def list_(place: Place, domain: str | None, *, as_json: bool) -> int:
    """List the certificates that were believed, of DOMAIN or of all."""
    with keyring_at(place) as opened:
        entries = opened.entries(domain)
    if as_json:
        return _print_json([entry_structure(entry) for entry in entries])
    if entries:
        print_entries(entries)
    else:
        _remark("the keyring is empty" if domain is None else f"the keyring has none of {domain}")
    return Exit.OK


@keyring.command(short_help="Show all that is known of a domain or a certificate.")
@click.argument("which", metavar="DOMAIN|FINGERPRINT|ID")
@_as_json
@at_place
def show(place: Place, which: str, *, as_json: bool) -> int:
    """Show all that is known of a domain, of a certificate, or of one that is held."""
    with keyring_at(place) as opened:
        entries, held, seen = _shown(opened, which)
    if as_json:
        structure = {
            "entries": [entry_structure(each, whole=True) for each in entries],
            "held": [held_structure(each, whole=True) for each in held],
            "seen": [seen_structure(*each) for each in seen],
        }
        return _print_json(structure)
    cards = [*map(entry_card, entries), *map(held_card, held), *(seen_card(*it) for it in seen)]
    print_cards(cards)
    return Exit.OK


_Shown = tuple[tuple[Entry, ...], tuple[Held, ...], tuple[tuple[str, str, Seen], ...]]


def _shown(opened: Keyring, which: str) -> _Shown:
    try:
        return (), (opened.held(which),), ()
    except NotFoundError:
        pass  # a domain may look like an id
    nothing = f'the keyring has nothing by the id, fingerprint or domain "{printable(which)}"'
    try:
        entries = opened.entries(which)
    except ValueError:
        raise NotFoundError(nothing) from None
    held: tuple[Held, ...] = ()
    seen: tuple[tuple[str, str, Seen], ...] = ()
    if fingerprint_octets(which) is None:
        domain = a_labels(which)
        held = opened.all_held(domain)
        seen = tuple(each for each in opened.all_seen() if each[0] == domain)
    if not (entries or held or seen):
        raise NotFoundError(nothing)
    return entries, held, seen


@keyring.command(short_help="Show the certificates that wait for a decision.")
@_as_json
@at_place
def pending(place: Place, *, as_json: bool) -> int:
    """Show the certificates that wait for a decision, longest waiting first."""
    with keyring_at(place) as opened:
        waiting = opened.pending()
    if as_json:
        return _print_json([held_structure(held) for held in waiting])
    print_cards(map(held_card, waiting))
    if not waiting:
        _remark("no certificate waits for a decision")
    return Exit.OK


@keyring.command(short_help="Let in certificates that are held.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_by
@at_place
def approve(place: Place, ids: tuple[str, ...], by: str) -> int:
    """Let in from now on the certificates that are held by these IDs.

    Alerts and "bascule keyring pending" have the IDs; after a mistake in one nothing is done. It
    also takes back what was rejected or revoked. A certificate is let in until its life ends.
    """
    now = datetime.now(UTC)
    with keyring_at(place) as opened, opened.changing():
        entries = [opened.approve(_id(each), by, now) for each in ids]
    for entry in entries:
        click.echo(f"approved for {entry.domain} ({entry.stream}): {entry.facts.fingerprint}")
    return Exit.OK


@keyring.command(short_help="Refuse certificates that are held.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_by
@at_place
def reject(place: Place, ids: tuple[str, ...], by: str) -> int:
    """Refuse from now on the certificates that are held by these IDs.

    After a mistake in one nothing is done. They are refused even if something proves them one day;
    "approve" takes that back.
    """
    now = datetime.now(UTC)
    with keyring_at(place) as opened, opened.changing():
        rejected = [opened.reject(_id(each), by, now) for each in ids]
    for held in rejected:
        click.echo(f"rejected for {held.domain} ({held.stream}): {held.facts.fingerprint}")
    return Exit.OK


@keyring.command(short_help="Refuse certificates that were believed.")
@click.argument("which", metavar="FINGERPRINT|DOMAIN")
@_by
@at_place
def revoke(place: Place, which: str, by: str) -> int:
    """Refuse from now on certificates that were believed, even if an authority vouches for them.

    With DOMAIN, all that it has; what it shows next is told of as another one. "bascule keyring
    list" has the domains, "bascule keyring show" the fingerprints.
    """
    with keyring_at(place) as opened:
        try:
            revoked = opened.revoke(which, by, datetime.now(UTC))
        except (NotFoundError, ValueError) as error:
            words = instead_of_certificate(opened, which)
            if not words and not isinstance(error, NotFoundError):
                words = f"neither a fingerprint nor a domain: {error}"
            return complain(words or error, os.EX_DATAERR)
    for held in revoked:
        click.echo(
            f"revoked for {held.domain} ({held.stream}): {held.facts.fingerprint}; "
            f'"bascule keyring approve {held.id}" takes that back'
        )
    if not revoked:
        click.echo(f"revoked already: {printable(which)}")
    return Exit.OK


@keyring.command(short_help="Forget what a domain was once reached with.")
@click.argument("domain", callback=_domain)
@at_place
def forget(place: Place, domain: str) -> int:
    """Forget that DOMAIN was once reached by TLS or with DANE, so that it may be with less.

    Only if its operator confirms by another way that it has given that up. Certificates stay.
    """
    with keyring_at(place) as opened:
        there = opened.forget(domain)
    if not there:
        return complain(f"nothing was known of {domain}", os.EX_DATAERR)
    click.echo(f"forgotten: {domain}")
    return Exit.OK


@keyring.command("export", short_help="Print the keyring as JSON, or what partners need.")
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1, callback=_domain)
@click.option("--own", is_flag=True, help="Give partners what they know your own domains by.")
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="With --own, the form; text when left out.",
)
@click.option(
    "--output",
    type=click.Path(readable=False),
    callback=lambda _context, _parameter, text: _output(text),
    metavar="PATH",
    help="Write to this file; with --own also a directory, for a file of each domain.",
)
@click.option(
    "--host",
    callback=_domain,
    metavar="HOST",
    help="With --format tlsa, the host that SRV records name; the domain when left out.",
)
@click.option(
    "--port",
    "ports",
    type=click.IntRange(1, _HIGHEST_PORT),
    multiple=True,
    help="With --format tlsa, a port that they name (repeatable); those of the reverse listeners "
    "when left out.",
)
@at_place
def export(
    place: Place,
    domains: tuple[str, ...],
    *,
    own: bool,
    form: str | None,
    output: Path | None,
    host: str | None,
    ports: tuple[int, ...],
) -> int:
    """Print the keyring, or what it has of DOMAINs, as JSON that "import" takes.

    What waits for a decision is left out.

    With --own it is about the certificates of your own domains, for partners; the keyring is not
    looked at, and private keys are neither printed nor read. The formats:

    \b
    text   fingerprints and pins, to be compared by telephone
    pem    the certificates with their chains
    pkcs7  the same as certs-only PKCS #7
    pins   a policy with pins for the partner's Bascule
    tlsa   DNS records for DANE
    posh   what https://DOMAIN/.well-known/posh/xmpp-client.json and
           xmpp-server.json should be
    """  # noqa: D301 - it is the character that click looks for
    wanted = Wanted(domains, Format(form or Format.TEXT.value), output, host, ports)
    if own:
        if (host or ports) and wanted.form is not Format.TLSA:
            raise click.UsageError("--host and --port are for --format tlsa alone")
        return export_own(place, wanted)
    if form or host or ports:
        raise click.UsageError("--format, --host and --port are for --own alone")
    with keyring_at(place) as opened:
        text = exported(opened, domains or None)
    return write(output, text)


@keyring.command("import", short_help="Take over what export has printed.")
@click.argument("file", type=click.Path(readable=False, path_type=Path, allow_dash=True))
@at_place
def import_(place: Place, file: Path) -> int:
    """Take over what "export" has written to FILE, or to standard input with -.

    All of it, or nothing. What operators have permitted there is permitted here from now on; what
    was rejected or revoked, here or there, is refused.
    """
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode("utf-8")
    except OSError as error:
        return complain(f"{file}: cannot be read: {error.strerror}", os.EX_NOINPUT)
    except UnicodeDecodeError:
        return complain(f"{file}: is not UTF-8", os.EX_DATAERR)
    try:
        with keyring_at(place, create=True) as opened:
            imported = import_into(opened, text, datetime.now(UTC))
    except ValueError as error:
        return complain(f"{file}: {error}", os.EX_DATAERR)
    click.echo(f"imported: {imported.changed} of {imported.total} were new")
    return Exit.OK


def _id(named: str) -> str:
    if words := instead_of_id(named):
        raise NotFoundError(words)
    return named


def _remark(text: str) -> None:
    """Tell people why nothing is printed; what reads standard output does not get that."""
    click.echo(text, err=True)


def _print_json(structure: Any) -> int:
    click.echo(json.dumps(structure, indent=2, ensure_ascii=False))
    return Exit.OK
