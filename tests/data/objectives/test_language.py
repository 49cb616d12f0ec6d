"""Prefix LM, causal LM and deshuffling."""

from __future__ import annotations

import numpy as np

from data.objectives import ObjectiveSpec, Ragged, create
from data.random import generator

SIZE = 32_100
WORDS = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]


def segments(lengths: list[int]) -> Ragged:
    return Ragged.from_lengths(np.arange(3, 3 + sum(lengths)).astype(np.uint16), np.array(lengths))


def test_prefix_lm_splits_each_segment_in_two() -> None:
    given = segments([11, 2, 1, 0, 40])
    examples = create(ObjectiveSpec("prefix_lm"), 512, 512, SIZE)(generator(0), given)
    for row in range(len(given)):
        joined = [*examples.inputs[row][:-1], *examples.targets[row][:-1]]
        assert joined == given[row].tolist()
        if len(given[row]) > 1:
            assert 1 <= len(examples.inputs[row]) - 1 < len(given[row])
    assert examples.inputs[2].tolist() == [1]


def test_prefix_is_uniform() -> None:
    given = segments([9] * 8000)
    examples = create(ObjectiveSpec("prefix_lm"), 512, 512, SIZE)(generator(0), given)
    counts = np.bincount(examples.inputs.lengths - 1, minlength=9)
    assert counts[0] == 0
    chi_square = float(((counts[1:] - 1000) ** 2 / 1000).sum())
    # 7 degrees of freedom: 99.9 % point.
    assert chi_square < 24.32


def test_causal_lm_has_empty_inputs() -> None:
    given = segments([5, 3])
    examples = create(ObjectiveSpec("lm"), 512, 512, SIZE)(generator(0), given)
    assert [examples.inputs[row].tolist() for row in range(2)] == [[1], [1]]
    assert examples.targets[1].tolist() == [8, 9, 10, 1]


def test_deshuffling_permutes_inside_each_segment() -> None:
    given = segments([11, 1, 0, 50])
    examples = create(ObjectiveSpec("deshuffling"), 512, 512, SIZE)(generator(0), given)
    for row in range(len(given)):
        assert sorted(examples.inputs[row][:-1].tolist()) == given[row].tolist()
        assert examples.targets[row].tolist() == [*given[row].tolist(), 1]
    assert examples.inputs[3][:-1].tolist() != given[3].tolist()


def test_deshuffling_is_uniform() -> None:
    given = segments([3] * 6000)
    examples = create(ObjectiveSpec("deshuffling"), 512, 512, SIZE)(generator(0), given)
    order = examples.inputs.tokens.reshape(-1, 4)[:, :3] - given.tokens.reshape(-1, 3).min(axis=1, keepdims=True)
    _, counts = np.unique(order, axis=0, return_counts=True)
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    # 6 orders, 5 degrees of freedom: 99.9 % point.
    assert len(counts) == 6
    assert chi_square < 20.52
