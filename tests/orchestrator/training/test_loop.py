"""The loop's order of things, and the numbers it watches."""

from __future__ import annotations

import math
from typing import Any

import pytest

from data.packing import Rows
from orchestrator.faults.numbers import NonFinitePolicy, NumbersBroken
from orchestrator.readers import StepRows
from orchestrator.training.loop import train
from orchestrator.training.step import Agreed
from orchestrator.training.watch import RollBack, Watch


def agreed(
    *, stop: bool = False, saves: int = 0, grow: bool = False, loss: float = 2.0, finite: bool = True
) -> Agreed:
    return Agreed(loss, 0.0, 1, 1, 0.5, 1.0, finite, stop, saves, grow)


class Traced:
    """A trainer that notes its calls."""

    def __init__(self, last_step: int, stop_at: int | None = None, *, grow: bool = False) -> None:
        self.last_step, self.stop_at, self.grow = last_step, stop_at, grow
        self.calls: list[tuple[str, int]] = []

    def step(self, step: int, rows: StepRows) -> Agreed:
        self.calls.append(("step", step))
        return agreed(stop=step == self.stop_at, grow=self.grow)

    def log_due(self, step: int) -> bool:
        return step % 2 == 0

    def save_due(self, step: int, agreed: Agreed) -> bool:
        return step % 3 == 0

    def evaluation_due(self, step: int) -> bool:
        return step % 3 == 0

    def __getattr__(self, name: str) -> Any:
        return lambda step: self.calls.append((name, step))


def feed(first: int, last: int) -> Any:
    return ((step, StepRows(Rows(None, None), {})) for step in range(first, last + 1))  # type: ignore[arg-type]


def test_the_last_step_is_evaluated_logged_and_saved() -> None:
    trainer = Traced(5)
    assert train(trainer, feed(4, 5))
    assert trainer.calls == [
        ("step", 4), ("log", 4), ("step", 5), ("evaluate", 5), ("log", 5), ("save", 5),
    ]  # fmt: skip


def test_an_agreed_stop_logs_and_saves_and_ends() -> None:
    trainer = Traced(9, stop_at=7)
    assert not train(trainer, feed(7, 9))
    assert trainer.calls == [("step", 7), ("log", 7), ("save", 7)]


def test_a_group_leaves_for_a_larger_one_at_a_checkpoint_alone() -> None:
    trainer = Traced(9, grow=True)
    assert not train(trainer, feed(5, 9))
    assert trainer.calls == [("step", 5), ("step", 6), ("evaluate", 6), ("log", 6), ("save", 6)]
    trainer.calls.clear()
    assert train(trainer, feed(8, 9))
    assert trainer.calls[-1] == ("save", 9)


def test_a_finished_run_takes_no_step() -> None:
    trainer = Traced(5)
    assert train(trainer, feed(6, 5))
    assert trainer.calls == []


def watch(events: list[tuple[str, dict[str, Any]]], rolled_back: int = 0, skips: int = 2) -> Watch:
    return Watch(NonFinitePolicy(skips, 1), rolled_back, ["a", "b"], lambda kind, fields: events.append((kind, fields)))


def test_skips_then_rolls_back_over_the_window() -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    watched = watch(events)
    watched.step(4, agreed(finite=False, loss=math.nan))
    watched.step(5, agreed(finite=False, loss=math.inf))
    with pytest.raises(RollBack, match="steps 4 to 6"):
        watched.step(6, agreed(finite=False, loss=math.nan))
    assert [kind for kind, _ in events] == ["nonfinite", "nonfinite", "window_skipped"]
    assert events[-1][1] == {"first": 4, "last": 6}


def test_rollbacks_have_a_limit() -> None:
    watched = watch([], rolled_back=1, skips=0)
    with pytest.raises(NumbersBroken, match="after 1 rollbacks"):
        watched.step(6, agreed(finite=False, loss=math.nan))


def test_spikes_and_slow_ranks_are_reported() -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    watched = watch(events)
    for step in range(1, 41):
        watched.step(step, agreed(loss=2.0 + 0.01 * (step % 5)))
    watched.step(41, agreed(loss=3.0))
    assert [kind for kind, _ in events] == ["loss_spike"]
    for step in range(9):
        watched.speeds(step, [1.0, 2.0])
    assert events[-1] == ("straggler", {"step": 8, "node": "b", "rank": 1, "ratio": 2.0})
