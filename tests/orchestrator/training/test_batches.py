"""Batches: ids over 32,767 survive 16 bits, dropout keys belong to rows, micro-batches cut without loss."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.packing import Rows
from orchestrator.training.batches import counted_tokens, micro_batches, row_keys, to_batch, tokens_seen


def test_ids_come_back_whole() -> None:
    ids = np.array([[0, 1, 32_767, 32_768, 65_535]], np.uint16)
    batch = to_batch(Rows(ids, ids), torch.device("cpu"))
    assert batch.targets.tolist() == ids.tolist()
    assert batch.inputs is not None
    assert batch.inputs.dtype == torch.int64


@given(st.integers(0, 10), st.integers(1, 10**6), st.integers(1, 5))
def test_a_rows_dropout_key_does_not_depend_on_how_lanes_are_dealt(seed: int, step: int, each: int) -> None:
    whole = row_keys(seed, step, range(6), 6 * each)
    for world in (2, 3):
        for rank in range(world):
            lanes = list(range(rank, 6, world))
            mine = row_keys(seed, step, lanes, len(lanes) * each)
            expected = np.concatenate([whole[lane * each : (lane + 1) * each] for lane in lanes])
            assert mine.tolist() == expected.tolist()
    assert len(set(whole.tolist())) == len(whole)


@given(st.integers(0, 9), st.integers(1, 6))
def test_micro_batches_are_the_rows_in_order(rows: int, count: int) -> None:
    whole = Rows(None, np.arange(rows * 2, dtype=np.uint16).reshape(rows, 2))
    parts = list(micro_batches(whole, np.arange(rows, dtype=np.int64), count))
    assert len(parts) == count
    assert np.concatenate([part.targets for part, _ in parts]).tolist() == whole.targets.tolist()
    assert [int(key) for _, keys in parts if keys is not None for key in keys] == list(range(rows))


def test_tokens_are_counted_without_padding_and_by_the_mask() -> None:
    rows = Rows(np.array([[4, 5, 0]], np.uint16), np.array([[6, 1, 0, 0]], np.uint16))
    assert (counted_tokens(rows), tokens_seen(rows)) == (2, 4)
    masked = Rows(None, np.array([[6, 7, 1, 0]], np.uint16), loss_mask=np.array([[False, True, True, False]]))
    assert (counted_tokens(masked), tokens_seen(masked)) == (2, 3)
