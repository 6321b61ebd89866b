"""The Grafana dashboards: sound JSON about metrics that exist, with expressions that Prometheus parses."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from programs import need

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def board(request) -> dict:
    found = json.loads(request.param.read_text())
    assert request.param.stem == found["uid"]
    return found


def expressions(board: dict) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_three_dashboards_are_there() -> None:
    """One of the service, one of a tenant, one of fairness."""
    assert ["strata-fairness", "strata-service", "strata-tenant"] == [path.stem for path in DASHBOARDS]


def test_panels_have_places_units_and_titles(board: dict) -> None:
    """No two panels overlap or share an id, and each says what it shows, in which unit."""
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len(panel["targets"]) == len({target["refId"] for target in panel["targets"]})
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert len(board["panels"]) == len({panel["title"] for panel in board["panels"]})


def test_panels_ask_the_source_that_is_chosen(board: dict) -> None:
    """No dashboard is bound to one Prometheus."""
    assert board["templating"]["list"][0]["name"] == "source"
    for panel in board["panels"]:
        assert {"type": "prometheus", "uid": "${source}"} == panel["datasource"]


def test_metrics_and_labels_exist(board: dict) -> None:
    """Every metric is in the reference, as is every label by which it is chosen, summed or named."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", text)) for name, _, text in rows}
    always = {"job", "instance", "le"}
    for panel in board["panels"]:
        for target in panel["targets"]:
            known = set(always)
            for name, matchers in re.findall(r"\b((?:strata|process)_\w+)(?:\{(.*?)\})?", target["expr"]):
                own = labels[name.removesuffix("_bucket")] | always
                assert set(re.findall(r"(\w+)=", matchers)) <= own, target["expr"]
                known |= own
            grouped = {
                word.strip()
                for group in re.findall(r"by \((.*?)\)", target["expr"])
                for word in group.split(",")
            }
            assert grouped <= known, target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, target["expr"]


def test_prometheus_parses_the_expressions(board: dict, tmp_path: Path) -> None:
    """Each one is a rule that promtool accepts, with Grafana's variables filled in."""
    lines = ["groups:", "  - name: dashboards", "    rules:"]
    for number, expression in enumerate(expressions(board)):
        text = expression.replace("$__rate_interval", "5m").replace("$tenant", "team-a")
        lines += [f"      - record: dashboards:panel_{number}", f"        expr: {json.dumps(text)}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [need("promtool"), "check", "rules", str(tmp_path / "rules.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
