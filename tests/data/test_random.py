"""Keyed generators and permutations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.random import Permutation, digest, generator

# A change of these numbers changes the batches of every run that is under way.
GOLDEN = [324, 751, 295, 917, 646]


def test_generator_is_a_function_of_its_key_alone() -> None:
    assert generator(0, "c4", "train", 7).integers(1000, size=5).tolist() == GOLDEN


def test_keys_do_not_collide_by_joining() -> None:
    keys = [(1, 23), (12, 3), (123,), ("1", 23), ("12", "3"), (1, "23"), ("1:2", 3), ("1", "2:3"), ()]
    assert len({digest(*key) for key in keys}) == len(keys)


@given(size=st.integers(1, 700), seed=st.integers(0, 2**63))
def test_permutation_is_one_to_one(size: int, seed: int) -> None:
    permuted = Permutation(size, seed)(np.arange(size))
    assert np.array_equal(np.sort(permuted), np.arange(size))


def test_random_access_equals_the_array() -> None:
    permutation = Permutation(1000, 5, "epoch", 2)
    whole = permutation(np.arange(1000))
    assert [permutation(i) for i in (0, 1, 500, 999)] == whole[[0, 1, 500, 999]].tolist()
    assert not np.array_equal(whole, Permutation(1000, 5, "epoch", 3)(np.arange(1000)))


def test_huge_permutations_need_no_memory() -> None:
    permutation = Permutation(10**15, "huge")
    found = permutation(np.arange(10**15 - 1000, 10**15))
    assert len(np.unique(found)) == 1000
    assert found.max() < 10**15


def test_each_place_is_equally_likely() -> None:
    size, keys = 7, 2000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    chi_square = ((counts - keys / size) ** 2 / (keys / size)).sum()
    # 36 degrees of freedom: 99.9 % point.
    assert chi_square < 67.99


def test_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="10 is outside"):
        Permutation(10, 1)(10)
    with pytest.raises(ValueError, match="at least one"):
        Permutation(0, 1)
    with pytest.raises(ValueError, match="62 bits"):
        Permutation(1 << 70, 1)
