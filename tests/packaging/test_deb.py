"""The Debian package, once `make deb` has built it, in a container with a systemd."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.pages import ROOT
from tests.systemd.box import Box, BoxError, lack

SOURCES = ("proxy", "plugins", "debian", "systemd", "docs", "conf")
PLUGINS = "/usr/local/lib/bascule"
LIST_PLUGINS = """\
from proxy.daemon.installed import InstalledPlugins
print(*InstalledPlugins())
"""
CONF = """\
[[domain]]
name = "example.com"
certificate = "/run/credentials/{unit}/example.com.crt"
private_key = "/run/credentials/{unit}/example.com.key"
c2s_server = "127.0.0.1:15222"

[[listener]]
name = "c2s"
direction = "reverse"
stream = "c2s"
address = "127.0.0.1:{port}"
"""
DROP_IN = """\
[Service]
LoadCredential=example.com.crt:/root/keys/example.com.crt
LoadCredential=example.com.key:/root/keys/example.com.key
"""
# What the container has of this machine's Bascule, so that the package stands by itself.
CLEAR = """\
set -e
cp -r /etc/bascule/keys /etc/bascule/*.deb /root
chmod 700 /root/keys
grep -o ' /[a-z/]*bascule[^ ]* ' /proc/self/mounts | sort -ru | xargs -n 1 umount
rm -rf /opt/bascule /etc/bascule /etc/systemd/system/bascule* /usr/sbin/policy-rc.d
systemctl daemon-reload
"""
GREET = """\
import socket, ssl, sys
context = ssl.create_default_context(cafile="/root/keys/ca.crt")
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as connection:
    with context.wrap_socket(connection, server_hostname="example.com") as secured:
        print(secured.version())
"""


def unusable(why: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(scope="module")
def package() -> Path:
    """The package, which is not older than what it is made of."""
    found = sorted(ROOT.glob("dist/bascule_*.deb"))
    if len(found) != 1:
        unusable("no package is built: run `make deb`")
    files = [path for name in SOURCES for path in (ROOT / name).rglob("*") if path.is_file()]
    built = found[0].stat().st_mtime
    newer = [path for path in files if path.stat().st_mtime > built]
    if any(path.suffix != ".pyc" for path in newer):
        unusable("the package is older than its sources: run `make deb`")
    return found[0]


@pytest.fixture(scope="module")
def contents(package: Path) -> dict[str, str]:
    """The files of the package, each with its mode."""
    done = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {row[5].removeprefix("."): row[0] for row in rows if not row[0].startswith("d")}


@pytest.fixture(scope="module")
def box(
    package: Path, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Box]:
    """A container in which nothing of Bascule is, and the package to install."""
    why = lack()
    if why is not None:
        unusable(why)
    box = Box(tmp_path_factory.mktemp("box"))
    keys = box.shared / "keys"
    keys.mkdir()
    certificate, key = authority.issue("example.com")
    shutil.copy(certificate, keys / "example.com.crt")
    shutil.copy(key, keys / "example.com.key")
    shutil.copy(authority.ca_path, keys / "ca.crt")
    shutil.copy(package, box.shared)
    try:
        box.start()
    except BoxError as error:
        pytest.skip(str(error))
    try:
        box.told("sh", "-c", CLEAR)
        yield box
    finally:
        box.stop()


def write(box: Box, path: str, text: str) -> None:
    script = 'mkdir -p "${1%/*}" && printf "%s" "$2" > "$1"'
    box.told("sh", "-c", script, "sh", path, text)


def greeted(box: Box, port: int) -> bool:
    return box.told("/usr/bin/python3", "-c", GREET, str(port)).strip() == "TLSv1.3"


def test_the_package_has_each_file_in_its_place(contents: dict[str, str]) -> None:
    assert contents["/usr/bin/bascule"] == "-rwxr-xr-x"
    assert contents["/etc/bascule/bascule.toml"] == "-rw-r--r--"
    for unit in ("bascule.service", "bascule@.service", "bascule.socket", "bascule-s2s.socket"):
        assert f"/lib/systemd/system/{unit}" in contents
    for place in ("/usr/lib/sysusers.d/bascule.conf", "/usr/lib/tmpfiles.d/bascule.conf"):
        assert place in contents
    assert "/usr/share/man/man8/bascule.8.gz" in contents
    documents = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {f"/usr/share/doc/bascule/{name}" for name in documents} <= contents.keys()
    assert "/usr/share/doc/bascule/examples/federation.toml" in contents


def test_the_package_has_every_module_and_nothing_of_the_build(
    package: Path, contents: dict[str, str]
) -> None:
    [site] = {name.partition("/proxy/")[0] for name in contents if "/site-packages/proxy/" in name}
    modules = [path for room in ("proxy", "plugins") for path in ROOT.glob(f"{room}/**/*.py")]
    assert {f"{site}/{path.relative_to(ROOT)}" for path in modules} <= contents.keys()
    assert [name for name in contents if name.endswith(".pyc")] == []
    assert [name for name in contents if name.endswith(("/RECORD", "/direct_url.json"))] == []
    kept = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True
    ).stdout
    assert str(ROOT / "build").encode() not in kept


