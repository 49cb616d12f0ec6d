"""Relative position bias: one table of 32 buckets a head and stack, added to the attention logits.

Formula: paper section 2.1 and the Mesh-TensorFlow code. Bucket borders are found in exact integers, so no
device's logarithm can move one.
"""

from functools import cache

import torch
from torch import Tensor, nn

from model.config import BUCKETS, MAX_DISTANCE


@cache
def thresholds(buckets: int) -> tuple[int, ...]:
    """Smallest distance of each bucket from 1 on, for one direction with `buckets` buckets.

    The first half holds one distance each; bucket E + k of the second half starts at the smallest m with
    m >= E * (128 / E) ** (k / (buckets - E)).
    """
    exact = buckets // 2
    steps = buckets - exact
    borders = list(range(1, exact))
    distance = exact
    for k in range(steps):
        while distance**steps < exact ** (steps - k) * MAX_DISTANCE**k:
            distance += 1
        borders.append(distance)
    return tuple(borders)


def bucket(offset: Tensor, *, bidirectional: bool) -> Tensor:
    """Bucket (int64) of each key-minus-query offset (int64).

    Bidirectional tables give the keys to the right the upper half; causal tables give them bucket 0.
    """
    if bidirectional:
        distance, base = offset.abs(), torch.where(offset > 0, BUCKETS // 2, 0)
        borders = thresholds(BUCKETS // 2)
    else:
        distance, base = (-offset).clamp(min=0), torch.zeros_like(offset)
        borders = thresholds(BUCKETS)
    return base + torch.bucketize(distance, torch.tensor(borders, device=offset.device), right=True)


class RelativeBias(nn.Module):
    """The table of one stack; `weight` is (heads, 32)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, BUCKETS))

    def forward(self, queries: int, keys: int, *, bidirectional: bool, first_query: int = 0) -> Tensor:
        """Bias (1, H, queries, keys) for queries at positions `first_query`, `first_query` + 1, ..."""
        # The bias depends on key - query alone: look each diagonal up once, then lay windows of them out.
        last = first_query + queries - 1
        offsets = torch.arange(-last, keys - first_query, device=self.weight.device)
        diagonals = self.weight[:, bucket(offsets, bidirectional=bidirectional)]
        return diagonals.unfold(1, keys, 1).flip(1)[None]
