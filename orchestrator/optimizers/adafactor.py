"""Adafactor as T5 was trained with it (Shazeer and Stern 2018; the Mesh-TensorFlow code), on sharded tensors.

Sums over a cut axis are collected from all parameters and reduced together: a step costs two all-reduces a
mesh dimension, whatever the number of parameters, and never waits for the device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orchestrator.optimizers.base import ShardedOptimizer, relative_step, square_sums, state_dtype
from orchestrator.parallel.shards import Groups, local, reduce_sums, zeros_without

DECAY_EXPONENT = 0.8
EPSILON = 1e-30
MINIMUM_SCALE = 1e-3
MAXIMUM_RMS = 1.0
"""An update whose root mean square exceeds this is scaled down to it."""


class Adafactor(ShardedOptimizer):
    """Factored second moments, update clipping at RMS 1, steps relative to the parameter's RMS.

    `lr` is relative. A tensor is factored over its two largest axes where the second largest has at least
    `factor_from` elements; its slots are `row` (the mean of g^2 over the largest axis) and `column` (over the
    second largest), else the one slot `moment` has the parameter's shape. State is float32.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.01, *, factor_from: int = 128) -> None:
        self.factor_from = factor_from
        super().__init__(params, {"lr": lr})

    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """`row` and `column`, or `moment`."""
        dtype = state_dtype(parameter)
        axes = self.factored_axes(parameter)
        if axes is None:
            return {"moment": zeros_without(parameter, None, dtype)}
        return {"row": zeros_without(parameter, axes[0], dtype), "column": zeros_without(parameter, axes[1], dtype)}

    def factored_axes(self, parameter: Tensor) -> tuple[int, int] | None:
        """Largest and second largest axis, or None where the second moment is kept in full."""
        if parameter.ndim < 2:
            return None
        largest, second = sorted(range(parameter.ndim), key=lambda axis: -parameter.shape[axis])[:2]
        return (largest, second) if parameter.shape[second] >= self.factor_from else None

    def apply(self, parameters: Sequence[Tensor], gradients: list[Tensor]) -> None:
        """One update; see the module's description."""
        everywhere = [self.groups(parameter) for parameter in parameters]
        betas = [1 - step**-DECAY_EXPONENT for step in self._steps(parameters)]
        weights = [local(parameter) for parameter in parameters]
        leaves = list(zip(parameters, gradients, betas, strict=True))
        factored = [
            _Factored(
                axes,
                (self.groups(parameter, axes[0]), self.groups(parameter, axes[1])),
                parameter,
                gradient,
                beta,
                self.state[parameter],
            )
            for parameter, gradient, beta in leaves
            if (axes := self.factored_axes(parameter)) is not None
        ]
        full = [leaf for leaf in leaves if self.factored_axes(leaf[0]) is None]

        parts = [(square, groups) for square, groups in zip(square_sums(weights), everywhere, strict=True)]
        parts += [part for leaf in factored for part in leaf.sums()]
        sums = reduce_sums([part for part, _ in parts], [groups for _, groups in parts])
        scale = relative_step(parameters, sums[: len(parameters)], self.lr, MINIMUM_SCALE)

        for i, leaf in enumerate(factored):
            leaf.normalize(*sums[len(parameters) + 4 * i :][:4])
        if full:
            self._normalize_full(full)

        clip = reduce_sums(square_sums(gradients), everywhere)
        clip = list(torch._foreach_div(clip, [float(parameter.numel()) for parameter in parameters]))
        torch._foreach_sqrt_(clip)
        torch._foreach_div_(clip, MAXIMUM_RMS)
        torch._foreach_clamp_min_(clip, 1.0)
        torch._foreach_div_(scale, clip)
        for weight, update, size in zip(weights, gradients, scale, strict=True):
            weight.addcmul_(update.to(weight.dtype), size.to(weight.dtype), value=-1)

    def _normalize_full(self, leaves: Sequence[tuple[Tensor, Tensor, float]]) -> None:
        parameters, gradients, betas = zip(*leaves, strict=True)
        squares = list(torch._foreach_mul(gradients, gradients))
        torch._foreach_add_(squares, EPSILON)
        moments = self._slots(parameters, "moment")
        torch._foreach_lerp_(moments, squares, [1 - beta for beta in betas])
        torch._foreach_mul_(gradients, torch._foreach_rsqrt(moments))


@dataclass(frozen=True)
class _Factored:
    """One factored parameter within a step; sums keep their axis with size 1, so they broadcast."""

    axes: tuple[int, int]
    groups: tuple[Groups, Groups]
    """Across which each of the axes is cut."""
    parameter: Tensor
    gradient: Tensor
    beta: float
    state: dict[str, Tensor]

    def sums(self) -> list[tuple[Tensor, Groups]]:
        """Local sums of g^2 over the first axis, the second and both, and of the old rows over the second."""
        first, second = self.axes
        cut_first, cut_second = self.groups
        squares = self.gradient * self.gradient
        rows = squares.sum(first, keepdim=True)
        old = local(self.state["row"]).unsqueeze(first).sum(second, keepdim=True)
        return [
            (rows, cut_first),
            (squares.sum(second, keepdim=True), cut_second),
            (rows.sum(second, keepdim=True), cut_first + cut_second),
            (old, cut_second),
        ]

    def normalize(self, rows: Tensor, columns: Tensor, total: Tensor, old: Tensor) -> None:
        """Move the state by the global sums and divide the gradient by the root of the second moment."""
        first, second = self.axes
        length, width = self.parameter.shape[first], self.parameter.shape[second]
        fresh = 1 - self.beta
        row, column = local(self.state["row"]), local(self.state["column"])
        row.lerp_((rows / length + EPSILON).squeeze(first), fresh)
        column.lerp_((columns / width + EPSILON).squeeze(second), fresh)
        # The mean of the new rows, from sums that needed no second round of reductions.
        mean = torch.lerp(old / width, total / (length * width) + EPSILON, fresh)
        self.gradient.mul_(torch.rsqrt(row.unsqueeze(first) / mean))
        self.gradient.mul_(torch.rsqrt(column.unsqueeze(second)))
