"""Small corpora and tasks in memory, with the interfaces of the real ones."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sentencepiece

from data.corpus import BadRecordBudget, Damage
from data.corpus.records import content_problem
from data.errors import DataDamaged
from data.vocabulary import Vocabulary


@functools.cache
def vocabulary_model() -> bytes:
    """A SentencePiece model of 400 pieces, trained on invented sentences."""
    rng = np.random.default_rng(0)
    syllables = [a + b + c for a in "kltmsvrdp" for b in "aeiou" for c in ("", "n", "r")]
    words = ["".join(rng.choice(syllables, rng.integers(1, 6))) for _ in range(2000)]
    lines = [" ".join(rng.choice(words, 12)) for _ in range(2000)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=400,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


@functools.cache
def vocabulary() -> Vocabulary:
    return Vocabulary(vocabulary_model())


@dataclass(frozen=True)
class FakeShard:
    records: int
    bytes: int
    tokens: int | None = None


@dataclass(frozen=True)
class FakeIndex:
    kind: str
    vocabulary: str | None
    splits: dict[str, list[FakeShard]]

    def shards(self, split: str) -> list[FakeShard]:
        return self.splits[split]


class FakeStorage:
    url = "memory"

    def read(self, path: str, **_: Any) -> bytes:
        assert path == "vocabulary/sentencepiece.model"
        return vocabulary_model()


@dataclass
class FakeCorpus:
    """Splits as shards of documents: lists of ids for kind "ids", texts or bytes for kind "text"."""

    kind: str
    splits: dict[str, list[list[Any]]]
    storage: FakeStorage = field(default_factory=FakeStorage)
    reads: int = 0

    @property
    def index(self) -> FakeIndex:
        shards = {
            split: [
                FakeShard(len(s), sum(len(self._members(d)["ids" if self.kind == "ids" else "txt"]) for d in s))
                for s in shards
            ]
            for split, shards in self.splits.items()
        }
        return FakeIndex(self.kind, vocabulary().fingerprint if self.kind == "ids" else None, shards)

    def read_block(
        self, split: str, shard: int, start: int, count: int, budget: BadRecordBudget | None = None
    ) -> list[tuple[str, dict[str, bytes]]]:
        self.reads += 1
        documents = self.splits[split][shard][start : start + count]
        assert len(documents) == count
        records = []
        for number, document in enumerate(documents, start=start):
            members = self._members(document)
            problem = content_problem(members)
            if problem is None:
                records.append((f"{split}-{shard}-{number}", members))
                continue
            damage = Damage(f"{split}-{shard}", number, 0, 0, problem)
            if budget is None:
                raise DataDamaged(str(damage))
            budget.charge(damage)
        return records

    def _members(self, document: Any) -> dict[str, bytes]:
        if self.kind == "ids":
            return {"ids": np.asarray(document, "<u2").tobytes()}
        return {"txt": document if isinstance(document, bytes) else document.encode()}


def ids_corpus(shards: Sequence[int], mean_length: float = 30, seed: int = 0, split: str = "train") -> FakeCorpus:
    """Documents of geometric length over ids 3 … 399."""
    rng = np.random.default_rng(seed)
    return FakeCorpus(
        "ids",
        {
            split: [
                [rng.integers(3, 400, rng.geometric(1 / mean_length)).tolist() for _ in range(count)]
                for count in shards
            ]
        },
    )


@dataclass(frozen=True)
class FakeEncoded:
    inputs: np.ndarray
    targets: np.ndarray
    inputs_cut: bool = False
    targets_cut: bool = False


@dataclass(frozen=True)
class FakeTask:
    """`size` records; record i has `length(i)` input tokens that spell i, and a target of two tokens and EOS."""

    size: int
    longest: int = 20

    def records(self, split: str) -> int:
        return self.size

    def read(self, split: str, start: int, count: int) -> list[int]:
        return list(range(start, min(start + count, self.size)))

    def format(self, record: int, *, evaluate: bool = False) -> list[int]:
        return [record]

    def encode(self, examples: Sequence[int], vocabulary: object) -> list[FakeEncoded]:
        return [
            FakeEncoded(
                np.array([3 + e // 300, 3 + e % 300] * (1 + e % self.longest) + [1], np.uint16),
                np.array([3 + e // 300, 3 + e % 300, 1], np.uint16),
            )
            for e in examples
        ]
