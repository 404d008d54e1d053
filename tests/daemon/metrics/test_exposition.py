"""What Prometheus reads, and what stands in the documentation, the alert rules, the dashboard."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy.daemon.metrics import families
from proxy.daemon.metrics.cause import Cause
from proxy.daemon.metrics.exposition import expose
from proxy.daemon.metrics.families import FAMILIES, UP, Sort
from proxy.daemon.metrics.snapshot import Snapshot, merge, width

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/metrics.md"
RULES = ROOT / "docs/prometheus/bascule.rules.yml"
RULES_TEST = ROOT / "docs/prometheus/bascule.rules.test.yml"
DASHBOARD = ROOT / "docs/grafana/bascule.json"
HOSTILE = 'a "quoted" \\ label\nbascule_ready 1'


def everything() -> Snapshot:
    """A snapshot in which every metric has a value."""
    return Snapshot(
        {
            family.name: {("x",) * len(family.labels): tuple([1.0] * width(family))}
            for family in FAMILIES.values()
        }
    )


def parsed(snapshot: Snapshot) -> dict[str, Metric]:
    return {each.name: each for each in text_string_to_metric_families(expose(snapshot).decode())}


def promtool(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    path = shutil.which("promtool")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("promtool is not installed")
    return subprocess.run([path, *arguments], input=given, capture_output=True, check=False)


def test_promtool_has_nothing_against_the_metrics() -> None:
    done = promtool("check", "metrics", given=expose(everything()))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_metric_is_shown_with_its_help() -> None:
    text = expose(everything()).decode()
    for family in (*FAMILIES.values(), UP):
        assert f"# HELP {family.name} {family.help}\n" in text
        assert f"# TYPE {family.name} {family.sort.value}\n" in text
    assert "_created" not in text


def test_a_label_cannot_forge_a_line() -> None:
    snapshot = Snapshot({families.STARTED.name: {(HOSTILE,): (1.0,)}})
    (sample,) = parsed(snapshot)["bascule_sessions_started"].samples
    assert sample.labels == {"listener": HOSTILE}
    assert expose(snapshot).count(b"\n") == 3


def test_buckets_add_up() -> None:
    bounds = families.LOOP_DELAY.bounds
    numbers = tuple(float(number) for number in range(1, len(bounds) + 2))
    shown = parsed(Snapshot({families.LOOP_DELAY.name: {(): (*numbers, 12.5)}}))
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in shown[families.LOOP_DELAY.name].samples
    }
    assert samples["bascule_loop_delay_seconds_bucket", str(bounds[0])] == 1
    assert samples["bascule_loop_delay_seconds_bucket", str(bounds[1])] == 3
    assert samples["bascule_loop_delay_seconds_bucket", "+Inf"] == sum(numbers)
    assert samples["bascule_loop_delay_seconds_count", None] == sum(numbers)
    assert samples["bascule_loop_delay_seconds_sum", None] == 12.5


@pytest.mark.parametrize(
    ("success", "failure", "up"), [(5.0, None, 1), (None, 5.0, 0), (6.0, 5.0, 1), (5.0, 6.0, 0)]
)
def test_a_server_is_up_if_the_last_attempt_of_any_process_says_so(
    success: float | None, failure: float | None, up: int
) -> None:
    labels = ("c2s", "example.com")
    parts = [
        Snapshot({family.name: {labels: (time,)}})
        for family, time in ((families.LAST_SUCCESS, success), (families.LAST_FAILURE, failure))
        if time is not None
    ]
    (sample,) = parsed(merge(parts))[UP.name].samples
    assert sample.labels == {"stream": "c2s", "domain": "example.com"}
    assert sample.value == up


# The documentation


def cells() -> Iterator[list[str]]:
    for line in PAGE.read_text().split("\n"):
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_every_metric_is_explained() -> None:
    told = {row[0].strip("`"): row for row in cells()}
    for family in (*FAMILIES.values(), UP):
        name, sort, labels, *_ = told[family.name]
        assert name == f"`{family.name}`"
        assert sort == family.sort.value
        assert re.findall(r"`(\w+)`", labels) == list(family.labels)


def test_every_cause_is_explained() -> None:
    told = [row[0].strip("`") for row in cells()]
    for cause in Cause:
        assert told.count(cause.value) == 1


def test_nothing_is_explained_that_there_is_not() -> None:
    known = {*FAMILIES, UP.name, *(cause.value for cause in Cause)}
    assert {row[0].strip("`") for row in cells()} <= known


# Alert rules and dashboard


def queried(text: str) -> set[str]:
    return set(re.findall(r"\b(?:bascule|process)_\w+", text))


def samples() -> set[str]:
    """The names that can be asked for."""
    names = {UP.name}
    for family in FAMILIES.values():
        names.add(family.name)
        if family.sort is Sort.HISTOGRAM:
            names |= {f"{family.name}{ending}" for ending in ("_bucket", "_count", "_sum")}
    return names


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def test_the_rules_ask_for_what_there_is() -> None:
    names = queried(re.sub(r"#.*", "", RULES.read_text()))
    assert len(names) > 8
    assert names <= samples()


def test_promtool_has_nothing_against_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert b"SUCCESS" in done.stdout


def test_the_rules_alert() -> None:
    done = promtool("test", "rules", RULES_TEST)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_for_what_there_is() -> None:
    names = queried("\n".join(expressions()))
    assert len(names) > 15
    assert names <= samples()


def test_promtool_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [
        {"record": f"x:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr + done.stdout


def test_panels_do_not_overlap_and_have_a_title() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells
        taken |= cells
