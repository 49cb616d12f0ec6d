"""A task's examples made ready for decoding: formatted, encoded, cut into batches of near lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import tasks
from data.errors import UserError
from data.mixing import UNSUPERVISED
from data.naming import unknown
from data.tasks import Example, Task
from data.tasks.baseline import majority
from data.tasks.task import Vocabulary
from orchestrator.evaluation.batches import by_length
from orchestrator.sources import clipped

_TOGETHER = {"glue_mnli": "glue_mnli_mismatched"}
"""Evaluated with a task though never trained on: the other half of its figure in the columns."""


@dataclass(frozen=True)
class Examination:
    """One task's split, ready to be decoded and judged."""

    task: Task
    split: str
    examples: list[Example]
    inputs: list[NDArray[np.uint16]]
    batches: list[list[int]]
    """Indices of examples."""
    majority: dict[str, float] | None
    """Results of always answering the commonest class, where there are classes."""
    fingerprint: str
    """Of the split's records."""

    def missing(self, known: set[str]) -> list[list[int]]:
        """The batches less the examples whose ids are `known`."""
        left = [[index for index in batch if self.examples[index].id not in known] for batch in self.batches]
        return [batch for batch in left if batch]


def examine(task: Task, vocabulary: Vocabulary, positions: int, *, inputs: int, targets: int) -> Examination:
    """Read and encode the split that `task` is scored on.

    Raises `UserError` for a split that is missing, empty or unlabeled, and for ids given twice.
    """
    if not task.metrics:
        raise UserError(f"task {task.name!r} has no metrics; give it some to evaluate it")
    split = task.metric_split
    examples = list(task.examples(split, evaluate=True))
    if not examples:
        raise UserError(f"task {task.name!r} makes no example of its split {split!r}")
    require_unique(task.name, examples)
    for example in examples:
        task.outcome.reference(example)
    rows = [encoded.inputs for encoded in clipped(task, inputs, targets).encode(examples, vocabulary)]
    batches = by_length([len(row) for row in rows], positions)
    return Examination(task, split, examples, rows, batches, majority(task, split), task.fingerprint(split))


def require_unique(name: str, examples: Sequence[Example]) -> None:
    """Refuse two examples of one id: their outputs could not be told apart after an interruption."""
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise UserError(f"task {name!r} has two examples of the id {example.id!r}; give each its own with `id`")
        seen.add(example.id)


def scored_tasks(names: Sequence[str], task_data: str | None) -> list[Task]:
    """The tasks under `names` (tasks or mixtures) that have a split to be scored on, each once, with their data."""
    wanted: dict[str, None] = {}
    for name in names:
        for each in tasks.get_mixture(name).tasks():
            if each != UNSUPERVISED:
                wanted[each] = None
                if each in _TOGETHER and name != each:
                    wanted[_TOGETHER[each]] = None
    found = [tasks.located(tasks.get_task(name), task_data) for name in wanted]
    scored = [task for task in found if task.metric_split]
    if not scored:
        raise UserError(f"none of {', '.join(names) or 'the named tasks'} has a split to be scored on")
    for task in scored:
        if task.source is not None and task.metric_split not in task.source.splits():
            raise unknown("split", task.metric_split, task.source.splits(), where=f"the source of task {task.name!r}")
    return scored


def signature(examination: Examination, identity: dict[str, Any]) -> dict[str, Any]:
    """What decides a task's outputs: they are made anew where any of it changed."""
    return {**identity, "split": examination.split, "data": examination.fingerprint}
