"""Greedy and beam search.

Rules of the original (Mesh-TensorFlow's beam search; paper section 3.7): hypotheses are ranked by
log-probability / ((5 + length) / 6) ** alpha with the end mark counted in the length, 2 * width candidates are
kept a step, and a row stops when its best live hypothesis cannot beat its worst finished one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.errors import UserError
from model.decoding.steps import EOS, Steps
from model.transformer import T5

Agree = Callable[[bool], bool]
"""Whether all ranks are done, given whether this one is; ranks that share a sharded model step together."""


@torch.no_grad()
def greedy(models: T5 | Sequence[T5], inputs: Tensor, *, max_length: int, agree: Agree = bool) -> Tensor:
    """The most likely token at each step: int64 ids (B, up to `max_length`), 0 after the end mark.

    `inputs` (B, S) int64 are padded with 0 at the end. Decodes with one model or an ensemble.
    """
    _check(max_length)
    steps = Steps(models, inputs)
    done = torch.zeros(inputs.shape[0], dtype=torch.bool, device=inputs.device)
    chosen: list[Tensor] = []
    ids: Tensor | None = None
    while len(chosen) < max_length:
        ids = steps(ids).argmax(-1).masked_fill(done, 0)
        chosen.append(ids)
        done = done | (ids == EOS)
        if agree(bool(done.all())):
            break
    return torch.stack(chosen, 1)


@dataclass(frozen=True)
class Beams:
    """Hypotheses of each row, best first."""

    ids: Tensor
    """(B, width, L) int64, 0 after the end mark."""
    scores: Tensor
    """(B, width) float32 log-probability over the length penalty; -inf where there is no hypothesis."""


@torch.no_grad()
def beam_search(
    models: T5 | Sequence[T5],
    inputs: Tensor,
    *,
    max_length: int,
    width: int = 4,
    alpha: float = 0.6,
    agree: Agree = bool,
) -> Beams:
    """The best `width` hypotheses of each row of `inputs` (B, S; int64, padded with 0 at the end).

    A row in which nothing finishes within `max_length` gives its live hypotheses instead. A row's result does
    not depend on the rows beside it.
    """
    _check(max_length)
    if width < 1:
        raise UserError(f"the beam width is {width}; it must be 1 or more")
    steps = Steps(models, inputs)
    state = _State.start(inputs.shape[0], width, max_length, alpha, inputs.device)
    ids: Tensor | None = None
    for step in range(max_length):
        logits = steps(ids)
        rows = state.advance(logits.log_softmax(-1), step)
        if agree(bool(state.done.all())) or step + 1 == max_length:
            break
        # At first there is one hypothesis a row; from then on `width` stand side by side.
        steps.select(rows, same_source=step > 0)
        ids = state.live[:, :, step].flatten()
    return state.result()


class _State:
    """Live and finished hypotheses of all rows."""

    def __init__(self, width: int, max_length: int, alpha: float, **tensors: Tensor) -> None:
        self.width, self.max_length, self.alpha = width, max_length, alpha
        self.live, self.live_log = tensors["live"], tensors["live_log"]
        self.finished, self.finished_score = tensors["finished"], tensors["finished_score"]
        self.done = tensors["done"]

    @classmethod
    def start(cls, rows: int, width: int, max_length: int, alpha: float, device: torch.device) -> "_State":
        nothing = torch.zeros(rows, width, max_length, dtype=torch.long, device=device)
        return cls(
            width,
            max_length,
            alpha,
            live=nothing[:, :1],
            live_log=torch.zeros(rows, 1, device=device),
            finished=nothing,
            finished_score=torch.full((rows, width), -torch.inf, device=device),
            done=torch.zeros(rows, dtype=torch.bool, device=device),
        )

    def penalty(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.alpha)

    def advance(self, log_probabilities: Tensor, step: int) -> Tensor:
        """Grow each live hypothesis by one token, given (B * live, V); returns the rows the new ones came from."""
        rows, live = self.live_log.shape
        words = log_probabilities.shape[-1]
        totals = self.live_log[:, :, None] + log_probabilities.view(rows, live, words)
        count = min(2 * self.width, live * words)
        log, flat = totals.view(rows, -1).topk(count)
        origin, token = flat // words, flat % words
        grown = self.live.gather(1, origin[:, :, None].expand(-1, -1, self.max_length)).clone()
        grown[:, :, step] = token
        ends = token == EOS
        self._finish(grown, (log / self.penalty(step + 1)).masked_fill(~ends, -torch.inf))
        self.live_log, best = _best(log.masked_fill(ends, -torch.inf), self.width)
        self.live = grown.gather(1, best[:, :, None].expand(-1, -1, self.max_length))
        self._stop()
        first = torch.arange(rows, device=origin.device)[:, None] * live
        return (first + origin.gather(1, best)).flatten()

    def _finish(self, grown: Tensor, score: Tensor) -> None:
        score = torch.where(self.done[:, None], -torch.inf, score)
        everyone = torch.cat([self.finished, grown], 1)
        self.finished_score, best = _best(torch.cat([self.finished_score, score], 1), self.width)
        self.finished = everyone.gather(1, best[:, :, None].expand(-1, -1, self.max_length))

    def _stop(self) -> None:
        # Log-probabilities only fall and the penalty of the full length divides them most.
        bound = self.live_log[:, 0] / self.penalty(self.max_length)
        exists = self.finished_score > -torch.inf
        worst = self.finished_score.where(exists, torch.inf).amin(1)
        self.done = self.done | (exists.any(1) & (worst > bound))

    def result(self) -> Beams:
        none = (self.finished_score == -torch.inf).all(1)
        ids = torch.where(none[:, None, None], self.live, self.finished)
        scores = torch.where(none[:, None], self.live_log / self.penalty(self.max_length), self.finished_score)
        ids = ids.masked_fill((scores == -torch.inf)[:, :, None], 0)
        used = (ids != 0).flatten(0, 1).any(0).nonzero()
        return Beams(ids[:, :, : int(used.max()) + 1 if len(used) else 1], scores)


def _best(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` highest scores (B, width) and their places; ties keep their order."""
    ordered, places = scores.sort(dim=1, descending=True, stable=True)
    if ordered.shape[1] < width:
        missing = width - ordered.shape[1]
        ordered = torch.nn.functional.pad(ordered, (0, missing), value=-torch.inf)
        places = torch.nn.functional.pad(places, (0, missing))
    return ordered[:, :width], places[:, :width]


def _check(max_length: int) -> None:
    if max_length < 1:
        raise UserError(f"the decode length is {max_length}; it must be 1 or more")
