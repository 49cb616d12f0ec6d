"""What `python -m data.inspect` shows, on a small prepared corpus on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data import inspect
from data.corpus import CorpusIndex, ShardWriter
from data.storage import open_storage
from tests.data.fakes import vocabulary, vocabulary_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty texts in two shards, the last one a copy of the first."""
    folder = tmp_path_factory.mktemp("corpus")
    storage = open_storage(folder)
    rng = np.random.default_rng(0)
    words = ["kalo", "mitan", "tersun", "vevo", "dopa", "lunir"]
    texts = [" ".join(rng.choice(words, rng.integers(5, 90))) for _ in range(39)]
    texts.append(texts[0])
    shards = []
    for number in range(2):
        writer = ShardWriter(storage, "train", number)
        for record in range(20):
            writer.add(f"doc-{20 * number + record:03d}", {"txt": texts[20 * number + record].encode()})
        shards.append(writer.close())
    storage.write("vocabulary/sentencepiece.model", vocabulary_model())
    CorpusIndex(1, "text", {"train": tuple(shards)}, vocabulary().fingerprint, "test").save(storage)
    return folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert inspect.main(arguments) == 0
    return capsys.readouterr().out


def test_mixture_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(shown(capsys, "mixture=proportional_19", "--json"))
    assert round(content["shares"]["GLUE"], 3) == 0.263
    assert len(content["rates"]) == 23
    assert sum(content["rates"].values()) == pytest.approx(1)


def test_mixture_as_text_and_by_registered_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "GLUE                     0.234" in shown(capsys, "mixture=temperature_2")
    content = json.loads(shown(capsys, "mixture=supervised", "--json"))
    assert "unsupervised" not in content["rates"]


def test_mixture_of_a_run_counts_its_own_tasks(
    capsys: pytest.CaptureFixture[str], corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps({"a": "kalo", "b": "vevo"}) for _ in range(30)))
    (tmp_path / "tasks.yaml").write_text(
        "tasks:\n  inspect_mine:\n    source: {train: mine.jsonl}\n    inputs: '{a}'\n    targets: '{b}'\n"
        "mixtures:\n  inspect_both: {inspect_mine: 1, unsupervised: 3}\n"
    )
    arguments = ["mixture=inspect_both", f"tasks=[{tmp_path / 'tasks.yaml'}]", "--corpus", str(corpus), "--json"]
    content = json.loads(shown(capsys, *arguments))
    assert content["rates"] == {"inspect_mine": 0.25, "unsupervised": 0.75}
    assert content["shares"]["C4"] == 0.75


def test_step_of_a_corpus(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    arguments = ["--corpus", str(corpus), "--step", "2", "--lane", "1", "batch.rows=8", "batch.lanes=4"]
    content = json.loads(shown(capsys, *arguments, "objective.input_length=32", "--json"))
    assert content["step"] == 2
    assert content["cursor"]["draws"] == 4
    assert content["layout"]["dense"]
    assert content["layout"]["sources"][0]["raw_length"] == 34
    assert [b["n"] for b in content["layout"]["sources"][0]["blocks_of_lane"]][:2] == [1, 5]
    assert "<extra_id_0>" in content["rows"][0]["targets"][0]
    assert content["rows"][0]["inputs_tokens"] == 32
    assert content["until_here"]["fill_rate"] == {"inputs": 1.0, "targets": 1.0}
    assert content["documents"][0]["records"] == 40
    assert content["documents"][0]["duplicates"] == 1


def test_step_as_text_with_packed_rows(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    arguments = ["--corpus", str(corpus), "--step", "1", "batch.rows=4", "batch.lanes=2", "objective.name=prefix_lm"]
    text = shown(capsys, *arguments, "objective.input_length=64", "options.architecture=prefix_lm")
    assert "packed, prefix_lm" in text
    assert "row 1 targets 1" in text
    assert "fill rate sequences 0." in text
    assert "1 exact duplicates" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixture=proportional19"], "proportional_19"),
        (["--corpus", "nowhere"], "nowhere"),
        (["--corpus", "CORPUS", "--lane", "99"], "lanes from 0 to"),
        (["--corpus", "CORPUS", "--step", "-1"], "steps count from 0"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], corpus: Path, arguments: list[str], message: str
) -> None:
    assert inspect.main([str(corpus) if a == "CORPUS" else a for a in arguments]) == 2
    assert message in capsys.readouterr().err
