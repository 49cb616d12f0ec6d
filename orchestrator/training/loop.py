"""The training loop, on one page."""

from __future__ import annotations

from typing import Protocol

from orchestrator.readers import Feed, StepRows
from orchestrator.training.step import Agreed


class Trainer(Protocol):
    """What the loop asks of a worker; `worker.Worker` is the real one."""

    last_step: int

    def step(self, step: int, rows: StepRows) -> Agreed: ...

    def log_due(self, step: int) -> bool: ...

    def save_due(self, step: int, agreed: Agreed) -> bool: ...

    def evaluation_due(self, step: int) -> bool: ...

    def log(self, step: int) -> None: ...

    def evaluate(self, step: int) -> None: ...

    def save(self, step: int) -> None: ...


def train(trainer: Trainer, feed: Feed) -> bool:
    """Take steps until the last one, until the scheduler wants to stop, or until a checkpoint at which the group makes
    room for a larger one; True when all steps were taken.

    Whatever ends the loop in an orderly way, the state after its last step has been handed to the saver.
    """
    for step, rows in feed:
        agreed = trainer.step(step, rows)
        saves = trainer.save_due(step, agreed)
        last = step == trainer.last_step or agreed.stop or (agreed.grow and saves)
        if trainer.evaluation_due(step) or step == trainer.last_step:
            trainer.evaluate(step)
        if trainer.log_due(step) or last:
            trainer.log(step)
        if saves or last:
            trainer.save(step)
        if last:
            return step == trainer.last_step
    return True
