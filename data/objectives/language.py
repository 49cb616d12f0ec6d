"""Language modelling as text to text: predict the rest of a segment, or all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.objectives import noise
from data.objectives.objective import Objective
from data.objectives.segments import Examples, Ragged, examples, keep


@dataclass(frozen=True)
class PrefixLM(Objective):
    """The first n tokens are the inputs and the rest the targets, n uniform on 1 … length − 1.

    The paper's text is followed; the release-day code had the sides the other way round, which is not
    reproduced. A segment of one token has no prefix: the token is the target.
    """

    joins: ClassVar[bool] = False

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        mask = noise.prefix(rng, segments)
        return examples(
            keep(segments, segments.tokens, mask),
            keep(segments, segments.tokens, ~mask),
            self.inputs_length,
            self.targets_length,
        )


@dataclass(frozen=True)
class CausalLM(Objective):
    """Empty inputs (EOS alone); the whole segment is the target."""

    @property
    def dense(self) -> bool:
        return self.inputs_length == 1 and self.raw_length == self.targets_length - 1

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        empty = Ragged(np.zeros(0, np.uint16), np.zeros(len(segments) + 1, np.int64))
        return examples(empty, segments, self.inputs_length, self.targets_length)
