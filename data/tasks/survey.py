"""What a task's split holds, looked at before any training: counts, lengths, and what its lengths would cut off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from data.errors import UserError
from data.tasks.example import UNLABELED, Example
from data.tasks.task import Task
from data.vocabulary import Vocabulary

BATCH = 256
SURVEYED = 20_000
"""Examples of each task that are looked at before a run."""


@dataclass
class Survey:
    """Counts over the first `examples` examples of a split.

    Token figures count EOS, are taken before any cut, and stay 0 without a vocabulary; `*_cut` are examples that
    lose tokens to the task's lengths.
    """

    task: str
    split: str
    records: int
    examples: int = 0
    unlabeled: int = 0
    whole: bool = True
    inputs_cut: int = 0
    targets_cut: int = 0
    inputs_tokens: int = 0
    targets_tokens: int = 0
    longest_inputs: int = 0
    longest_targets: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that training would learn wrongly or not at all."""
        found = []
        if self.targets_cut:
            found.append(
                f"{self.targets_cut} of {self.examples} targets of task {self.task!r} are longer than its limit and "
                f"will be cut: raise its target length if they matter."
            )
        if self.unlabeled:
            found.append(
                f"{self.unlabeled} of {self.examples} examples of task {self.task!r}, split {self.split!r}, have no "
                f"label and the target {UNLABELED!r}: give labels before training or judging on them."
            )
        return found


def survey(
    task: Task,
    split: str = "train",
    vocabulary: Vocabulary | None = None,
    *,
    evaluate: bool = False,
    limit: int | None = None,
    show: int = 0,
) -> Survey:
    """Survey the first `limit` examples of `split` (all by default), keeping the first `show` as a model sees them."""
    found = Survey(task.name, split, task.records(split))
    examples = task.examples(split, evaluate=evaluate)
    for batch in _batches(islice(examples, limit)):
        for example in batch[: max(show - len(found.shown), 0)]:
            found.shown.append(_shown(task, example, vocabulary))
        found.examples += len(batch)
        found.unlabeled += sum(example.targets == UNLABELED for example in batch)
        if vocabulary is not None:
            _count_tokens(found, task, batch, vocabulary)
    found.whole = limit is None or next(examples, None) is None
    return found


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while batch := list(islice(examples, BATCH)):
        yield batch


def _count_tokens(found: Survey, task: Task, batch: list[Example], vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode_batch([example.inputs for example in batch] + [example.targets for example in batch])
    lengths = [len(tokens) + 1 for tokens in ids]
    inputs, targets = lengths[: len(batch)], lengths[len(batch) :]
    found.inputs_tokens += sum(inputs)
    found.targets_tokens += sum(targets)
    found.inputs_cut += sum(length > task.lengths.inputs for length in inputs)
    found.targets_cut += sum(length > task.lengths.targets for length in targets)
    found.longest_inputs = max(found.longest_inputs, *inputs)
    found.longest_targets = max(found.longest_targets, *targets)


def _shown(task: Task, example: Example, vocabulary: Vocabulary | None) -> dict[str, Any]:
    """An example, with its token ids and what they decode to where there is a vocabulary."""
    shown = example.to_json()
    if vocabulary is not None:
        (ids,) = task.encode([example], vocabulary)
        for side, tokens in (("inputs", ids.inputs), ("targets", ids.targets)):
            shown[f"{side}_ids"] = tokens.tolist()
            shown[f"{side}_decoded"] = vocabulary.decode(tokens)
    return shown


def check(
    tasks: Iterable[Task],
    vocabulary: Vocabulary | None = None,
    *,
    split: str = "train",
    limit: int | None = SURVEYED,
) -> list[Survey]:
    """Survey every task before a run takes any machine: sources open, split there and not empty, records format.

    Looks at the first `limit` examples of each. `split` "train" is formatted for training, others for evaluation.
    Raises UserError for the first task that cannot be used, or whose training examples are all filtered out.
    """
    found = []
    for task in tasks:
        if split == "train" and not task.trained:
            raise UserError(f"Task {task.name!r} is for evaluation alone: take it out of the training mixture.")
        each = survey(task, split, vocabulary, evaluate=split != "train", limit=limit)
        if not each.examples:
            raise UserError(f"Task {task.name!r} makes no example of the {each.records} records of split {split!r}.")
        found.append(each)
    return found
