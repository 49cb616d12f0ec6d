"""Random-span corruption: golden rows, round trip, exact counts, uniform masks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.objectives import ObjectiveSpec, Ragged, create
from data.objectives.lengths import noise_counts, span_lengths
from data.objectives.noise import _sparse_subsets, composition, span_parts
from data.random import generator
from tests.data.objectives import reference

SIZE = 32_100


def masks(parts: tuple[np.ndarray, np.ndarray], length: int) -> np.ndarray:
    """(rows, length) bool from the lengths of unmasked and masked parts in turn."""
    out = np.zeros((len(parts[0]), length), bool)
    for row, (unmasked, masked) in enumerate(zip(*parts, strict=True)):
        place = 0
        for keep, hide in zip(unmasked.tolist(), masked.tolist(), strict=True):
            out[row, place + keep : place + keep + hide] = True
            place += keep + hide
        assert place == length
    return out


@pytest.mark.parametrize(("density", "mean_span"), [(0.15, 3), (0.15, 2), (0.15, 10), (0.5, 3), (0.1, 1)])
def test_equals_a_plain_loop(density: float, mean_span: float) -> None:
    raw, targets = span_lengths(512, density, mean_span)
    objective = create(ObjectiveSpec("span_corruption", density, mean_span), 512, targets, SIZE)
    rows = generator("tokens").integers(3, 20_000, (6, raw)).astype(np.uint16)
    examples = objective(generator("noise"), Ragged.from_matrix(rows))
    drawn = masks(span_parts(generator("noise"), 6, raw, density, mean_span), raw)
    for row in range(6):
        assert examples.inputs[row].tolist() == [*reference.replace_runs(rows[row], drawn[row], SIZE), 1]
        assert examples.targets[row].tolist() == [*reference.replace_runs(rows[row], ~drawn[row], SIZE), 1]
    assert examples.truncated == 0


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    density=st.floats(0.05, 0.6),
    mean_span=st.floats(1, 8),
    seed=st.integers(0, 1000),
)
def test_inputs_and_targets_rebuild_rows_of_any_length(
    lengths: list[int], density: float, mean_span: float, seed: int
) -> None:
    tokens = generator("text", seed).integers(3, 20_000, sum(lengths)).astype(np.uint16)
    segments = Ragged.from_lengths(tokens, np.array(lengths))
    objective = create(ObjectiveSpec("span_corruption", density, mean_span), 200, 500, SIZE)
    examples = objective(generator(seed), segments)
    for row in range(len(lengths)):
        inputs, targets = examples.inputs[row].tolist(), examples.targets[row].tolist()
        assert inputs[-1] == targets[-1] == 1
        assert reference.rebuild(inputs, targets, 31_000) == segments[row].tolist()


def test_segment_starts_unmasked_and_ends_masked_without_closing_sentinel() -> None:
    objective = create(ObjectiveSpec(), 512, 114, SIZE)
    rows = generator("x").integers(3, 20_000, (40, 568)).astype(np.uint16)
    examples = objective(generator("y"), Ragged.from_matrix(rows))
    for row in range(40):
        inputs, targets = examples.inputs[row], examples.targets[row]
        assert (len(inputs), len(targets)) == (512, 114)
        assert inputs[0] == rows[row, 0]
        assert inputs[-2] == SIZE - 28
        assert targets[0] == SIZE - 1
        assert targets[-2] == rows[row, -1]
        assert inputs[inputs >= 32_000].tolist() == targets[targets >= 32_000].tolist()
        assert inputs[inputs >= 32_000].tolist() == list(range(SIZE - 1, SIZE - 29, -1))


def test_masks_are_uniform_over_all_compositions() -> None:
    length, density, mean_span, rows = 10, 0.4, 2, 20_000
    assert noise_counts(length, density, mean_span) == (4, 2)
    drawn = masks(span_parts(generator("uniform"), rows, length, density, mean_span), length)
    # 4 masked tokens in 2 parts (3 ways) and 6 unmasked ones in 2 parts (5 ways): 15 masks.
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(found) == len(list(combinations(range(3), 1))) * len(list(combinations(range(5), 1)))
    chi_square = float(((counts - rows / 15) ** 2 / (rows / 15)).sum())
    # 14 degrees of freedom: 99.9 % point.
    assert chi_square < 36.12


@pytest.mark.parametrize("spare", [0, 1, 6])
def test_sparse_subsets_are_uniform_however_few_numbers_are_spare(spare: int) -> None:
    rows = 30_000
    drawn = _sparse_subsets(generator("sparse", spare), rows, 8, 3, spare)
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert [tuple(row) for row in found.tolist()] == list(combinations(range(8), 3))
    chi_square = float(((counts - rows / 56) ** 2 / (rows / 56)).sum())
    # 55 degrees of freedom: 99.9 % point.
    assert chi_square < 93.17


@pytest.mark.parametrize(("total", "parts"), [(483, 28), (85, 28), (300, 1), (3000, 250), (5, 5), (100, 12)])
def test_compositions_are_positive_and_sum_up(total: int, parts: int) -> None:
    drawn = composition(generator("parts"), 50, total, parts)
    assert drawn.shape == (50, parts)
    assert drawn.min() >= 1
    assert (drawn.sum(axis=1) == total).all()


def test_more_than_a_hundred_sentinels_run_into_pieces_as_in_the_original() -> None:
    raw, targets = span_lengths(512, 0.5, 1.5)
    objective = create(ObjectiveSpec("span_corruption", 0.5, 1.5), 512, targets, SIZE)
    rows = np.full((1, raw), 7, np.uint16)
    inputs = objective(generator(0), Ragged.from_matrix(rows)).inputs[0]
    sentinels = inputs[(inputs != 7) & (inputs != 1)]
    assert len(sentinels) > 100
    assert sentinels.tolist() == list(range(SIZE - 1, SIZE - 1 - len(sentinels), -1))
