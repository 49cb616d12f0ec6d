"""Buckets against the golden tables of the original code, and the bias against a loop."""

import pytest
import torch

from model.relative_bias import RelativeBias, bucket

# First distance of each bucket above the exact ones.
BIDIRECTIONAL = {8: 8, 12: 9, 16: 10, 23: 11, 32: 12, 46: 13, 64: 14, 91: 15}
CAUSAL = {
    16: 16, 19: 17, 21: 18, 24: 19, 27: 20, 31: 21, 35: 22, 40: 23,
    46: 24, 52: 25, 59: 26, 67: 27, 77: 28, 87: 29, 99: 30, 113: 31,
}  # fmt: skip


def golden(distance: int, exact: int, starts: dict[int, int]) -> int:
    return distance if distance < exact else max(b for start, b in starts.items() if start <= distance)


def test_bidirectional_buckets() -> None:
    offsets = torch.arange(-300, 301)
    expected = [golden(abs(r), 8, BIDIRECTIONAL) + (16 if r > 0 else 0) for r in offsets.tolist()]
    assert bucket(offsets, bidirectional=True).tolist() == expected
    assert 16 not in expected


def test_causal_buckets() -> None:
    offsets = torch.arange(-300, 301)
    expected = [golden(max(-r, 0), 16, CAUSAL) for r in offsets.tolist()]
    assert bucket(offsets, bidirectional=False).tolist() == expected


@pytest.mark.parametrize(("buckets", "bidirectional"), [(16, True), (32, False)])
def test_borders_are_exact(buckets: int, bidirectional: bool) -> None:
    """Bucket E + k starts at the smallest m with m ** n >= E ** (n - k) * 128 ** k, in whole numbers."""
    exact = n = buckets // 2
    got = bucket(-torch.arange(1000), bidirectional=bidirectional).tolist()
    for distance in range(exact, 1000):
        steps = max(k for k in range(n) if distance**n >= exact ** (n - k) * 128**k)
        assert got[distance] == exact + steps


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("queries", "keys", "first"), [(5, 5, 0), (3, 9, 6), (1, 200, 199), (4, 150, 0)])
def test_bias_and_its_gradient_equal_a_loop(bidirectional: bool, queries: int, keys: int, first: int) -> None:
    module = RelativeBias(heads=3).double()
    with torch.no_grad():
        module.weight.normal_(generator=torch.Generator().manual_seed(0))
    bias = module(queries, keys, bidirectional=bidirectional, first_query=first)
    weights = torch.rand(bias.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, gradient = torch.empty_like(bias), torch.zeros_like(module.weight)
    for i in range(queries):
        for j in range(keys):
            index = int(bucket(torch.tensor(j - i - first), bidirectional=bidirectional))
            expected[0, :, i, j] = module.weight[:, index]
            gradient[:, index] += weights[0, :, i, j]
    (bias * weights).sum().backward()
    torch.testing.assert_close(bias, expected, rtol=0, atol=0)
    torch.testing.assert_close(module.weight.grad, gradient)
