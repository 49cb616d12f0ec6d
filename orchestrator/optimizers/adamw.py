"""AdamW whose steps are relative to each parameter's root mean square (nanoT5's `AdamWScale`)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.optimizers.base import ShardedOptimizer, relative_step, square_sums, state_dtype
from orchestrator.parallel.shards import local, reduce_sums, zeros_without

MINIMUM_SCALE = 1e-3


class AdamW(ShardedOptimizer):
    """Adam with bias correction; p <- p - lr * max(1e-3, RMS(p)) * m / (sqrt(v) + epsilon) - lr * decay * p.

    Slots `first` and `second` have the parameter's shape, in float32. One all-reduce a mesh dimension and step.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        super().__init__(params, {"lr": lr})

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """`first` and `second`."""
        return {slot: zeros_without(parameter, None, state_dtype(parameter)) for slot in ("first", "second")}

    def apply(self, parameters: Sequence[Tensor], gradients: list[Tensor]) -> None:
        """One update; see the class's description."""
        lr, (beta1, beta2) = self.lr, self.betas
        weights = [local(parameter) for parameter in parameters]
        squares = reduce_sums(square_sums(weights), [self.groups(parameter) for parameter in parameters])
        scale = relative_step(parameters, squares, lr, MINIMUM_SCALE)
        torch._foreach_mul_(scale, [math.sqrt(1 - beta2**step) / (1 - beta1**step) for step in self._steps(parameters)])

        first, second = self._slots(parameters, "first"), self._slots(parameters, "second")
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        if self.weight_decay:
            torch._foreach_mul_(weights, 1 - lr * self.weight_decay)
        for weight, mean, moment, size in zip(weights, first, second, scale, strict=True):
            update = mean / moment.sqrt().add_(self.epsilon)
            weight.addcmul_(update.to(weight.dtype), size.to(weight.dtype), value=-1)
