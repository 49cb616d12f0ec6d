"""A hash table from short words to numbers that looks up all words of a text at once in numpy.

A word of up to 15 bytes is its own key: two 64-bit numbers that hold its bytes and, in the last byte, its length. So
equal keys are equal words. Collisions go on to the next slot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONGEST = 15
"""Bytes of the longest word that has a key."""
WIDTH = 16
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
    """Numbers (int32, from 1 on) of up to `most` words; 0 is the number of an unknown one and of the empty one."""

    def __init__(self, most: int) -> None:
        bits = max(1, 2 * most - 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._keys = np.zeros((1 << bits, 2), np.uint64)
        self._numbers = np.zeros(1 << bits, np.int32)

    @property
    def nbytes(self) -> int:
        """The table's size in bytes."""
        return self._keys.nbytes + self._numbers.nbytes

    def find(self, keys: Keys) -> NDArray[np.int32]:
        """The number of each key (N,)."""
        return self._numbers[self._slots(keys)]

    def add(self, keys: Keys, numbers: NDArray[np.int32]) -> None:
        """Put in keys that are all different and not there yet; the table must keep at least half of its slots free."""
        pending = np.arange(len(keys))
        while len(pending):
            slots = self._slots(keys[pending])
            # Of several keys that want one slot the last one is written; the others look again.
            self._numbers[slots] = numbers[pending]
            won = self._numbers[slots] == numbers[pending]
            self._keys[slots[won]] = keys[pending[won]]
            pending = pending[~won]

    def _slots(self, keys: Keys) -> NDArray[np.int64]:
        """Where each key lies, or the free slot where it would."""
        mixed = keys[:, 0] * _FACTORS[0] ^ keys[:, 1] * _FACTORS[1]
        slots: NDArray[np.int64] = ((mixed ^ (mixed >> _FOLD)) * _FACTORS[0] >> self._shift).astype(np.int64)
        there = self._keys[slots]
        others = np.flatnonzero((there[:, 1] != keys[:, 1]) | (there[:, 0] != keys[:, 0]))
        others = others[there[others, 1] != 0]
        while len(others):
            slots[others] = (slots[others] + 1) & self._last
            there, wanted = self._keys[slots[others]], keys[others]
            others = others[(there[:, 1] != 0) & (there != wanted).any(1)]
        return slots
