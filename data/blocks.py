"""The plan of blocks: which records of which shard, in which order, in every epoch, for every lane.

A block is a run of records of one shard and the unit of reading and of resuming. The order of an endless
training stream is the sequence number n = epoch · blocks + position; the block at n is found by a keyed
permutation of the epoch, so there is no shuffled list to store. Lane p of V takes n = p, p + V, p + 2V, …: over
all lanes every block, and so every record, comes once an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import UserError
from data.random import Permutation

BLOCKS_PER_LANE = 4
"""A small corpus is cut finer until each lane has about this many blocks an epoch, so that lanes differ."""


@dataclass(frozen=True)
class Block:
    """Records `start` … `start` + `count` − 1 of shard number `shard`."""

    shard: int
    start: int
    count: int


def records_per_block(records: int, size: int, block_bytes: int, lanes: int) -> int:
    """How many records make a block of about `block_bytes`, given the split's records and its size in bytes."""
    by_bytes = block_bytes * records // max(1, size)
    by_lanes = records // (BLOCKS_PER_LANE * lanes)
    return max(1, min(by_bytes, by_lanes))


class Plan:
    """The order of the blocks of one task's split.

    `records` holds the record count of each shard; the key is seed, task and split. Raises UserError where
    there is no record at all.
    """

    def __init__(self, records: Sequence[int], block_records: int, *key: int | str, shuffle: bool = True) -> None:
        self._records = list(records)
        self._block_records = block_records
        self._key = key
        self._shuffle = shuffle
        blocks = [-(-count // block_records) for count in self._records]
        self._first = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
        self.blocks = int(self._first[-1])
        if not self.blocks:
            raise UserError(
                f"{'/'.join(map(str, key[1:]))} holds no record; prepare the corpus again or name another split"
            )
        self._order: tuple[int, Permutation] | None = None

    def limited(self, blocks: int) -> Plan:
        """The same plan over the first `blocks` blocks of the corpus alone."""
        plan = Plan(self._records, self._block_records, *self._key, shuffle=self._shuffle)
        plan.blocks = min(blocks, self.blocks)
        return plan

    def number(self, n: int) -> int:
        """Which block (counted through the corpus in file order) stands at sequence number n."""
        epoch, position = divmod(n, self.blocks)
        if not self._shuffle:
            return position
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, Permutation(self.blocks, *self._key, "blocks", epoch)
        return self._order[1](position)

    def first_block(self, shard: int) -> int:
        """The number of a shard's first block; one past the last shard gives the number of all blocks."""
        return int(self._first[shard])

    def block(self, number: int) -> Block:
        """The records of block `number` of the corpus in file order."""
        shard = int(np.searchsorted(self._first, number, side="right")) - 1
        start = (number - int(self._first[shard])) * self._block_records
        return Block(shard, start, min(self._block_records, self._records[shard] - start))
