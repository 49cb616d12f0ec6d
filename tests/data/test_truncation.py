"""Truncated corpora hold exactly the first N tokens, in every pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from data.errors import UserError
from data.lanes import Lanes, LanesSpec, Source
from data.objectives import ObjectiveSpec
from data.truncation import truncate
from tests.data.fakes import FakeCorpus, FakeIndex, FakeShard, vocabulary

DOCUMENTS = [[list(range(3 + 10 * i, 3 + 10 * i + size)) for i, size in enumerate((10, 4, 7, 10))], [[103, 104, 105]]]
SPEC = LanesSpec(
    (Source("c4", corpus="memory", objective=ObjectiveSpec("prefix_lm")), Source("task")),
    lanes=1,
    rows=1,
    inputs_length=16,
    block_bytes=40,
)


class Counted(FakeCorpus):
    """A corpus whose index knows the tokens of each shard."""

    @property
    def index(self) -> FakeIndex:
        index = super().index
        shards = [
            FakeShard(s.records, s.bytes, sum(map(len, d)))
            for s, d in zip(index.splits["train"], DOCUMENTS, strict=True)
        ]
        return FakeIndex("ids", index.vocabulary, {"train": shards})


@pytest.mark.parametrize("kind", [FakeCorpus, Counted])
@pytest.mark.parametrize("tokens", [1, 9, 10, 11, 25, 31, 32, 34])
def test_first_tokens_come_in_every_pass(tokens: int, kind: type[FakeCorpus]) -> None:
    corpus = kind("ids", {"train": DOCUMENTS})
    spec = truncate(SPEC, tokens, vocabulary(), lambda url: corpus)
    spec = replace(spec, sources=spec.sources[:1])
    stream = Lanes(spec, {}, vocabulary(), lambda url: corpus)._streams["c4"]
    first = Counter([token for shard in DOCUMENTS for document in shard for token in document][:tokens])
    for epoch in range(3):
        seen: Counter[int] = Counter()
        for n in range(epoch * stream.plan.blocks, (epoch + 1) * stream.plan.blocks):
            examples = stream.group(n, 0).examples
            for row in range(len(examples)):
                seen.update([*examples.inputs[row][:-1].tolist(), *examples.targets[row][:-1].tolist()])
        assert seen == first


def test_shards_of_known_size_are_not_read() -> None:
    corpus = Counted("ids", {"train": DOCUMENTS})
    truncate(SPEC, 33, vocabulary(), lambda url: corpus)
    assert corpus.reads == 1


def test_too_small_a_corpus_is_refused() -> None:
    corpus = FakeCorpus("ids", {"train": DOCUMENTS})
    with pytest.raises(UserError, match=r"holds 34 tokens, but objective.first_tokens asks for 35"):
        truncate(SPEC, 35, vocabulary(), lambda url: corpus)
    with pytest.raises(UserError, match="first_tokens=0"):
        truncate(SPEC, 0, vocabulary(), lambda url: corpus)
