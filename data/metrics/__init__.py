"""Metrics by name: plain functions of (references, predictions, groups), each result in percent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.metrics import answers, classification, generation, grouped
from data.metrics.grouped import Compute
from data.metrics.libraries import release
from data.naming import unknown


def _own() -> str:
    return "built in"


@dataclass(frozen=True)
class Metric:
    """A named metric; `results` are the names it reports, `signature` says what makes its figures comparable."""

    name: str
    compute: Compute
    results: tuple[str, ...]
    signature: Callable[[], str] = _own


def _sklearn() -> str:
    return release("sklearn")


def _scipy() -> str:
    return release("scipy")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", classification.accuracy, ("accuracy",)),
        Metric("f1", classification.f1, ("f1",), _sklearn),
        Metric("macro_f1", classification.macro_f1, ("macro_f1",), _sklearn),
        Metric("matthews", classification.matthews, ("matthews",), _sklearn),
        Metric("pearson", classification.pearson, ("pearson",), _scipy),
        Metric("spearman", classification.spearman, ("spearman",), _scipy),
        Metric("question_answering", answers.question_answering, ("exact_match", "f1")),
        Metric(
            "question_answering_once",
            grouped.OncePerGroup(answers.question_answering),
            ("exact_match", "f1"),
        ),
        Metric("group_exact_match", grouped.group_exact_match, ("exact_match",)),
        Metric("group_f1", grouped.GroupMean(classification.f1), ("f1",), _sklearn),
        Metric("bleu", generation.bleu, ("bleu",), generation.bleu_signature),
        Metric("rouge", generation.rouge, ("rouge1", "rouge2", "rougeLsum"), generation.rouge_signature),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name, or a UserError that suggests near ones."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]
