"""From a rank's rows (numpy) to the model's batch (torch), with a dropout key for every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from data.packing import Rows
from model.transformer import Batch


def row_keys(seed: int, step: int, lanes: Sequence[int], rows: int) -> NDArray[np.int64]:
    """One dropout key a row, (rows,) int64: it depends on the row's place in the global batch and the step alone.

    `rows` is a multiple of the number of lanes; a lane's rows stand together.
    """
    each = rows // len(lanes)
    keys = np.add.outer(np.array(lanes) * each, np.arange(each)).reshape(-1).astype(np.uint64)
    keys += np.uint64((step * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) % 2**64)
    keys ^= keys >> np.uint64(31)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    signed: NDArray[np.int64] = (keys >> np.uint64(1)).astype(np.int64)
    return signed


def to_batch(rows: Rows, device: torch.device, keys: NDArray[np.int64] | None = None) -> Batch:
    """The rows on `device`; ids travel as 16 bits from pinned memory and become int64 there."""

    def move(array: NDArray[np.generic] | None) -> torch.Tensor | None:
        if array is None:
            return None
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    def ids(array: NDArray[np.uint16] | None) -> torch.Tensor | None:
        # Signed 16 bits: torch has few operations on unsigned ones; the mask brings ids above 32,767 back.
        moved = move(None if array is None else array.view(np.int16))
        return None if moved is None else moved.long() & 0xFFFF

    targets = ids(rows.targets)
    assert targets is not None
    return Batch(
        ids(rows.inputs),
        targets,
        move(rows.input_segments),
        move(rows.target_segments),
        move(rows.prefix),
        move(rows.loss_mask),
        move(keys),
    )


def micro_batches(
    rows: Rows, keys: NDArray[np.int64] | None, count: int
) -> Iterator[tuple[Rows, NDArray[np.int64] | None]]:
    """Cut into `count` parts of nearly equal size; every rank makes the same number, also of few rows."""
    edges = [len(rows) * part // count for part in range(count + 1)]
    for first, last in pairwise(edges):
        part = slice(first, last)
        yield rows.take(part), None if keys is None else keys[part]


def counted_tokens(rows: Rows) -> int:
    """Target tokens that count in the loss."""
    counted = rows.targets != 0 if rows.loss_mask is None else rows.loss_mask
    return int(counted.sum())


def tokens_seen(rows: Rows) -> int:
    """Input and target tokens without padding."""
    sides = [side for side in (rows.inputs, rows.targets) if side is not None]
    return sum(int((side != 0).sum()) for side in sides)
