"""The loss of this rank's rows under any layout, and the numbers of the global batch it is divided by.

Gradients are summed over data-parallel ranks. So each rank divides its sum by the same number, that of the
global batch, and the result does not depend on how rows are dealt.
"""

from dataclasses import fields

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from model.loss import LossSums, cross_entropy
from model.transformer import T5, Batch
from orchestrator.parallel.layout import data_mesh
from orchestrator.parallel.shards import reduce_sums
from orchestrator.parallel.tensor_parallel import SplitVocabulary


def loss_sums(model: T5, batch: Batch, *, z_loss: float = 1e-4, chunk: int | None = None) -> LossSums:
    """Sums over the counted tokens of `batch`; `.loss` carries the gradient.

    Where tensor parallelism splits the vocabulary, every rank of a group gets the whole sums. That path is
    the model's own chunked loss with its sums and maxima taken over the group (the softmax normalizer is what
    the z-loss needs and FairScale's `vocab_parallel_cross_entropy` does not give; where z_loss is 0 they agree).
    """
    hidden = model(batch)
    module = model.embedding if model.head is None else model.head
    weight = module._parameters["weight"]
    vocabulary = SplitVocabulary(weight) if isinstance(weight, DTensor) else None
    return cross_entropy(
        model.scale_output(hidden),
        model.output_weight,
        batch.targets,
        batch.counted(),
        z_loss=z_loss,
        chunk=chunk,
        vocabulary=vocabulary,
    )


def global_sums(sums: LossSums, mesh: DeviceMesh | None) -> LossSums:
    """The sums of the global batch, detached, by one all-reduce a data-parallel mesh dimension."""
    parts = torch.stack([getattr(sums, field.name).detach() for field in fields(LossSums)])
    return LossSums(*_over_data(parts, mesh).unbind())


def global_tokens(batch: Batch, mesh: DeviceMesh | None) -> Tensor:
    """Counted tokens of the global batch, a float32 scalar on the batch's device."""
    return _over_data(batch.counted().sum().float(), mesh)


def _over_data(value: Tensor, mesh: DeviceMesh | None) -> Tensor:
    if mesh is None:
        return value
    along = data_mesh(mesh)
    groups: tuple[dist.ProcessGroup, ...] = tuple(along.get_group(i) for i in range(along.ndim))
    return reduce_sums([value], [groups])[0]
