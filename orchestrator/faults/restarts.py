"""Whether a run that failed starts again: a budget that progress renews, pauses, a stop that explains itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data.errors import UserError

Cause = Literal["preemption", "worker"]


@dataclass(frozen=True)
class Failure:
    """One end of an attempt that was not asked for.

    `step` is the last step that was complete when it ended, `saved` the step of the checkpoint that the next attempt
    starts from, `node` the host that failed where that is known.
    """

    cause: Cause
    step: int
    saved: int
    message: str
    node: str = ""


@dataclass(frozen=True)
class Decision:
    """Start again after `wait_seconds`, or stop; `reason` is for the ledger and, on a stop, for the user."""

    restart: bool
    wait_seconds: float
    reason: str


_NEAR = 2
"""Steps by which the last complete step may be known too low: news of it and the failure overtake each other."""


@dataclass(frozen=True)
class RestartPolicy:
    """At most `budget` failures in a row without a new checkpoint between them, `same_step` of them at one step.

    A run that gets on is never stopped for the number of its failures: how many come a day grows with the cluster,
    and what they cost is in the goodput. Preemptions cost nothing. The first failure after a new checkpoint is
    answered at once; from then on the pause doubles from `pause_seconds` up to `longest_pause_seconds`.
    """

    budget: int = 20
    same_step: int = 3
    pause_seconds: float = 5.0
    longest_pause_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.budget < 0 or self.same_step < 1 or self.pause_seconds < 0:
            raise UserError(f"a restart policy needs a budget and pauses that are not negative, {self} has not")

    def decide(self, failures: Sequence[Failure]) -> Decision:
        """What follows from the failures so far, oldest first, the last of which has just happened."""
        last = failures[-1]
        if last.cause == "preemption":
            return Decision(True, 0.0, f"preempted after step {last.step}; preemptions cost no budget")
        stuck = _without_progress([failure for failure in failures if failure.cause != "preemption"])
        repeated = _at_one_step(stuck)
        if len(repeated) >= self.same_step:
            return Decision(False, 0.0, self._explain(repeated))
        if len(stuck) > self.budget:
            return Decision(False, 0.0, f"{len(stuck)} failures without a new checkpoint after that of step "
                            f"{last.saved} are more than the {self.budget} that faults.max_failures allows; the "
                            f"last, after step {last.step}: {last.message}")  # fmt: skip
        wait = 0.0
        if len(stuck) > 1:
            wait = min(self.longest_pause_seconds, self.pause_seconds * 2.0 ** min(len(stuck) - 2, 30))
        return Decision(True, wait, f"{last.cause} failed after step {last.step}: {last.message}; failure "
                        f"{len(stuck)} of {self.budget} allowed without a new checkpoint")  # fmt: skip

    def _explain(self, repeated: Sequence[Failure]) -> str:
        last = repeated[-1]
        nodes = {failure.node for failure in repeated}
        messages = {failure.message for failure in repeated}
        if len(nodes) == 1 and last.node and len(repeated) > 1:
            advice = f"every time on node {last.node}: take that node out and start the same command again"
        elif len(messages) == 1:
            advice = "every time with this error, so it is not chance: mend its cause and start the same command again"
        else:
            advice = "with different errors: see the ledger, and look at the data and the code of the step that follows"
        return f"the run failed {len(repeated)} times after step {last.step} without a step of progress, {advice}. " \
               f"The last error: {last.message}"  # fmt: skip


def _without_progress(failures: Sequence[Failure]) -> list[Failure]:
    """The last failures, one after another, between which no newer checkpoint came to be."""
    first = len(failures) - 1
    while first > 0 and failures[first].saved <= failures[first - 1].saved:
        first -= 1
    return list(failures[first:])


def _at_one_step(failures: Sequence[Failure]) -> list[Failure]:
    """Those of the last failures, one after another, that came after the same step as the very last."""
    first = len(failures) - 1
    while first > 0 and abs(failures[first - 1].step - failures[-1].step) <= _NEAR:
        first -= 1
    return list(failures[first:])
