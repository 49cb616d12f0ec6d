"""Batches of near lengths: every example once, never more places than allowed."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evaluation.batches import by_length, padded


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 4096))
def test_every_index_is_in_one_batch_that_is_not_too_large(lengths: list[int], positions: int) -> None:
    batches = by_length(lengths, positions)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) * longest <= positions or len(batch) == 1
    edges = [(max(lengths[i] for i in batch), min(lengths[i] for i in batch)) for batch in batches]
    assert all(before[1] >= after[0] for before, after in pairwise(edges))


def test_batches_are_filled_as_far_as_they_go() -> None:
    assert by_length([3, 9, 4, 10, 2], 20) == [[3, 1], [2, 0, 4]]


def test_rows_are_padded_at_their_end() -> None:
    rows = [np.array([5, 1], np.uint16), np.array([40000, 6, 1], np.uint16)]
    assert padded(rows).tolist() == [[5, 1, 0], [40000, 6, 1]]
    assert padded(rows).dtype == np.int64
