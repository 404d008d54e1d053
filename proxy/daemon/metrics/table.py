"""The option that says where metrics are read."""

from typing import Final

import attrs

from proxy.daemon.endpoints import Endpoint, listening_endpoint
from proxy.session.options import option

NOWHERE: Final = "none"
"""What stands for metrics that nobody can read."""


def metrics_address(text: str) -> str:
    """Read where metrics are read: an IP address and a port, or the word for nowhere.

    Raises:
        ValueError: ``text`` is neither; the message says why.
    """
    return text if text == NOWHERE else str(listening_endpoint(text))


@attrs.frozen
class MetricsTable:
    """The table ``[metrics]``."""

    address: str = option(
        default=NOWHERE,
        parse=metrics_address,
        allowed='an IP address and a port, as 127.0.0.1:9522 or [::1]:9522, or "none"',
        help=(
            "Where an HTTP server answers /metrics, in the format of Prometheus, and /healthz, "
            "which says whether Bascule is ready. There is no password and no TLS, and what is "
            "told (names of domains, how many sessions there are, what was refused) is nobody "
            "else's business: keep it on loopback, or on a network of your own. none: there is no "
            "such server, and nothing is counted for it."
        ),
    )

    def endpoint(self) -> Endpoint | None:
        """Return where to listen; None for nowhere."""
        return None if self.address == NOWHERE else listening_endpoint(self.address)
