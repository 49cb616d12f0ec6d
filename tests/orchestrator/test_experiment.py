"""An experiment as a user runs it: two phases and their evaluation, the driver killed in the middle, resumed, read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from data.prepare.embedded import prepare_embedded
from tests.live import LiveRun

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

PLAN = """
name: study
base:
  model: tiny
  steps: 8
  objective: {input_length: 32, target_length: 8}
  batch: {rows: 8, lanes: 4}
  checkpoint: {every: 4}
  evaluate: {rows: 8, decode_length: 4}
  log: {every: 1}
  tasks: [tasks.yaml]
phases:
  - name: pretrain
    config: {mixture: both, mixing: equal}
  - name: finetune
    after: pretrain
    config:
      preset: finetune
      steps: 6
      mixture: parity
      checkpoint: {every: 3}
      options: {adapter: 4}
      train: {parameters: adapters_and_norms}
    evaluate: [parity]
"""
TASKS = """
tasks:
  parity:
    source: {train: train.jsonl, validation: validation.jsonl}
    inputs: "{text}"
    labels: [even, odd]
    metrics: [accuracy]
mixtures:
  both: {parity: proportional, unsupervised: proportional}
"""


def write_plan(folder: Path) -> None:
    chance = random.Random(0)
    for split, count in (("train", 60), ("validation", 30)):
        rows = [{"text": "word " * (1 + n % 5), "label": chance.randrange(2)} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks.yaml").write_text(TASKS)
    (folder / "plan.yaml").write_text(PLAN)


def test_a_plan_killed_in_the_middle_goes_on_at_its_phase_and_ends_in_a_table(tmp_path: Path) -> None:
    write_plan(tmp_path)
    prepare_embedded(tmp_path / "corpus")
    arguments = [str(tmp_path / "plan.yaml"), f"storage={tmp_path}", f"corpus={tmp_path / 'corpus'}"]
    run = LiveRun(tmp_path / "driver", *arguments, verb="experiment")
    phases = tmp_path / "study"
    with run.running():
        run.wait_for_step(phases / "finetune" / "metrics.jsonl", 1)
        run.kill("driver")
    pretrained = (phases / "pretrain" / "ledger").stat().st_mtime_ns
    with run.running():
        assert run.wait() == 0, run.output
    assert (phases / "pretrain" / "ledger").stat().st_mtime_ns == pretrained
    best = json.loads((phases / "finetune" / "evaluations" / "best.json").read_text())["tasks"]["parity"]
    (row,) = json.loads((phases / "results.json").read_text())["scores"]
    assert (row["phase"], row["task"], row["examples"]) == ("finetune", "parity", 30)
    assert (row["step"], row["score"]) == (best["step"], best["score"])
    assert row["majority_score"] >= 50.0
    for step in (3, 6):
        outputs = (phases / "finetune" / "evaluations" / str(step) / "parity.jsonl").read_text().splitlines()
        assert len({json.loads(line)["id"] for line in outputs}) == len(outputs) == 30
    assert "finetune  parity" in run.output
    # Nothing is left to do: the table comes without Ray.
    with run.running():
        assert run.wait() == 0
    assert "training" not in run.output
    assert "finetune  parity" in run.output
