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
        weights = [local(parameter) for parameter in parameters]
        factored, full = self._leaves(parameters, gradients)

        parts = list(zip(square_sums(weights), everywhere, strict=True))
        parts += [part for leaf in factored for part in leaf.sums()]
        sums = reduce_sums([part for part, _ in parts], [groups for _, groups in parts])
        scale = relative_step(parameters, sums[: len(parameters)], self.lr, MINIMUM_SCALE)
        if factored:
            _normalize_factored(factored, sums[len(parameters) :])
        if full:
            _normalize_full(full)

        clip = reduce_sums(square_sums(gradients), everywhere)
        clip = list(torch._foreach_div(clip, [float(parameter.numel()) for parameter in parameters]))
        torch._foreach_sqrt_(clip)
        torch._foreach_div_(clip, MAXIMUM_RMS)
        torch._foreach_clamp_min_(clip, 1.0)
        torch._foreach_div_(scale, clip)
        for weight, update, size in zip(weights, gradients, scale, strict=True):
            weight.addcmul_(update.to(weight.dtype), size.to(weight.dtype), value=-1)

    def _leaves(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> tuple[list["_Factored"], list["_Full"]]:
        factored, full = [], []
        for parameter, gradient, step in zip(parameters, gradients, self._steps(parameters), strict=True):
            state, fresh = self.state[parameter], step**-DECAY_EXPONENT
            axes = self.factored_axes(parameter)
            if axes is None:
                full.append(_Full(gradient, fresh, local(state["moment"])))
                continue
            cuts = self.groups(parameter, axes[0]), self.groups(parameter, axes[1])
            row, column = local(state["row"]).unsqueeze(axes[0]), local(state["column"]).unsqueeze(axes[1])
            sizes = float(parameter.shape[axes[0]]), float(parameter.shape[axes[1]])
            factored.append(_Factored(axes, sizes, cuts, gradient, fresh, row, column))
        return factored, full


@dataclass(frozen=True)
class _Full:
    """A parameter with its whole second moment, within a step."""

    gradient: Tensor
    fresh: float
    """1 - beta: the share of the new squares in the moments."""
    moment: Tensor


@dataclass(frozen=True)
class _Factored:
    """A factored parameter within a step; rows and columns keep their missing axis with size 1."""

    axes: tuple[int, int]
    sizes: tuple[float, float]
    """Of the axes, of the whole parameter."""
    cuts: tuple[Groups, Groups]
    """Across which each of the axes is cut."""
    gradient: Tensor
    fresh: float
    row: Tensor
    column: Tensor

    def sums(self) -> list[tuple[Tensor, Groups]]:
        """Local sums of g^2 over the first axis, the second and both, and of the old rows over the second."""
        first, second = self.axes
        squares = self.gradient * self.gradient
        rows = squares.sum(first, keepdim=True)
        return [
            (rows, self.cuts[0]),
            (squares.sum(second, keepdim=True), self.cuts[1]),
            (rows.sum(second, keepdim=True), self.cuts[0] + self.cuts[1]),
            (self.row.sum(second, keepdim=True), self.cuts[1]),
        ]


def _normalize_factored(leaves: Sequence[_Factored], sums: Sequence[Tensor]) -> None:
    """Move the state by the global sums, four a leaf, and divide gradients by the root of the second moment."""
    lengths, widths = [leaf.sizes[0] for leaf in leaves], [leaf.sizes[1] for leaf in leaves]
    fresh = [leaf.fresh for leaf in leaves]
    rows = _mean_squares(sums[0::4], lengths)
    columns = _mean_squares(sums[1::4], widths)
    totals = _mean_squares(sums[2::4], [length * width for length, width in zip(lengths, widths, strict=True)])
    # The mean of the new rows, from sums that needed no second round of reductions.
    means = list(torch._foreach_div(list(sums[3::4]), widths))
    torch._foreach_lerp_(means, totals, fresh)
    torch._foreach_lerp_([leaf.row for leaf in leaves], rows, fresh)
    torch._foreach_lerp_([leaf.column for leaf in leaves], columns, fresh)
    row_factors = list(torch._foreach_div([leaf.row for leaf in leaves], means))
    torch._foreach_rsqrt_(row_factors)
    column_factors = torch._foreach_rsqrt([leaf.column for leaf in leaves])
    for leaf, row_factor, column_factor in zip(leaves, row_factors, column_factors, strict=True):
        leaf.gradient.mul_(row_factor).mul_(column_factor)


def _normalize_full(leaves: Sequence[_Full]) -> None:
    gradients = [leaf.gradient for leaf in leaves]
    moments = [leaf.moment for leaf in leaves]
    squares = list(torch._foreach_mul(gradients, gradients))
    torch._foreach_add_(squares, EPSILON)
    torch._foreach_lerp_(moments, squares, [leaf.fresh for leaf in leaves])
    torch._foreach_mul_(gradients, torch._foreach_rsqrt(moments))


def _mean_squares(sums: Sequence[Tensor], sizes: list[float]) -> list[Tensor]:
    means = list(torch._foreach_div(list(sums), sizes))
    torch._foreach_add_(means, EPSILON)
    return means
