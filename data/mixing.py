"""Mixing rates as pure arithmetic: how often each task of a mixture is drawn (paper section 3.5.2).

A task of e examples counts x = min(e · scale, limit) ^ (1 / temperature); its rate is x over the sum of all x.
The limit comes before the root. Temperature 1 mixes in proportion to examples, a high one nearly equally; equal
mixing counts every task 1. What is drawn is an unpacked example, so tokens are not proportional to rates.
Nested mixtures are flattened by `data.tasks.Mixture`, which takes `Rule.weight` for what a task counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from data.errors import UserError
from data.naming import unknown

UNSUPERVISED = "unsupervised"
"""Name of the unsupervised objective's task in a mixture."""

STUDY_SIZES: dict[str, float] = {
    UNSUPERVISED: math.inf,
    "glue_cola": 8_551,
    "glue_sst2": 67_349,
    "glue_mrpc": 3_668,
    "glue_stsb": 5_749,
    "glue_qqp": 363_849,
    "glue_mnli": 392_702,
    "glue_qnli": 104_743,
    "glue_rte": 2_490,
    "superglue_boolq": 9_427,
    "superglue_cb": 250,
    "superglue_copa": 400,
    "superglue_multirc": 27_243,
    "superglue_record": 138_854,
    "superglue_rte": 2_490,
    "superglue_wic": 5_428,
    "superglue_wsc": 259,
    "superglue_dpr": 1_322,
    "cnn_dailymail": 287_113,
    "squad": 87_599,
    "wmt_ende": 4_592_289,
    "wmt_enfr": 40_853_137,
    "wmt_enro": 610_320,
}
"""Training examples of the study's 23 tasks after filters and expansion; the unsupervised task is as large as
any limit.
"""

TWINS = ("glue_rte", "superglue_rte")
"""One data set under two names: each copy counts half where a mixture holds both."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "C4": (UNSUPERVISED,),
    "GLUE": tuple(name for name in STUDY_SIZES if name.startswith("glue_")),
    "SGLUE": tuple(name for name in STUDY_SIZES if name.startswith("superglue_")),
    "CNNDM": ("cnn_dailymail",),
    "SQuAD": ("squad",),
    "EnDe": ("wmt_ende",),
    "EnFr": ("wmt_enfr",),
    "EnRo": ("wmt_enro",),
}
"""The columns of the paper's tables and the tasks under each."""


@dataclass(frozen=True)
class Rule:
    """How examples become weights: `limit` caps a task's examples, then comes the root of `temperature`;
    `equal` counts every task 1; `unsupervised` is the size of the unsupervised task, by default no less than
    any limit.
    """

    limit: float | None = None
    temperature: float = 1.0
    equal: bool = False
    unsupervised: float = math.inf

    def __post_init__(self) -> None:
        if self.limit is not None and not self.limit > 0:
            raise UserError(f"a mixing limit of {self.limit} examples leaves nothing; use one above 0")
        if not self.temperature > 0:
            raise UserError(f"mixing temperature {self.temperature} must be above 0")

    def weight(self, name: str, examples: float, scale: float = 1.0) -> float:
        """What task `name` of so many examples counts before the sum is made 1.

        Raises UserError where its size has no bound: a mixture by size with the unsupervised task needs a
        limit.
        """
        if self.equal:
            return 1.0
        if name == UNSUPERVISED and math.isfinite(self.unsupervised):
            return float(self.unsupervised ** (1 / self.temperature))
        size = examples * scale
        if self.limit is not None:
            size = min(size, self.limit)
        if not math.isfinite(size):
            raise UserError(f"task {name!r} has no bounded size; give the mixture a limit or the task a rate")
        return float(size ** (1 / self.temperature))


PRESETS: dict[str, Rule] = {
    "equal": Rule(equal=True),
    **{f"proportional_{k}": Rule(limit=2**k) for k in range(16, 22)},
    **{f"temperature_{t}": Rule(limit=2**21, temperature=t) for t in (2, 4, 8)},
    **{
        f"final_{model}": Rule(limit=1e6, unsupervised=size)
        for model, size in (("small", 710e3), ("base", 2.62e6), ("large", 8.66e6), ("3B", 33.5e6), ("11B", 133e6))
    },
}
"""Table 11's mixtures by name, and those of the final models (section 3.7), which size the unsupervised task by
model.
"""


def preset(name: str) -> Rule:
    """The rule of a preset; unknown names are answered with near ones."""
    if name not in PRESETS:
        raise unknown("mixing preset", name, PRESETS)
    return PRESETS[name]


def scales(names: Collection[str]) -> dict[str, float]:
    """The scale of each task: one half for each copy of a twin where both are there, else 1."""
    both = all(twin in names for twin in TWINS)
    return {name: 0.5 if both and name in TWINS else 1.0 for name in names}


def rates(sizes: Mapping[str, float], rule: Rule) -> dict[str, float]:
    """Rate by task, summing to 1, for the tasks' numbers of training examples."""
    scale = scales(sizes)
    return normalized({name: rule.weight(name, size, scale[name]) for name, size in sizes.items()})


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights divided by their sum. Raises UserError for a negative weight or a sum of zero."""
    negative = [name for name, weight in weights.items() if not weight >= 0]
    if negative:
        raise UserError(f"the rate of {negative[0]!r} is {weights[negative[0]]}; rates must not be negative")
    total = math.fsum(weights.values())
    if not total > 0:
        raise UserError("the rates of the mixture sum to zero; give at least one task a rate above zero")
    return {name: weight / total for name, weight in weights.items()}


def shares(rates: Mapping[str, float]) -> dict[str, float]:
    """The rates summed under the columns of the paper's tables (study tasks alone)."""
    return {column: math.fsum(rates.get(name, 0.0) for name in names) for column, names in COLUMNS.items()}
