"""The network beyond a forward Bascule: domains whose servers require TLS, and where they are.

Each domain is one way to be reached, or not to be; its records stand in a zone of its own.
"""

from collections.abc import Mapping

import attrs

from tests.servers.dns.zones import srv
from tests.servers.ejabberd import Ejabberd
from tests.servers.program import HOST
from tests.servers.prosody import Prosody

PROSODY_STARTTLS = "prosody.test"
PROSODY_DIRECT = "prosody-direct.test"
EJABBERD_STARTTLS = "ejabberd.test"
EJABBERD_DIRECT = "ejabberd-direct.test"

DEAD_FIRST = "dead-first.test"
"""Nothing listens on the target to be tried first."""

SILENT_FIRST = "silent-first.test"
"""The target to be tried first accepts connections and never says anything."""

SILENT_DIRECT_FIRST = "silent-direct-first.test"
"""The same, with direct TLS."""

UNSIGNED = "unsigned.test"
"""Its zone has no signatures."""

BOGUS = "bogus.test"
"""The signatures of its zone are broken."""

STRANGER = "stranger.test"
"""Its server has the certificate of `ELSEWHERE`."""

ELSEWHERE = "elsewhere.test"

OF_PROSODY = [
    PROSODY_STARTTLS,
    PROSODY_DIRECT,
    DEAD_FIRST,
    SILENT_FIRST,
    SILENT_DIRECT_FIRST,
    UNSIGNED,
    BOGUS,
    STRANGER,
]
OF_EJABBERD = [EJABBERD_STARTTLS, EJABBERD_DIRECT]

_HOST = [f"xmpp IN A {HOST}", "xmpp IN AAAA ::1"]
"""By IPv6 nothing listens, as with many a server: the next address has to be tried."""


@attrs.frozen
class Targets:
    """Where the records lead to.

    Attributes:
        prosody: a server of `OF_PROSODY`.
        ejabberd: a server of `OF_EJABBERD`.
        dead: a port on which nothing listens.
        silent: a port that accepts connections and no more.
    """

    prosody: Prosody
    ejabberd: Ejabberd
    dead: int
    silent: int

    def signed(self) -> Mapping[str, list[str]]:
        """Return the records of the domains whose zones are signed."""
        starttls, direct = self.prosody.port, self.prosody.direct_port
        assert direct is not None
        services = {
            PROSODY_STARTTLS: [srv("_xmpp-client", starttls)],
            PROSODY_DIRECT: [srv("_xmpps-client", direct)],
            EJABBERD_STARTTLS: [srv("_xmpp-client", self.ejabberd.port)],
            EJABBERD_DIRECT: [srv("_xmpps-client", self.ejabberd.direct_port)],
            DEAD_FIRST: [
                srv("_xmpp-client", self.dead, priority=1),
                srv("_xmpps-client", direct, priority=2),
            ],
            SILENT_FIRST: [
                srv("_xmpp-client", self.silent, priority=1),
                srv("_xmpp-client", starttls, priority=2),
            ],
            SILENT_DIRECT_FIRST: [
                srv("_xmpps-client", self.silent, priority=1),
                srv("_xmpp-client", starttls, priority=2),
            ],
            STRANGER: [srv("_xmpp-client", starttls)],
        }
        return {domain: [*records, *_HOST] for domain, records in services.items()}

    def unsigned(self) -> Mapping[str, list[str]]:
        """Return the records of the domain whose zone is not signed."""
        return {UNSIGNED: [srv("_xmpp-client", self.prosody.port), *_HOST]}

    def bogus(self) -> Mapping[str, list[str]]:
        """Return the records of the domain whose zone's signatures are broken."""
        return {BOGUS: [srv("_xmpp-client", self.prosody.port), *_HOST]}
