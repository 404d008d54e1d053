"""Whether anybody is there whose word on DNSSEC would be taken."""

from typing import Final

from proxy.daemon.model import FORWARD, Conf
from proxy.trust.policy import Level

_OUTCOMES: Final = {
    Level.DANE: "are not looked for, and certificates are judged as with secure",
    Level.DANE_ONLY: "cannot be found, and no such domain can be reached",
}


def doubt(conf: Conf) -> str:
    """Say what becomes of policies with DANE if no DNS server is believed; empty if one is."""
    forward = any(listener.direction == FORWARD for listener in conf.listeners)
    levels = {policy.level for policy in conf.policies} & _OUTCOMES.keys()
    if not forward or not levels or _is_anybody_believed(conf):
        return ""
    outcomes = "; ".join(
        f"with level {level.value} TLSA records {outcome}"
        for level, outcome in _OUTCOMES.items()
        if level in levels
    )
    return (
        f"no DNS server is believed about DNSSEC: {outcomes}; run one that validates on this "
        "machine, or see validating"
    )


def _is_anybody_believed(conf: Conf) -> bool:
    # What asks DNS takes long to load, and few have a use for it.
    from proxy.net.name_servers import LookupFailedError, NameServers  # noqa: PLC0415

    try:
        return NameServers(conf.dns.servers, conf.dns.validating).believed()
    except LookupFailedError:
        return False
