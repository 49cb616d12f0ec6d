"""A run as the plainest loop in this process: no Ray, no ranks, no checkpoints. What a disturbed run must equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data.lanes import Cursor, Lanes
from data.packing import Rows
from orchestrator.config import load
from orchestrator.readers import StepRows
from orchestrator.run import open_run
from orchestrator.scheduler.phase import Control
from orchestrator.training.assembly import assemble
from orchestrator.training.step import Stepper


@dataclass
class Plain:
    """What the loop saw: of each step (from 1) the loss and the tokens up to it, and where the lanes stand at the
    end."""

    losses: dict[int, float] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    cursors: dict[int, Cursor] = field(default_factory=dict)

    def differs(self, lines: Sequence[dict[str, Any]], tolerance: float) -> list[str]:
        """In what the logged lines of a run differ, a sentence each: a line's loss is the mean over its steps."""
        told, after = [], 0
        for line in lines:
            if line["step"] - line["steps"] != after:
                told.append(f"the line of step {line['step']} is not the one that follows that of step {after}")
            after = line["step"]
            covered = range(after - line["steps"] + 1, after + 1)
            expected = sum(self.losses[step] for step in covered) / len(covered)
            if abs(line["loss"] - expected) > tolerance:
                told.append(f"the loss of step {after} is {line['loss']:.6f}, not {expected:.6f}")
            if line["tokens"] != self.tokens[after]:
                told.append(f"there are {line['tokens']} tokens up to step {after}, not {self.tokens[after]}")
        if after != max(self.losses):
            told.append(f"the last line is of step {after}")
        return told


def train(overrides: Sequence[str]) -> Plain:
    """All steps of the embedded preset with `overrides`."""
    run = open_run(load(["embedded"], overrides, {}))
    lanes, parts, found = Lanes(run.lanes), assemble(run), Plain()
    stepper = Stepper(run.config, parts, range(run.config.batch.lanes))
    found.cursors = {lane: lanes.start(lane) for lane in range(run.config.batch.lanes)}
    seen = 0
    for step in range(1, run.config.steps + 1):
        rows = []
        for lane, cursor in found.cursors.items():
            lane_rows, found.cursors[lane] = lanes.step(lane, cursor, step)
            rows.append(lane_rows)
        agreed = stepper(step, StepRows(Rows.concatenate(rows), found.cursors), Control())
        seen += agreed.tokens_seen
        found.losses[step], found.tokens[step] = agreed.loss, seen
    return found
