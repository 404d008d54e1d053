"""Daemons that tell a test, in systemd's place, how they are doing."""

from tests.net.front import Front


class Notifying(Front):
    """A daemon that a test hears to be ready: it waits for ``READY=1`` itself.

    Nobody connects to see whether it listens, so that no session is told of but the test's own.
    """

    def wait_until_ready(self, *ports: int, seconds: float = 30) -> None:
        """Return at once."""
