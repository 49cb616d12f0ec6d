"""Rows of different lengths in flat arrays: what objectives read (segments) and write (examples)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.vocabulary import EOS

Ids = NDArray[np.uint16]
Mask = NDArray[np.bool_]
Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows joined in one array: row i is `tokens[offsets[i]:offsets[i + 1]]` (tokens uint16, offsets int64,
    rows + 1).
    """

    tokens: Ids
    offsets: Lengths

    @classmethod
    def from_lengths(cls, tokens: Ids, lengths: Lengths) -> Ragged:
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(tokens, offsets)

    @classmethod
    def from_rows(cls, rows: Sequence[Ids]) -> Ragged:
        lengths = np.array([len(row) for row in rows], np.int64)
        tokens = np.concatenate(rows) if len(rows) else np.zeros(0, np.uint16)
        return cls.from_lengths(tokens.astype(np.uint16, copy=False), lengths)

    @classmethod
    def from_matrix(cls, matrix: Ids) -> Ragged:
        rows, length = matrix.shape
        return cls(matrix.reshape(-1), np.arange(rows + 1, dtype=np.int64) * length)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ids:
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Lengths:
        return np.diff(self.offsets)

    def row_of_token(self) -> Lengths:
        """The row that each token belongs to (int64, one a token)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def matrix(self, start: int, stop: int, width: int) -> Ids:
        """Rows start … stop − 1, all of length `width`, as a (rows, width) view."""
        return self.tokens[self.offsets[start] : self.offsets[stop]].reshape(stop - start, width)


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of the same number of rows, each ending in EOS, and how many features had to be cut to
    fit.
    """

    inputs: Ragged
    targets: Ragged
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.inputs)


def keep(segments: Ragged, values: Ids, kept: Mask) -> Ragged:
    """The `values` (one a token of `segments`) where `kept`, in the same rows."""
    counts = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=counts[1:])
    return Ragged(values[kept], counts[segments.offsets])


def finish(rows: Ragged, maximum: int) -> tuple[Ragged, int]:
    """Cut each row to `maximum` − 1 tokens and append EOS; the second value counts the rows that were cut."""
    lengths = rows.lengths
    cut = lengths > maximum - 1
    truncated = int(np.count_nonzero(cut))
    if truncated:
        position = np.arange(len(rows.tokens)) - np.repeat(rows.offsets[:-1], lengths)
        rows = keep(rows, rows.tokens, position < maximum - 1)
        lengths = rows.lengths
    tokens = np.empty(len(rows.tokens) + len(rows), np.uint16)
    tokens[np.arange(len(rows.tokens)) + rows.row_of_token()] = rows.tokens
    tokens[rows.offsets[1:] + np.arange(len(rows))] = EOS
    return Ragged.from_lengths(tokens, lengths + 1), truncated


def examples(inputs: Ragged, targets: Ragged, inputs_length: int, targets_length: int) -> Examples:
    """Finish both sides to their maximum lengths (EOS counted in)."""
    ended_inputs, cut_inputs = finish(inputs, inputs_length)
    ended_targets, cut_targets = finish(targets, targets_length)
    return Examples(ended_inputs, ended_targets, cut_inputs + cut_targets)
