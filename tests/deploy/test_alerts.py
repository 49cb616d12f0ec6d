"""Alert rules fire when they should, name guides that exist, and use metrics that the program exports."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import ROOT, Object
from tests.deploy.test_image import tool

FOLDER = ROOT / "k8s" / "components" / "monitoring"
METRICS = {
    "step", "loss", "tokens_per_second", "mfu", "data_wait_seconds", "checkpoint_seconds", "checkpoint_age_seconds",
    "restarts", "goodput",
}


Case = tuple[str, Object, str | None, list[str]]


def rules() -> list[Object]:
    (group,) = yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]["groups"]
    found: list[Object] = group["rules"]
    return found


def panels() -> list[Object]:
    found: list[Object] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return found


def expressions() -> list[str]:
    board = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *board]


def test_metrics_are_those_of_the_program() -> None:
    used = {name for text in expressions() for name in re.findall(r"ray_t5_(\w+)", text)}
    assert used <= METRICS
    board = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert {name for text in board for name in re.findall(r"t5_(\w+)", text)} == METRICS, "the dashboard shows each"


def test_dashboard_is_laid_out_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_every_alert_has_its_guide() -> None:
    guide = (ROOT / "docs" / "alerts.md").read_text()
    headings = {line[3:].strip().lower() for line in guide.splitlines() if line.startswith("## ")}
    anchors = set()
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/alerts.md"
        assert anchor in headings, rule["alert"]
        anchors.add(anchor)
    assert anchors == headings, "no guide without an alert"


def promtool(tmp_path: Path, groups: list[Object], tests: list[Object]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    command = [tool("promtool"), "test", "rules", "suite.yaml"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_expressions_parse(tmp_path: Path) -> None:
    plain = [re.sub(r"\$(run|cluster)", ".*", text) for text in expressions()]
    groups = [{"name": "t5", "rules": [{"record": f"x:{n}", "expr": text} for n, text in enumerate(plain)]}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    command = [tool("promtool"), "check", "rules", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def series(metric: str, values: str) -> Object:
    return {"series": f'ray_t5_{metric}{{run="a", instance="n1"}}', "values": values}


# name of the alert, samples a minute apart, when it must fire, when it must not
CASES: list[Case] = [
    ("T5RunStalled", series("step", "0+100x30 3000x60"), "60m", ["25m", "40m"]),
    ("T5RunStalled", series("step", "0+1x120"), None, ["30m", "120m"]),
    ("T5CheckpointOld", series("checkpoint_age_seconds", "0+60x200"), "130m", ["110m"]),
    ("T5CheckpointVeryOld", series("checkpoint_age_seconds", "0+60x400"), "370m", ["130m"]),
    ("T5GoodputFalling", series("goodput", "0.98x600 0.86x200"), "640m", ["600m"]),
    ("T5GoodputLow", series("goodput", "0.7x100"), "70m", ["50m"]),
    ("T5Slower", series("tokens_per_second", "1000x400 700x100"), "430m", ["400m"]),
    ("T5DataWait", series("data_wait_seconds", "0.2x30 8x60"), "50m", ["30m"]),
    ("T5RestartingOften", series("restarts", "0x30 1 2 3 4 5 5x60"), "36m", ["32m", "110m"]),
    ("T5LossNotFinite", series("loss", "3.5x10" + 20 * " NaN"), "15m", ["9m"]),
    ("T5LossNotFinite", series("loss", "3.5x10" + 20 * " Inf"), "15m", ["9m"]),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(CASES)])
def test_alert_fires(case: Case, tmp_path: Path) -> None:
    name, samples, fires, quiet = case
    (rule,) = [dict(rule) for rule in rules() if rule["alert"] == name]
    # The texts hold values; whether they render is promtool's check, what they say is not this test's.
    texts = rule.pop("annotations")
    expected: list[Any] = [{"eval_time": time, "alertname": name, "exp_alerts": []} for time in quiet]
    if fires:
        labels = {**rule["labels"], "run": "a"}
        expected.append({"eval_time": fires, "alertname": name, "exp_alerts": [{"exp_labels": labels}]})
    test = {"interval": "1m", "input_series": [samples], "alert_rule_test": expected}
    done = promtool(tmp_path, [{"name": "t5", "rules": [rule]}], [test])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{{ $labels.run }}" in texts["summary"]


def test_every_alert_is_fired_by_a_case() -> None:
    assert {name for name, _, fires, _ in CASES if fires} == {rule["alert"] for rule in rules()}
