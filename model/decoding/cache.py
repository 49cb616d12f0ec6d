"""Keys and values of the positions already decoded, so that each step computes one position only."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


class KeyValues:
    """Keys and values (B, H, length, K) of one attention, in buffers that grow by doubling."""

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Everything held, after adding `keys` and `values` (B, H, new, K)."""
        new = keys.shape[2]
        self._keys = self._room(self._keys, keys)
        self._values = self._room(self._values, values)
        self._keys[:, :, self.length : self.length + new] = keys
        self._values[:, :, self.length : self.length + new] = values
        self.length += new
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """Keys and values held; raises RuntimeError where nothing was added yet."""
        if self._keys is None or self._values is None:
            raise RuntimeError("nothing was added to the cache yet")
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep the rows given by index (int64), in that order; a row may be taken more than once."""
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, rows)
            self._values = self._values.index_select(0, rows)

    def _room(self, buffer: Tensor | None, like: Tensor) -> Tensor:
        wanted = self.length + like.shape[2]
        if buffer is not None and wanted <= buffer.shape[2]:
            return buffer
        capacity = wanted if buffer is None else max(wanted, 2 * buffer.shape[2])
        rows, heads, _, width = like.shape
        grown = torch.zeros(rows, heads, capacity, width, dtype=like.dtype, device=like.device)
        if buffer is not None:
            grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown


@dataclass
class BlockCache:
    """What one decoder block remembers."""

    attention: KeyValues = field(default_factory=KeyValues)
    cross_attention: KeyValues = field(default_factory=KeyValues)

    def select(self, rows: Tensor, *, same_source: bool) -> None:
        """Keep the rows given by index; `same_source` says that each has the source of the row it replaces."""
        self.attention.select(rows)
        if not same_source:
            self.cross_attention.select(rows)
