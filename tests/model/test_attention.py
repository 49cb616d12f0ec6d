"""Attention on the CPU under a trained bias, against float64 written out."""

import pytest
import torch
from torch import Tensor

from model.attention import attend
from model.cpu_attention import TrainedBiasAttention


def draw(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def written_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    logits = torch.einsum("bhtk,bhsk->bhts", q, k) + bias
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsk->bhtk", weights, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [7, 300])
@pytest.mark.parametrize("bias_rows", [1, 3])
def test_outputs_and_gradients_equal_float64(dtype: torch.dtype, length: int, bias_rows: int) -> None:
    shapes = [(3, 2, length, 8), (3, 2, length + 2, 8), (3, 2, length + 2, 8), (bias_rows, 2, length, length + 2)]
    inputs = [draw(*shape, seed=i, dtype=dtype).requires_grad_() for i, shape in enumerate(shapes)]
    grad = draw(3, 2, length, 8, seed=9, dtype=dtype)
    out = attend(*inputs)
    assert TrainedBiasAttention.__name__ in type(out.grad_fn).__name__
    out.backward(grad)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = written_out(*exact)
    expected.backward(grad.double())
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(inputs, exact, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=tolerance * 10, atol=tolerance * 10)


def test_a_query_that_sees_nothing_gets_numbers() -> None:
    q, k, v = (draw(1, 1, 3, 4, seed=i, dtype=torch.float32) for i in range(3))
    bias = torch.full((1, 1, 3, 3), -1e9).requires_grad_()
    out = attend(q, k, v, bias)
    out.sum().backward()
    assert out.isfinite().all()
    assert bias.grad.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", [114, 192, 512])
def test_a_gpu_gives_the_bias_its_gradient(length: int) -> None:
    """192 is 64 modulo 128, where cuDNN's backward has failed; large logits are ordinary in T5."""
    shapes = [(2, 4, length, 64)] * 3 + [(1, 4, length, length)]
    inputs = [(draw(*shape, seed=i, dtype=torch.float32) * 3).bfloat16() for i, shape in enumerate(shapes)]
    on_gpu = [x.cuda().requires_grad_() for x in inputs]
    exact = [x.double().requires_grad_() for x in inputs]
    grad = draw(2, 4, length, 64, seed=9, dtype=torch.bfloat16)
    attend(*on_gpu).backward(grad.cuda())
    attend(*exact).backward(grad.double())
    for got, expected in zip(on_gpu, exact, strict=True):
        error = (got.grad.cpu().double() - expected.grad).norm() / expected.grad.norm()
        assert error < 0.02
