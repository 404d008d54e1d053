"""The metrics that there are: each declared once, with what makes one of several processes' values.

Everything else is made from these declarations: what may be counted, how the values of several
processes become one, the text that Prometheus reads, and the table in the documentation.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs


class Sort(Enum):
    """What a metric is, in the words of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Rule(Enum):
    """How the values that several processes have become one."""

    ADD = "sum"
    MAX = "greatest"
    MIN = "least"

    @property
    def combine(self) -> Callable[[float, float], float]:
        """The function of two values that does it."""
        return _COMBINED[self]


def _add(one: float, other: float) -> float:
    return one + other


_COMBINED: Final[dict[Rule, Callable[[float, float], float]]] = {
    Rule.ADD: _add,
    Rule.MAX: max,
    Rule.MIN: min,
}


@attrs.frozen(eq=False)
class Family:
    """One metric; there is one object of each, so that it costs little to find what it has.

    Attributes:
        name: its whole name, ``_total`` included.
        sort: what it is.
        help: what it says, in a sentence.
        labels: the names of its labels, in order.
        rule: how the values of several processes become one.
        bounds: of a histogram, the upper bounds of its buckets, without that of infinity.
    """

    name: str
    sort: Sort
    help: str
    labels: tuple[str, ...] = ()
    rule: Rule = Rule.ADD
    bounds: tuple[float, ...] = ()


def _counter(name: str, about: str, *labels: str) -> Family:
    return Family(f"bascule_{name}_total", Sort.COUNTER, about, labels)


def _gauge(name: str, about: str, *labels: str, rule: Rule) -> Family:
    return Family(f"bascule_{name}", Sort.GAUGE, about, labels, rule)


# Sessions

SESSIONS: Final = _gauge(
    "sessions",
    "Sessions that there are, by what they have come to.",
    "listener",
    "state",
    rule=Rule.ADD,
)
STALLED: Final = _gauge(
    "sessions_stalled",
    "Sessions in which bytes wait because a peer does not take them.",
    "listener",
    rule=Rule.ADD,
)
STARTED: Final = _counter("sessions_started", "Sessions that have begun.", "listener")
ENDED: Final = _counter("sessions_ended", "Sessions that have ended, by why.", "listener", "cause")
TURNED_AWAY: Final = _counter(
    "connections_turned_away",
    "Connections that were closed before they became sessions.",
    "listener",
)
REFUSALS: Final = _counter(
    "refusals",
    "Refusals by why; those with enforced=no were only written to the log (tls = report).",
    "listener",
    "cause",
    "enforced",
)
HANDSHAKES: Final = _counter(
    "tls_handshakes",
    "TLS handshakes by leg, outcome and what was agreed on.",
    "leg",
    "version",
    "cipher",
    "key_exchange",
    "outcome",
)
RECEIVED: Final = _counter(
    "received_bytes",
    "Bytes of streams received on a leg, those of TLS not counted; they go out on the other leg.",
    "listener",
    "leg",
)
STALLS: Final = _counter(
    "stalls",
    "How often a leg did not take all at once, and reading from the other leg was stopped.",
    "leg",
)

# Servers

CONNECTIONS: Final = _counter(
    "upstream_connections",
    "Attempts to connect to the server of a domain.",
    "direction",
    "stream",
    "domain",
    "outcome",
)
CONNECTING: Final = Family(
    "bascule_upstream_connect_seconds",
    Sort.HISTOGRAM,
    "Time until the server of a domain is connected to, looking it up included.",
    ("direction", "stream"),
    bounds=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
)
LAST_CONNECT: Final = _gauge(
    "upstream_last_connect_seconds",
    "How long connecting took the last time; of several processes the longest.",
    "stream",
    "domain",
    rule=Rule.MAX,
)
LAST_SUCCESS: Final = _gauge(
    "upstream_last_success_timestamp_seconds",
    "When the server behind was last connected to, in seconds since 1970.",
    "stream",
    "domain",
    rule=Rule.MAX,
)
LAST_FAILURE: Final = _gauge(
    "upstream_last_failure_timestamp_seconds",
    "When the server behind could last not be connected to, in seconds since 1970.",
    "stream",
    "domain",
    rule=Rule.MAX,
)

# Trust

EXPIRY: Final = _gauge(
    "certificate_expiry_timestamp_seconds",
    "When a certificate expires, in seconds since 1970.",
    "source",
    "domain",
    rule=Rule.MIN,
)
CERTIFICATES: Final = _gauge(
    "certificates",
    "Certificates that are served or remembered; of the latter at most 5000.",
    "source",
    rule=Rule.MAX,
)
PENDING: Final = _gauge(
    "keyring_pending", "Certificates that wait for an operator's decision.", rule=Rule.MAX
)
ALERTS: Final = _counter("alerts", "Alerts about certificates.", "kind", "severity")

# The daemon itself

READY: Final = _gauge(
    "ready", "Whether the daemon is ready: one of its processes is.", rule=Rule.MAX
)
WORKERS: Final = _gauge("workers", "Processes that serve sessions.", "state", rule=Rule.ADD)
RESTARTS: Final = _counter("worker_restarts", "How often a process was started again.")
BUILD: Final = _gauge(
    "build_info", "The versions in use.", "version", "python", "twisted", "openssl", rule=Rule.MAX
)
LOOP_DELAY: Final = Family(
    "bascule_loop_delay_seconds",
    Sort.HISTOGRAM,
    "How long what happened just then had to wait until the event loop turned to it.",
    bounds=(0.0015, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
FAULTS: Final = _counter(
    "collection_faults", "How often a value could not be collected, and was left out.", "source"
)
DESCRIPTORS: Final = _gauge(
    "open_descriptors_ratio",
    "Open file descriptors beside what is allowed, of the process that is nearest to its limit.",
    rule=Rule.MAX,
)
PROCESS: Final = (
    Family("process_cpu_seconds_total", Sort.COUNTER, "User and system CPU time spent."),
    Family("process_resident_memory_bytes", Sort.GAUGE, "Resident memory."),
    Family("process_virtual_memory_bytes", Sort.GAUGE, "Virtual memory."),
    Family("process_open_fds", Sort.GAUGE, "Open file descriptors."),
    Family("process_max_fds", Sort.GAUGE, "File descriptors that may be open."),
    Family(
        "process_start_time_seconds",
        Sort.GAUGE,
        "When the process that runs longest was started, in seconds since 1970.",
        rule=Rule.MIN,
    ),
)
"""What `prometheus_client` knows of a process, under the names that dashboards expect."""

OPEN_FDS: Final = "process_open_fds"
MAX_FDS: Final = "process_max_fds"

FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        SESSIONS,
        STALLED,
        STARTED,
        ENDED,
        TURNED_AWAY,
        REFUSALS,
        HANDSHAKES,
        RECEIVED,
        STALLS,
        CONNECTIONS,
        CONNECTING,
        LAST_CONNECT,
        LAST_SUCCESS,
        LAST_FAILURE,
        EXPIRY,
        CERTIFICATES,
        PENDING,
        ALERTS,
        READY,
        WORKERS,
        RESTARTS,
        BUILD,
        LOOP_DELAY,
        FAULTS,
        DESCRIPTORS,
        *PROCESS,
    )
}
"""All metrics, by name, in the order in which they are shown."""

UP: Final = Family(
    "bascule_upstream_up",
    Sort.GAUGE,
    "Whether the server behind could be connected to when it was last tried.",
    ("stream", "domain"),
)
"""Not counted but made from `LAST_SUCCESS` and `LAST_FAILURE` when all processes' are one."""
