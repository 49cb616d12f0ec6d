"""One training step: forward and backward of the micro-batches, agreement of all ranks, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from model.freezing import trained_names
from orchestrator.config import Config
from orchestrator.parallel.shards import is_owner, local
from orchestrator.readers import StepRows
from orchestrator.scheduler.phase import Control
from orchestrator.training.assembly import Assembled
from orchestrator.training.batches import counted_tokens, micro_batches, row_keys, to_batch, tokens_seen


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after a step, the same on each of them."""

    loss: float
    """Mean cross-entropy a target token, nats, without z-loss."""
    z_loss: float
    tokens: int
    """Target tokens that counted in the loss."""
    tokens_seen: int
    """Input and target tokens, padding left out."""
    accuracy: float
    gradient_norm: float
    """Root of the sum of squares of the whole gradient as it was before the update."""
    finite: bool
    """False: the step was skipped on all ranks."""
    stop: bool
    saves: int
    grow: bool = False
    """End at the next checkpoint, to go on as a larger group."""


class Stepper:
    """Takes steps on one rank; all ranks must call it with the same steps in the same order.

    Gradients are summed over data-parallel ranks by the sharding, so each rank divides by the global batch's number.
    """

    def __init__(self, config: Config, parts: Assembled, lanes: Sequence[int]) -> None:
        self._config = config
        self._parts = parts
        self._lanes = lanes
        self._owned = [parameter for parameter in parts.parameters if is_owner(parameter)]
        # One rank of each tensor-parallel group speaks for the rows they share.
        self._speaks = parts.tensor_rank == 0

    def __call__(self, step: int, rows: StepRows, control: Control, *, skip: bool = False) -> Agreed:
        """Train on `rows`; `control` (rank 0's counts) is agreed on with the losses in one all-reduce.

        `skip` leaves the parameters alone, as does a loss or gradient that is not finite on any rank; where updates run
        in the backward pass a gradient that is not finite beside a finite loss is seen too late for that.
        """
        denominator = self._denominator(rows)
        self._parts.optimizer.lr = self._parts.schedule(step)
        sums = self._backward(step, rows, denominator, skip)
        agreed = self._agree(sums, tokens_seen(rows.rows), control)
        if agreed.finite and not skip:
            self._freeze(step)
            self._parts.optimizer.step()
        self._parts.optimizer.zero_grad(set_to_none=True)
        return agreed

    def _freeze(self, step: int) -> None:
        """Gradual unfreezing: what does not train in this episode gets no update."""
        train = self._config.train
        if train.parameters != "gradual_unfreezing":
            return
        names = trained_names(self._parts.model.config, train.parameters, step - 1, self._config.steps, train.episodes)
        for name, parameter in self._parts.model.named_parameters():
            if name not in names:
                parameter.grad = None

    def _denominator(self, rows: StepRows) -> float:
        if self._config.loss.normalize == "positions":
            return float(self._config.batch.rows * self._parts.target_positions)
        tokens = torch.tensor([float(counted_tokens(rows.rows)) if self._speaks else 0.0], dtype=torch.float64)
        if dist.is_initialized():
            dist.all_reduce(tokens)
        return max(1.0, float(tokens))

    def _backward(self, step: int, rows: StepRows, denominator: float, skip: bool) -> torch.Tensor:
        keys = None
        if self._config.options.dropout > 0:
            keys = row_keys(self._config.seed, step, self._lanes, len(rows.rows))
        totals = torch.zeros(4, dtype=torch.float64)
        for part, part_keys in micro_batches(rows.rows, keys, self._config.batch.accumulate):
            sums = self._parts.loss(to_batch(part, self._parts.device, part_keys))
            if not self._config.optimizer.in_backward or (not skip and _all_finite(sums.loss)):
                (sums.loss / denominator).backward()  # type: ignore[no-untyped-call]
            totals += torch.stack([sums.cross_entropy, sums.z_loss, sums.tokens, sums.correct]).to("cpu", torch.float64)
        return totals

    def _agree(self, sums: torch.Tensor, seen: int, control: Control) -> Agreed:
        speaks = 1.0 if self._speaks else 0.0
        # The square of a float32 gradient may overflow; in float64 only a gradient that is not finite is not.
        gradients = [local(p.grad) for p in self._owned if p.grad is not None]
        norms = list(torch._foreach_norm(gradients)) if gradients else []
        squares = torch.stack(norms).double().square().sum().cpu() if norms else torch.zeros((), dtype=torch.float64)
        first = 1.0 if not dist.is_initialized() or dist.get_rank() == 0 else 0.0
        wanted = [first * control.stop, first * control.saves, first * control.grow]
        flags = torch.tensor([speaks * seen, *wanted], dtype=torch.float64)
        shared = torch.cat([sums * speaks, squares[None], flags])
        if dist.is_initialized():
            dist.all_reduce(shared)
        loss, z_loss, tokens, correct, square, all_seen, stop, saves, grow = shared.tolist()
        tokens = max(tokens, 1.0)
        return Agreed(
            loss=loss / tokens,
            z_loss=z_loss / tokens,
            tokens=int(tokens),
            tokens_seen=int(all_seen),
            accuracy=correct / tokens,
            gradient_norm=square**0.5 if square >= 0 else float("nan"),
            finite=bool(torch.isfinite(shared).all()),
            stop=stop > 0,
            saves=int(saves),
            grow=grow > 0,
        )


def _all_finite(loss: torch.Tensor) -> bool:
    """Whether the loss is finite on all ranks: an update that runs during backward must be decided on before it."""
    finite = torch.isfinite(loss.detach()).to("cpu", torch.float32)
    if dist.is_initialized():
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite)
