"""What all tests share: markers of what a test needs, Hypothesis profiles, an authority."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests.authority import Authority
from tests.servers import ejabberd, jabberd2, prosody
from tests.servers.dns import unbound

for profile, examples in (("brief", 10), ("fast", 50), ("deep", 5000)):
    # However slow the machine is, that says nothing of what is tested.
    hypothesis.settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

NODE_CLIENTS = Path(__file__).parent / "servers" / "node"
OLDEST_NODE = (20, 10)


def _program(name: str) -> Callable[[], str | None]:
    def lack() -> str | None:
        return None if shutil.which(name) else f"{name} is not installed"

    return lack


def _lack_of_jabberd2() -> str | None:
    missing = [path.name for path in jabberd2.PROGRAMS if not os.access(path, os.X_OK)]
    if missing or jabberd2.modules() is None:
        return "jabberd2 is not installed"
    return None


def _lack_of_ejabberd() -> str | None:
    if shutil.which(ejabberd.PROGRAM) is None or ejabberd.libraries() is None:
        return "ejabberd is not installed"
    return None


def _lack_of_node() -> str | None:
    oldest = ".".join(map(str, OLDEST_NODE))
    node = shutil.which("node")
    if node is None:
        return f"Node.js is not installed; {oldest} or later is needed"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_NODE:
        return f"Node.js {oldest} or later is needed, this is {said.strip() or 'none'}"
    if not (NODE_CLIENTS / "node_modules" / "@xmpp" / "client").is_dir():
        return "@xmpp/client is not installed: run `npm ci` in tests/servers/node"
    return None


LACKS: dict[str, Callable[[], str | None]] = {
    "prosody": _program("prosody"),
    "jabberd2": _lack_of_jabberd2,
    "ejabberd": _lack_of_ejabberd,
    "unbound": lambda: None if unbound.program() else "unbound is not installed",
    "lua-unbound": lambda: None if prosody.resolves() else "lua-unbound is not installed",
    "haproxy": _program("haproxy"),
    "mcabber": _program("mcabber"),
    "openssl": _program("openssl"),
    "sslscan": _program("sslscan"),
    "testssl": _program("testssl"),
    "node": _lack_of_node,
}
"""For each name of the marker ``server`` what is missing for it, None if nothing is."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose server or tool is missing; where everything must be there, fail it."""
    for marker in item.iter_markers("server"):
        for name in marker.args:
            lack = LACKS[name]()
            if lack is None:
                continue
            if os.environ.get("CI"):
                pytest.fail(f"{lack} (CI is set, so nothing is skipped)", pytrace=False)
            pytest.skip(lack)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A made-up certificate authority for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))
