"""What an objective is: a pure map from segments of tokens and a keyed generator to inputs and targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.errors import UserError
from data.objectives.segments import Examples, Ragged


@dataclass(frozen=True)
class Objective(ABC):
    """Base of all objectives. Lengths are maxima with EOS counted in; `raw_length` is in tokens before
    corruption.

    `size` is the vocabulary's unpadded number of ids: sentinel k is size − 1 − k. More than 100 sentinels run
    down into ordinary pieces, as in the original.
    """

    inputs_length: int
    targets_length: int
    raw_length: int
    size: int

    joins: ClassVar[bool] = True
    """Whether documents are joined to one stream before they are cut into segments."""

    def __post_init__(self) -> None:
        if self.raw_length < 1:
            raise UserError(f"segments of {self.raw_length} tokens hold nothing; use a raw length of at least 1")
        if self.size - 1 - self.most_sentinels() < 3:
            raise UserError(
                f"a vocabulary of {self.size} ids is too small for the {self.most_sentinels()} sentinels that a "
                f"segment of {self.raw_length} tokens may need; shorten the segments or enlarge the vocabulary"
            )

    @property
    def dense(self) -> bool:
        """Whether every segment of the raw length gives inputs and targets of exactly the maximum lengths."""
        return False

    def most_sentinels(self) -> int:
        """The largest number of sentinels that one side of one example may hold."""
        return 1

    @abstractmethod
    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        """Corrupt every segment; each feature of the result ends in EOS and is cut to its maximum length."""
