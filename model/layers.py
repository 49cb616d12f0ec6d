"""The parts of a block apart from attention: norm, feed-forward and adapter."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import T5Config
from model.dropout import Dropout


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x ** 2) + 1e-6) * weight over the last axis, computed in float32 and cast back.

    No mean is subtracted and there is no bias (the paper's simplified layer norm).
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, eps=1e-6).to(x.dtype)


class FeedForward(nn.Module):
    """relu(x wi) wo, or gelu(x gate) * (x wi) wo in v1.1, with dropout before `wo`; (B, L, D) to the same.

    The gelu is the tanh approximation, as in the release.
    """

    def __init__(self, config: T5Config, site: int) -> None:
        super().__init__()
        gated = config.feed_forward == "gated-gelu"
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if gated else None
        self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = Dropout(config.dropout, site)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        if self.gate is None:
            inner = F.relu(self.wi(x))
        else:
            inner = F.gelu(self.gate(x), approximate="tanh") * self.wi(x)
        out: Tensor = self.wo(self.dropout(inner, keys))
        return out


class Adapter(nn.Module):
    """relu(x down) up: the small sublayer trained in place of the rest (Table 10); (B, L, D) to the same."""

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, width, bias=False)
        self.up = nn.Linear(width, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(F.relu(self.down(x)))
        return out
