"""The commands ``bascule keyring``: what is known of other domains' certificates, and decisions.

They work on the keyring's file, whether the daemon runs or not.
"""

import functools
import json
import os
import pwd
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import click
from click.core import ParameterSource

from proxy.daemon.exits import Exit
from proxy.daemon.files import DEFAULT_PATH, Given, Table, merge, read_documents
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
from proxy.session.options import one_line
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.entry import Entry, Held, Seen
from proxy.trust.keyring.exchange import exported, import_into
from proxy.trust.keyring.facts import fingerprint_octets
from proxy.trust.keyring.reading import NotFoundError
from proxy.trust.keyring.store import Keyring
from proxy.xmpp.domains import domain as a_labels
from proxy.xmpp.text import printable

DEFAULT_STATE_DIRECTORY: Final = Path("/var/lib/bascule")
"""Where the keyring is unless the conf says otherwise."""

_TABLE: Final = "bascule"
_OPTION: Final = "state_directory"
_TO_CONF: Final = "see bascule check"


class _ConfError(Exception):
    """The conf does not say where the keyring is, though it should."""


@attrs.frozen
class _Place:
    """Where the keyring is, as the command line has it."""

    conf_path: Path
    conf_chosen: bool
    state_directory: Path | None

    def file(self) -> Path:
        """Return the keyring's file.

        Raises:
            _ConfError: The conf cannot be read, or says nothing sensible.
        """
        directory = self.state_directory
        if directory is None:
            directory = _state_directory(self.conf_path, needed=self.conf_chosen)
        return directory / FILE_NAME


def _state_directory(conf_path: Path, *, needed: bool) -> Path:
    """Read the one option that matters here: decisions are made also while others are wrong."""
    if not needed and not os.path.lexists(conf_path):
        return DEFAULT_STATE_DIRECTORY
    reading = read_documents(conf_path)
    merged, mistakes = merge(reading.documents, conf_path)
    found = [*reading.mistakes, *mistakes]
    if found:
        raise _ConfError(f"{found[0]} ({_TO_CONF})")
    table = merged.root.entries.get(_TABLE)
    given = table.entries.get(_OPTION) if isinstance(table, Table) else None
    if given is None:
        return DEFAULT_STATE_DIRECTORY
    value = given.value if isinstance(given, Given) else None
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise _ConfError(f"{given.file}: {_TABLE}.{_OPTION}: is not an absolute path ({_TO_CONF})")
    return Path(value)


