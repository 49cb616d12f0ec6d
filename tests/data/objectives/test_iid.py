"""Objectives with independent masks: the study's own examples, golden ids, round trips and rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.objectives import Examples, Objective, ObjectiveSpec, Ragged, create
from data.objectives.iid import BertStyle, IidDropTokens, IidReplaceSpans, MassStyle
from data.random import generator
from tests.data.objectives import reference

SIZE = 32_100
WORDS = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
HIDDEN = [word in ("for", "inviting", "last") for word in WORDS]


def with_mask(kind: type, mask: list[bool], **more: float) -> Objective:
    """An objective of this kind whose mask is given instead of drawn."""

    @dataclass(frozen=True)
    class Fixed(kind):  # type: ignore[misc, valid-type]
        def draw(self, rng: np.random.Generator, segments: Ragged) -> np.ndarray:
            return np.array(mask)

    return Fixed(512, 512, 511, SIZE, 0.15, **more)


def one(objective: Objective, tokens: list[int]) -> tuple[list[int], list[int]]:
    examples = objective(generator(0), Ragged.from_rows([np.array(tokens, np.uint16)]))
    return examples.inputs[0].tolist(), examples.targets[0].tolist()


def spelled(ids: list[int]) -> str:
    """Words, with X, Y, Z for the sentinels as the paper prints them; the end mark is left out."""
    assert ids[-1] == 1
    names = {SIZE - 1: "X", SIZE - 2: "Y", SIZE - 3: "Z"}
    return " ".join(names.get(i) or WORDS[i - 10] for i in ids[:-1])


def test_table_3_replace_spans() -> None:
    inputs, targets = one(with_mask(IidReplaceSpans, HIDDEN), list(range(10, 21)))
    assert spelled(inputs) == "Thank you X me to your party Y week ."
    assert spelled(targets) == "X for inviting Y last Z"


def test_table_3_random_spans_mark_up_longer_runs_alike() -> None:
    hidden = [word in ("for", "inviting", "me", "your", "party", "last") for word in WORDS]
    inputs, targets = one(with_mask(IidReplaceSpans, hidden), list(range(10, 21)))
    assert spelled(inputs) == "Thank you X to Y week ."
    assert spelled(targets) == "X for inviting me Y your party last Z"


def test_table_3_drop_tokens() -> None:
    inputs, targets = one(with_mask(IidDropTokens, HIDDEN), list(range(10, 21)))
    assert spelled(inputs) == "Thank you me to your party week ."
    assert spelled(targets) == "for inviting last"


def test_table_3_mass_style() -> None:
    inputs, targets = one(with_mask(MassStyle, HIDDEN), list(range(10, 21)))
    assert spelled(inputs) == "Thank you X X me to your party X week ."
    assert spelled(targets) == " ".join(WORDS)


def test_table_3_bert_style() -> None:
    inputs, targets = one(with_mask(BertStyle, HIDDEN, random_share=0.0), list(range(10, 21)))
    assert spelled(inputs) == "Thank you X X me to your party X week ."
    assert spelled(targets) == " ".join(WORDS)
    random, _ = one(with_mask(BertStyle, HIDDEN, random_share=1.0), list(range(10, 21)))
    kept = [token for token, hidden in zip(random, HIDDEN, strict=False) if not hidden]
    assert kept == [token for token, hidden in zip(range(10, 21), HIDDEN, strict=True) if not hidden]
    assert all(token >= 3 for token in random[:-1])


def test_golden_ids() -> None:
    mask = [bool(int(bit)) for bit in "0011000100"]
    inputs, targets = one(with_mask(IidReplaceSpans, mask), list(range(10, 20)))
    assert inputs == [10, 11, 32099, 14, 15, 16, 32098, 18, 19, 1]
    assert targets == [32099, 12, 13, 32098, 17, 32097, 1]


def test_golden_ids_of_a_segment_that_starts_masked() -> None:
    mask = [bool(int(bit)) for bit in "1000000011"]
    inputs, targets = one(with_mask(IidReplaceSpans, mask), list(range(10, 20)))
    assert inputs == [32099, *range(11, 18), 32098, 1]
    assert targets == [10, 32099, 18, 19, 1]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=8),
    density=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_replace_spans_rebuilds_and_equals_a_plain_loop(lengths: list[int], density: float, seed: int) -> None:
    tokens = generator("text", seed).integers(3, 20_000, sum(lengths)).astype(np.uint16)
    segments = Ragged.from_lengths(tokens, np.array(lengths))
    objective = create(ObjectiveSpec("iid_replace", density), 200, 200, SIZE)
    assert isinstance(objective, IidReplaceSpans)
    examples = objective(generator(seed), segments)
    mask = objective.draw(generator(seed), segments)
    for row in range(len(lengths)):
        inputs, targets = examples.inputs[row].tolist(), examples.targets[row].tolist()
        hidden = mask[segments.offsets[row] : segments.offsets[row + 1]]
        assert inputs == [*reference.replace_runs(segments[row].tolist(), hidden, SIZE), 1]
        assert targets == [*reference.replace_runs(segments[row].tolist(), ~hidden, SIZE), 1]
        assert reference.rebuild(inputs, targets, 31_000) == segments[row].tolist()


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_drop_tokens_keeps_every_token_on_one_side(lengths: list[int], seed: int) -> None:
    tokens = np.arange(3, 3 + sum(lengths)).astype(np.uint16)
    segments = Ragged.from_lengths(tokens, np.array(lengths))
    examples = create(ObjectiveSpec("iid_drop", 0.3), 200, 200, SIZE)(generator(seed), segments)
    for row in range(len(lengths)):
        inputs, targets = examples.inputs[row][:-1].tolist(), examples.targets[row][:-1].tolist()
        assert inputs == sorted(inputs)
        assert targets == sorted(targets)
        assert sorted(inputs + targets) == segments[row].tolist()


def drawn(name: str, density: float, rows: int = 400) -> tuple[Objective, np.ndarray, Examples]:
    objective = create(ObjectiveSpec(name, density), 512, 512, SIZE)
    matrix = generator("rate").integers(3, 20_000, (rows, 511)).astype(np.uint16)
    return objective, matrix, objective(generator("noise", name), Ragged.from_matrix(matrix))


@pytest.mark.parametrize(
    ("density", "runs", "inputs", "targets"),
    [(0.10, 46.0, 506.9, 98.9), (0.15, 65.2, 500.5, 143.5), (0.25, 95.9, 480.1, 225.1), (0.50, 128.0, 384.5, 384.5)],
)
def test_expected_lengths_of_the_study(density: float, runs: float, inputs: float, targets: float) -> None:
    _, _, examples = drawn("iid_replace", density)
    found = np.array([np.count_nonzero(examples.inputs[row] > 31_000) for row in range(400)])
    # Standard deviations are at most 7, 7 and 20 tokens a row: 400 rows leave 0.35 and 1.
    assert found.mean() == pytest.approx(runs, abs=1.2)
    assert examples.inputs.lengths.mean() == pytest.approx(inputs, abs=3)
    assert examples.targets.lengths.mean() == pytest.approx(targets, abs=3)
    assert examples.truncated == 0


def test_bert_style_rates() -> None:
    _, matrix, examples = drawn("bert_style", 0.15)
    inputs = examples.inputs.tokens.reshape(400, 512)[:, :-1]
    symbol = (inputs == SIZE - 1).mean()
    changed = ((inputs != matrix) & (inputs != SIZE - 1)).mean()
    assert symbol == pytest.approx(0.15 * 0.9, abs=0.003)
    assert changed == pytest.approx(0.15 * 0.1, abs=0.001)
    assert np.array_equal(examples.targets.tokens.reshape(400, 512)[:, :-1], matrix)


def test_short_targets_are_cut_counted_and_ended() -> None:
    objective = create(ObjectiveSpec("iid_replace", 0.10), 512, 103, SIZE)
    matrix = generator("cut").integers(3, 20_000, (400, 511)).astype(np.uint16)
    examples = objective(generator("noise"), Ragged.from_matrix(matrix))
    full = create(ObjectiveSpec("iid_replace", 0.10), 512, 512, SIZE)(generator("noise"), Ragged.from_matrix(matrix))
    assert examples.truncated == np.count_nonzero(full.targets.lengths > 103) > 0
    assert examples.targets.lengths.max() == 103
    for row in range(400):
        assert examples.targets[row].tolist() == [*full.targets[row][:-1][:102].tolist(), 1]
