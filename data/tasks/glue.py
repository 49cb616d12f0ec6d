"""The GLUE tasks: fields in alphabetical order of their names, label words as targets (facts 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from data.errors import UserError
from data.metrics import metric
from data.tasks.example import UNLABELED, Record
from data.tasks.outcomes import Labels, Number
from data.tasks.steps import Fields, Identified, LabelWord
from data.tasks.task import Lengths, Task

LENGTHS = Lengths(inputs=512, targets=84)
ENTAILMENT = ("entailment", "not_entailment")
INFERENCE = ("entailment", "neutral", "contradiction")
_ID = Identified(("index", "idx"))


@dataclass(frozen=True)
class Similarity:
    """STS-B's target: the score rounded to steps of 0.2 and printed with one decimal, `3.67` → `3.6`."""

    label: str = "label"
    one_to_one: ClassVar[bool] = True

    def __call__(self, record: Record) -> Record:
        return {**record, "targets": self.rounded(record.get(self.label))}

    def rounded(self, score: Any) -> str:
        """The printed class of a score between 0 and 5; `<unk>` where there is none."""
        if score in (None, "", -1, "-1", -1.0):
            return UNLABELED
        try:
            number = float(score)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 5:
            raise UserError(f"label {score!r} is not a similarity between 0 and 5.")
        return f"{round(number * 5) / 5:.1f}"


def _classification(
    name: str,
    prefix: str,
    fields: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
    *,
    trained: bool = True,
    metric_split: str = "validation",
) -> Task:
    return Task(
        name=f"glue_{name}",
        preprocessors=(_ID, Fields(prefix, fields), LabelWord(labels)),
        lengths=LENGTHS,
        outcome=Labels(labels),
        metrics=tuple(metric(each) for each in metrics),
        trained=trained,
        metric_split=metric_split,
    )


def tasks() -> list[Task]:
    """The eight trained tasks, MNLI's mismatched set and the diagnostic set AX (WNLI is among the pronoun tasks)."""
    sentences = ("sentence1", "sentence2")
    return [
        _classification("cola", "cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        _classification("sst2", "sst2", ("sentence",), ("negative", "positive")),
        _classification("mrpc", "mrpc", sentences, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
        Task(
            name="glue_stsb",
            preprocessors=(_ID, Fields("stsb", sentences), Similarity()),
            lengths=LENGTHS,
            outcome=Number(),
            metrics=(metric("pearson"), metric("spearman")),
        ),
        _classification("qqp", "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
        _classification("mnli", "mnli", ("hypothesis", "premise"), INFERENCE),
        _classification("mnli_mismatched", "mnli", ("hypothesis", "premise"), INFERENCE, trained=False),
        _classification("qnli", "qnli", ("question", "sentence"), ENTAILMENT),
        _classification("rte", "rte", sentences, ENTAILMENT),
        _classification(
            "ax", "mnli", ("hypothesis", "premise"), INFERENCE, ("matthews",), trained=False, metric_split="test"
        ),
    ]
