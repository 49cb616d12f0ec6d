"""Whether a run that failed starts again: a budget, pauses that grow, and a stop that explains itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError

Cause = Literal["preemption", "node", "worker", "startup", "hang", "user"]


@dataclass(frozen=True)
class Failure:
    """One end of an attempt that was not asked for.

    `step` is the last step that was complete when it ended, `time` seconds on a clock that all failures share,
    `node` the host that failed where that is known.
    """

    cause: Cause
    step: int
    time: float
    message: str
    node: str = ""


@dataclass(frozen=True)
class Decision:
    """Start again after `wait_seconds`, or stop; `reason` is for the ledger and, on a stop, for the user."""

    restart: bool
    wait_seconds: float
    reason: str


@dataclass(frozen=True)
class RestartPolicy:
    """`budget` failures within `window_seconds`, and `same_step` in a row at one step; preemptions cost nothing.

    Between failures at growing steps there is no pause; without progress it doubles from `pause_seconds` up to
    `longest_pause_seconds`.
    """

    budget: int = 20
    window_seconds: float = 24 * 3600.0
    same_step: int = 3
    pause_seconds: float = 5.0
    longest_pause_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.budget < 0 or self.same_step < 1 or self.window_seconds <= 0 or self.pause_seconds < 0:
            raise UserError(f"a restart policy needs a budget and pauses that are not negative, {self} has not")

    def decide(self, failures: Sequence[Failure]) -> Decision:
        """What follows from the failures so far, oldest first, the last of which has just happened."""
        last = failures[-1]
        if last.cause == "user":
            return Decision(False, 0.0, f"{last.message} (starting again would meet the same mistake)")
        paid = [failure for failure in failures if failure.cause != "preemption"]
        if last.cause == "preemption":
            return Decision(True, 0.0, f"preempted after step {last.step}; preemptions cost no budget")
        repeats = _repeats(paid)
        if repeats >= self.same_step:
            return Decision(False, 0.0, self._explain(paid[-repeats:]))
        recent = [failure for failure in paid if last.time - failure.time < self.window_seconds]
        if len(recent) > self.budget:
            hours = self.window_seconds / 3600
            return Decision(False, 0.0, f"{len(recent)} failures within {hours:g} h are more than the {self.budget} "
                            "that faults.max_failures allows; the last, after step "
                            f"{last.step}: {last.message}")  # fmt: skip
        wait = 0.0 if repeats <= 1 else min(self.longest_pause_seconds, self.pause_seconds * 2.0 ** (repeats - 2))
        return Decision(True, wait, f"{last.cause} failed after step {last.step}: {last.message}; failure "
                        f"{len(recent)} of {self.budget} allowed")  # fmt: skip

    def _explain(self, repeated: Sequence[Failure]) -> str:
        last = repeated[-1]
        nodes = {failure.node for failure in repeated if failure.node}
        messages = {failure.message for failure in repeated}
        if len(nodes) == 1 and len(repeated) > 1:
            advice = f"every time on node {nodes.pop()}: take that node out and start the same command again"
        elif len(messages) == 1:
            advice = "every time with this error, so it is not chance: mend its cause and start the same command again"
        else:
            advice = "with different errors: see the ledger, and look at the data and the code of the step that follows"
        return f"the run failed {len(repeated)} times after step {last.step} without a step of progress, {advice}. " \
               f"The last error: {last.message}"  # fmt: skip


def _repeats(failures: Sequence[Failure]) -> int:
    """How many of the last failures, one after another, came without progress."""
    count = 1
    for earlier, later in zip(reversed(failures[:-1]), reversed(failures), strict=False):
        if later.step > earlier.step:
            break
        count += 1
    return count
