"""One position at a time: the logits of the next token, from caches, averaged over an ensemble."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data.errors import UserError
from model.decoding.cache import BlockCache
from model.transformer import T5, Batch

START = 0
"""The decoder's first input, which is also the padding id."""
EOS = 1


def average(logits: Sequence[Tensor]) -> Tensor:
    """The logits of an ensemble, from those of its models."""
    return logits[0] if len(logits) == 1 else torch.stack(list(logits)).mean(0)


class Steps:
    """The models of an ensemble, each with its caches, decoding the same rows in step.

    `inputs` (B, S) int64 are ids padded with 0 at the end: what the encoder reads, or, for decoder-only
    architectures, the prompt that the answer continues. Logits are averaged before the softmax (paper
    section 3.7).
    """

    def __init__(self, models: T5 | Sequence[T5], inputs: Tensor) -> None:
        members = [models] if isinstance(models, T5) else list(models)
        if not members:
            raise UserError("an ensemble needs at least one model; none was given")
        kinds = {(m.config.decoder_only, m.config.vocab_rows) for m in members}
        if len(kinds) > 1:
            raise UserError(f"the models of an ensemble differ in kind or vocabulary rows: {sorted(kinds)}")
        self.rows = inputs.shape[0]
        self._prompt: Tensor | None = inputs if members[0].config.decoder_only else None
        self._real: Tensor | None = None
        self._members = [_Member(model, inputs) for model in members]

    def __call__(self, ids: Tensor | None) -> Tensor:
        """Float32 logits (B, V) of the next position, after `ids` (B,) were chosen; None at the start."""
        if ids is None:
            ids = self._first()
        elif self._real is not None:
            self._real = torch.cat([self._real, torch.ones_like(self._real[:, :1])], 1)
        if ids.ndim == 1:
            ids = ids[:, None]
        return average([member.logits(ids, self._real) for member in self._members])

    def select(self, rows: Tensor, *, same_source: bool) -> None:
        """Go on with the rows given by index (int64); a row may be taken more than once.

        `same_source` promises that each row taken has the inputs of the row whose place it takes.
        """
        if self._real is not None:
            self._real = self._real[rows]
        for member in self._members:
            member.select(rows, same_source=same_source)

    def _first(self) -> Tensor:
        if self._prompt is None:
            return torch.full((self.rows, 1), START, device=self._members[0].device)
        # Prompts are moved to the right, so that all answers begin at one position; offsets stay the same.
        prompt = torch.nn.functional.pad(self._prompt, (1, 0), value=START)
        lengths = (self._prompt != 0).sum(1) + 1
        shift = prompt.shape[1] - lengths
        places = torch.arange(prompt.shape[1], device=prompt.device) - shift[:, None]
        if bool((shift > 0).any()):
            self._real = places >= 0
        return prompt.gather(1, places.clamp(min=0))


class _Member:
    """One model of an ensemble with what it remembers."""

    def __init__(self, model: T5, inputs: Tensor) -> None:
        self.model = model
        self.device = inputs.device
        self.caches = [BlockCache() for _ in model.decoder.blocks]
        self.memory: Tensor | None = None
        self.segments: Tensor | None = None
        if not model.config.decoder_only:
            padding = inputs == 0
            self.segments = (~padding).long() if bool(padding.any()) else None
            self.memory = model.encode(Batch(inputs, inputs, input_segments=self.segments))

    def logits(self, ids: Tensor, real: Tensor | None) -> Tensor:
        hidden = self.model.decode(ids, self.caches, memory=self.memory, input_segments=self.segments, real=real)
        return self.model.project(hidden[:, -1]).float()

    def select(self, rows: Tensor, *, same_source: bool) -> None:
        for cache in self.caches:
            cache.select(rows, same_source=same_source)
        if not same_source:
            self.memory = None if self.memory is None else self.memory[rows]
            self.segments = None if self.segments is None else self.segments[rows]
