"""Streams and documents: what is kept, cut, counted and refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.blocks import Plan
from data.documents import Documents
from data.errors import BudgetExceeded, UserError
from data.objectives import ObjectiveSpec, create
from data.streams import DocumentStream, TaskStream, cut_lengths
from tests.data.fakes import FakeCorpus, FakeIndex, FakeTask, ids_corpus, vocabulary


@given(lengths=st.lists(st.integers(0, 50), max_size=8), longest=st.integers(1, 20))
def test_cut_lengths_equal_a_plain_loop(lengths: list[int], longest: int) -> None:
    expected = [min(longest, length - start) for length in lengths for start in range(0, length, longest)]
    assert cut_lengths(np.array(lengths, np.int64), longest).tolist() == expected


def plan_of(corpus: FakeCorpus, block: int = 4, split: str = "train") -> Plan:
    return Plan([shard.records for shard in corpus.index.shards(split)], block, 1, "c4", split)


def test_long_documents_are_cut_and_kept_whole() -> None:
    document = (np.arange(70_000) % 390 + 3).tolist()
    corpus = FakeCorpus("ids", {"train": [[document, [7, 8, 9]]]})
    plan = plan_of(corpus)
    objective = create(ObjectiveSpec("prefix_lm"), 512, 512, vocabulary().size)
    stream = DocumentStream(plan, 1, Documents(corpus, "train", vocabulary(), 1), objective, 1)
    examples = stream.group(0, 0).examples
    assert len(examples) == -(-70_000 // 511) + 1
    kept = [t for row in range(len(examples)) for t in [*examples.inputs[row][:-1], *examples.targets[row][:-1]]]
    assert sorted(kept) == sorted([*document, 7, 8, 9])


def test_records_of_a_block_are_shuffled_by_key() -> None:
    corpus = ids_corpus([40])
    plan = plan_of(corpus, 40)
    first = Documents(corpus, "train", vocabulary(), 1).read(plan, 0)[0]
    again = Documents(corpus, "train", vocabulary(), 1).read(plan, 0)[0]
    later = Documents(corpus, "train", vocabulary(), 1).read(plan, 1)[0]
    plain = Documents(corpus, "train", vocabulary(), 1, shuffle=False).read(plan, 0)[0]
    rows = [[tuple(found[i].tolist()) for i in range(40)] for found in (first, again, later, plain)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2] != rows[3] != rows[0]
    assert sorted(rows[0]) == sorted(rows[2]) == sorted(rows[3])


def test_foreign_and_padding_ids() -> None:
    corpus = FakeCorpus("ids", {"train": [[[5, 0, 6, 0], [7, 8], [3, 60_000], [9]]]})
    plan = plan_of(corpus)
    found, counts = Documents(corpus, "train", vocabulary(), 1, bad_records=1, shuffle=False).read(plan, 0)
    assert [found[i].tolist() for i in range(len(found))] == [[5, 6], [7, 8], [9]]
    assert counts == {"records": 4, "bad_records": 1}
    with pytest.raises(BudgetExceeded, match="id 60000 is not in the vocabulary of 500"):
        Documents(corpus, "train", vocabulary(), 1).read(plan, 0)


def test_corpora_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="holds examples, not documents"):
        Documents(FakeCorpus("examples", {}), "train", vocabulary(), 1)

    class Other(FakeCorpus):
        @property
        def index(self) -> FakeIndex:
            return FakeIndex("ids", "abc", {})

    with pytest.raises(UserError, match="tokenized with vocabulary abc"):
        Documents(Other("ids", {}), "train", vocabulary(), 1)


def test_records_that_a_task_cannot_format_are_counted_within_a_budget() -> None:
    class Picky(FakeTask):
        def format(self, record: int, *, evaluate: bool = False) -> list[int]:
            if record == 4:
                raise UserError("it has no label")
            return [record]

    plan = Plan([6], 6, 1, "t")
    group = TaskStream(plan, 1, "t", Picky(6), "train", vocabulary(), (64, 8), 1, bad_records=1).group(0, 0)
    assert group.counts == {"records": 6, "bad_records": 1}
    assert len(group.examples) == 5
    stream = TaskStream(plan, 1, "t", Picky(6), "train", vocabulary(), (64, 8), 1)
    with pytest.raises(BudgetExceeded, match=r"record 4 of split 'train' of task 't' cannot be used: it has no label"):
        stream.group(0, 0)


def test_supervised_examples_are_cut_to_the_rows_and_counted() -> None:
    task = FakeTask(6, longest=6)
    stream = TaskStream(Plan([6], 6, 1, "t"), 1, "t", task, "train", vocabulary(), (8, 2), 1)
    group = stream.group(0, 0)
    assert group.counts == {"records": 6}
    assert group.examples.inputs.lengths.max() == 8
    # Inputs of 1 + 2 k tokens for k = 1 … 6: those above 8 are cut; targets of 3 are all cut to 2.
    assert group.examples.truncated == 3 + 6
    for row in range(6):
        assert group.examples.inputs[row][-1] == group.examples.targets[row][-1] == 1
        assert group.examples.targets[row].tolist() == [3, 1]
