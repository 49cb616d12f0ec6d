"""What is refused before Ray starts: every sentence names the thing and the mend."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.errors import UserError
from data.prepare.embedded import prepare_embedded
from orchestrator.checkpoint import CheckpointMismatch, require_same_run
from orchestrator.config import Config, load
from orchestrator.run import KEYS, Run, layout_of, open_run
from orchestrator.training.assembly import require_room


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded corpus, to be copied before it is spoilt."""
    folder = tmp_path_factory.mktemp("corpus")
    prepare_embedded(folder)
    return folder


@pytest.fixture
def corpus(prepared: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(prepared, tmp_path / "corpus"))


def opened(corpus: Path, *overrides: str) -> Run:
    return open_run(load(["embedded"], [f"corpus={corpus}", f"storage={corpus.parent}", *overrides], {}))


def test_a_run_resolves_what_workers_need(corpus: Path) -> None:
    run = opened(corpus, "workers=8", "model=small", "options.version=1.1")
    assert run.model.vocab_rows % 128 == 0
    assert (run.model.feed_forward, run.model.tied) == ("gated-gelu", False)
    assert run.readers == 2
    assert run.lanes.sources[0].corpus == str(corpus)
    assert run.held_out == "unsupervised"


def test_a_missing_shard_is_named(corpus: Path) -> None:
    (corpus / "shards" / "train-00000.tar").unlink()
    with pytest.raises(UserError, match=r"train-00000\.tar.*does not exist.*prepare"):
        opened(corpus)


def test_a_cut_shard_is_named(corpus: Path) -> None:
    shard = corpus / "shards" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"train-00000\.tar.*bytes"):
        opened(corpus)


def test_an_altered_index_is_refused(corpus: Path) -> None:
    index = corpus / "index.json"
    text = index.read_text()
    index.write_text(text.replace('"records": ', '"records": 1', 1))
    with pytest.raises(UserError, match=r"index\.json"):
        opened(corpus)


def test_another_vocabulary_is_refused_with_both_fingerprints(corpus: Path, tmp_path: Path) -> None:
    from data.prepare.train_vocabulary import train_vocabulary

    other = train_vocabulary(["a few words to make another vocabulary of", "and some more words"] * 50, 28)
    (corpus / "vocabulary" / "sentencepiece.model").write_bytes(other)
    with pytest.raises(UserError, match=r"vocabulary.*fingerprint.*index was made with"):
        opened(corpus)


def test_no_corpus_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        opened(tmp_path / "nowhere")


def test_an_unknown_size_suggests_a_near_one(corpus: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'small'"):
        opened(corpus, "model=smal")


def test_an_unknown_task_and_a_left_out_task_without_a_mixture(corpus: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        opened(corpus, "mixture=glue_colla")
    with pytest.raises(UserError, match="needs a mixture"):
        opened(corpus, "leave_out=glue")
    with pytest.raises(UserError, match="task_data"):
        opened(corpus, "mixture=glue_cola")


def test_nothing_to_start_from(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to start from"):
        opened(corpus, f"initial={tmp_path / 'empty'}")


def test_the_first_tokens_alone_are_kept(corpus: Path) -> None:
    assert opened(corpus, "objective.first_tokens=5000").lanes.sources[0].limit is not None
    with pytest.raises(UserError, match="first_tokens"):
        opened(corpus, "objective.first_tokens=100000000")


FREE = {"run", "steps", "storage", "readers", "checkpoint", "evaluate", "log", "faults", "initial", "corpus",
        "task_data", "tasks"}  # fmt: skip
COMPATIBLE = {"workers", "parallel", "batch.accumulate", "optimizer.in_backward"}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_key_is_free_compatible_or_frozen_on_resuming() -> None:
    """Whatever key is new is frozen until it is said to change nothing that is learned."""
    values = Config().model_dump(mode="json")
    keys = list(leaves(values))
    assert len(keys) > 60
    for key in keys:
        section = key.partition(".")[0]
        kind = "free" if section in FREE else "compatible" if {section, key} & COMPATIBLE else "frozen"
        saved, now = {"config": values}, {"config": json.loads(json.dumps(values))}
        *path, last = key.split(".")
        place = now["config"]
        for part in path:
            place = place[part]
        place[last] = "something else"
        if kind == "frozen":
            with pytest.raises(CheckpointMismatch, match=rf"config\.{re.escape(key)}: .*\(frozen\)"):
                require_same_run(saved, now, KEYS, "the checkpoint")
        else:
            (change,) = require_same_run(saved, now, KEYS, "the checkpoint")
            assert (change.key, change.kind) == (f"config.{key}", kind)


def test_a_layout_that_cannot_hold_the_model_is_refused_with_numbers(corpus: Path) -> None:
    run = opened(corpus, "model=3B", "batch.rows=32")
    layout = layout_of(run.config, "cuda")
    with pytest.raises(UserError, match=r"3B on 1 workers needs \d+\.\d GB a GPU.*orchestrator\.plan"):
        require_room(run, layout, 8 * 10**9)
    require_room(run, layout, 200 * 10**9)
