"""Cross-entropy with z-loss straight from hidden states, a chunk of rows at a time.

With 32,128 words the logits of a long batch are the largest tensor of a step. Here the logits of one chunk
exist at a time: its gradients are formed at once and its logits dropped. Loss and softmax are float32.

Formulas: token loss -log softmax(logits)[target]; z-loss coefficient * log(Z) ** 2 with Z the softmax
normalizer (Mesh-TensorFlow code). Sums are returned; the caller divides.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

CHUNK_BYTES = 256 * 2**20
"""Bound on the float32 logits held at a time, unless a chunk is given."""


@dataclass
class LossSums:
    """Sums over the counted tokens; float32 scalars on the model's device."""

    loss: Tensor
    """Cross-entropy plus z-loss: the one part that carries a gradient."""
    z_loss: Tensor
    """The z-loss within `loss`."""
    tokens: Tensor
    correct: Tensor
    """Tokens whose target had the highest logit, ties included."""

    @property
    def cross_entropy(self) -> Tensor:
        """The part of `loss` that is not z-loss, detached."""
        return self.loss.detach() - self.z_loss


class Vocabulary(Protocol):
    """What the loss must know where devices hold different rows of the output matrix."""

    first_row: int
    """Global index of the first row held here."""

    def all_maximum(self, x: Tensor) -> Tensor:
        """Elementwise maximum over the holders."""

    def all_sum(self, x: Tensor) -> Tensor:
        """Elementwise sum over the holders."""


class WholeVocabulary:
    """All rows are here."""

    first_row = 0

    def all_maximum(self, x: Tensor) -> Tensor:
        return x

    def all_sum(self, x: Tensor) -> Tensor:
        return x


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    *,
    z_loss: float = 1e-4,
    chunk: int | None = None,
    vocabulary: Vocabulary | None = None,
) -> LossSums:
    """Loss of predicting `targets` from `hidden` (..., D) through the output matrix `weight` (V, D).

    `targets` (...) are int64 ids and `counted` (...) bool says which of them count. `z_loss` is the
    coefficient, 0 in evaluation. `chunk` is the number of positions whose logits exist at a time. Double
    backward is not supported.
    """
    hidden = hidden.flatten(0, -2)
    if chunk is None:
        chunk = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
    loss, sums = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets.flatten(), counted.flatten(), z_loss, chunk, vocabulary or WholeVocabulary()
    )
    return LossSums(loss=loss, z_loss=sums[0], tokens=sums[1], correct=sums[2])


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        counted: Tensor,
        z_loss: float,
        chunk: int,
        vocabulary: Vocabulary,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if needs_hidden else None
        d_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        sums = torch.zeros(4, dtype=wide, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            part, d_logits = _chunk_loss(hidden[rows], weight, targets[rows], counted[rows], z_loss, vocabulary)
            sums += part
            if d_hidden is not None:
                d_hidden[rows] = vocabulary.all_sum(d_logits @ weight)
            if d_weight is not None:
                d_weight += d_logits.T @ hidden[rows]
        ctx.gradients = d_hidden, None if d_weight is None else d_weight.to(weight.dtype)
        ctx.mark_non_differentiable(reports := sums[1:])
        return sums[0].clone(), reports

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = (None if d is None else d * grad.to(d.dtype) for d in ctx.gradients)
        return d_hidden, d_weight, None, None, None, None, None


def _chunk_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, counted: Tensor, z_loss: float, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor]:
    """Sums (loss, z-loss, tokens, correct) of one chunk, and the gradient of its logits in hidden's dtype."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = _logits(hidden, weight, wide)
    local = targets - vocabulary.first_row
    here = (local >= 0) & (local < weight.shape[0])
    index = local.clamp(0, weight.shape[0] - 1)[:, None]
    highest = vocabulary.all_maximum(logits.amax(1))
    target = vocabulary.all_sum(logits.gather(1, index)[:, 0] * here)
    probabilities = logits.sub_(highest[:, None]).exp_()
    total = vocabulary.all_sum(probabilities.sum(1))
    log_z = highest + total.log()
    count = counted.to(wide)
    z = z_loss * log_z.square() * count
    loss = (log_z - target) * count + z
    sums = torch.stack([loss.sum(), z.sum(), count.sum(), ((target == highest) * count).sum()])
    d_logits = probabilities.mul_(((1 + 2 * z_loss * log_z) * count / total)[:, None])
    d_logits[torch.arange(len(local), device=local.device), index[:, 0]] -= here * count
    return sums, d_logits.to(hidden.dtype)


def _logits(hidden: Tensor, weight: Tensor, wide: torch.dtype) -> Tensor:
    # CUDA adds bfloat16 products in float32 anyway and can leave the sums as they are; rounded logits tie often.
    if hidden.is_cuda and hidden.dtype != wide:
        return torch.mm(hidden, weight.T, out_dtype=wide)
    return (hidden @ weight.T).to(wide)
