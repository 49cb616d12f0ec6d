"""A hash table from short words to values that looks up all words of a text at once in numpy.

A word of up to 15 bytes is its own key: two 64-bit numbers that hold its bytes and, in the last byte, its length. So
equal keys are equal words. Collisions go on to the next slot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONGEST = 15
"""Bytes of the longest word that has a key."""
WIDTH = 16
SMALLEST = 12
"""Bits of the number of slots to begin with."""
VALUE = 2
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_LENGTH_SHIFT = np.uint64(56)
# Odd numbers without pattern: the golden ratio's and xxHash's second.
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_FOLD = np.uint64(29)

Keys = NDArray[np.uint64]


def keys_of(text: bytes, begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> Keys:
    """The keys (N, 2) of the words at `begins` with `sizes` ≤ 15 bytes; `text` goes on for 16 bytes from each begin."""
    windows = np.ndarray((len(text) - WIDTH + 1,), f"V{WIDTH}", text, strides=(1,))
    keys = windows[begins].view("<u8").reshape(-1, 2)
    keys[:, 0] &= _LOW_BYTES[np.minimum(sizes, 8)]
    keys[:, 1] &= _LOW_BYTES[np.maximum(sizes - 8, 0)]
    keys[:, 1] |= sizes.astype(np.uint64) << _LENGTH_SHIFT
    return keys


class WordTable:
    """A value (int64, not 0) for each of some words; it grows, so that few words lie close together in memory."""

    def __init__(self) -> None:
        self._words = 0
        self._make(1 << SMALLEST)

    @property
    def nbytes(self) -> int:
        """The table's size in bytes."""
        return self._rows.nbytes

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """The value of each key (N,), 0 for those that are not there."""
        return self._slots(keys)[1]

    def add(self, keys: Keys, values: NDArray[np.int64]) -> None:
        """Put in keys that are all different and not there yet."""
        rows = np.zeros((len(keys), 4), np.uint64)
        rows[:, :VALUE], rows[:, VALUE] = keys, values
        self._words += len(keys)
        if 2 * self._words > len(self._rows):
            rows = np.concatenate([self._rows[self._rows[:, VALUE] != 0], rows])
            self._make(1 << (4 * self._words - 1).bit_length())
        self._put(rows)

    def _make(self, slots: int) -> None:
        # Key and value lie in one row, and two rows in one line of the processor's cache.
        self._rows = np.zeros((slots, 4), np.uint64)
        self._last = slots - 1
        self._shift = np.uint64(65 - slots.bit_length())

    def _put(self, rows: NDArray[np.uint64]) -> None:
        while len(rows):
            slots = self._slots(rows[:, :VALUE])[0]
            # Of several words that want one slot the last one is written; the others look again.
            self._rows[slots] = rows
            rows = rows[(self._rows[slots] != rows).any(1)]

    def _slots(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each key lies, or the free slot where it would; and the values there."""
        mixed = keys[:, 0] * _FACTORS[0] ^ keys[:, 1] * _FACTORS[1]
        slots: NDArray[np.int64] = ((mixed ^ (mixed >> _FOLD)) * _FACTORS[0] >> self._shift).astype(np.int64)
        there = self._rows[slots]
        values = there[:, VALUE].view(np.int64)
        others = np.flatnonzero(((there[:, 1] != keys[:, 1]) | (there[:, 0] != keys[:, 0])) & (values != 0))
        while len(others):
            slots[others] = (slots[others] + 1) & self._last
            there = self._rows[slots[others]]
            values[others] = there[:, VALUE]
            others = others[(there[:, VALUE] != 0) & (there[:, :VALUE] != keys[others]).any(1)]
        return slots, values
