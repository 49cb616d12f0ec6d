"""Documents of a block as token ids: records in keyed order, decoded and tokenized, bad ones counted within a
budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

import numpy as np

from data.blocks import Block, Plan
from data.corpus import BadRecordBudget
from data.errors import UserError
from data.objectives import Ragged
from data.random import generator
from data.unusable import Unusable
from data.vocabulary import PAD, Vocabulary

Record = tuple[str, dict[str, bytes]]

MOST_AHEAD = 1024
"""Blocks that may lie read and not yet used; one a lane and task is usual."""


class CorpusIndexLike(Protocol):
    """What the data plane asks of a corpus index."""

    kind: str
    vocabulary: str | None

    def shards(self, split: str) -> Sequence[ShardLike]: ...


class ShardLike(Protocol):
    records: int
    bytes: int


class Documents:
    """The documents of one corpus split, block by block.

    Text is tokenized a block at a time; ids are taken as they are. Records that the corpus finds damaged or
    whose ids are not in the vocabulary are left out and counted under "bad_records"; more than `bad_records` of
    them raise BudgetExceeded. Documents without a token are counted under "empty_records". `limit` = (blocks,
    tokens of the last block) cuts the last block that a truncated corpus keeps.
    """

    def __init__(
        self,
        corpus: object,
        split: str,
        vocabulary: Vocabulary,
        *key: int | str,
        bad_records: int = 0,
        shuffle: bool = True,
        limit: tuple[int, int] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._corpus: _Corpus = corpus  # type: ignore[assignment]
        self._split = split
        self._vocabulary = vocabulary
        self._key = key
        self._shuffle = shuffle
        self._limit = limit
        self._executor = executor
        self._ahead: dict[int, Future[list[Record]]] = {}
        self._unusable = Unusable(f"split {split!r} of {self._corpus.storage.url}", bad_records)
        self._kind = self._corpus.index.kind
        if self._kind not in ("text", "ids"):
            raise UserError(
                f"{self._corpus.storage.url} holds {self._kind}, not documents; name a corpus of text or of ids"
            )
        if self._kind == "ids" and self._corpus.index.vocabulary not in (None, vocabulary.fingerprint):
            raise UserError(
                f"{self._corpus.storage.url} was tokenized with vocabulary {self._corpus.index.vocabulary}, but the "
                f"run uses {vocabulary.fingerprint}; use the corpus's own vocabulary"
            )

    def read(self, plan: Plan, n: int) -> tuple[Ragged, dict[str, int]]:
        """The documents of the block at sequence number n, and its counts of records."""
        number = plan.number(n)
        block = plan.block(number)
        ahead = self._ahead.pop(n, None)
        records = self._records(block) if ahead is None else ahead.result()
        last = self._limit is not None and number == self._limit[0] - 1
        if self._shuffle and not last:
            records = [records[i] for i in generator(*self._key, n).permutation(len(records))]
        found = self._tokens(block.shard, records)
        bad = block.count - len(found)
        if self._limit is not None and last:
            found = _first_tokens(found, self._limit[1])
        if self._shuffle and last:
            found = Ragged.from_rows([found[i] for i in generator(*self._key, n).permutation(len(found))])
        empty = int(np.count_nonzero(found.lengths == 0))
        counts = {"records": block.count, "bad_records": bad, "empty_records": empty}
        return found, {name: count for name, count in counts.items() if count}

    def prefetch(self, plan: Plan, n: int) -> None:
        """Begin to read the block at sequence number n in the background, where there is an executor."""
        if self._executor is None or n in self._ahead:
            return
        if len(self._ahead) >= MOST_AHEAD:
            # The oldest belongs to a lane that is read elsewhere by now.
            self._ahead.pop(next(iter(self._ahead))).cancel()
        self._ahead[n] = self._executor.submit(self._records, plan.block(plan.number(n)))

    def _records(self, block: Block) -> list[Record]:
        return self._corpus.read_block(self._split, block.shard, block.start, block.count, self._unusable.damaged)

    def _tokens(self, shard: int, records: Sequence[Record]) -> Ragged:
        if self._kind == "text":
            return Ragged.from_lengths(*self._vocabulary.encode_joined([members["txt"] for _, members in records]))
        contents = [members["ids"] for _, members in records]
        tokens = np.frombuffer(b"".join(contents), "<u2")
        if len(tokens) and (int(tokens.max()) >= self._vocabulary.size or not tokens.all()):
            return self._checked(shard, records)
        return Ragged.from_lengths(tokens, np.array([len(content) // 2 for content in contents], np.int64))

    def _checked(self, shard: int, records: Sequence[Record]) -> Ragged:
        """Record by record: foreign ids are bad records, padding is left out as by the original's joining."""
        good = []
        for key, members in records:
            row = np.frombuffer(members["ids"], "<u2")
            if int(row.max()) >= self._vocabulary.size:
                self._unusable.charge(
                    f"{key!r} of shard {shard}", f"id {row.max()} is not in the vocabulary of {self._vocabulary.size}"
                )
            else:
                good.append(row[row != PAD])
        return Ragged.from_rows(good)


class _Located(Protocol):
    url: str


class _Corpus(Protocol):
    index: CorpusIndexLike
    storage: _Located

    def read_block(
        self, split: str, shard: int, start: int, count: int, budget: BadRecordBudget | None = None
    ) -> list[Record]: ...


def _first_tokens(documents: Ragged, limit: int) -> Ragged:
    kept = np.minimum(documents.offsets, limit)
    return Ragged(documents.tokens[:limit], kept[: int(np.searchsorted(kept, limit)) + 1])
