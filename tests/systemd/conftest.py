"""One container for all tests of the service."""

import os
from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.systemd.box import Box, BoxError, lack

DOMAIN = "example.com"
CONF = """\
[plugins.limits]
connections_per_address = 0
handshakes_per_minute = 0

[[domain]]
name = "example.com"
certificate = "/run/credentials/{unit}/example.com.crt"
private_key = "/run/credentials/{unit}/example.com.key"
c2s_server = "127.0.0.1:15222"

[[listener]]
name = "c2s"
direction = "reverse"
stream = "c2s"
address = "{address}"
"""
DROP_IN = """\
[Service]
LoadCredential=example.com.crt:/etc/bascule/keys/example.com.crt
LoadCredential=example.com.key:/etc/bascule/keys/example.com.key
# Waiting is not what is tested.
RestartSec=100ms
TimeoutAbortSec=2
"""
WATCHDOG = """\
[Service]
WatchdogSec=8
"""
"""Less than in the unit; it is fed after half of that, and the machine may stand still as well."""


@pytest.fixture(scope="session")
def _box(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Box]:
    why = lack()
    if why is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    box = Box(tmp_path_factory.mktemp("box"))
    keys = box.shared / "keys"
    keys.mkdir(mode=0o700)
    certificate, key = authority.issue(DOMAIN)
    (keys / "example.com.crt").write_bytes(certificate.read_bytes())
    (keys / "example.com.key").write_bytes(key.read_bytes())
    (box.shared / "ca.crt").write_bytes(authority.ca_path.read_bytes())
    try:
        box.start()
    except BoxError as error:
        pytest.skip(str(error))
    with_credentials(box, "bascule")
    with_credentials(box, "bascule@")
    try:
        yield box
    finally:
        box.stop()


@pytest.fixture
def box(_box: Box) -> Iterator[Box]:
    """The container, with nothing of Bascule running before and after."""
    yield _box
    _box.run("systemctl", "stop", "bascule.socket", "bascule-s2s.socket", "bascule*.service")
    _box.run("systemctl", "reset-failed", "bascule*")


@pytest.fixture
def _watched(box: Box) -> Iterator[None]:
    """Have systemd wait less long for a process that is stuck."""
    directory = "/run/systemd/system/bascule.service.d"
    script = f"mkdir -p {directory} && printf '%s' \"$1\" > {directory}/watchdog.conf"
    box.told("sh", "-c", script, "sh", WATCHDOG)
    box.told("systemctl", "daemon-reload")
    yield
    box.told("rm", "-r", directory)
    box.told("systemctl", "daemon-reload")


def with_credentials(box: Box, name: str) -> None:
    """Hand the certificate and its key over to a unit, as the guide says."""
    directory = f"/etc/systemd/system/{name}.service.d"
    script = f"mkdir -p {directory} && printf '%s' \"$1\" > {directory}/keys.conf"
    box.told("sh", "-c", script, "sh", DROP_IN)
    box.told("systemctl", "daemon-reload")


def write(box: Box, address: str, *, instance: str = "") -> None:
    """Write the conf of the service, or of an instance."""
    unit = f"bascule@{instance}.service" if instance else "bascule.service"
    directory = box.shared / instance
    directory.mkdir(exist_ok=True)
    conf = CONF.format(unit=unit, address=address)
    if instance:
        conf += f'[bascule]\nstate_directory = "/var/lib/bascule-{instance}"\n'
        conf += f'control_socket = "/run/bascule-{instance}/control"\n'
    (directory / "bascule.toml").write_text(conf)
