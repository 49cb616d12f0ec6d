"""Held-out rows: each record once, whatever the seed, the lanes and the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.errors import UserError
from data.evaluation import evaluation_rows
from data.lanes import LanesSpec, Source
from data.objectives import ObjectiveSpec
from data.packing import Rows
from tests.data.fakes import FakeCorpus, FakeTask, ids_corpus, vocabulary
from tests.data.objectives import reference

CORPUS = ids_corpus([30, 17], mean_length=40, split="validation")
SPEC = LanesSpec(
    (Source("c4", corpus="memory", objective=ObjectiveSpec()), Source("task")),
    lanes=2,
    rows=8,
    inputs_length=32,
    block_bytes=300,
)


def rows(spec: LanesSpec = SPEC, corpus: FakeCorpus = CORPUS, **more: object) -> list[Rows]:
    tasks = {"task": FakeTask(21, longest=9)}
    return list(evaluation_rows(spec, tasks=tasks, vocabulary=vocabulary(), open_corpus=lambda _: corpus, **more))  # type: ignore[arg-type]


def filled(batches: list[Rows]) -> list[tuple[list[int], list[int]]]:
    out = []
    for batch in batches:
        assert batch.inputs is not None
        assert batch.inputs.shape == (8, 32)
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            if targets.any():
                out.append((inputs[inputs != 0].tolist(), targets[targets != 0].tolist()))
    return out


def test_every_token_of_the_split_once_in_order() -> None:
    documents = [token for shard in CORPUS.splits["validation"] for document in shard for token in document]
    batches = rows()
    found = [t for inputs, targets in filled(batches) for t in reference.rebuild(inputs, targets, 400)]
    assert found == documents
    assert all(batch.target_segments is None for batch in batches[:-1])
    last = batches[-1]
    assert last.target_segments is not None
    assert np.array_equal(last.target_segments > 0, last.targets > 0)
    assert sum(batch.counts["examples/c4"] for batch in batches) == len(filled(batches))


def test_neither_seed_nor_lanes_matter() -> None:
    expected = filled(rows())
    assert filled(rows(replace(SPEC, seed=9))) == expected
    assert filled(rows(replace(SPEC, lanes=8))) == expected


def test_limit_and_supervised_source() -> None:
    assert len(filled(rows(limit=11))) == 11
    examples = filled(rows(source="task"))
    assert [inputs[:2] for inputs, _ in examples] == [[3, 3 + e] for e in range(21)]


def test_missing_split_is_refused() -> None:
    with pytest.raises(UserError, match="c4/empty holds no record"):
        rows(corpus=FakeCorpus("ids", {"empty": [[]]}), split="empty")
