"""The relays that are compared: how each is configured and started."""

import importlib.util
import json
import platform
import re
import resource
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs
from OpenSSL import SSL

from bench.ground import BUILD, REMOTES, SERVICES, Authority, Certificate, KeyKind, Service

IDLE_HOURS = 24
"""No relay may end a session because it is quiet."""


SPARE_DESCRIPTORS = 800
"""What a relay needs besides its sessions', and does not give to sessions: Bascule keeps 512."""


MOST_SESSIONS = 10_000
"""The most that any relay is to have."""


def sessions_at_most() -> int:
    """How many sessions a relay can have here, `MOST_SESSIONS` or fewer: each has 2 descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MOST_SESSIONS, (hard - SPARE_DESCRIPTORS) // 2)


@attrs.frozen
class Place:
    """Where a relay is to stand.

    Attributes:
        directory: Its own, for its conf.
        ports: The port of each service; the same for all of one kind of stream if the relay tells
            them apart.
        backends: The ports behind the relay by name; "names" is a name server's.
        certificates: By kind of key.
        authority: Who vouches for servers that speak TLS.
    """

    directory: Path
    ports: Mapping[str, int]
    backends: Mapping[str, int]
    certificates: Mapping[KeyKind, Certificate]
    authority: Authority


@attrs.frozen
class Contender:
    """Someone whose results are in the table.

    Attributes:
        name: Its name on the command line.
        title: Its name in the table.
        version: Says which version of it and of OpenSSL runs here.
    """

    name: str
    title: str
    version: Callable[[], str]


@attrs.frozen
class Relay(Contender):
    """A kind of relay.

    Attributes:
        configure: Writes its conf and returns the command that runs it in the foreground.
        services: What it offers.
        program: The program it needs, None if it comes with this project.
        package: The Debian package that has the program.
        shares_port: Whether all services of one kind of stream stand on one port, told apart by
            the domain.
        starttls: Whether it speaks XMPP, so that clients can also use STARTTLS.
        rounds: In how many rounds it takes part at most, None for all.
        most: How many sessions it is tried with at most, None for any number.
    """

    configure: Callable[[Place], list[str]]
    services: Sequence[Service] = SERVICES
    program: str | None = None
    package: str | None = None
    shares_port: bool = False
    starttls: bool = False
    rounds: int | None = None
    most: int | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its program is on this machine."""
        return self.program is None or shutil.which(self.program) is not None


def _configure_haproxy(place: Place) -> list[str]:
    lines = [
        "global",
        "  nbthread 1",
        f"  maxconn {sessions_at_most()}",
        # A line for each connection, as Bascule writes one for each session, and to the same kind
        # of file: that of its standard output.
        "  log stdout format raw local0 info",
        "defaults",
        "  mode tcp",
        "  log global",
        "  option tcplog",
        "  timeout connect 10s",
        f"  timeout client {IDLE_HOURS}h",
        f"  timeout server {IDLE_HOURS}h",
    ]
    for service in SERVICES:
        pem = place.certificates[service.key].both
        tls = f"ssl ssl-min-ver TLSv1.2 alpn {service.protocol}"
        lines += [
            f"listen {service.name}",
            f"  bind 127.0.0.1:{place.ports[service.name]} {tls} crt {pem}",
            f"  server backend 127.0.0.1:{place.backends[service.backend]}",
        ]
    conf = place.directory / "haproxy.cfg"
    conf.write_text("\n".join(lines) + "\n")
    return ["haproxy", "-db", "-f", str(conf)]


def _configure_stunnel(place: Place) -> list[str]:
    lines = [
        "foreground = yes",
        "pid =",
        "debug = crit",
        "socket = l:TCP_NODELAY=1",
        "socket = r:TCP_NODELAY=1",
        "sslVersionMin = TLSv1.2",
        f"TIMEOUTidle = {IDLE_HOURS * 3600}",
    ]
    for service in SERVICES:
        lines += [
            f"[{service.name}]",
            f"accept = 127.0.0.1:{place.ports[service.name]}",
            f"connect = 127.0.0.1:{place.backends[service.backend]}",
            f"cert = {place.certificates[service.key].both}",
        ]
    conf = place.directory / "stunnel.conf"
    conf.write_text("\n".join(lines) + "\n")
    return ["stunnel", str(conf)]


def _quoted(value: object) -> str:
    """A TOML string: JSON's escapes are a part of TOML's."""
    return json.dumps(str(value))


def _configure_bascule(place: Place, *, limits: bool) -> list[str]:
    chain = ["require_tls", "features", *(["limits"] if limits else [])]
    lines = ["[plugins]", f"chain = {json.dumps(chain)}"]
    if limits:
        # All clients come from a few addresses of this machine.
        lines += ["[plugins.limits]", "connections_per_address = 0", "handshakes_per_minute = 0"]
    for domain in dict.fromkeys(service.domain for service in SERVICES):
        services = [service for service in SERVICES if service.domain == domain]
        certificate = place.certificates[services[0].key]
        lines += [
            "[[domain]]",
            f"name = {_quoted(domain)}",
            f"certificate = {_quoted(certificate.chain)}",
            f"private_key = {_quoted(certificate.private_key)}",
            *(
                f'{service.stream}_server = "127.0.0.1:{place.backends[service.backend]}"'
                for service in services
            ),
        ]
    ports = {service.stream: place.ports[service.name] for service in SERVICES}
    for stream, port in ports.items():
        lines += [
            "[[listener]]",
            f'name = "{stream}"',
            'direction = "reverse"',
            f'stream = "{stream}"',
            f'address = "127.0.0.1:{port}"',
            'tls = "required"',
        ]
    return _run_bascule(place, lines)


