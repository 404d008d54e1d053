"""The exit codes of the command line: those of sysexits.h."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    USAGE = 64
    """The command line cannot be understood."""
    UNAVAILABLE = 69
    """Something the command needs is not there, such as an address to listen on."""
    SOFTWARE = 70
    """A fault of Bascule's own."""
    IO = 74
    """Output could not be written."""
    CONFIG = 78
    """The configuration has a mistake."""
    INTERRUPTED = 130
    """Ended by Ctrl-C, as a shell reports it."""
