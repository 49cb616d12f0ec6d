"""How likely given targets are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.decoding.steps import average
from model.transformer import T5, Batch

_LOGITS_AT_ONCE = 2**26


@torch.no_grad()
def token_scores(models: T5 | Sequence[T5], batch: Batch) -> Tensor:
    """Log-probability of each target, float32 (B, T); 0 where a position does not count.

    With several models their logits are averaged, as in decoding. Sum over T (or over the segments of packed
    rows) for the log-likelihood of an example.
    """
    members = [models] if isinstance(models, T5) else list(models)
    hidden = [model(batch).flatten(0, 1) for model in members]
    targets = batch.targets.flatten()
    scores = torch.empty(targets.shape, device=targets.device)
    step = max(1, _LOGITS_AT_ONCE // members[0].config.vocab_rows)
    for start in range(0, len(targets), step):
        rows = slice(start, start + step)
        logits = average([model.project(h[rows]).float() for model, h in zip(members, hidden, strict=True)])
        scores[rows] = logits.log_softmax(-1).gather(1, targets[rows, None])[:, 0]
    return scores.view(batch.targets.shape).masked_fill(~batch.counted(), 0)


def score(models: T5 | Sequence[T5], batch: Batch) -> Tensor:
    """Log-likelihood of each row's counted targets, float32 (B,)."""
    return token_scores(models, batch).sum(1)
