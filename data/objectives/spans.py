"""Corruption of random spans with fixed noise: inputs and targets of fixed length, so rows without padding.

Paper section 3.3.4; masks as in the released `random_spans_noise_mask`: a segment starts unmasked and ends
masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.objectives.lengths import noise_counts
from data.objectives.noise import group_by_length, span_starts
from data.objectives.objective import Objective
from data.objectives.segments import Examples, Ids, Ragged, examples
from data.vocabulary import EOS


@dataclass(frozen=True)
class SpanCorruption(Objective):
    """Runs of masked tokens, `mean_span` tokens long on average, become one sentinel each."""

    density: float
    mean_span: float

    def most_sentinels(self) -> int:
        return noise_counts(self.raw_length, self.density, self.mean_span)[1]

    @property
    def dense(self) -> bool:
        noise, spans = noise_counts(self.raw_length, self.density, self.mean_span)
        inputs, targets = self.raw_length - noise + spans + 1, noise + spans + 1
        return self.raw_length > 1 and (inputs, targets) == (self.inputs_length, self.targets_length)

    def __call__(self, rng: np.random.Generator, segments: Ragged) -> Examples:
        groups = group_by_length(segments.lengths)
        if len(groups) == 1 and self.dense and groups[0][0] == self.raw_length:
            inputs, targets = self._corrupt(rng, segments.matrix(0, len(segments), self.raw_length))
            return Examples(Ragged.from_matrix(inputs), Ragged.from_matrix(targets))
        pairs: dict[int, tuple[Ids, Ids]] = {}
        for length, rows in groups:
            if length == 0:
                matrix = np.zeros((len(rows), 0), np.uint16)
            else:
                matrix = segments.tokens[segments.offsets[rows][:, None] + np.arange(length)]
            inputs, targets = self._corrupt(rng, matrix)
            pairs.update(zip(rows.tolist(), zip(inputs[:, :-1], targets[:, :-1], strict=True), strict=True))
        ordered = [pairs[row] for row in range(len(segments))]
        return examples(
            Ragged.from_rows([pair[0] for pair in ordered]),
            Ragged.from_rows([pair[1] for pair in ordered]),
            self.inputs_length,
            self.targets_length,
        )

    def _corrupt(self, rng: np.random.Generator, matrix: Ids) -> tuple[Ids, Ids]:
        """(rows, length) tokens to (rows, inputs) and (rows, targets), both ended by EOS."""
        rows, length = matrix.shape
        starts = span_starts(rng, rows, length, self.density, self.mean_span)
        begins = np.zeros((rows, max(length, 2)), np.bool_)
        np.put_along_axis(begins, starts, True, axis=1)
        begins = begins[:, :length]
        part = np.cumsum(begins, axis=1, dtype=np.uint16)
        masked = (part & 1) == 0
        # Part 1 is unmasked and part 2 the first span, so both sides' sentinel numbers are read off the part number.
        opens = begins & masked
        inputs = np.where(opens, self.size - (part >> 1), matrix)
        resumes = begins & ~masked
        targets = np.where(resumes, self.size - ((part + 1) >> 1), matrix)
        return _rows(inputs, ~masked | opens), _rows(targets, masked | resumes)


def _rows(values: Ids, kept: np.typing.NDArray[np.bool_]) -> Ids:
    """The kept values of each row, as many in each, with EOS behind them."""
    rows = len(values)
    width = int(np.count_nonzero(kept[0])) if rows else 0
    out = np.empty((rows, width + 1), np.uint16)
    out[:, :-1] = values[kept].reshape(rows, width)
    out[:, -1] = EOS
    return out
