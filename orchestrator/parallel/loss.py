"""The loss of this rank's rows under any layout.

Gradients are summed, not averaged, over data-parallel ranks. So each rank divides its sum by the same number,
one of the global batch (its positions, or its counted tokens), and the result does not depend on how rows are
dealt.
"""

from torch.distributed.tensor import DTensor

from model.loss import LossSums, cross_entropy
from model.transformer import T5, Batch
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
