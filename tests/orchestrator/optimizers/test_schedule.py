"""Golden values of the learning-rate schedules."""

import math

import pytest

from orchestrator.optimizers.schedule import constant, cosine, inverse_square_root, triangular


@pytest.mark.parametrize(
    ("step", "rate"),
    [(1, 0.01), (10_000, 0.01), (2**19, 0.001381), (10**6, 0.001), (2**20, 0.000977), (2**21, 0.000691)],
)
def test_inverse_square_root(step: int, rate: float) -> None:
    assert inverse_square_root(step) == pytest.approx(rate, abs=6e-7)


def test_inverse_square_root_takes_another_warmup() -> None:
    assert inverse_square_root(1, warmup=100) == 0.1
    assert inverse_square_root(400, warmup=100) == 0.05


def test_constant_is_the_fine_tuning_rate() -> None:
    assert [constant(step) for step in (1, 7, 10**6)] == [1e-3] * 3


def test_triangular() -> None:
    rates = [triangular(step, peak=1.0, warmup=4, steps=12) for step in range(1, 14)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0])


def test_triangular_without_warmup_is_linear_decay() -> None:
    assert [triangular(step, peak=2.0, warmup=0, steps=4) for step in (1, 2, 4)] == pytest.approx([1.5, 1, 0])


def test_cosine() -> None:
    rates = [cosine(step, peak=1.0, warmup=2, steps=10, floor=0.1) for step in (1, 2, 6, 10, 11)]
    assert rates == pytest.approx([0.5, 1.0, 0.55, 0.1, 0.1])
    assert cosine(4, peak=1.0, warmup=2, steps=10) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
