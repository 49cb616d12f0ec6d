"""Batches of examples of near lengths: what is decoded together wastes little on padding. No torch in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def by_length(lengths: Sequence[int], positions: int) -> list[list[int]]:
    """Cut the indices of `lengths` (tokens) into batches of at most `positions` places, rows times the longest.

    Each index is in one batch; an example longer than `positions` makes a batch of its own. The longest come first,
    so that a batch too large for memory shows at once. The same lengths give the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= positions:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def padded(rows: Sequence[NDArray[np.uint16]]) -> NDArray[np.int64]:
    """The rows as one array (rows, longest) int64, 0 at the end of shorter ones."""
    filled = np.zeros((len(rows), max(len(row) for row in rows)), np.int64)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled
