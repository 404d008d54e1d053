"""What is known of a session, while it lasts and when it is over."""

import attrs

from proxy.session.commands import Severity
from proxy.session.hooks import Address, View


@attrs.frozen
class Summary:
    """What is known of a session when it is over.

    Attributes:
        view: the session as it was at its end.
        seconds: how long it lasted.
        from_client: bytes that came from the client, those of TLS not counted.
        from_server: bytes that came from the server.
        reason: why it ended.
        severity: how much that matters to the operator.
        server: where the server leg was to go; None if it never came to that.
    """

    view: View
    seconds: float
    from_client: int
    from_server: int
    reason: str
    severity: Severity
    server: Address | None


@attrs.frozen
class Standing:
    """How far a session has come, beside what its view says.

    Attributes:
        over: whether only last bytes are left of it.
        server: where the server leg leads; None if it has none yet.
        seconds: how long it has lasted.
        passed: bytes that came from the client, and from the server.
        waiting: whether it waits to be told whether its server is believed.
    """

    over: bool
    server: Address | None
    seconds: float
    passed: tuple[int, int]
    waiting: bool = False
