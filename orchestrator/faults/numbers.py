"""What is done about non-finite losses and loss spikes: skip, roll back past the data, stop; a robust score. Pure.

All ranks feed the same reduced values, so all come to the same decision without talking.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from data.errors import UserError

_NORMAL = 1.4826
"""Median absolute deviation times this estimates the standard deviation of a normal distribution."""


class NumbersBroken(UserError):
    """Non-finite numbers went on through every remedy the run allows."""


@dataclass(frozen=True)
class Window:
    """Steps `first` to `last` whose data is stepped over."""

    first: int
    last: int


@dataclass(frozen=True)
class Action:
    """Take the step's update, skip it, or roll back to a checkpoint before `window` and step over its data."""

    kind: Literal["take", "skip", "roll_back"]
    window: Window | None = None


@dataclass(frozen=True)
class NonFinitePolicy:
    """Skips up to `skips` steps in a row; one more rolls back, at most `rollbacks` times in a run, then the run stops.

    Immutable: `observe` gives the policy to go on with. `state` and `restored` carry it through checkpoints, so a
    resumed run decides as the undisturbed one. Rollbacks must survive a return to an older checkpoint, so their count
    is kept by the caller (the ledger's `window_skipped` events) and passed in.
    """

    skips: int = 3
    rollbacks: int = 2
    run: int = 0
    skipped: int = 0

    def observe(
        self, step: int, finite: bool, rolled_back: int, *, spoiled: bool = False
    ) -> tuple[NonFinitePolicy, Action]:
        """Decide about `step`, given whether its loss and gradients are finite on all ranks and how many rollbacks
        the run has made so far. A `spoiled` step has changed parameters already, so it cannot be skipped.

        Raises NumbersBroken where all remedies are used up.
        """
        if finite:
            return (self if self.run == 0 else replace(self, run=0)), Action("take")
        run = self.run + 1
        window = Window(step - run + 1, step)
        if run <= self.skips and not spoiled:
            return replace(self, run=run, skipped=self.skipped + 1), Action("skip")
        if rolled_back >= self.rollbacks:
            raise NumbersBroken(
                f"steps {window.first} to {window.last} gave a non-finite loss or gradient, after {rolled_back} "
                "rollbacks that stepped over data: it is not the data. Lower the learning rate, or compute in fp32 "
                "(parallel.precision), from a checkpoint before that"
            )
        return replace(self, run=0), Action("roll_back", window)

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"run": self.run, "skipped": self.skipped}

    def restored(self, state: Mapping[str, Any]) -> NonFinitePolicy:
        """This policy with the counters of a checkpoint."""
        return replace(self, run=int(state["run"]), skipped=int(state["skipped"]))


def stepped_over(step: int, windows: Iterable[Window]) -> bool:
    """Whether the data of `step` is stepped over."""
    return any(window.first <= step <= window.last for window in windows)


class SpikeDetector:
    """Robust score of each loss against the last `span`: distance from their median in units of their spread.

    Spread is the median absolute deviation scaled to a standard deviation; spikes hardly move it, as they move a mean.
    A score is None until `warm` losses were seen, infinite for a non-finite loss. Non-finite losses are not remembered.
    """

    def __init__(self, span: int = 128, warm: int = 32, threshold: float = 6.0) -> None:
        if not 2 <= warm <= span or threshold <= 0:
            raise UserError(f"a spike detector needs 2 <= warm <= span and a positive threshold, not {warm}, {span}, "
                            f"{threshold}")  # fmt: skip
        self._losses: deque[float] = deque(maxlen=span)
        self._warm, self._threshold = warm, threshold

    def observe(self, loss: float) -> float | None:
        """Score of `loss` against the losses before it (positive above their median), then remember it."""
        if not math.isfinite(loss):
            return math.inf
        score = None
        if len(self._losses) >= self._warm:
            median = statistics.median(self._losses)
            spread = _NORMAL * statistics.median(abs(value - median) for value in self._losses)
            # Equal losses have no spread: the smallest that still means something keeps rounding from being a spike.
            score = (loss - median) / max(spread, 1e-6 * max(1.0, abs(median)))
        self._losses.append(loss)
        return score

    def is_spike(self, score: float | None) -> bool:
        """Whether a score deserves a report: only upward, a sudden fall is no harm."""
        return score is not None and score > self._threshold
