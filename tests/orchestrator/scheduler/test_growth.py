"""When the scheduler lets a group end for a larger one, and that this is no failure."""

from __future__ import annotations

from pathlib import Path

from orchestrator.config import load
from orchestrator.ledger import summarize
from orchestrator.scheduler.phase import Phase


class Clock:
    """Time that moves when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def phase_in(folder: Path, clock: Clock, *overrides: str) -> Phase:
    return Phase(load(["embedded"], [f"storage={folder}", "workers=1..3", *overrides], {}), 1, clock)


def test_growth_waits_for_room_and_for_its_time(tmp_path: Path) -> None:
    clock = Clock()
    phase = phase_in(tmp_path, clock, "faults.grow_seconds=60")
    phase.begin(0, ["a"])
    clock.now += 59
    phase.offer(3)
    assert not phase.control().grow
    clock.now += 1
    assert phase.control().grow
    phase.offer(1)
    assert not phase.control().grow, "the node went before a checkpoint came"
    phase.offer(2)
    assert phase.control().grow
    phase.begin(10, ["a", "b"])
    clock.now += 60
    assert not phase.control().grow, "an offer belongs to the group it was made to"
    phase.offer(2)
    assert not phase.control().grow
    phase.offer(3)
    assert phase.control().grow


def test_growth_may_be_switched_off(tmp_path: Path) -> None:
    clock = Clock()
    phase = phase_in(tmp_path, clock, "faults.grow_seconds=null")
    phase.begin(0, ["a"])
    clock.now += 10**6
    phase.offer(3)
    assert not phase.control().grow


def test_a_group_that_left_to_grow_is_no_failure_even_where_the_next_is_no_larger(tmp_path: Path) -> None:
    phase = phase_in(tmp_path, Clock(), "faults.max_failures=0", "faults.same_step=1")
    assert phase.begin(0, ["a"]).go
    for step in (6, 12, 12):
        phase.event("grow", world=1)
        attempt = phase.begin(step, ["a"])
        assert attempt.go
        assert attempt.wait_seconds == 0
    assert summarize(phase.status().events).restarts == 0
    assert not phase.begin(12, ["a"]).go, "the next one is"


def test_a_scheduler_that_came_back_knows_the_size_of_the_group(tmp_path: Path) -> None:
    clock = Clock()
    first = phase_in(tmp_path, clock)
    first.begin(0, ["a", "b"])
    first.flush()
    again = phase_in(tmp_path, clock)
    again.offer(2)
    clock.now += 10**6
    assert not again.control().grow
    again.offer(3)
    assert again.control().grow


def test_a_phase_is_over_once_it_has_an_outcome_or_must_stop(tmp_path: Path) -> None:
    for name in ("done", "stopped"):
        phase = phase_in(tmp_path / name, Clock())
        phase.begin(0, ["a"])
        assert not phase.over()
        if name == "done":
            phase.finish("done")
        else:
            phase.request_stop("the driver was asked to stop")
        assert phase.over()
