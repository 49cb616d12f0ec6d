"""Noise masks: which tokens an objective hides. Each is drawn for all rows of a block at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.objectives.lengths import noise_counts
from data.objectives.segments import Lengths, Mask, Ragged


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
    if parts == 1:
        return np.full((rows, 1), total, np.int64)
    cuts = np.argpartition(rng.random((rows, total - 1), np.float32), parts - 2, axis=1)[:, : parts - 1]
    cuts.sort(axis=1)
    borders = np.zeros((rows, parts + 1), np.int64)
    borders[:, 1:-1] = cuts + 1
    borders[:, -1] = total
    return np.diff(borders, axis=1)


def span_starts(
    rng: np.random.Generator, rows: int, length: int, density: float, mean_span: float
) -> NDArray[np.int64]:
    """(rows, 2 · spans) positions where the parts of each segment begin, unmasked and masked in turn, unmasked
    first.
    """
    noise, spans = noise_counts(length, density, mean_span)
    masked = composition(rng, rows, noise, spans)
    unmasked = composition(rng, rows, max(length, 2) - noise, spans)
    parts = np.stack([unmasked, masked], axis=2).reshape(rows, -1)
    starts = np.zeros_like(parts)
    np.cumsum(parts[:, :-1], axis=1, out=starts[:, 1:])
    return starts


def group_by_length(lengths: Lengths) -> list[tuple[int, NDArray[np.int64]]]:
    """(length, row numbers) for each length that occurs, shortest first."""
    return [(int(length), np.flatnonzero(lengths == length)) for length in np.unique(lengths)]
