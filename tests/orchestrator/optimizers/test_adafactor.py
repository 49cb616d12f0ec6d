"""Adafactor against its check values, a naive float64 reference and itself on other layouts."""

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.optimizers.adafactor import Adafactor
from tests.orchestrator.optimizers.reference import NaiveAdafactor, gradients, start


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.tensor(value, dtype=dtype)) for name, value in start().items()}


def set_gradients(weights: dict[str, nn.Parameter], step: int) -> None:
    for name, value in gradients(step).items():
        weights[name].grad = torch.tensor(value, dtype=weights[name].dtype)


def one_step(value: list[float], gradient: list[float]) -> list[float]:
    weight = nn.Parameter(torch.tensor(value, dtype=torch.float32))
    optimizer = Adafactor([weight], lr=0.01)
    weight.grad = torch.tensor(gradient)
    optimizer.step()
    return weight.tolist()


def test_check_values() -> None:
    assert one_step([1, 1], [0.1, 0.1]) == pytest.approx([0.99, 0.99])
    assert one_step([0, 0, 0], [0.1, -3, 2]) == pytest.approx([-1e-5, 1e-5, -1e-5])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_twenty_steps_equal_the_naive_reference(dtype: torch.dtype, tolerance: float) -> None:
    expected, naive = start(), NaiveAdafactor()
    weights = parameters(dtype)
    optimizer = Adafactor(weights.values())
    for step in range(1, 21):
        optimizer.lr = 0.01 / step
        naive.step(expected, gradients(step), 0.01 / step)
        set_gradients(weights, step)
        optimizer.step()
    for name, weight in weights.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(weight.detach().numpy(), expected[name], atol=tolerance * scale, rtol=0)
    row, column = optimizer.state[weights["table"]]["row"], optimizer.state[weights["table"]]["column"]
    # The largest axis of "table" is its first: the mean over it has one entry a column.
    np.testing.assert_allclose(row.numpy(), naive.slots["table"]["C"], rtol=10 * tolerance)
    np.testing.assert_allclose(column.numpy(), naive.slots["table"]["R"], rtol=10 * tolerance)


@pytest.mark.parametrize(
    ("shape", "slots"),
    [
        ((32128, 128), {"row": (128,), "column": (32128,)}),
        ((127, 4096), {"moment": (127, 4096)}),
        ((32, 12), {"moment": (32, 12)}),
        ((768,), {"moment": (768,)}),
        ((3, 128, 256), {"row": (3, 128), "column": (3, 256)}),
    ],
)
def test_factoring_threshold(shape: tuple[int, ...], slots: dict[str, tuple[int, ...]]) -> None:
    weight = nn.Parameter(torch.empty(shape))
    state = Adafactor([weight]).state[weight]
    assert {name: tuple(slot.shape) for name, slot in state.items() if name != "step"} == slots


def test_three_axes_equal_a_loop_over_the_first() -> None:
    # Only the clip and the scale, which are of the whole tensor, would tell them apart: keep both inactive.
    torch.manual_seed(0)
    value, gradient = torch.zeros(2, 130, 140), torch.randn(2, 130, 140) * 0.1
    whole, parts = nn.Parameter(value.clone()), [nn.Parameter(v.clone()) for v in value]
    many, single = Adafactor([whole]), Adafactor(parts)
    for optimizer in (many, single):
        for slots in optimizer.state.values():
            slots["step"].fill_(10**6)
            slots["row"].fill_(1.0)
            slots["column"].fill_(1.0)
    whole.grad = gradient.clone()
    for part, g in zip(parts, gradient, strict=True):
        part.grad = g.clone()
    many.step()
    single.step()
    torch.testing.assert_close(whole.detach(), torch.stack([p.detach() for p in parts]), rtol=1e-6, atol=0)


def test_the_step_count_decides_how_fast_the_moments_forget() -> None:
    weight = nn.Parameter(torch.ones(4))
    optimizer = Adafactor([weight])
    optimizer.state[weight]["step"].fill_(1_000_000 - 1)
    optimizer.state[weight]["moment"].fill_(1.0)
    weight.grad = torch.zeros(4)
    optimizer.step()
    assert optimizer.state[weight]["moment"].numpy() == pytest.approx(1 - 1e6**-0.8, rel=1e-6)
    assert int(optimizer.state[weight]["step"]) == 1_000_000
    optimizer.state[weight]["step"].zero_()
    weight.grad = torch.full((4,), 2.0)
    optimizer.step()
    assert optimizer.state[weight]["moment"].tolist() == [4.0] * 4


def test_frozen_parameters_have_no_state_until_they_thaw() -> None:
    trained, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3), requires_grad=False)
    optimizer = Adafactor([trained, frozen])
    assert frozen not in optimizer.state
    for step in range(3):
        trained.grad = torch.full((3,), 1.0 + step)
        optimizer.step()
    frozen.requires_grad_()
    optimizer.allocate()
    trained.grad, frozen.grad = torch.ones(3), torch.full((3,), 5.0)
    optimizer.step()
    assert optimizer.state[frozen]["moment"].tolist() == [25.0] * 3
    assert (int(optimizer.state[trained]["step"]), int(optimizer.state[frozen]["step"])) == (4, 1)


def test_state_survives_the_state_dict() -> None:
    def run(reload: bool) -> dict[str, torch.Tensor]:
        weights = parameters()
        optimizer = Adafactor(weights.values())
        for step in range(1, 5):
            if reload and step == 3:
                saved = optimizer.state_dict()
                optimizer = Adafactor(weights.values())
                optimizer.load_state_dict(saved)
            set_gradients(weights, step)
            optimizer.step()
        return {name: weight.detach() for name, weight in weights.items()}

    for name, value in run(reload=True).items():
        assert torch.equal(value, run(reload=False)[name])
