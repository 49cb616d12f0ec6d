"""The update in backward equals the ordinary path bit for bit, and holds one block's gradients at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from data.errors import UserError
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.adamw import AdamW
from orchestrator.optimizers.base import ShardedOptimizer
from orchestrator.optimizers.in_backward import UpdateInBackward
from orchestrator.parallel.layout import Layout, build_mesh, data_parallel
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model, state_tensors
from orchestrator.parallel.shards import local
from tests.orchestrator.parallel.cases import CASES, batch, rows_of
from tests.ranks import run_ranks

Make = Callable[..., ShardedOptimizer]


def train(name: str, layout: Layout, make: Make, in_backward: bool) -> tuple[dict[str, np.ndarray], int]:
    """Local parts of the state after three steps, and the gradients alive after the last backward."""
    case, mesh = CASES[name], build_mesh(layout, "cpu")
    model = build_model(case.config, layout, mesh, seed=1, device="cpu")
    optimizer = make(model.parameters())
    if in_backward:
        UpdateInBackward(model, optimizer)
    alive = 0
    for step in range(1, 4):
        optimizer.lr = 0.01 / step
        loss = loss_sums(model, rows_of(batch(case, step), *data_parallel(mesh))).loss / 100
        loss.backward()
        alive = sum(p.grad is not None for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    return {n: local(t).clone().numpy() for n, t in state_tensors(model, optimizer).items()}, alive


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.parametrize("make", [Adafactor, AdamW])
@pytest.mark.parametrize("recompute", ["none", "block"])
@pytest.mark.parametrize("name", ["encoder_decoder-dense", "prefix_lm-packed", "v1.1-dense"])
def test_equals_the_ordinary_path(name: str, recompute: str, make: Make) -> None:
    layout = Layout(recompute=recompute)  # type: ignore[arg-type]
    ordinary, all_gradients = train(name, layout, make, in_backward=False)
    early, left = train(name, layout, make, in_backward=True)
    assert_equal(early, ordinary)
    outside = [key for key in ordinary if key.startswith("param/") and ".blocks." not in key]
    assert left == len(outside) < all_gradients


def on_rank(rank: int, tensor: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
    layout = Layout(tensor=tensor, recompute="block")
    early, left = train("v1.1-dense", layout, Adafactor, in_backward=True)
    ordinary, _ = train("v1.1-dense", layout, Adafactor, in_backward=False)
    return early, ordinary, left


@pytest.mark.parametrize("tensor", [1, 2])
def test_equals_the_ordinary_path_when_sharded(tensor: int) -> None:
    for early, ordinary, left in run_ranks(2, on_rank, tensor):
        assert_equal(early, ordinary)
        assert left == len([key for key in ordinary if key.startswith("param/") and ".blocks." not in key])


def test_removed_hooks_leave_the_gradients_alone() -> None:
    model = build_model(CASES["language_model-dense"].config, Layout(), None, seed=1, device="cpu")
    UpdateInBackward(model, Adafactor(model.parameters())).remove()
    loss_sums(model, batch(CASES["language_model-dense"], 1)).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("v1.1-dense", {"accumulation": 2}, "accumulation is 2"),
        ("v1.1-dense", {"clip_norm": 1.0}, "global norm 1.0"),
        ("shared-dense", {}, "shared architecture"),
    ],
)
def test_refuses_what_would_not_be_exact(name: str, settings: dict[str, float], message: str) -> None:
    with torch.device("meta"):
        model = build_model(CASES[name].config, Layout(), None, seed=1, device="meta")
    with pytest.raises(UserError, match=message):
        UpdateInBackward(model, Adafactor(model.parameters()), **settings)  # type: ignore[arg-type]
