"""The scheduler's decisions without Ray: attempts, stops, ephemeral checkpoints, metrics that survive a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from data.storage import LocalStorage, open_storage
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


def test_groups_that_never_begin_end_the_phase_with_their_error(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=2"), 1)
    for world in (2, 2, 1, 1):
        assert phase.enter(world)
        phase.event("worker_failed", rank=0, node="a", step=0, error="RuntimeError: no memory")
    assert not phase.enter(1), "twice in a row at one size is enough"
    assert "no memory" in phase.status().reason


def test_groups_that_begin_may_come_again_and_none_is_wanted_after_the_end(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=2"), 1)
    for step in (0, 6, 12, 18):
        assert phase.enter(1)
        assert phase.begin(step, ["a"]).go
    phase.finish("failed", "needs 90 GB a GPU")
    assert not phase.enter(1)


def test_the_budget_of_failures_is_the_configurations(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.max_failures=2"), 1)
    assert [phase.begin(step, ["a"]).go for step in (0, 6, 12, 18, 24)] == [True] * 5
    phase.control(40)
    assert phase.begin(24, ["a"]).go
    phase.control(60)
    assert not phase.begin(24, ["a"]).go
    reason = phase.status().reason
    assert "3 failures without a new checkpoint after that of step 24" in reason
    assert "faults.max_failures" in reason


def test_faults_by_chance_between_two_checkpoints_are_not_taken_for_one_that_repeats(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=3"), 1)
    phase.begin(0, ["a"])
    for reached in (30, 70, 50, 90):
        phase.control(reached)
        assert phase.begin(0, ["a"]).go
    for reached in (88, 89):
        phase.log(line(reached))
        told = phase.begin(0, ["a"])
    assert not told.go
    assert "failed 3 times after step 89" in phase.status().reason


def test_a_node_that_faults_point_to_again_and_again_is_told_of_also_by_a_new_scheduler(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a", "b"])
    phase.event("straggler", step=1, node="b", rank=1, ratio=2.0)
    phase.event("worker_failed", rank=1, node="b", error="ValueError: bad row")
    phase.event("worker_failed", rank=0, node="a", error="RuntimeError: Connection reset by peer")
    phase.flush()
    assert not [event for event in phase.status().events if event["kind"] == "suspect_node"]
    again = Phase(config_in(tmp_path), 1)
    again.begin(0, ["a", "b"])
    again.event("fault", fault="hang", rank=0, node="a", waiting=True, message="waiting")
    again.event("fault", fault="hang", rank=1, node="b", waiting=False, message="hangs")
    (told,) = [event for event in again.status().events if event["kind"] == "suspect_node"]
    assert (told["node"], told["faults"]) == ("b", "1 hang, 1 straggler, 1 worker")


def test_a_rank_that_ended_without_a_word_is_named_by_those_that_lost_it(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=3"), 1)
    for _ in range(4):
        phase.begin(0, ["a", "b", "c"])
        for rank, node in ((0, "a"), (2, "c")):
            phase.event("worker_failed", rank=rank, node=node, step=4, error="RuntimeError: Connection closed by peer")
    status = phase.status()
    lost = [event for event in status.events if event["kind"] == "fault"]
    assert [(event["fault"], event["node"], event["rank"]) for event in lost] == [("lost", "b", 1)] * 3
    assert {event["step"] for event in lost} == {4}
    assert "every time on node b: take that node out" in status.reason


def test_another_world_size_blames_nobody(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a", "b"])
    phase.event("worker_failed", rank=0, node="a", step=4, error="RuntimeError: Connection closed by peer")
    assert phase.begin(0, ["a"]).go
    assert not [event for event in phase.status().events if event["kind"] == "fault"]


def test_what_points_to_a_node_is_kept_when_its_peers_speak_later(tmp_path: Path) -> None:
    phase = Phase(config_in(tmp_path, "faults.same_step=1"), 1)
    phase.begin(0, ["a", "b"])
    phase.event("fault", fault="corruption", rank=1, node="b", message="silent corruption: rank 1 on b")
    for rank, node in enumerate("ab"):
        phase.event("worker_failed", rank=rank, node=node, error="x.Corruption: silent corruption: rank 1 on b")
    phase.begin(0, ["a", "b"])
    assert "silent corruption: rank 1 on b" in phase.status().reason


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


def test_no_ephemeral_checkpoint_is_asked_for_while_one_is_on_its_way(tmp_path: Path) -> None:
    clock = Clock()
    phase = Phase(config_in(tmp_path, "checkpoint.ephemeral_seconds=60"), 1, clock)
    phase.begin(0, ["a"])
    clock.now += 60
    assert phase.control(7).saves == 1
    clock.now += 90
    assert phase.control(16).saves == 1
    # It took 90 s, so the next is due at once: from one beginning to the next it is 60 s.
    phase.event("checkpoint", step=7, checkpoint="ephemeral", seconds=90.0)
    assert phase.control(17).saves == 2
    clock.now += 10
    phase.event("checkpoint_failed", step=17, message="disk full", seconds=10.0)
    clock.now += 49
    assert phase.control(22).saves == 2
    clock.now += 1
    assert phase.control(23).saves == 3


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
    # A scheduler that died and came back assigns alike.
    assert Phase(config, 3).begin(7, ["a"]).assignment == assignment


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


def test_workers_are_told_which_lines_are_in_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phase = Phase(config_in(tmp_path), 1)
    phase.begin(0, ["a"])
    assert phase.control(0).written == 0
    for step in (1, 2, 3):
        phase.log(line(step))
    phase.flush()
    assert phase.control(3).written == 3
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "write", mock.Mock(side_effect=OSError("away")))
        phase.log(line(4))
        phase.flush()
        assert phase.control(4).written == 3
    phase.flush()
    assert phase.control(4).written == 4
    # A scheduler that comes back knows what is there; a group that goes on from before takes its steps again.
    again = Phase(config_in(tmp_path), 1)
    assert again.control(4).written == 4
    again.begin(2, ["a"])
    assert again.control(2).written == 2


def test_a_line_that_comes_while_others_are_written_is_written_next(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    log = MetricsLog(storage)
    write = storage.write

    def slow(path: str, data: bytes, **options: Any) -> str:
        log.add(line(2))
        return write(path, data, **options)

    with mock.patch.object(storage, "write", slow):
        log.add(line(1))
        log.flush()
    assert log.written == 1
    log.flush()
    assert [entry["step"] for entry in MetricsLog(storage).lines] == [1, 2]


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
