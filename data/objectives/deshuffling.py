"""Deshuffling: the tokens of a segment in random order; the model puts them back (paper Table 4,
`all_permute`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.objectives.objective import Objective
from data.objectives.segments import Examples, Ragged, examples


@dataclass(frozen=True)
class Deshuffling(Objective):
    """Inputs are a uniform random permutation of the segment; targets are the segment."""

    joins: ClassVar[bool] = False

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        order = np.argsort(segments.row_of_token() + rng.random(len(segments.tokens)), kind="stable")
        shuffled = Ragged(segments.tokens[order], segments.offsets)
        return examples(shuffled, segments, self.inputs_length, self.targets_length)
