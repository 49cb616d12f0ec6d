"""What a specification names is found: corpora on disk, declared tasks, the vocabulary beside a corpus."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.corpus import CorpusIndex, ShardWriter
from data.errors import UserError
from data.evaluation import evaluation_rows
from data.lanes import Lanes, LanesSpec, Source
from data.objectives import ObjectiveSpec
from data.storage import open_storage
from tests.data.fakes import vocabulary, vocabulary_model

TASKS = """
tasks:
  sources_test_reviews:
    source: {train: reviews.jsonl}
    inputs: "kalo {text}"
    labels: [mitan, vevo]
    metrics: [accuracy]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of ids with its vocabulary, and a file that declares a task over JSON lines."""
    place = tmp_path_factory.mktemp("sources")
    storage = open_storage(place)
    rng = np.random.default_rng(1)
    with ShardWriter(storage, "train", 0) as writer:
        for record in range(30):
            writer.add(f"doc-{record}", {"ids": rng.integers(3, 400, 50).astype("<u2").tobytes()})
        shard = writer.close()
    storage.write("vocabulary/sentencepiece.model", vocabulary_model())
    CorpusIndex(1, "ids", {"train": (shard,)}, vocabulary().fingerprint, "test").save(storage)
    lines = [json.dumps({"text": "tersun " * (1 + n % 3), "label": n % 2}) for n in range(12)]
    (place / "reviews.jsonl").write_text("\n".join(lines))
    (place / "tasks.yaml").write_text(TASKS)
    return place


def specification(folder: Path) -> LanesSpec:
    return LanesSpec(
        (
            Source("unsupervised", 0.5, corpus=str(folder), objective=ObjectiveSpec()),
            Source("sources_test_reviews", 0.5),
        ),
        lanes=2,
        rows=4,
        inputs_length=64,
        task_files=(str(folder / "tasks.yaml"),),
    )


def test_a_mixture_of_a_corpus_and_a_declared_task(folder: Path) -> None:
    lanes = Lanes(pickle.loads(pickle.dumps(specification(folder))))
    counts: dict[str, int] = {}
    cursor, texts = lanes.start(0), []
    for step in range(12):
        rows, cursor = lanes.step(0, cursor, step)
        assert rows.targets.shape == (2, 14)
        assert rows.target_segments is not None
        for name, count in rows.counts.items():
            counts[name] = counts.get(name, 0) + count
        for row in range(2):
            for segment in range(1, int(rows.target_segments[row].max()) + 1):
                texts.append(lanes.vocabulary.decode(rows.targets[row][rows.target_segments[row] == segment]))
    assert counts["examples/unsupervised"] > 5
    assert counts["examples/sources_test_reviews"] > 5
    assert {"mitan", "vevo"} <= set(texts)


def test_held_out_rows_of_a_declared_task(folder: Path) -> None:
    batches = list(evaluation_rows(specification(folder), "train", source="sources_test_reviews"))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert sum(batch.counts["examples/sources_test_reviews"] for batch in batches) == 12
    first = batches[0].inputs
    assert first is not None
    assert vocabulary().decode(first[1][first[1] > 0]) == "kalo tersun tersun"


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    spec = LanesSpec((Source("sources_test_revews"),), 1, 1, vocabulary=str(folder))
    with pytest.raises(UserError, match="sources_test_revews"):
        Lanes(spec)
    with pytest.raises(UserError, match=r"index\.json"):
        Lanes(LanesSpec((Source("u", corpus=str(tmp_path), objective=ObjectiveSpec()),), 1, 1))
    with pytest.raises(UserError, match="'held' is not in the corpus"):
        list(evaluation_rows(specification(folder), "held"))
