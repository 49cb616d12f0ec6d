"""Rows and the packing of examples into them, against a plain first-fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.packing import Packer, Rows, dense_rows

Sizes = list[tuple[int, int]]


def first_fit(sizes: Sizes, rows: int, inputs: int, targets: int) -> list[list[int]]:
    """Examples of each row; ends at the first one that fits nowhere."""
    placed: list[list[int]] = [[] for _ in range(rows)]
    for number, (i, t) in enumerate(sizes):
        for row in placed:
            if sum(sizes[k][0] for k in row) + i <= inputs and sum(sizes[k][1] for k in row) + t <= targets:
                row.append(number)
                break
        else:
            break
    return placed


def example(number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.full(size[0], 10 + number, np.uint16)
    targets = np.full(size[1], 100 + number, np.uint16)
    inputs[-1] = targets[-1] = 1
    return inputs, targets


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 16), st.integers(1, 8)), min_size=1, max_size=30), rows=st.integers(1, 4)
)
def test_packs_by_first_fit(sizes: Sizes, rows: int) -> None:
    packer = Packer(rows, 16, 8, decoder_only=False, targets_only=False)
    taken = 0
    for number, size in enumerate(sizes):
        if not packer.add(*example(number, size)):
            break
        taken += 1
    packed = packer.rows({})
    expected = first_fit(sizes, rows, 16, 8)
    assert taken == sum(map(len, expected))
    assert packed.inputs is not None
    assert packed.input_segments is not None
    assert packed.target_segments is not None
    for row, numbers in enumerate(expected):
        for ids, segments, side, width in (
            (packed.inputs, packed.input_segments, 0, 16), (packed.targets, packed.target_segments, 1, 8)
        ):  # fmt: skip
            tokens = [int(token) for number in numbers for token in example(number, sizes[number])[side]]
            marks = [place + 1 for place, number in enumerate(numbers) for _ in range(sizes[number][side])]
            assert ids[row].tolist() == tokens + [0] * (width - len(tokens))
            assert segments[row].tolist() == marks + [0] * (width - len(marks))


def test_decoder_only_rows_join_both_sides() -> None:
    packer = Packer(1, 8, 8, decoder_only=True, targets_only=True)
    assert packer.add(*example(0, (3, 2)))
    assert packer.add(*example(1, (4, 3)))
    assert not packer.add(*example(2, (3, 2)))
    rows = packer.rows({})
    assert rows.inputs is None
    assert rows.prefix is not None
    assert rows.loss_mask is not None
    assert rows.targets[0].tolist() == [10, 10, 1, 100, 1, 11, 11, 11, 1, 101, 101, 1, 0, 0, 0, 0]
    assert rows.target_segments is not None
    assert rows.target_segments[0].tolist() == [1] * 5 + [2] * 7 + [0] * 4
    # Visible: as many positions as the inputs have tokens with EOS, and the one that predicts the first target.
    assert rows.prefix[0].tolist() == [True] * 4 + [False] + [True] * 5 + [False] * 6
    assert rows.loss_mask[0].tolist() == [False] * 3 + [True] * 2 + [False] * 4 + [True] * 3 + [False] * 4


def test_dense_decoder_only_rows_equal_packed_ones() -> None:
    pairs = [example(number, (5, 3)) for number in range(2)]
    packer = Packer(2, 5, 3, decoder_only=True, targets_only=True)
    for pair in pairs:
        packer.add(*pair)
    packed = packer.rows({})
    inputs, targets = (np.stack(side) for side in zip(*pairs, strict=True))
    dense = dense_rows(inputs, targets, decoder_only=True, targets_only=True, counts={})
    assert dense.target_segments is None
    for name in ("targets", "prefix", "loss_mask"):
        assert np.array_equal(getattr(dense, name), getattr(packed, name))


def test_causal_sequences_have_no_inputs_part() -> None:
    packer = Packer(1, 1, 6, decoder_only=True, targets_only=False)
    assert packer.add(np.array([1], np.uint16), np.array([5, 6, 1], np.uint16))
    rows = packer.rows({})
    assert rows.targets.tolist() == [[5, 6, 1, 0, 0, 0]]
    assert rows.prefix is not None
    assert not rows.prefix.any()
    assert rows.loss_mask is None


def test_without_packing_each_row_takes_one_example() -> None:
    packer = Packer(2, 16, 8, decoder_only=False, targets_only=False, pack=False)
    assert [packer.add(*example(number, (2, 2))) for number in range(3)] == [True, True, False]


def test_a_row_takes_no_more_examples_than_segment_ids() -> None:
    packer = Packer(1, 600, 600, decoder_only=False, targets_only=False)
    assert sum(packer.add(*example(0, (2, 2))) for _ in range(300)) == 255


def test_rows_are_taken_and_joined() -> None:
    ids = np.arange(12, dtype=np.uint16).reshape(4, 3)
    rows = Rows(ids, ids + 20, counts={"examples/a": 4})
    parts = [rows.take(slice(0, 2)), rows.take(range(2, 3)), rows.take(np.array([3]))]
    joined = Rows.concatenate([*parts, Rows(ids[:0], ids[:0], counts={"examples/a": 3, "b": 1})])
    assert joined.inputs is not None
    assert np.array_equal(joined.inputs, ids)
    assert np.array_equal(joined.targets, ids + 20)
    assert joined.counts == {"examples/a": 3, "b": 1}
    assert len(joined) == 4
    with pytest.raises(ValueError, match="cannot be joined"):
        Rows.concatenate([rows, Rows(ids, ids, ids.astype(np.uint8), ids.astype(np.uint8))])
