"""Loss on held-out rows: the same rows at every evaluation, each counted once whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from data.evaluation import evaluation_rows
from orchestrator.parallel.loss import loss_sums
from orchestrator.run import Run
from orchestrator.sources import VALIDATION
from orchestrator.training.assembly import Assembled
from orchestrator.training.batches import to_batch


class HeldOut:
    """This rank's share of the held-out rows; `loss` is None where no source has a validation split."""

    def __init__(self, run: Run, parts: Assembled) -> None:
        self._parts = parts
        batches = evaluation_rows(run.lanes, VALIDATION, run.config.evaluate.rows, run.held_out) if run.held_out else ()
        # Each batch is filled up to the global batch's rows, so every rank has a share of each of them.
        self._batches = [batch.take(slice(parts.data_rank, None, parts.data_world)) for batch in batches]

    def loss(self, beat: Callable[[], None]) -> float | None:
        """Mean cross-entropy a target token over all held-out rows, nats; the same on all ranks.

        `beat` is called before each batch, for who watches over progress.
        """
        if not self._batches:
            return None
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for rows in self._batches:
                beat()
                found = loss_sums(self._parts.model, to_batch(rows, self._parts.device), z_loss=0.0)
                if self._parts.tensor_rank == 0:
                    sums += torch.stack([found.loss, found.tokens]).to("cpu", torch.float64)
        if dist.is_initialized():
            dist.all_reduce(sums)
        return float(sums[0] / sums[1])