def _configure_forward(place: Place) -> list[str]:
    domains = [name for service in REMOTES for name in (service.domain, f"*.{service.domain}")]
    lines = [
        "[plugins]",
        'chain = ["require_tls", "features"]',
        "[[listener]]",
        'name = "c2s"',
        'direction = "forward"',
        'stream = "c2s"',
        f'address = "127.0.0.1:{place.ports[REMOTES[0].name]}"',
        f"domains = {json.dumps(domains)}",
        "[[policy]]",
        'domain = "*"',
        'level = "secure"',
        f"ca_file = {_quoted(place.authority.roots)}",
        "private_addresses = true",
        "[dns]",
        f'servers = ["127.0.0.1:{place.backends["names"]}"]',
    ]
    return _run_bascule(place, lines)


def _run_bascule(place: Place, lines: Sequence[str]) -> list[str]:
    conf = place.directory / "bascule.toml"
    conf.write_text("\n".join(lines) + "\n")
    return [str(Path(sys.executable).with_name("bascule")), "run", "-c", str(conf)]


def _bascule_plain(place: Place) -> list[str]:
    return _configure_bascule(place, limits=False)


def _bascule_limits(place: Place) -> list[str]:
    return _configure_bascule(place, limits=True)


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "unknown version"


def _haproxy_version() -> str:
    said = _said("haproxy", "-vv")
    openssl = _found(r"Running on OpenSSL version : OpenSSL (\S+)", said)
    return f"{_found(r'version ([^ ]+)', said)}, OpenSSL {openssl}"


def _stunnel_version() -> str:
    said = _said("stunnel", "-version")
    openssl = _found(r"(?:Running +with|Compiled/running with) OpenSSL (\S+)", said)
    return f"{_found(r'stunnel ([^ ]+) on', said)}, OpenSSL {openssl}"


def _bascule_version() -> str:
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[1]
    twisted, pyopenssl = version("twisted"), version("pyopenssl")
    return (
        f"{version('bascule')}, OpenSSL {openssl}, Twisted {twisted}, pyOpenSSL {pyopenssl}; "
        f"{interpreter()}"
    )


def _direct_version() -> str:
    openssl = _found(r"OpenSSL (\S+)", _said(str(BUILD / "loadgen"), "-V"))
    return f"part of the load generator; its OpenSSL, and that of its server: {openssl}"


def has_slixmpp() -> bool:
    """Whether `SLIXMPP` can take part: it comes with the tools for development."""
    return all(importlib.util.find_spec(name) is not None for name in ("slixmpp", "aiodns"))


def _slixmpp_version() -> str:
    openssl = ssl.OPENSSL_VERSION.split()[1]
    return (
        f"slixmpp {version('slixmpp')}, aiodns {version('aiodns')}, OpenSSL {openssl}; "
        f"{interpreter()}"
    )


def interpreter() -> str:
    """The interpreter that runs Bascule and slixmpp here: which one it is makes a difference.

    Whether it was built with profile-guided optimisation is said where it is known; Debian's is,
    but its build does not tell.
    """
    flags = str(sysconfig.get_config_var("CONFIG_ARGS"))
    optimised = ", --enable-optimizations" if "--enable-optimizations" in flags else ""
    return (
        f"{platform.python_implementation()} {platform.python_version()} "
        f"({Path(sys.executable).resolve()}, {platform.python_compiler()}{optimised})"
    )


REFERENCE = Relay(
    name="haproxy",
    title="HAProxy",
    configure=_configure_haproxy,
    version=_haproxy_version,
    program="haproxy",
    package="haproxy",
)
"""What everything else is measured against."""

PLAIN = Relay(
    name="bascule",
    title="Bascule",
    configure=_bascule_plain,
    version=_bascule_version,
    shares_port=True,
    starttls=True,
)

LIMITS = Relay(
    name="bascule-limits",
    title="Bascule, limits counting",
    configure=_bascule_limits,
    version=_bascule_version,
    shares_port=True,
    starttls=True,
)

STUNNEL = Relay(
    name="stunnel",
    title="stunnel",
    configure=_configure_stunnel,
    version=_stunnel_version,
    program="stunnel",
    package="stunnel4",
    rounds=2,  # it gives the scale; nothing is required of ratios to it
    most=3000,  # each session is a thread
)

RELAYS = {relay.name: relay for relay in (REFERENCE, PLAIN, LIMITS, STUNNEL)}

DIRECT = Contender(name="direct", title="C client, directly", version=_direct_version)
"""The strictest that a forward listener can be measured against: as little as it takes."""

SLIXMPP = Contender(name="slixmpp", title="slixmpp, directly", version=_slixmpp_version)
"""What a forward listener is measured against: a client that people have."""

DIRECTS = (SLIXMPP, DIRECT)
"""All direct clients, in the order of the table."""

FORWARD = Relay(
    name="bascule-forward",
    title="Bascule, forward",
    configure=_configure_forward,
    version=_bascule_version,
    services=REMOTES,
    shares_port=True,
)
"""It takes part where `PLAIN` does."""
