"""Searches written out for one row, without caches, batches or tensors of hypotheses."""

import torch
from torch import Tensor

from model.decoding.steps import EOS
from model.transformer import T5, Batch


@torch.no_grad()
def next_logits(models: list[T5], inputs: list[int], answer: list[int]) -> Tensor:
    """Logits after `answer`, by a whole forward pass of one unpadded row."""
    parts = []
    for model in models:
        joined = (inputs if model.config.decoder_only else []) + answer + [1]
        prefix = torch.arange(len(joined))[None] <= len(inputs)
        batch = Batch(
            None if model.config.decoder_only else torch.tensor([inputs]), torch.tensor([joined]), prefix=prefix
        )
        parts.append(model.project(model(batch))[0, -1])
    return torch.stack(parts).mean(0)


def plain_greedy(models: list[T5], inputs: list[int], max_length: int) -> list[int]:
    answer: list[int] = []
    while len(answer) < max_length and EOS not in answer:
        answer.append(int(next_logits(models, inputs, answer).argmax()))
    return answer


def plain_beam(
    models: list[T5], inputs: list[int], max_length: int, width: int, alpha: float, *, huggingface: bool = False
) -> list[tuple[float, list[int]]]:
    """Finished hypotheses as (score, ids), best first.

    By the rule of Hugging Face only the best `width` candidates of a step may finish, and those that reach
    the length count as finished; by the original's rule all 2 * width may, if they end.
    """
    live, finished = [(0.0, [])], []
    for step in range(1, max_length + 1):
        candidates = []
        for log, answer in live:
            logs = next_logits(models, inputs, answer).log_softmax(-1).tolist()
            candidates += [(log + value, [*answer, token]) for token, value in enumerate(logs)]
        candidates.sort(key=lambda c: -c[0])
        candidates = candidates[: 2 * width]
        penalty = ((5 + step) / 6) ** alpha
        may_finish = candidates[: width if huggingface else 2 * width]
        cut_off = huggingface and step == max_length
        finished += [(log / penalty, answer) for log, answer in may_finish if answer[-1] == EOS or cut_off]
        finished = sorted(finished, key=lambda c: -c[0])[:width]
        live = [c for c in candidates if c[1][-1] != EOS][:width]
        full = len(finished) == width or not huggingface
        if full and finished and finished[-1][0] > live[0][0] / ((5 + max_length) / 6) ** alpha:
            break
    return finished or [(log / ((5 + max_length) / 6) ** alpha, answer) for log, answer in live]
