"""What stands between Bascule and a command of the conf: a process of a session of its own.

It is run as a file, by itself, and becomes the command (execve(2)). All that the command starts
can then be ended with it, and of what Python and the daemon have set for themselves, nothing is
left: signals that are ignored, the limit of descriptors.
"""

import os
import resource
import signal
import sys

DESCRIPTORS = 1_024
"""How many a program expects to be allowed; some go through all of them when they start."""


def become(command: list[str]) -> None:
    """Become ``command``, its program first.

    Raises:
        OSError: it cannot be run.
    """
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    os.execv(command[0], command)  # noqa: S606 - without a shell is how it is meant


if __name__ == "__main__":
    try:
        become(sys.argv[1:])
    except OSError as error:
        sys.exit(f"it cannot be run: {error.strerror}")
