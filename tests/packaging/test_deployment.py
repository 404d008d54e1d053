"""The examples of the pages about installation and deployments go together, and load."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.daemon.conf import build
from proxy.daemon.files import Document
from proxy.daemon.installed import InstalledPlugins
from tests.authority import Authority
from tests.pages import ROOT, bascule, blocks, put_in_place

PAGE = ROOT / "docs/deployment.md"
INSTALLING = ROOT / "docs/install.md"


def manifests() -> dict[str, Any]:
    """The manifests of the page, by kind."""
    found = [each for text in blocks(PAGE, "yaml") for each in yaml.safe_load_all(text)]
    return {each["kind"]: each for each in found}


def pod() -> Any:
    return manifests()["StatefulSet"]["spec"]["template"]


def container(name: str) -> Any:
    containers = pod()["spec"]["containers"] + pod()["spec"]["initContainers"]
    [found] = [each for each in containers if each["name"] == name]
    return found


def conf() -> Any:
    return tomllib.loads(manifests()["ConfigMap"]["data"]["bascule.toml"])


def mounted() -> dict[str, str]:
    return {each["mountPath"]: each["name"] for each in container("bascule")["volumeMounts"]}


@pytest.mark.server("haproxy")
def test_haproxy_takes_its_conf(tmp_path: Path) -> None:
    [text] = blocks(PAGE, "haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    done = subprocess.run(
        ["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_haproxy_and_bascule_agree() -> None:
    [haproxy] = blocks(PAGE, "haproxy")
    confs = [tomllib.loads(text) for text in blocks(PAGE, "toml")]
    [behind] = [each for each in confs if "metrics" in each]
    reverse = [each for each in behind["listener"] if each["direction"] == "reverse"]
    for listener in reverse:
        assert re.search(rf"^ *server one {re.escape(listener['address'])}", haproxy, re.MULTILINE)
        assert listener["proxy_protocol"] == "v2"
    assert haproxy.count("send-proxy-v2") == len(reverse)
    [port] = set(re.findall(r"check port (\d+)", haproxy))
    assert behind["metrics"]["address"].endswith(f":{port}")
    # Streams between servers belong to one Bascule.
    assert len(re.findall(r"^ *server .*:5269", haproxy, re.MULTILINE)) == 1


def test_check_warns_of_what_the_page_says_alone(tmp_path: Path, authority: Authority) -> None:
    [behind] = [text for text in blocks(PAGE, "toml") if "[metrics]" in text]
    done = bascule("check", "-c", put_in_place(tmp_path, authority, behind))
    assert done.returncode == 0
    [warning] = done.stderr.splitlines()
    assert 'listener "s2s-out".address: warning: 10.0.0.20:15270 is not loopback' in warning


def test_manifests_are_of_known_kinds() -> None:
    versions = {
        "ConfigMap": "v1",
        "StatefulSet": "apps/v1",
        "Service": "v1",
        "NetworkPolicy": "networking.k8s.io/v1",
    }
    assert {kind: each["apiVersion"] for kind, each in manifests().items()} == versions


def test_the_conf_in_the_manifest_is_right() -> None:
    file = Path("/etc/bascule/bascule.toml")
    plugins = InstalledPlugins(own_only=True)
    assert build([Document(file, conf())], plugins, main=file).mistakes == ()


def test_volumes_are_where_the_conf_looks() -> None:
    places = mounted()
    volumes = {each["name"]: each for each in pod()["spec"]["volumes"]}
    claims = manifests()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert set(places.values()) == volumes.keys() | {each["metadata"]["name"] for each in claims}
    assert places["/etc/bascule"] == "conf"
    assert volumes["conf"]["configMap"]["name"] == manifests()["ConfigMap"]["metadata"]["name"]
    [domain] = conf()["domain"]
    for name, file in (("certificate", "tls.crt"), ("private_key", "tls.key")):
        assert domain[name] == f"/etc/bascule-tls/{file}"
    assert places["/etc/bascule-tls"] == "tls"
    # Readable for its group, which is the pod's, and for nobody else.
    assert volumes["tls"]["secret"]["defaultMode"] == 0o440
    context = container("bascule")["securityContext"]
    assert pod()["spec"]["securityContext"]["fsGroup"] == context["runAsGroup"]


def test_what_bascule_writes_is_in_directories_of_its_own() -> None:
    own = conf()["bascule"]
    wanted = {own["state_directory"], str(Path(own["control_socket"]).parent)}
    making = container("directories")
    assert set(making["command"][4:]) == wanted
    assert making["command"][:4] == ["install", "-d", "-m", "700"]
    assert making["securityContext"] == container("bascule")["securityContext"]
    for directory in wanted:
        assert str(Path(directory).parent) in mounted()


def test_ports_of_conf_service_and_policy_are_the_same() -> None:
    ports = {each["name"]: each["containerPort"] for each in container("bascule")["ports"]}
    [listener] = conf()["listener"]
    assert listener["address"].endswith(f":{ports['c2s']}")
    assert conf()["metrics"]["address"].endswith(f":{ports['metrics']}")
    for probe in ("readinessProbe", "livenessProbe"):
        get = container("bascule")[probe]["httpGet"]
        assert (get["path"], get["port"]) == ("/healthz", "metrics")
    [offered] = manifests()["Service"]["spec"]["ports"]
    assert (offered["port"], offered["targetPort"]) == (ports["c2s"], "c2s")
    admitted = manifests()["NetworkPolicy"]["spec"]["ingress"]
    assert {each["port"] for rule in admitted for each in rule["ports"]} == ports.keys()


def test_labels_select_the_pod() -> None:
    labels = pod()["metadata"]["labels"]
    found = manifests()
    assert found["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["StatefulSet"]["spec"]["serviceName"] == found["Service"]["metadata"]["name"]


def test_the_container_may_do_nothing_that_it_need_not() -> None:
    context = container("bascule")["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    [image] = blocks(PAGE, "dockerfile")
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in image
    assert 'ENTRYPOINT ["/usr/bin/bascule", "run"]\n' in image


def test_srv_records_are_whole() -> None:
    [zone] = blocks(PAGE, "text")
    rows = [line.split() for line in zone.splitlines()]
    assert all(row[2:4] == ["IN", "SRV"] for row in rows)
    by_service: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        by_service.setdefault(row[0].partition(".")[0], set()).add(tuple(row[4:]))
    assert by_service["_xmpp-client"] == by_service["_xmpps-client"]
    assert by_service["_xmpp-server"] == by_service["_xmpps-server"]
    assert len(by_service["_xmpp-server"]) == 1


def test_the_page_of_installation_names_what_is_built() -> None:
    text = INSTALLING.read_text()
    version = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert version is not None
    revision = re.match(r"bascule \((.+?)\)", (ROOT / "debian/changelog").read_text())
    assert revision is not None
    assert f"dist/bascule_{revision[1]}+deb12_amd64.deb" in text
    assert f"dist/bascule-{version[1]}-py3-none-any.whl" in text
    assert f"dist/bascule-{version[1]}.tar.gz" in text
    for named in ("requirements.txt", "build-requirements.txt"):
        assert f"debian/{named}" in text
        assert (ROOT / "debian" / named).is_file()
