"""Attention on the CPU under a bias that is being trained.

PyTorch's fused CPU kernel gives no gradient to the bias and its generic path is slow, so a forward by
whichever is faster at that size is paired with one backward for all four inputs: a few rows at a time, so
that what it forms stays in the processor's cache.
"""

from typing import Any

import torch
from torch import Tensor

_KEEP_WEIGHTS = 256 * 256
"""Up to this many query-key pairs a head, keeping the softmax weights is cheaper than forming them again."""

_ELEMENTS_AT_ONCE = 2**20


class TrainedBiasAttention(torch.autograd.Function):
    """softmax(q k + bias) v for q (B, H, T, K), k and v (B, H, S, K) and bias (1 or B, H, T, S)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        out: Tensor
        if q.shape[2] * k.shape[2] <= _KEEP_WEIGHTS:
            weights = torch.softmax((q @ k.mT).add_(bias), -1)
            out = weights @ v
            ctx.keeps_weights = True
            ctx.save_for_backward(q, k, v, bias, out, weights)
        else:
            out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, False, attn_mask=bias, scale=1.0
            )
            ctx.keeps_weights = False
            ctx.save_for_backward(q, k, v, bias, out, log_sum[..., None])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v, bias, out, kept = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        d_bias = torch.zeros_like(bias)
        dot = (grad * out).sum(-1, keepdim=True)
        batch, heads, queries, _ = q.shape
        step = max(1, _ELEMENTS_AT_ONCE // (heads * queries * k.shape[2]))
        for start in range(0, batch, step):
            rows = slice(start, start + step)
            bias_rows = rows if bias.shape[0] == batch else slice(None)
            weights = kept[rows]
            if not ctx.keeps_weights:
                weights = (q[rows] @ k[rows].mT).add_(bias[bias_rows]).sub_(weights).exp_()
            d_logits = (grad[rows] @ v[rows].mT).sub_(dot[rows]).mul_(weights)
            dq[rows] = d_logits @ k[rows]
            dk[rows] = d_logits.mT @ q[rows]
            dv[rows] = weights.mT @ grad[rows]
            d_bias[bias_rows] += d_logits.sum_to_size(d_bias[bias_rows].shape)
        return dq, dk, dv, d_bias