def _command(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say where the keyring is, and tell its errors in a line."""

    @click.option(
        "-c",
        "--conf",
        "conf_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_PATH,
        show_default=True,
        metavar="CONF",
        help="The configuration file, for its state_directory.",
    )
    @click.option(
        "--state-directory",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The directory of the keyring, whatever the configuration says.",
    )
    @functools.wraps(command)
    def told(conf_path: Path, state_directory: Path | None, **arguments: Any) -> int:
        source = click.get_current_context().get_parameter_source("conf_path")
        place = _Place(conf_path, source is not ParameterSource.DEFAULT, state_directory)
        try:
            return command(place, **arguments)
        except _ConfError as error:
            return _complain(error, Exit.CONFIG)
        except NotFoundError as error:
            return _complain(error, os.EX_DATAERR)
        except KeyringError as error:
            return _complain(error, Exit.UNAVAILABLE)

    return told


def _complain(error: object, code: int) -> int:
    click.echo(one_line(f"bascule: {error}"), err=True)
    return code


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


def _opened(place: _Place, *, create: bool = False) -> "closing[Keyring]":
    return closing(Keyring(place.file(), create=create))


@click.group(short_help="Show and decide which certificates of other domains are believed.")
def keyring() -> None:
    """Show and decide which certificates of other domains are believed.

    The keyring has every certificate that was believed, and those that nothing vouches for, until
    they are approved or rejected. Compare fingerprints with what the domain's operator says by
    another way than the one that is to be trusted.
    """


@keyring.command("list", short_help="List the certificates that were believed.")
@click.argument("domain", required=False, callback=_domain)
@_as_json
@_command
def list_(place: _Place, domain: str | None, *, as_json: bool) -> int:
    """List the certificates that were believed, of DOMAIN or of all."""
    with _opened(place) as opened:
        entries = opened.entries(domain)
    if as_json:
        return _print_json([entry_structure(entry) for entry in entries])
    if entries:
        print_entries(entries)
    return Exit.OK


@keyring.command(short_help="Show all that is known of a domain or a certificate.")
@click.argument("which", metavar="DOMAIN|FINGERPRINT|ID")
@_as_json
@_command
def show(place: _Place, which: str, *, as_json: bool) -> int:
    """Show all that is known of a domain, of a certificate, or of one that is held."""
    with _opened(place) as opened:
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
@_command
def pending(place: _Place, *, as_json: bool) -> int:
    """Show the certificates that wait for a decision, longest waiting first."""
    with _opened(place) as opened:
        waiting = opened.pending()
    if as_json:
        return _print_json([held_structure(held) for held in waiting])
    print_cards(map(held_card, waiting))
    return Exit.OK


@keyring.command(short_help="Let certificates that are held in.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_by
@_command
def approve(place: _Place, ids: tuple[str, ...], by: str) -> int:
    """Let certificates that are held in from now on, all of them or, after a mistake, none.

    It also takes back what was rejected or revoked. A certificate is let in until its life ends.
    """
    now = datetime.now(UTC)
    with _opened(place) as opened, opened.changing():
        entries = [opened.approve(each, by, now) for each in ids]
    for entry in entries:
        click.echo(f"approved for {entry.domain} ({entry.stream}): {entry.facts.fingerprint}")
    return Exit.OK


@keyring.command(short_help="Refuse certificates that are held.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_by
@_command
def reject(place: _Place, ids: tuple[str, ...], by: str) -> int:
    """Refuse certificates that are held from now on, all of them or, after a mistake, none."""
    now = datetime.now(UTC)
    with _opened(place) as opened, opened.changing():
        rejected = [opened.reject(each, by, now) for each in ids]
    for held in rejected:
        click.echo(f"rejected for {held.domain} ({held.stream}): {held.facts.fingerprint}")
    return Exit.OK


@keyring.command(short_help="Refuse certificates that were believed.")
@click.argument("which", metavar="FINGERPRINT|DOMAIN")
@_by
@_command
def revoke(place: _Place, which: str, by: str) -> int:
    """Refuse certificates that were believed from now on, even if an authority vouches for them."""
    try:
        with _opened(place) as opened:
            revoked = opened.revoke(which, by, datetime.now(UTC))
    except ValueError as error:
        return _complain(f"neither a fingerprint nor a domain: {error}", os.EX_DATAERR)
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
@_command
def forget(place: _Place, domain: str) -> int:
    """Forget that DOMAIN was once reached by TLS or with DANE, so that it may be with less."""
    with _opened(place) as opened:
        there = opened.forget(domain)
    click.echo(f"{'forgotten' if there else 'nothing was known'}: {domain}")
    return Exit.OK


@keyring.command("export", short_help="Print the keyring as JSON.")
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1, callback=_domain)
@_command
def export(place: _Place, domains: tuple[str, ...]) -> int:
    """Print the keyring, or what it has of DOMAINs, as JSON that "import" takes.

    What waits for a decision is left out.
    """
    with _opened(place) as opened:
        text = exported(opened, domains or None)
    click.echo(text, nl=False)
    return Exit.OK


@keyring.command("import", short_help="Take over what export has printed.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_command
def import_(place: _Place, file: Path) -> int:
    """Take over what "export" has written to FILE, or to standard input with -.

    All of it, or nothing. What operators have permitted there is permitted here from now on; what
    was rejected or revoked, here or there, is refused.
    """
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode("utf-8")
    except OSError as error:
        return _complain(f"{file}: cannot be read: {error.strerror}", os.EX_NOINPUT)
    except UnicodeDecodeError:
        return _complain(f"{file}: is not UTF-8", os.EX_DATAERR)
    try:
        with _opened(place, create=True) as opened:
            imported = import_into(opened, text, datetime.now(UTC))
    except ValueError as error:
        return _complain(f"{file}: {error}", os.EX_DATAERR)
    click.echo(f"imported: {imported.changed} of {imported.total} were new")
    return Exit.OK


def _print_json(structure: Any) -> int:
    click.echo(json.dumps(structure, indent=2, ensure_ascii=False))
    return Exit.OK
