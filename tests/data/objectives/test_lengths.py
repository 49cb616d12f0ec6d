"""The raw lengths of the study, from its table."""

from __future__ import annotations

import pytest

from data.errors import UserError
from data.objectives import ObjectiveSpec, create, default_targets_length
from data.objectives.lengths import noise_counts, span_lengths

GOLDEN = [
    # mean span, density, inputs, raw tokens, targets, masked, spans
    (2, 0.15, 512, 552, 126, 83, 42),
    (3, 0.15, 512, 568, 114, 85, 28),
    (5, 0.15, 512, 581, 105, 87, 17),
    (10, 0.15, 512, 591, 99, 89, 9),
    (3, 0.10, 512, 548, 74, 55, 18),
    (3, 0.25, 512, 614, 206, 154, 51),
    (3, 0.50, 512, 766, 512, 383, 128),
    (3, 0.15, 128, 141, 29, 21, 7),
    (3, 0.15, 256, 284, 58, 43, 14),
    (3, 0.15, 1024, 1137, 229, 171, 57),
]


@pytest.mark.parametrize(("mean_span", "density", "inputs", "raw", "targets", "masked", "spans"), GOLDEN)
def test_table_of_lengths(
    mean_span: int, density: float, inputs: int, raw: int, targets: int, masked: int, spans: int
) -> None:
    assert span_lengths(inputs, density, mean_span) == (raw, targets)
    assert noise_counts(raw, density, mean_span) == (masked, spans)


@pytest.mark.parametrize(("mean_span", "density", "inputs", "raw", "targets", "masked", "spans"), GOLDEN)
def test_rows_of_the_table_are_dense(
    mean_span: int, density: float, inputs: int, raw: int, targets: int, masked: int, spans: int
) -> None:
    spec = ObjectiveSpec("span_corruption", density, mean_span)
    assert default_targets_length(spec, inputs) == targets
    assert create(spec, inputs, targets, 32_100).dense


@pytest.mark.parametrize(
    ("name", "density", "targets"),
    [
        ("iid_replace", 0.10, 103),
        ("iid_replace", 0.15, 192),
        ("iid_replace", 0.25, 256),
        ("iid_replace", 0.50, 512),
        ("iid_drop", 0.15, 104),
        ("bert_style", 0.15, 512),
        ("mass_style", 0.15, 512),
        ("deshuffling", 0.15, 512),
        ("prefix_lm", 0.15, 512),
        ("lm", 0.15, 512),
    ],
)
def test_released_target_lengths_and_raw_length(name: str, density: float, targets: int) -> None:
    spec = ObjectiveSpec(name, density)
    assert default_targets_length(spec, 512) == targets
    assert create(spec, 512, targets, 32_100).raw_length == 511


def test_release_day_raw_length_is_a_switch() -> None:
    assert create(ObjectiveSpec("iid_replace", raw_length=512), 512, 192, 32_100).raw_length == 512


@pytest.mark.parametrize(
    ("spec", "targets", "message"),
    [
        (ObjectiveSpec("span_coruption"), 114, "did you mean span_corruption"),
        (ObjectiveSpec(density=0.0), 114, "density 0.0"),
        (ObjectiveSpec(density=1.0), 114, "density 1.0"),
        (ObjectiveSpec(density=0.9999, mean_span=1e6), 114, "density 0.9999"),
        (ObjectiveSpec(mean_span=0.5), 114, "mean_span 0.5"),
        (ObjectiveSpec(), 113, "set it to 114"),
        (ObjectiveSpec("lm", raw_length=0), 512, "segments of 0 tokens"),
    ],
)
def test_bad_objectives_are_refused(spec: ObjectiveSpec, targets: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create(spec, 512, targets, 32_100)


def test_small_vocabulary_is_refused_where_sentinels_would_run_out() -> None:
    with pytest.raises(UserError, match="too small"):
        create(ObjectiveSpec("iid_replace"), 512, 192, 200)
    with pytest.raises(UserError, match="too short"):
        span_lengths(2, 0.15, 3)