@pytest.mark.slow
def test_the_package_from_the_installation_to_the_purge(box: Box) -> None:
    box.told("sh", "-c", "dpkg --install /root/*.deb")

    # It is there, and waits.
    assert box.run("systemctl", "is-enabled", "bascule").stdout.strip() == "disabled"
    assert box.property("bascule", "ActiveState") == "inactive"
    assert box.told("/usr/bin/bascule", "--version").startswith("bascule ")
    assert box.told("id", "--name", "--user", "bascule").strip() == "bascule"
    assert box.told("man", "--where", "8", "bascule").strip().endswith("bascule.8.gz")
    compiled = "find /usr/lib/bascule -name cli.cpython-3*.pyc"
    assert "/proxy/daemon/" in box.told("sh", "-c", compiled)
    where = "import proxy, cryptography; print(proxy.__file__, cryptography.__file__)"
    for path in box.told("/usr/lib/bascule/bin/python3", "-Ic", where).split():
        assert path.startswith("/usr/lib/bascule/lib/")
    assert box.run("systemctl", "start", "bascule").returncode != 0
    assert box.property("bascule", "ExecMainStatus") == "78"

    # A plugin of others is found where README.Debian has it installed.
    write(box, f"{PLUGINS}/mine-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\n")
    write(box, f"{PLUGINS}/mine-1.dist-info/entry_points.txt", "[bascule.plugins]\nmine = mine:M\n")
    found = (
        "from proxy.daemon.installed import InstalledPlugins; print('mine' in InstalledPlugins())"
    )
    assert box.told("/usr/lib/bascule/bin/python3", "-Ic", found).strip() == "True"

    # A conf and keys, and it runs; an instance beside it.
    for name, unit in (("bascule", "bascule.service"), ("bascule@", "bascule@one.service")):
        write(box, f"/etc/systemd/system/{name}.service.d/keys.conf", DROP_IN)
        place = "one/" if "one" in unit else ""
        port = 5322 if "one" in unit else 5222
        write(box, f"/etc/bascule/{place}bascule.toml", CONF.format(unit=unit, port=port))
    box.told("systemctl", "daemon-reload")
    box.told("systemctl", "enable", "--now", "bascule", "bascule@one")
    assert greeted(box, 5222)
    assert greeted(box, 5322)
    pid = box.property("bascule", "MainPID")
    assert box.told("stat", "--format=%U", f"/proc/{pid}").strip() == "bascule"

    # An upgrade restarts both, and leaves the conf alone.
    pids = [box.property(unit, "MainPID") for unit in ("bascule", "bascule@one")]
    box.told("sh", "-c", "dpkg --install --force-confold /root/*.deb")
    for unit, before in zip(("bascule", "bascule@one"), pids, strict=True):
        assert box.property(unit, "ActiveState") == "active"
        assert box.property(unit, "MainPID") not in {before, "0"}
    assert greeted(box, 5222)

    # Removal ends it and keeps the conf; a purge takes that and its memory.
    running = ("pgrep", "--full", "/usr/bin/bascule run")
    assert len(box.told(*running).split()) == 2
    box.told("dpkg", "--remove", "bascule")
    assert box.run(*running).returncode == 1
    box.told("test", "!", "-e", "/usr/lib/bascule")
    box.told("test", "-e", "/etc/bascule/bascule.toml")
    box.told("dpkg", "--purge", "bascule")
    for gone in ("/etc/bascule/bascule.toml", "/var/lib/bascule", "/var/lib/private/bascule"):
        box.told("test", "!", "-e", gone)
