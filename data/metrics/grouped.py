"""Metrics judged by group: every member right, or a mean within each group first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Compute = Callable[[Sequence[Any], Sequence[Any], Sequence[str]], dict[str, float]]


def group_exact_match(references: Sequence[Any], predictions: Sequence[Any], groups: Sequence[str]) -> dict[str, float]:
    """Percent of groups all of whose members are right (MultiRC's questions)."""
    right: dict[str, bool] = defaultdict(lambda: True)
    for reference, prediction, group in zip(references, predictions, groups, strict=True):
        right[group] &= bool(reference == prediction)
    return {"exact_match": 100.0 * fmean(right.values())}


@dataclass(frozen=True)
class GroupMean:
    """Another metric computed within each group, then averaged over the groups (MultiRC's F1 before Dec 2019)."""

    compute: Compute

    def __call__(
        self, references: Sequence[Any], predictions: Sequence[Any], groups: Sequence[str]
    ) -> dict[str, float]:
        members: dict[str, list[int]] = defaultdict(list)
        for index, group in enumerate(groups):
            members[group].append(index)
        results = [
            self.compute([references[i] for i in rows], [predictions[i] for i in rows], [group] * len(rows))
            for group, rows in members.items()
        ]
        return {name: fmean(result[name] for result in results) for name in results[0]}


@dataclass(frozen=True)
class OncePerGroup:
    """Another metric over the first member of each group: repeats of one question are judged once (ReCoRD)."""

    compute: Compute

    def __call__(
        self, references: Sequence[Any], predictions: Sequence[Any], groups: Sequence[str]
    ) -> dict[str, float]:
        first = {group: index for index, group in reversed(list(enumerate(groups)))}
        rows = sorted(first.values())
        return self.compute([references[i] for i in rows], [predictions[i] for i in rows], [groups[i] for i in rows])
