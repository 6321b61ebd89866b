"""The alert rules: sound by promtool's own tests, about metrics that exist, each with its page of the runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import strictyaml
from programs import need

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    (group,) = strictyaml.load((RULES / "alerts.yml").read_text()).data["groups"]
    return group["rules"]


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_the_rules_and_their_tests(command: list[str]) -> None:
    """Each alert fires on what it is about, and none on a quiet server."""
    done = subprocess.run(
        [need("promtool"), *command], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_each_alert_is_tested_firing_and_silent(rules: list[dict]) -> None:
    """An alert without a unit test of both would be one that nobody has seen."""
    text = (RULES / "alerts_test.yml").read_text()
    for rule in rules:
        assert 2 == len(re.findall(rf"alertname: {rule['alert']}$", text, re.MULTILINE)), rule["alert"]


def test_alerts_are_about_metrics_that_exist(rules: list[dict]) -> None:
    """Every metric of an expression is in the reference, with the labels that the expression names."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    kinds = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    always = {"job", "instance", "le"}
    for rule in rules:
        for name, matchers in re.findall(r"\b((?:strata|process)_\w+)(?:\{(.*?)\})?", rule["expr"]):
            kind, labels = kinds[name.removesuffix("_bucket")]
            assert ("histogram" == kind) == name.endswith("_bucket"), name
            assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels | always, name
        assert {"severity"} == set(rule["labels"])
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_each_alert_has_a_section_of_the_runbook(rules: list[dict]) -> None:
    """The link of an alert leads to a heading with its name, and no heading is of an alert that is gone."""
    named = [rule["alert"] for rule in rules]
    assert named == re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    for rule in rules:
        assert f"docs/how-to/runbook.md#{rule['alert'].lower()}" == rule["annotations"]["runbook"]
