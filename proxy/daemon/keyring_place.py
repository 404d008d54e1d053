"""Where the commands ``bascule keyring`` find the keyring, and as whom they open it."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import click
from click.core import ParameterSource

from proxy.daemon.exits import Exit
from proxy.daemon.files import DEFAULT_PATH
from proxy.daemon.stated import ConfError, stated
from proxy.session.options import one_line
from proxy.trust.keyring.database import FILE_NAME, KeyringError
from proxy.trust.keyring.reading import NotFoundError
from proxy.trust.keyring.store import Keyring

_OPTION: Final = "state_directory"
_MADE: Final = "; Bascule makes it when it starts with a policy that needs it"
_OTHERWISE: Final = "-c CONF or --state-directory names another"
_AS_OTHERS: Final = "; run the command as root, or as the user that Bascule runs as"


@attrs.frozen
class Place:
    """Where the conf and the keyring are, as the command line has it.

    ``conf_chosen`` says whether it names the conf; ``state_directory``, the directory whatever the
    conf says.
    """

    conf_path: Path
    conf_chosen: bool
    state_directory: Path | None

    @property
    def chosen(self) -> bool:
        """Whether the command line says anything of where the keyring is."""
        return self.conf_chosen or self.state_directory is not None

    def file(self) -> Path:
        """Return the keyring's file.

        Raises:
            ConfError: The conf cannot be read, or says nothing sensible.
        """
        directory = self.state_directory
        if directory is None:
            directory = stated(self.conf_path, _OPTION, needed=self.conf_chosen)
        return directory / FILE_NAME


def at_place(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say where the keyring is, and tell its errors in a line.

    The command gets a `Place` before its other arguments, and returns its exit code.
    """

    @click.option(
        "-c",
        "--conf",
        "conf_path",
        type=click.Path(readable=False, path_type=Path),
        default=DEFAULT_PATH,
        show_default=True,
        metavar="CONF",
        help="The configuration file.",
    )
    @click.option(
        "--state-directory",
        type=click.Path(readable=False, path_type=Path),
        metavar="PATH",
        help="The directory of the keyring, whatever the configuration says.",
    )
    @functools.wraps(command)
    def told(conf_path: Path, state_directory: Path | None, **arguments: Any) -> int:
        source = click.get_current_context().get_parameter_source("conf_path")
        place = Place(conf_path, source is not ParameterSource.DEFAULT, state_directory)
        try:
            return command(place, **arguments)
        except ConfError as error:
            return complain(error, Exit.CONFIG)
        except NotFoundError as error:
            return complain(error, os.EX_DATAERR)
        except KeyringError as error:
            return complain(error, Exit.UNAVAILABLE)

    return told


def complain(error: object, code: int) -> int:
    """Tell of an error in one line on standard error, and return the exit code."""
    click.echo(one_line(f"bascule: {error}"), err=True)
    return code


@contextmanager
def keyring_at(place: Place, *, create: bool = False) -> Iterator[Keyring]:
    """Open the keyring while the context lasts.

    Where root runs the command, every file that comes to be there is its directory's owner's, so
    that the daemon can go on writing, and no link there leads elsewhere: SQLite sees to that.

    Args:
        place: Where it is.
        create: Whether to make it if there is none.

    Raises:
        ConfError: The conf cannot be read, or says nothing sensible.
        KeyringError: The keyring cannot be opened or made.
    """
    path = place.file()
    try:
        keyring = Keyring(path, create=create)
    except KeyringError as error:
        raise KeyringError(f"{error}{_advice(path, chosen=place.chosen)}") from error
    with closing(keyring):
        yield keyring


def _advice(path: Path, *, chosen: bool) -> str:
    """Say what may help where a keyring cannot be opened; nothing if it is not known."""
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return _MADE if chosen else f"{_MADE}; {_OTHERWISE}"
    except PermissionError:
        return _AS_OTHERS
    except OSError:
        return ""
    return "" if os.geteuid() in {0, owner} else _AS_OTHERS
