"""The data benchmark gives its keys; the Hugging Face twin does the work it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import data, preparing
from benchmarks.common import Spent, alternate
from benchmarks.corpora import INPUTS, RAW, TARGETS, Text, _write
from benchmarks.peers import Collator, HuggingFacePipeline
from data.prepare.train_vocabulary import train_vocabulary
from data.vocabulary import EOS, Vocabulary

pytest.importorskip("tokenizers", reason="needs the package tokenizers")

WORDS = [f"{a}{b}{c}" for a in "bdfkmst" for b in ("an", "el", "ir", "ou") for c in ("d", "te", "s")]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    """Documents of known words with a small vocabulary, as both kinds of shards."""
    folder = tmp_path_factory.mktemp("text")
    chance = np.random.default_rng(0)
    documents = [" ".join(chance.choice(WORDS, 300)) for _ in range(300)]
    vocabulary = Vocabulary(train_vocabulary(documents, 60))
    _write(folder / "text", "text", documents, vocabulary)
    _write(folder / "ids", "ids", documents, vocabulary)
    return Text(documents, vocabulary, folder)


def test_every_pipeline_has_a_rate_and_every_ratio_is_positive(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "ROWS", 16)
    monkeypatch.setattr(data, "LANES", 4)
    found = data.one_core(text, None, 1)
    assert set(found["rates"]) == {"text", "huggingface", "sentencepiece", "pretokenised"}
    assert found["text_over_seqio"] is None
    for key in ("text_over_huggingface", "text_over_sentencepiece", "pretokenised_tokens_per_second"):
        assert found[key] > 0
    assert found["same_ids"] == 1.0


def test_the_twin_fills_rows_of_the_same_shape_and_keeps_every_token(text: Text) -> None:
    size = text.vocabulary.size
    inputs, targets = HuggingFacePipeline(text.documents, text.vocabulary, RAW, 3).batch()
    assert inputs.shape == (3, INPUTS)
    assert targets.shape == (3, TARGETS)
    ids = np.arange(3, 3 + RAW)[None] % (size - 103) + 3
    made, wanted = Collator(size)(ids)
    assert made[0, -1] == wanted[0, -1] == EOS
    spans: dict[int, list[int]] = {}
    for token in wanted[0, :-1]:
        if token >= size - 100:
            spans[int(token)] = []
            last = int(token)
        else:
            spans[last].append(int(token))
    rebuilt: list[int] = []
    for token in made[0, :-1]:
        rebuilt += spans.get(int(token), [int(token)])
    assert rebuilt == ids[0].tolist()


def test_rates_are_medians_and_the_first_round_does_not_count() -> None:
    seconds = iter([9.0, 1.0, 2.0, 4.0])
    rates = alternate({"one": lambda: Spent(4.0, second := next(seconds), second / 2)}, 3)
    assert rates["one"].wall == 2.0
    assert rates["one"].cpu == 4.0
    assert rates["one"].spread == 4.0


def test_the_plain_loop_keeps_what_the_pipeline_keeps(text: Text, tmp_path: Path) -> None:
    pages = [text[:300] + "\n" + text[300:700] + "\n" + text[700:] for text in text.documents]
    own = Text([*pages, pages[0]], text.vocabulary, tmp_path)
    found = preparing._rates(own, preparing._write_pages(own), None, 1)
    # The last page's sentences were seen before.
    assert found["ours_documents"] == found["plain_documents"] == len(pages)
    assert found["ours"] > 0
    assert found["plain"] > 0
