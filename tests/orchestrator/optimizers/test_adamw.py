"""AdamW with RMS scaling against a naive float64 reference."""

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.optimizers.adamw import AdamW
from tests.orchestrator.optimizers.reference import NaiveAdamW, gradients, start


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_ten_steps_equal_the_naive_reference(dtype: torch.dtype, tolerance: float, weight_decay: float) -> None:
    expected, naive = start(), NaiveAdamW(weight_decay)
    weights = {name: nn.Parameter(torch.tensor(value, dtype=dtype)) for name, value in start().items()}
    optimizer = AdamW(weights.values(), weight_decay=weight_decay)
    for step in range(1, 11):
        optimizer.lr = 0.02 / step
        naive.step(expected, gradients(step), 0.02 / step)
        for name, value in gradients(step).items():
            weights[name].grad = torch.tensor(value, dtype=dtype)
        optimizer.step()
    for name, weight in weights.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(weight.detach().numpy(), expected[name], atol=tolerance * scale, rtol=0)


def test_the_first_step_is_the_relative_rate_whatever_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([3.0, -4.0]))
    optimizer = AdamW([weight], lr=0.01)
    weight.grad = torch.tensor([1e-2, -1e4])
    optimizer.step()
    rms = (12.5) ** 0.5
    assert weight.tolist() == pytest.approx([3 - 0.01 * rms, -4 + 0.01 * rms], rel=1e-4)
