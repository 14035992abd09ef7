"""Alert rules and dashboard of deploy/: what they name is served, and the rules fire on what they are about."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.domain.metric_counts import Kind
from app.services.metrics import own_counts
from app.services.metrics.gauges import GAUGES
from tests.integration.web.web_server import serve
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
RULES, DASHBOARD = ROOT / "deploy" / "prometheus-rules.yml", ROOT / "deploy" / "grafana-dashboard.json"
NAME = re.compile(r"\bwaylink_\w+")
GIVEN = {"le", "alertname", "alertstate"}  # by Prometheus

LABELS = {gauge.name: set(gauge.labels) for gauge in GAUGES}
for _shape in own_counts.METRICS:
    for _suffix in {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}[
        _shape.kind
    ]:
        LABELS[_shape.name + _suffix] = set(_shape.labels)


def expressions() -> dict[str, str]:
    """The expressions of rules and panels by their name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel.get("targets", [])
    }
    return rules | shown


def test_every_metric_that_rules_and_dashboard_name_is_served(broker_url: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/waylink.db"
    with serve(database_url=url, broker_url=broker_url, folder=tmp_path, WAYLINK_OPEN_METRICS="true") as web:
        text = web.client.get("/metrics").text
    served = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    named = {name for expression in expressions().values() for name in NAME.findall(expression)}
    assert len(named) > 25
    for name in named:
        histogram = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in served or served.get(histogram) == "histogram", name


@pytest.mark.parametrize(("title", "expression"), expressions().items(), ids=expressions())
def test_the_labels_that_rules_and_dashboard_name_are_those_of_their_metrics(title: str, expression: str) -> None:
    known = set().union(*(LABELS[name] for name in NAME.findall(expression)), GIVEN)
    for name, inside in re.findall(r"(waylink_\w+){([^}]*)}", expression):
        assert set(re.findall(r"(\w+)=", inside)) <= LABELS[name] | {"le"}, (title, name)
    for inside in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in inside.split(",")} <= known, title


@pytest.mark.parametrize("text", [RULES.read_text(), DASHBOARD.read_text()], ids=["rules", "dashboard"])
def test_what_rules_and_dashboard_say_names_labels_that_are_there(text: str) -> None:
    known = set().union(*LABELS.values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) | set(re.findall(r"{{(\w+)}}", text)) <= known


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "arguments", [("check", "rules", str(RULES)), ("test", "rules", "tests/data/prometheus-rules-tests.yml")]
)
def test_promtool_finds_no_fault_and_the_rules_fire_as_they_should(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "install Debian's prometheus"
    done = subprocess.run(
        [promtool, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test() -> None:
    tested = (ROOT / "tests" / "data" / "prometheus-rules-tests.yml").read_text()
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert f'alertname="{rule["alert"]}"' in tested
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
