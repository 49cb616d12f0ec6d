"""Relative position bias: one table of 32 buckets a head and stack, added to the attention logits.

Formula: paper section 2.1 and the Mesh-TensorFlow code.
"""

import math

import torch
from torch import Tensor, nn

from model.config import BUCKETS, MAX_DISTANCE


def bucket(offset: Tensor, *, bidirectional: bool) -> Tensor:
    """Bucket (int64) of each key-minus-query offset (int64).

    The first half of a direction's buckets holds one distance each, the second half ever wider ranges.
    Bidirectional tables give the keys to the right the upper half; causal tables give them bucket 0.
    """
    if bidirectional:
        buckets, base, distance = BUCKETS // 2, (offset > 0) * (BUCKETS // 2), offset.abs()
    else:
        buckets, base, distance = BUCKETS, torch.zeros_like(offset), (-offset).clamp(min=0)
    exact = buckets // 2
    # In float64 no rounding comes near the margin that keeps exact powers on their side of a border, so every
    # device agrees; borders held as a tensor would cost a copy to the device at each step.
    scale = (buckets - exact) / math.log(MAX_DISTANCE / exact)
    steps = (torch.log(distance.clamp(min=1).double() / exact) * scale + 1e-9).long()
    return base + torch.where(distance < exact, distance, (exact + steps).clamp(max=buckets - 1))


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
