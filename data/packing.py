"""Rows: the fixed-size arrays that travel to the trainers, and the packing of examples into them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.objectives.segments import Ids
from data.vocabulary import PAD

MOST_SEGMENTS = 255
"""Segment ids are 8 bits; 0 marks padding."""


@dataclass(frozen=True)
class Rows:
    """N rows of token ids, padded with 0.

    `inputs` uint16 (N, S), None for decoder-only architectures; `targets` uint16 (N, T), for decoder-only ones
    the joined sequence. `input_segments` and `target_segments` uint8 of the same shapes number the examples of
    a row from 1 (0 is padding); None where no row holds padding or more than one example. `prefix` bool (N, T)
    marks the fully visible positions of a prefix LM; `loss_mask` bool (N, T) the positions that count, None
    where all but padding do.

    `counts` are statistics by name: `input_tokens` and `target_tokens` (EOS counted in), and for each task
    `examples/NAME`, `truncated/NAME` (features cut to fit), `records/NAME`, `bad_records/NAME` and
    `empty_records/NAME`. Those of records and cuts are given once a block, with the last of its examples.
    """

    inputs: NDArray[np.uint16] | None
    targets: NDArray[np.uint16]
    input_segments: NDArray[np.uint8] | None = None
    target_segments: NDArray[np.uint8] | None = None
    prefix: NDArray[np.bool_] | None = None
    loss_mask: NDArray[np.bool_] | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.integer] | slice | range) -> Rows:
        """Some of the rows; the statistics stay with the whole and are left out."""
        return Rows._of([None if array is None else array[rows] for array in self._arrays()], {})

    @staticmethod
    def concatenate(parts: Sequence[Rows]) -> Rows:
        """All rows of `parts` in order, which must hold the same arrays; statistics are summed."""
        joined = []
        for arrays in zip(*(part._arrays() for part in parts), strict=True):
            present = [array for array in arrays if array is not None]
            if present and len(present) != len(parts):
                raise ValueError("rows with and without segment ids or masks cannot be joined")
            joined.append(np.concatenate(present) if present else None)
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        return Rows._of(joined, dict(counts))

    @staticmethod
    def _of(arrays: Sequence[Any], counts: dict[str, int]) -> Rows:
        inputs, targets, input_segments, target_segments, prefix, loss_mask = arrays
        return Rows(inputs, targets, input_segments, target_segments, prefix, loss_mask, counts)

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        return (
            self.inputs, self.targets, self.input_segments, self.target_segments, self.prefix, self.loss_mask
        )  # fmt: skip


class Packer:
    """First-fit packing of (inputs, targets) examples into a fixed number of rows.

    With `decoder_only` an example is the joined sequence inputs + targets in a row of S + T positions; inputs
    of EOS alone (causal language modelling) are left out of it. `targets_only` leaves the inputs' positions of
    such a sequence out of the loss. Without `pack` each row takes one example.
    """

    def __init__(
        self,
        rows: int,
        inputs_length: int,
        targets_length: int,
        *,
        decoder_only: bool,
        targets_only: bool,
        pack: bool = True,
    ) -> None:
        self._decoder_only = decoder_only
        joined = targets_length + (inputs_length if inputs_length > 1 else 0)
        self._lengths = (0, joined) if decoder_only else (inputs_length, targets_length)
        self._most = MOST_SEGMENTS if pack else 1
        self._used = np.zeros((2, rows), np.int64)
        self._examples = np.zeros(rows, np.int64)
        self._inputs = np.full((rows, self._lengths[0]), PAD, np.uint16)
        self._targets = np.full((rows, self._lengths[1]), PAD, np.uint16)
        self._input_segments = np.zeros(self._inputs.shape, np.uint8)
        self._target_segments = np.zeros(self._targets.shape, np.uint8)
        self._prefix = np.zeros(self._targets.shape, np.bool_) if decoder_only else None
        self._loss_mask = np.zeros(self._targets.shape, np.bool_) if decoder_only and targets_only else None

    def add(self, inputs: Ids, targets: Ids) -> bool:
        """Put an example into the first row where every feature fits; False where there is none."""
        if self._decoder_only and len(inputs) == 1:
            inputs = inputs[:0]
        sizes = (0, len(inputs) + len(targets)) if self._decoder_only else (len(inputs), len(targets))
        fits = (
            (self._used[0] + sizes[0] <= self._lengths[0])
            & (self._used[1] + sizes[1] <= self._lengths[1])
            & (self._examples < self._most)
        )
        row = int(fits.argmax())
        if not fits[row]:
            return False
        if self._decoder_only:
            self._add_joined(row, inputs, targets)
        else:
            self._write(self._inputs, self._input_segments, 0, row, inputs)
            self._write(self._targets, self._target_segments, 1, row, targets)
        self._examples[row] += 1
        return True

    def rows(self, counts: dict[str, int]) -> Rows:
        """The rows filled so far, with segment ids."""
        return Rows(
            None if self._decoder_only else self._inputs,
            self._targets,
            None if self._decoder_only else self._input_segments,
            self._target_segments,
            self._prefix,
            self._loss_mask,
            counts,
        )

    def _write(self, ids: NDArray[np.uint16], segments: NDArray[np.uint8], feature: int, row: int, tokens: Ids) -> int:
        start = int(self._used[feature, row])
        ids[row, start : start + len(tokens)] = tokens
        segments[row, start : start + len(tokens)] = self._examples[row] + 1
        self._used[feature, row] = start + len(tokens)
        return start

    def _add_joined(self, row: int, inputs: Ids, targets: Ids) -> None:
        start = self._write(self._targets, self._target_segments, 1, row, np.concatenate([inputs, targets]))
        first, end = start + len(inputs), start + len(inputs) + len(targets)
        if self._prefix is not None and len(inputs):
            self._prefix[row, start : min(first + 1, end)] = True
        if self._loss_mask is not None:
            self._loss_mask[row, first:end] = True


def dense_rows(inputs: Ids, targets: Ids, *, decoder_only: bool, targets_only: bool, counts: dict[str, int]) -> Rows:
    """Rows of one full example each, (N, S) and (N, T), without segment ids."""
    if not decoder_only:
        return Rows(inputs, targets, counts=counts)
    if inputs.shape[1] == 1:
        inputs = inputs[:, :0]
    joined = np.concatenate([inputs, targets], axis=1)
    position = np.broadcast_to(np.arange(joined.shape[1]), joined.shape)
    prefix = (position <= inputs.shape[1]) & (inputs.shape[1] > 0)
    loss_mask = position >= inputs.shape[1] if targets_only else None
    return Rows(None, joined, prefix=prefix, loss_mask=loss_mask, counts=counts)
