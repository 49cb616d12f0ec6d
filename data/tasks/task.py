"""A task: where records come from, how they become text, how outputs are read back and judged."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.metrics import Metric
from data.naming import unknown
from data.tasks.example import Example, Record
from data.tasks.outcomes import Outcome, text
from data.tasks.sources import Source
from data.vocabulary import EOS

Step = Callable[[Record], Record | Iterable[Record] | None]
"""One preprocessor: a record to a record, to several (expansion) or to None (filter)."""


class Vocabulary(Protocol):
    """What encoding needs of a vocabulary."""

    def encode_batch(self, texts: list[str]) -> Sequence[NDArray[np.uint16]]: ...


class Encoded(NamedTuple):
    """Token ids (uint16, EOS last) of one example and whether either side lost tokens to its length."""

    inputs: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    inputs_cut: bool
    targets_cut: bool


@dataclass(frozen=True)
class Lengths:
    """Longest inputs and targets in tokens, EOS included."""

    inputs: int = 512
    targets: int = 512

    def __post_init__(self) -> None:
        if min(self.inputs, self.targets) < 2:
            raise UserError(f"Lengths inputs={self.inputs}, targets={self.targets}: each needs 2 tokens or more.")


@dataclass(frozen=True)
class Task:
    """A named task in seqio's sense.

    `preprocessors` lead from a raw record to one with `inputs` and `targets`, for training;
    `evaluation_preprocessors` do so for evaluation where that differs (ReCoRD's expansion, WSC's filter).
    `outcome` reads a model's output; `metrics` judge it; `best` names the results whose mean chooses the best
    checkpoint (all of them by default). `trained` is false for tasks that are never trained on; `metric_split` is the
    split that scores are taken on, empty for tasks that are trained on alone.
    """

    name: str
    preprocessors: tuple[Step, ...]
    source: Source | None = None
    evaluation_preprocessors: tuple[Step, ...] | None = None
    lengths: Lengths = Lengths()
    outcome: Outcome = text
    metrics: tuple[Metric, ...] = ()
    best: tuple[str, ...] = ()
    trained: bool = True
    metric_split: str = "validation"

    def with_source(self, source: Source) -> Task:
        """The same task reading from `source`."""
        return replace(self, source=source)

    def replaced(self, **changes: Any) -> Task:
        """The same task with fields changed, for instance under another name."""
        return replace(self, **changes)

    def _bound(self, split: str) -> Source:
        if self.source is None:
            raise UserError(
                f"Task {self.name!r} has no source: give task_data=FOLDER that holds its corpus as "
                f"FOLDER/{self.name}, or a source in a YAML file of tasks."
            )
        if split not in self.source.splits():
            raise unknown("split", split, self.source.splits(), where=f"the source of task {self.name!r}")
        return self.source

    def records(self, split: str) -> int:
        """Number of raw records of `split`; an empty split is refused."""
        count = self._bound(split).records(split)
        if count == 0:
            raise UserError(f"Split {split!r} of task {self.name!r} is empty: its source holds no record.")
        return count

    def read(self, split: str, start: int, count: int) -> list[Record]:
        """Raw records `start` to `start + count - 1` of `split` in the source's order."""
        return self._bound(split).read(split, start, count)

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) of the split's raw records: a run that goes on must find the one it began with."""
        return self._bound(split).fingerprint(split)

    def format(self, record: Record, *, evaluate: bool = False) -> list[Example]:
        """The examples one record makes: none, one or several. Raises UserError where the record does not fit."""
        chain = self.preprocessors
        if evaluate and self.evaluation_preprocessors is not None:
            chain = self.evaluation_preprocessors
        records: list[Record] = [record]
        try:
            for step in chain:
                records = [result for given in records for result in _results(step(given))]
            return [Example.of(result) for result in records]
        except UserError as error:
            raise UserError(f"Task {self.name!r}: {error}") from None
        except KeyError as error:
            raise UserError(
                f"Task {self.name!r}: a record has no field {error.args[0]!r}; it has {', '.join(sorted(record))}."
            ) from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise UserError(f"Task {self.name!r}: a record does not fit its format ({error!r}).") from error

    def examples(self, split: str, *, evaluate: bool = False, block: int = 1024) -> Iterator[Example]:
        """Every example of `split` in the source's order."""
        total = self.records(split)
        for start in range(0, total, block):
            for index, record in enumerate(self.read(split, start, min(block, total - start)), start):
                for example in self.format(record, evaluate=evaluate):
                    yield example if example.id else replace(example, id=str(index))

    def size(self, split: str = "train") -> int:
        """Number of training examples of `split`, after filters and expansion: the e of the mixing rates.

        Read off the index where every preprocessor maps one record to one example, counted by formatting otherwise.
        """
        if all(getattr(step, "one_to_one", False) for step in self.preprocessors):
            return self.records(split)
        return sum(1 for _ in self.examples(split))

    def encode(self, examples: Sequence[Example], vocabulary: Vocabulary) -> list[Encoded]:
        """Token ids of `examples`, each side cut to its length less one with EOS appended (facts 5.1)."""
        ids = vocabulary.encode_batch([e.inputs for e in examples] + [e.targets for e in examples])
        limits = self.lengths
        encoded = []
        for inputs, targets in zip(ids[: len(examples)], ids[len(examples) :], strict=True):
            encoded.append(
                Encoded(
                    _closed(inputs, limits.inputs),
                    _closed(targets, limits.targets),
                    len(inputs) >= limits.inputs,
                    len(targets) >= limits.targets,
                )
            )
        return encoded

    def evaluate(self, examples: Sequence[Example], outputs: Sequence[str]) -> dict[str, float]:
        """Results of the task's metrics (percent) for the model's `outputs`, one for each example."""
        if len(examples) != len(outputs):
            raise UserError(f"Task {self.name!r}: {len(outputs)} outputs for {len(examples)} examples.")
        if not examples:
            raise UserError(f"Task {self.name!r}: there is no example to judge.")
        references = [self.outcome.reference(example) for example in examples]
        predictions = [
            self.outcome.prediction(output, example) for output, example in zip(outputs, examples, strict=True)
        ]
        return self.judge(references, predictions, [example.group or example.id for example in examples])

    def judge(self, references: list[Any], predictions: list[Any], groups: list[str]) -> dict[str, float]:
        """Results of the task's metrics (percent) for values that were read already."""
        results: dict[str, float] = {}
        for metric in self.metrics:
            results.update(metric.compute(references, predictions, groups))
        return results

    def score(self, results: Mapping[str, float]) -> float:
        """The one number that chooses the best checkpoint: the mean of the column's metrics (facts 5.6, 6.3)."""
        names = self.best or tuple(results)
        missing = [name for name in names if name not in results]
        if missing or not names:
            raise UserError(
                f"Task {self.name!r} is chosen by {', '.join(names) or 'no metric'}, but the results hold "
                f"{', '.join(results) or 'nothing'}."
            )
        return statistics.fmean(results[name] for name in names)

    def signatures(self) -> dict[str, str]:
        """What makes each of the task's metrics comparable, by metric name (sacrebleu's signature, versions)."""
        return {metric.name: metric.signature() for metric in self.metrics}


def _results(given: Any) -> Iterable[Record]:
    if given is None:
        return ()
    return (given,) if isinstance(given, dict) else given


def _closed(ids: NDArray[np.uint16], length: int) -> NDArray[np.uint16]:
    closed = np.empty(min(len(ids), length - 1) + 1, dtype=np.uint16)
    closed[:-1] = ids[: length - 1]
    closed[-1] = EOS
    return closed
