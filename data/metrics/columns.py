"""The columns of the study's tables: what makes each, and how a checkpoint is chosen by them (facts 5.6, 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from data.errors import UserError
from data.naming import unknown

Unit = tuple[tuple[str, str], ...]
"""(task, metric) pairs whose mean is one figure of a column."""

Results = Mapping[str, Mapping[str, float]]
"""Results in percent by task and metric."""


def _unit(*tasks: str, metrics: tuple[str, ...] = ("accuracy",)) -> Unit:
    return tuple((task, metric) for task in tasks for metric in metrics)


GLUE: tuple[Unit, ...] = (
    _unit("glue_cola", metrics=("matthews",)),
    _unit("glue_sst2"),
    _unit("glue_mrpc", metrics=("f1", "accuracy")),
    _unit("glue_stsb", metrics=("pearson", "spearman")),
    _unit("glue_qqp", metrics=("f1", "accuracy")),
    _unit("glue_mnli", "glue_mnli_mismatched"),
    _unit("glue_qnli"),
    _unit("glue_rte"),
)
SUPERGLUE: tuple[Unit, ...] = (
    _unit("superglue_boolq"),
    _unit("superglue_cb", metrics=("macro_f1", "accuracy")),
    _unit("superglue_copa"),
    _unit("superglue_multirc", metrics=("f1", "exact_match")),
    _unit("superglue_record", metrics=("f1", "exact_match")),
    _unit("superglue_rte"),
    _unit("superglue_wic"),
    _unit("superglue_wsc"),
)
COLUMNS: dict[str, tuple[Unit, ...]] = {
    "GLUE": GLUE,
    "CNNDM": (_unit("cnn_dailymail", metrics=("rouge2",)),),
    "SQuAD": (_unit("squad", metrics=("exact_match",)),),
    "SGLUE": SUPERGLUE,
    "EnDe": (_unit("wmt_ende", metrics=("bleu",)),),
    "EnFr": (_unit("wmt_enfr", metrics=("bleu",)),),
    "EnRo": (_unit("wmt_enro", metrics=("bleu",)),),
    "GLUE test": (*GLUE, _unit("glue_wnli")),
}
"""Units by column, in the tables' order; "GLUE test" is Table 14's, which counts WNLI."""


def column(name: str, results: Results) -> float:
    """The column's figure: the mean of its units, each the mean of its results; a missing result is refused."""
    if name not in COLUMNS:
        raise unknown("column", name, COLUMNS)
    missing = [
        f"{task} {metric}" for unit in COLUMNS[name] for task, metric in unit if metric not in results.get(task, {})
    ]
    if missing:
        raise UserError(f"Column {name} needs {', '.join(missing)}: evaluate these tasks too.")
    return fmean(fmean(results[task][metric] for task, metric in unit) for unit in COLUMNS[name])


def columns(results: Results) -> dict[str, float]:
    """Every column that `results` make whole, in the tables' order."""
    return {
        name: column(name, results)
        for name, units in COLUMNS.items()
        if all(metric in results.get(task, {}) for unit in units for task, metric in unit)
    }


def best_steps(history: Mapping[int, Results]) -> dict[str, tuple[int, float]]:
    """For each column its best checkpoint's step and figure, from the results by step; the earliest of equals.

    Columns may choose different checkpoints (facts 6.3).
    """
    best: dict[str, tuple[int, float]] = {}
    for step in sorted(history):
        for name, value in columns(history[step]).items():
            if name not in best or value > best[name][1]:
                best[name] = (step, value)
    return best
