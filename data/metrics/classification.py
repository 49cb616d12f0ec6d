"""Metrics over class ids and numbers, in percent; -1 is an output that could not be read, and counts as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.metrics.libraries import library


def accuracy(references: Sequence[Any], predictions: Sequence[Any], groups: Sequence[str]) -> dict[str, float]:
    """Share of equal pairs."""
    right = sum(reference == prediction for reference, prediction in zip(references, predictions, strict=True))
    return {"accuracy": 100.0 * right / len(references)}


def f1(references: Sequence[int], predictions: Sequence[int], groups: Sequence[str]) -> dict[str, float]:
    """Binary F1 of class 1; an invalid prediction counts as the opposite of the truth (facts 5.1)."""
    truth, given = np.asarray(references), np.asarray(predictions)
    valid = (given == 0) | (given == 1)
    given = np.where(valid, given, 1 - truth)
    return {"f1": 100.0 * float(library("sklearn.metrics").f1_score(truth, given, zero_division=0.0))}


def macro_f1(references: Sequence[int], predictions: Sequence[int], groups: Sequence[str]) -> dict[str, float]:
    """Mean of the F1 of CB's three classes; an invalid prediction is a miss of its class."""
    score = library("sklearn.metrics").f1_score(
        references, predictions, labels=[0, 1, 2], average="macro", zero_division=0.0
    )
    return {"macro_f1": 100.0 * float(score)}


def matthews(references: Sequence[int], predictions: Sequence[int], groups: Sequence[str]) -> dict[str, float]:
    """Matthews correlation; invalid predictions form a class of their own, as in the original."""
    return {"matthews": 100.0 * float(library("sklearn.metrics").matthews_corrcoef(references, predictions))}


def pearson(references: Sequence[float], predictions: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Pearson correlation; 0 where one side is constant and none is defined."""
    return {"pearson": _correlation("pearsonr", references, predictions)}


def spearman(references: Sequence[float], predictions: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Spearman rank correlation; 0 where one side is constant and none is defined."""
    return {"spearman": _correlation("spearmanr", references, predictions)}


def _correlation(name: str, references: Sequence[float], predictions: Sequence[float]) -> float:
    stats = library("scipy.stats")
    if np.ptp(references) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return 100.0 * float(getattr(stats, name)(references, predictions)[0])
