"""Documents of a block as token ids: records in keyed order, decoded and tokenised, bad ones counted within a
budget.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.blocks import Block, Plan
from data.corpus import BadRecordBudget
from data.errors import DataDamaged, UserError
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

    Text is decoded strictly as UTF-8 and tokenised a block at a time; ids are taken as they are. A record that
    cannot be read is left out and counted under "bad_records"; more than `bad_records` of them raise
    BudgetExceeded. Empty documents are left out and counted under "empty_records".
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
        kind = self._corpus.index.kind
        if kind not in ("text", "ids"):
            raise UserError(f"{self._corpus.storage.url} holds {kind}, not documents; name a corpus of text or of ids")
        self._tokenised = kind == "ids"
        if self._tokenised and self._corpus.index.vocabulary not in (None, vocabulary.fingerprint):
            raise UserError(
                f"{self._corpus.storage.url} was tokenised with vocabulary {self._corpus.index.vocabulary}, but the "
                f"run uses {vocabulary.fingerprint}; use the corpus's own vocabulary"
            )

    def read(self, plan: Plan, n: int) -> tuple[Ragged, dict[str, int]]:
        """The non-empty documents of the block at sequence number n, and its counts of records."""
        number = plan.number(n)
        block = plan.block(number)
        ahead = self._ahead.pop(n, None)
        records = self._records(block) if ahead is None else ahead.result()
        documents = self._ids(block.shard, records) if self._tokenised else self._tokenise(block.shard, records)
        bad = block.count - len(documents)
        if self._limit is not None and number == self._limit[0] - 1:
            documents = _first_tokens(documents, self._limit[1])
        if self._shuffle:
            documents = [documents[i] for i in generator(*self._key, n).permutation(len(documents))]
        found = Ragged.from_rows(documents)
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

    def _tokenise(self, shard: int, records: Sequence[Record]) -> list[NDArray[np.uint16]]:
        texts = []
        for key, members in records:
            try:
                texts.append(_text(members))
            except (ValueError, KeyError, TypeError) as error:
                self._unusable.charge(f"{key!r} of shard {shard}", error)
        return self._vocabulary.encode_batch(texts)

    def _ids(self, shard: int, records: Sequence[Record]) -> list[NDArray[np.uint16]]:
        raw = [members.get("ids") for _, members in records]
        if all(ids is not None and len(ids) % 2 == 0 for ids in raw):
            rows = [np.frombuffer(ids, "<u2") for ids in raw if ids is not None]
            joined = np.concatenate(rows) if rows else np.zeros(0, np.uint16)
            if not len(joined) or (int(joined.max()) < self._vocabulary.size and joined.all()):
                return rows
        return self._checked(shard, records)

    def _checked(self, shard: int, records: Sequence[Record]) -> list[NDArray[np.uint16]]:
        """Record by record: foreign ids are bad records, padding ids are left out as the original's joining
        does.
        """
        good = []
        for key, members in records:
            raw = members.get("ids")
            if raw is None or len(raw) % 2:
                self._unusable.charge(f"{key!r} of shard {shard}", "it has no member of 16-bit ids")
                continue
            row = np.frombuffer(raw, "<u2")
            if len(row) and int(row.max()) >= self._vocabulary.size:
                self._unusable.charge(
                    f"{key!r} of shard {shard}",
                    f"id {int(row.max())} is not in the vocabulary of {self._vocabulary.size}",
                )
            else:
                good.append(row[row != PAD])
        return good


class _Located(Protocol):
    url: str


class _Corpus(Protocol):
    index: CorpusIndexLike
    storage: _Located

    def read_block(
        self, split: str, shard: int, start: int, count: int, budget: BadRecordBudget | None = None
    ) -> list[Record]: ...


def _text(members: dict[str, bytes]) -> str:
    if "txt" in members:
        return members["txt"].decode()
    if "json" in members:
        text = json.loads(members["json"])["text"]
        if not isinstance(text, str):
            raise DataDamaged("its text is no string")
        return text
    raise DataDamaged("it has no member txt or json")


def _first_tokens(documents: Sequence[NDArray[np.uint16]], limit: int) -> list[NDArray[np.uint16]]:
    kept = []
    for document in documents:
        if limit <= 0:
            break
        kept.append(document[:limit])
        limit -= len(kept[-1])
    return kept
