"""Corruption of random spans with fixed noise: inputs and targets of fixed length, so rows without padding.

Paper section 3.3.4; masks as in the released `random_spans_noise_mask`: a segment starts unmasked and ends
masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.objectives.lengths import noise_counts
from data.objectives.noise import group_by_length, span_parts
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
        if self.dense and np.all(segments.lengths == self.raw_length):
            inputs, targets = self._corrupt(rng, segments.matrix(0, len(segments), self.raw_length))
            return Examples(Ragged.from_matrix(inputs), Ragged.from_matrix(targets))
        pairs: dict[int, tuple[Ids, Ids]] = {}
        for length, rows in group_by_length(segments.lengths):
            matrix = segments.tokens[segments.offsets[rows][:, None] + np.arange(length)]
            inputs, targets = self._corrupt(rng, matrix) if length > 1 else self._leave(matrix)
            pairs.update(zip(rows.tolist(), zip(inputs[:, :-1], targets[:, :-1], strict=True), strict=True))
        ordered = [pairs[row] for row in range(len(segments))]
        return examples(
            Ragged.from_rows([pair[0] for pair in ordered]),
            Ragged.from_rows([pair[1] for pair in ordered]),
            self.inputs_length,
            self.targets_length,
        )

    def _leave(self, matrix: Ids) -> tuple[Ids, Ids]:
        """Segments too short for a span stay whole; their one unmasked run is one sentinel of the targets."""
        ends = np.full((len(matrix), 1), EOS, np.uint16)
        sentinel = np.full(matrix.shape, self.size - 1, np.uint16)
        return np.concatenate([matrix, ends], axis=1), np.concatenate([sentinel, ends], axis=1)

    def _corrupt(self, rng: np.random.Generator, matrix: Ids) -> tuple[Ids, Ids]:
        """(rows, length) tokens to (rows, inputs) and (rows, targets), both ended by EOS.

        Both sides are gathered: the place of each output token in its row is a running sum that grows by one,
        and at the border of a part by the length of the part that the other side holds.
        """
        rows, length = matrix.shape
        unmasked, masked = span_parts(rng, rows, length, self.density, self.mean_span)
        spans = unmasked.shape[1]
        number = np.arange(spans)
        sentinels = (self.size - 1 - number).astype(np.uint16)
        noise = int(masked[0].sum()) if rows else 0

        steps = np.ones((rows, length - noise + spans), np.int64)
        places = np.cumsum(unmasked, axis=1) + number
        _put(steps, places[:, :-1] + 1, masked[:, :-1])
        steps[:, 0] = 0
        inputs = _gather(matrix, steps)
        _put(inputs, places, sentinels)

        steps = np.ones((rows, noise + spans), np.int64)
        places = np.cumsum(masked, axis=1) - masked + number
        _put(steps, places, unmasked)
        steps[:, 0] -= 1
        targets = _gather(matrix, steps)
        _put(targets, places, sentinels)
        return inputs, targets


def _put(into: NDArray[Any], columns: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Set `values` at `columns` (rows, k) of each row."""
    rows = np.arange(len(into))[:, None] * into.shape[1]
    into.reshape(-1)[rows + columns] = values


def _gather(matrix: Ids, steps: NDArray[np.int64]) -> Ids:
    """The tokens of each row at the running sums of `steps`, with EOS behind them."""
    rows, width = steps.shape
    places = np.cumsum(steps, axis=1, out=steps)
    places += np.arange(rows)[:, None] * matrix.shape[1]
    out = np.empty((rows, width + 1), np.uint16)
    out[:, :-1] = matrix.reshape(-1).take(places, mode="clip")
    out[:, -1] = EOS
    return out
