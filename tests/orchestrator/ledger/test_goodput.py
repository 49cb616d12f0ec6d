"""The summary against histories worked out by hand, and the command that prints them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.storage import LocalStorage
from orchestrator.ledger import Event, Ledger, summarize
from orchestrator.ledger.__main__ import main


def event(kind: str, time: float, **fields: object) -> Event:
    return {"kind": kind, "time": time, **fields}


KILLED_ONCE = [
    event("start", 0.0, versions={"torch": "2.13"}),
    event("attempt", 10.0, step=0, world=4),
    event("progress", 110.0, first=1, last=100, seconds=90.0),
    event("checkpoint", 111.0, step=100, stall_seconds=0.5),
    event("progress", 161.0, first=101, last=150, seconds=45.0),
    event("fault", 170.0, fault="worker", step=150, message="killed"),
    event("attempt", 200.0, step=100, world=3),
    event("window_skipped", 210.0, first=120, last=123),
    event("progress", 300.0, first=101, last=200, seconds=100.0),
    event("checkpoint", 301.0, step=200, stall_seconds=0.25),
    event("checkpoint_failed", 301.5, step=210, message="disk full"),
    event("outcome", 302.0, outcome="done"),
]


def test_a_run_killed_once() -> None:
    summary = summarize(KILLED_ONCE)
    assert summary.wall_seconds == 302.0
    assert summary.counted_seconds == 190.0
    assert summary.lost_seconds == 45.0
    assert summary.redone_steps == 50
    assert summary.goodput == pytest.approx(190 / 302)
    assert summary.last_step == 200
    assert (summary.attempts, summary.restarts) == (2, 1)
    assert summary.worlds == (4, 3)
    assert summary.faults == {"worker": 1}
    assert (summary.checkpoints, summary.failed_checkpoints) == (2, 1)
    assert summary.stall_seconds == 0.75
    assert summary.skipped_steps == 4


def test_a_pause_after_an_orderly_end_is_nobodys_loss_but_one_after_a_failure_is() -> None:
    for outcome, wall in (("stopped", 100.0), ("done", 100.0), ("failed", 1050.0)):
        events = [
            event("attempt", 0.0, step=0),
            event("progress", 50.0, first=1, last=10, seconds=50.0),
            event("outcome", 50.0, outcome=outcome),
            event("attempt", 1000.0, step=10),
            event("progress", 1050.0, first=11, last=20, seconds=50.0),
        ]
        summary = summarize(events)
        assert summary.wall_seconds == wall
        assert summary.restarts == (1 if outcome == "failed" else 0)
        assert summary.counted_seconds == 100.0


def test_part_of_a_progress_counts_by_its_steps() -> None:
    events = [
        event("attempt", 0.0, step=0),
        event("progress", 10.0, first=1, last=10, seconds=10.0),
        event("attempt", 12.0, step=4),
        event("attempt", 14.0, step=2),
        event("progress", 16.0, first=3, last=3, seconds=1.0),
    ]
    summary = summarize(events)
    assert summary.counted_seconds == pytest.approx(2.0 + 1.0)
    assert summary.lost_seconds == pytest.approx(8.0)
    assert summary.redone_steps == 8
    assert summary.last_step == 3


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=8))
def test_every_step_counts_at_most_once(attempts: list[tuple[int, int]]) -> None:
    """Against a replay that keeps, for each step, the attempt that did it last."""
    events: list[Event] = []
    reached, standing = 0, {}
    for start, steps in attempts:
        start = min(start, reached)
        events.append(event("attempt", 0.0, step=start))
        standing = {step: True for step in standing if step <= start}
        if steps:
            events.append(event("progress", 0.0, first=start + 1, last=start + steps, seconds=float(steps)))
            standing |= dict.fromkeys(range(start + 1, start + steps + 1), True)
        reached = start + steps
    summary = summarize(events)
    assert summary.counted_seconds == pytest.approx(len(standing))
    assert summary.last_step == max(standing, default=0)
    assert summary.counted_seconds + summary.lost_seconds == pytest.approx(sum(steps for _, steps in attempts))


def test_an_empty_and_a_strange_ledger() -> None:
    assert summarize([]).goodput is None
    summary = summarize([{"kind": "unreadable"}, event("unknown", 5.0), {"kind": "attempt", "step": 3, "time": "noon"}])
    assert summary.goodput is None
    assert summary.wall_seconds == 0.0


def write(folder: Path, events: list[Event]) -> None:
    times = iter([event["time"] for event in events])
    ledger = Ledger(LocalStorage(folder), clock=lambda: next(times))
    for entry in events:
        ledger.append(entry["kind"], **{key: value for key, value in entry.items() if key not in ("kind", "time")})
    ledger.close()


def test_the_command_prints_history_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, KILLED_ONCE)
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for text in ("1970-01-01 00:02:50", "fault=worker message=killed", "62.9% (3 min 10 s in steps that counted",
                 "4 → 3", "1 worker", "2 saved, 1 failed", "50 steps, 45.0 s"):  # fmt: skip
        assert text in shown
    assert "progress" not in shown


def test_faults_are_shown_by_the_node_that_they_point_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = [event("straggler", 20.0 + i, step=i, node="10.0.0.7", rank=5, ratio=2.0) for i in range(3)]
    own = [event("worker_failed", 30.0, rank=2, node="10.0.0.3", error="ValueError: bad row")]
    survivor = [event("worker_failed", 31.0, rank=0, node="10.0.0.1", error="RuntimeError: Connection reset by peer")]
    write(tmp_path, [*KILLED_ONCE[:2], *slow, *own, *survivor])
    assert main([str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split("world sizes")[1].split())
    assert "by node 10.0.0.7: 3 straggler; take it out by node 10.0.0.3: 1 worker" in shown
    assert "10.0.0.1" not in shown


def test_the_command_as_a_module_gives_json(tmp_path: Path) -> None:
    write(tmp_path, KILLED_ONCE)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.ledger", str(tmp_path), "--json"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    shown = json.loads(done.stdout)
    assert shown["events"] == KILLED_ONCE
    assert shown["summary"]["goodput"] == pytest.approx(190 / 302)
    assert shown["summary"]["worlds"] == [4, 3]


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no ledger" in capsys.readouterr().err
