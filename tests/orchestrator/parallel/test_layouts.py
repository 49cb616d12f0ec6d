"""Every layout computes what one process computes: loss, gradients, optimizer state and ten steps."""

import functools

import numpy as np
import pytest

from orchestrator.parallel.layout import Layout
from tests.orchestrator.parallel.cases import CASES, Outcome, Part, assemble, run
from tests.ranks import run_ranks

STEPS = 10
DEGREES = {1: [1], 2: [1, 2], 4: [1, 2, 4]}
LAYOUTS = [(world, tensor) for world, degrees in DEGREES.items() for tensor in degrees]


def run_all(rank: int, world: int) -> dict[tuple[str, int], Outcome]:
    """Every case at every tensor-parallel degree of this world size."""
    return {
        (name, tensor): run(case, Layout(tensor=tensor), STEPS)
        for name, case in CASES.items()
        for tensor in DEGREES[world]
    }


@functools.cache
def outcomes(world: int) -> list[dict[tuple[str, int], Outcome]]:
    """By rank; one start of the ranks serves all tests."""
    return run_ranks(world, run_all, world)


@functools.cache
def expected(name: str) -> Outcome:
    """The case in this process, without a process group."""
    return run(CASES[name], Layout(), STEPS)


def gathered(name: str, world: int, tensor: int, what: str) -> dict[str, np.ndarray]:
    ranks: list[dict[str, Part]] = [getattr(rank[name, tensor], what) for rank in outcomes(world)]
    return {key: assemble([parts[key] for parts in ranks]) for key in ranks[0]}


def assert_near(actual: dict[str, np.ndarray], wanted: dict[str, Part], tolerance: float) -> None:
    assert actual.keys() == wanted.keys()
    for key, value in actual.items():
        scale = max(np.abs(wanted[key].values).max(), 1e-6)
        np.testing.assert_allclose(value, wanted[key].values, rtol=0, atol=tolerance * scale, err_msg=key)


@pytest.mark.parametrize(("world", "tensor"), LAYOUTS, ids=lambda v: str(v))
@pytest.mark.parametrize("name", CASES)
class TestLayout:
    """`world` ranks of which `tensor` split each matrix."""

    def test_starts_from_the_same_numbers(self, name: str, world: int, tensor: int) -> None:
        assert_near(gathered(name, world, tensor, "start"), expected(name).start, 0)

    def test_gradients(self, name: str, world: int, tensor: int) -> None:
        assert_near(gathered(name, world, tensor, "gradients"), expected(name).gradients, 1e-5)

    def test_state_after_one_step(self, name: str, world: int, tensor: int) -> None:
        assert_near(gathered(name, world, tensor, "first"), expected(name).first, 1e-4)

    def test_ten_steps(self, name: str, world: int, tensor: int) -> None:
        losses = outcomes(world)[0][name, tensor].losses
        assert losses == pytest.approx(expected(name).losses, rel=1e-4)
        assert_near(gathered(name, world, tensor, "last"), expected(name).last, 2e-3)
