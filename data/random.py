"""Randomness as a pure function of a key: every draw can be made again anywhere, from nothing but its name.

Two tools. `generator` opens an independent stream for a key. `Permutation` shuffles a range of any size with
constant state and random access, so the order of an epoch needs neither an array nor a shuffle buffer.
"""

from __future__ import annotations

import hashlib
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_64_BITS = (1 << 64) - 1


def digest(*key: int | str, size: int = 16) -> bytes:
    """`size` bytes of BLAKE2b over the key; parts are tagged by type and length, so no two keys collide by
    joining.
    """
    state = hashlib.blake2b(digest_size=size)
    for part in key:
        text = str(part).encode()
        state.update(b"%s%d:" % (b"s" if isinstance(part, str) else b"i", len(text)) + text)
    return state.digest()


def generator(*key: int | str) -> np.random.Generator:
    """A Philox generator of its own for this key (for example seed, task name, block number)."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(*key), "little")))


class Permutation:
    """A keyed permutation of 0 … size − 1 that is computed, not stored.

    A balanced Feistel network permutes the smallest range of an even number of bits that holds `size`; a value
    that falls outside is sent through again until it lands inside (cycle walking), at most four times on
    average.
    """

    def __init__(self, size: int, *key: int | str) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, not {size}")
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        if self._half > 31:
            raise ValueError(f"a permutation of {size} elements is beyond 62 bits")
        self._keys = [int(key) for key in np.frombuffer(digest(*key, size=8 * _ROUNDS), "<u8")]

    @overload
    def __call__(self, index: int) -> int: ...
    @overload
    def __call__(self, index: NDArray[np.integer]) -> NDArray[np.int64]: ...
    def __call__(self, index: int | NDArray[np.integer]) -> int | NDArray[np.int64]:
        """Where each index goes; `index` is one number or an array of them, each in 0 … size − 1."""
        largest = index if isinstance(index, int) else int(index.max(initial=0))
        if largest >= self.size:
            raise IndexError(f"index {largest} is outside a permutation of {self.size} elements")
        if isinstance(index, int):
            value: int = self._feistel(index)
            while value >= self.size:
                value = self._feistel(value)
            return value
        values: NDArray[np.uint64] = self._feistel(index.astype(np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._feistel(values[outside])
        return values.astype(np.int64)

    def _feistel(self, value: Any) -> Any:
        """One pass of the network over a Python number or a uint64 array, with the same result."""
        half, mask = self._half, (1 << self._half) - 1
        left, right = value >> half, value & mask
        for key in self._keys:
            left, right = right, left ^ (_mix((right + key) & _64_BITS) & mask)
        return (left << half) | right


def _mix(value: Any) -> Any:
    """The finalizer of SplitMix64: every input bit moves every output bit."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return value ^ (value >> 31)
