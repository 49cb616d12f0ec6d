"""Noise masks: which tokens an objective hides. Each is drawn for all rows of a block at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.objectives.lengths import noise_counts
from data.objectives.segments import Lengths, Mask, Ragged

SPARSE = 8
"""Subsets below one in so many are drawn by numbers instead of by a random order of all."""
SPARE = 12
MOST_DRAWS = 256


def iid(rng: np.random.Generator, tokens: int, density: float) -> Mask:
    """Each of `tokens` tokens independently with probability `density`."""
    return rng.random(tokens, np.float32) < density


def prefix(rng: np.random.Generator, segments: Ragged) -> Mask:
    """The first n tokens of each segment, n uniform on 1 … length − 1; none of a segment of one token."""
    lengths = segments.lengths
    sizes = np.where(lengths > 1, rng.integers(1, np.maximum(lengths, 2)), 0)
    position = np.arange(len(segments.tokens)) - np.repeat(segments.offsets[:-1], lengths)
    return position < np.repeat(sizes, lengths)


def composition(rng: np.random.Generator, rows: int, total: int, parts: int) -> NDArray[np.int64]:
    """(rows, parts) positive whole numbers with sum `total`, uniform over all such compositions."""
    borders = np.zeros((rows, parts + 1), np.int64)
    borders[:, -1] = total
    if parts > 1:
        draw = _sparse_subsets if SPARSE * parts < total and parts + SPARE <= MOST_DRAWS else _subsets
        borders[:, 1:-1] = draw(rng, rows, total - 1, parts - 1) + 1
    return borders[:, 1:] - borders[:, :-1]


def _subsets(rng: np.random.Generator, rows: int, size: int, count: int) -> NDArray[np.int64]:
    """(rows, count) different numbers below `size` in order, uniform over all subsets."""
    chosen = np.argpartition(rng.random((rows, size), np.float32), count - 1, axis=1)[:, :count]
    chosen.sort(axis=1)
    return chosen


def _sparse_subsets(
    rng: np.random.Generator, rows: int, size: int, count: int, spare: int = SPARE
) -> NDArray[np.int64]:
    """The same by some numbers more than `count`, of which the first different ones count; three times as fast."""
    draws = count + spare
    keys = rng.integers(size, size=(rows, draws)) * MOST_DRAWS + np.arange(draws)
    keys.sort(axis=1)
    values, order = keys // MOST_DRAWS, keys % MOST_DRAWS
    order[:, 1:][values[:, 1:] == values[:, :-1]] = MOST_DRAWS
    last = np.partition(order, count - 1, axis=1)[:, count - 1 : count]
    short = last[:, 0] == MOST_DRAWS
    if not short.any():
        return values[order <= last].reshape(rows, count)
    out = np.empty((rows, count), np.int64)
    out[~short] = values[~short][(order <= last)[~short]].reshape(-1, count)
    out[short] = _subsets(rng, int(short.sum()), size, count)
    return out


def span_parts(
    rng: np.random.Generator, rows: int, length: int, density: float, mean_span: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, spans) lengths of the unmasked and of the masked parts of each segment; they take turns, unmasked
    first.
    """
    noise, spans = noise_counts(length, density, mean_span)
    masked = composition(rng, rows, noise, spans)
    return composition(rng, rows, length - noise, spans), masked


def group_by_length(lengths: Lengths) -> list[tuple[int, NDArray[np.int64]]]:
    """(length, row numbers) for each length that occurs, shortest first."""
    return [(int(length), np.flatnonzero(lengths == length)) for length in np.unique(lengths)]
