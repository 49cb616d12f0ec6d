"""Dropout whose masks are a pure function of (row key, site, channel).

As in Mesh-TensorFlow a mask is shared along the length axis, so it is drawn per row and channel, not per
position. Masks come from a counter-based hash instead of a generator with state: they depend on neither
device, layout, order of evaluation nor recomputation. Arithmetic stays below 2**63, so it is exact in int64
on every backend.
"""

import torch
from torch import Tensor, nn

_BITS = 0xFFFFFFFF
_MULTIPLIER = 0x045D9F3B


def mix(state: Tensor) -> Tensor:
    """A bijective 32-bit hash of each int64 element in [0, 2**32) (multiply-and-shift finalizer)."""
    for _ in range(2):
        state = (state ^ (state >> 16)) * _MULTIPLIER & _BITS
    return state ^ (state >> 16)


def _mix_int(value: int) -> int:
    for _ in range(2):
        value = (value ^ (value >> 16)) * _MULTIPLIER & _BITS
    return value ^ (value >> 16)


def derive(keys: Tensor, site: int) -> Tensor:
    """Keys of a part of the model from the keys of the whole: same shape, int64 in [0, 2**32)."""
    # The golden-ratio step keeps neighboring sites far apart, and site 0 away from the fixed point 0.
    return mix(keys ^ _mix_int((site + 1) * 0x9E3779B9 & _BITS))


def fold(row_keys: Tensor) -> Tensor:
    """32-bit keys (B,) from arbitrary int64 row keys (B,)."""
    return mix(mix(row_keys & _BITS) ^ ((row_keys >> 32) & _BITS))


def keep_mask(keys: Tensor, start: int, count: int, rate: float) -> Tensor:
    """Which of the channels start..start+count survive: bool of shape (*keys.shape, count)."""
    channels = mix(torch.arange(start + 1, start + count + 1, device=keys.device))
    return mix(keys[..., None] ^ channels) >= int(rate * 2**32)


class Dropout(nn.Module):
    """Dropout on (B, L, C) activations, one mask per row shared along L.

    `site` tells the places of one block apart. `offset` is the global index of the first channel held here,
    so that a layout which splits channels drops the same ones.
    """

    def __init__(self, rate: float, site: int) -> None:
        super().__init__()
        self.rate = rate
        self.site = site
        self.offset = 0

    def forward(self, x_BLC: Tensor, keys_B: Tensor | None) -> Tensor:
        """Scaled and masked `x_BLC`; unchanged where there are no keys or the rate is 0."""
        if keys_B is None or self.rate == 0:
            return x_BLC
        keep = keep_mask(derive(keys_B, self.site), self.offset, x_BLC.shape[-1], self.rate)
        return x_BLC * (keep.to(x_BLC.dtype) / (1 - self.rate))[:, None, :]

    def extra_repr(self) -> str:
        return f"rate={self.rate}, site={self.site}"


class AttentionDropout(Dropout):
    """Dropout on attention weights, each mask shared along the query axis.

    A mask that no query tells apart scales whole keys, so it is applied to the rows of the values: the
    weights themselves are never formed. `offset` counts heads.
    """

    def forward(self, v_BHSK: Tensor, keys_B: Tensor | None) -> Tensor:
        """Scaled and masked values (B, H, S, K)."""
        if keys_B is None or self.rate == 0:
            return v_BHSK
        heads, length = v_BHSK.shape[1:3]
        indices = mix(torch.arange(self.offset + 1, self.offset + heads + 1, device=keys_B.device))
        keys_BH = mix(derive(keys_B, self.site)[:, None] ^ indices)
        keep = keep_mask(keys_BH, 0, length, self.rate)
        return v_BHSK * (keep.to(v_BHSK.dtype) / (1 - self.rate))[..., None]
