"""Objectives that mask each token on its own: replaced runs, dropped tokens, BERT-style and MASS-style (paper
Table 4-7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.objectives import noise
from data.objectives.objective import Objective
from data.objectives.segments import Examples, Ids, Mask, Ragged, examples, keep

RANDOM_ID_FROM = 3
"""BERT-style random replacements are drawn from [3, size): no padding, end or unknown."""


@dataclass(frozen=True)
class _Independent(Objective):
    density: float

    def draw(self, rng: np.random.Generator, segments: Ragged) -> Mask:
        return noise.iid(rng, len(segments.tokens), self.density)

    def finish(self, inputs: Ragged, targets: Ragged) -> Examples:
        return examples(inputs, targets, self.inputs_length, self.targets_length)


@dataclass(frozen=True)
class IidReplaceSpans(_Independent):
    """The paper's baseline: each run of masked tokens becomes a sentinel; the targets hold the runs,
    sentinel-delimited.
    """

    def most_sentinels(self) -> int:
        return (self.raw_length + 1) // 2

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        mask = self.draw(rng, segments)
        return self.finish(replace_runs(segments, mask, self.size), replace_runs(segments, ~mask, self.size))


@dataclass(frozen=True)
class IidDropTokens(_Independent):
    """Masked tokens leave the inputs without a trace and stand joined in the targets."""

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        mask = self.draw(rng, segments)
        return self.finish(keep(segments, segments.tokens, ~mask), keep(segments, segments.tokens, mask))


@dataclass(frozen=True)
class BertStyle(_Independent):
    """Of the masked tokens 90 % become the mask symbol and 10 % a random id; the targets are the whole segment."""

    random_share: float = 0.1

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        mask = self.draw(rng, segments)
        tokens = segments.tokens.copy()
        random = rng.random(len(tokens), np.float32) < self.random_share
        ids = rng.integers(RANDOM_ID_FROM, self.size, len(tokens), np.uint16)
        tokens[mask] = np.where(random, ids, np.uint16(self.size - 1))[mask]
        return self.finish(Ragged(tokens, segments.offsets), segments)


@dataclass(frozen=True)
class MassStyle(_Independent):
    """Every masked token becomes the mask symbol, one each; the targets are the whole segment."""

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        tokens = segments.tokens.copy()
        tokens[self.draw(rng, segments)] = self.size - 1
        return self.finish(Ragged(tokens, segments.offsets), segments)


def replace_runs(segments: Ragged, mask: Mask, size: int) -> Ragged:
    """Each maximal run of masked tokens inside a segment becomes one sentinel, numbered from 0 in each segment."""
    first = np.zeros(len(mask), np.bool_)
    filled = segments.offsets[:-1][segments.lengths > 0]
    first[filled] = True
    opens = mask.copy()
    opens[1:] &= ~mask[:-1] | first[1:]
    runs = np.zeros(len(mask) + 1, np.int64)
    np.cumsum(opens, out=runs[1:])
    number = runs[1:] - np.repeat(runs[segments.offsets[:-1]], segments.lengths)
    values: Ids = np.where(opens, size - number, segments.tokens).astype(np.uint16)
    return keep(segments, values, ~mask | opens)
