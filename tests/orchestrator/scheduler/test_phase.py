"""The scheduler's decisions without Ray: attempts, stops, ephemeral checkpoints, metrics that survive a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.storage import open_storage
from orchestrator.config import Config, load
from orchestrator.scheduler.metrics import METRICS, MetricsLog
from orchestrator.scheduler.phase import Phase


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def config_in(folder: Path, *overrides: str) -> Config:
    return load(["embedded"], [f"storage={folder}", *overrides], {})


def line(step: int) -> dict[str, float]:
    return {"step": step, "steps": 1, "step_seconds": 0.5, "loss": float(step)}


def test_a_fault_that_repeats_at_one_step_ends_the_phase_with_an_explanation(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=2"), 1)
    assert phase.begin(0, ["a"]).go
    assert phase.begin(0, ["a"]).go
    assert not phase.begin(0, ["a"]).go
    status = phase.status()
    assert status.outcome == "failed"
    assert "step 0" in status.reason


def test_progress_earns_new_attempts(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=2"), 1)
    for step in (0, 6, 12, 18):
        assert phase.begin(step, ["a"]).go


def test_the_budget_of_failures_is_the_configurations(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.max_failures=2"), 1)
    assert [phase.begin(step, ["a"]).go for step in (0, 6, 12, 18)] == [True, True, True, False]
    assert "faults.max_failures" in phase.status().reason


def test_a_survivors_node_is_not_blamed_for_the_peer_it_lost(tmp_path: Path) -> None:
    reasons = []
    for name, error in (("own", "ValueError: bad row"), ("peer", "RuntimeError: Read error: Connection reset by peer")):
        phase = Phase(config_in(tmp_path / name, "faults.same_step=2"), 1)
        for _ in range(3):
            phase.begin(0, ["node-a"])
            phase.event("worker_failed", rank=0, node="node-a", error=error)
        reasons.append(phase.status().reason)
    assert "node-a" in reasons[0]
    assert "node-a" not in reasons[1]


def test_a_stop_is_told_to_workers_and_refuses_new_attempts(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a"])
    assert not phase.control().stop
    phase.request_stop("the driver was asked to stop")
    assert phase.control().stop
    assert not phase.begin(4, ["a"]).go
    assert phase.status().outcome == "stopped"


def test_ephemeral_checkpoints_come_by_the_clock_and_permanent_ones_put_them_off(tmp_path: Path) -> None:
    clock = Clock()
    phase = Phase(config_in(tmp_path, "checkpoint.ephemeral_seconds=60"), 1, clock)
    phase.begin(0, ["a"])
    clock.now += 59
    assert phase.control().saves == 0
    phase.event("checkpoint", step=5, checkpoint="permanent")
    clock.now += 59
    assert phase.control().saves == 0
    clock.now += 1
    assert [phase.control().saves, phase.control().saves] == [1, 1]
    phase.request_save()
    assert phase.control().saves == 2


def test_windows_that_were_stepped_over_are_remembered_by_a_new_scheduler(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a"])
    phase.event("window_skipped", first=3, last=5)
    phase.flush()
    windows = Phase(config_in(tmp_path), 1).begin(2, ["a"]).skipped
    assert [(window.first, window.last) for window in windows] == [(3, 5)]


def test_all_lanes_have_a_reader(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assignment = Phase(config, 3).begin(0, ["a"]).assignment
    assert sorted(assignment) == list(range(config.batch.lanes))
    assert set(assignment.values()) == {0, 1, 2}


def test_metrics_drop_what_is_taken_again_and_keep_their_order(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    log = MetricsLog(storage)
    for step in (1, 3, 2, 4):
        log.add(line(step))
    log.flush()
    again = MetricsLog(storage)
    assert [entry["step"] for entry in again.lines] == [1, 2, 3, 4]
    again.resume(2)
    again.add(line(3) | {"loss": 9.0})
    again.flush()
    stored = [json.loads(text) for text in storage.read(METRICS).decode().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in stored] == [(1, 1.0), (2, 2.0), (3, 9.0)]


def test_lines_that_a_dead_scheduler_never_wrote_come_back_from_the_checkpoint(tmp_path: Path) -> None:
    storage = open_storage(config_in(tmp_path).run_url)
    log = MetricsLog(storage)
    log.add(line(1))
    log.flush()
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(3, ["a"], [line(2), line(3)])
    phase.flush()
    assert [entry["step"] for entry in MetricsLog(storage).lines] == [1, 2, 3]


def test_storage_that_is_away_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a"])

    def away(self: MetricsLog) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(MetricsLog, "flush", away)
    phase.finish("done")
    status = phase.status()
    assert status.outcome == "done"
    assert any(event["kind"] == "metrics_not_written" for event in status.events)
