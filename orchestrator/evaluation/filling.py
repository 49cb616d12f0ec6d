"""Held-out texts with blanks, filled in by the model: what a person looks at to see that something was learned."""

from __future__ import annotations

import numpy as np
import torch

from data.corpus import Corpus
from data.objectives import Ragged, create
from data.random import generator
from data.vocabulary import Vocabulary
from model.decoding.search import greedy
from model.transformer import T5
from orchestrator.report.summary import Filling
from orchestrator.run import Run
from orchestrator.sources import VALIDATION

_WORDS = range(20, 41)
_BLANKING = ("span_corruption", "iid_replace")


def can_fill(run: Run) -> bool:
    """Whether the run's objective taught its model to fill blanks."""
    objective = run.lanes.sources[0].objective
    return not run.lanes.decoder_only and objective is not None and objective.name in _BLANKING


def fill_blanks(run: Run, model: T5, count: int = 3) -> tuple[Filling, ...]:
    """The first `count` held-out texts of 20 to 40 words, corrupted as in training and completed greedily."""
    vocabulary = run.read_vocabulary()
    source = run.lanes.sources[0]
    assert source.corpus is not None
    assert source.objective is not None
    objective = create(source.objective, *run.lanes.lengths, vocabulary.size)
    ids = [np.array(vocabulary.encode(text), np.uint16) for text in _texts(source.corpus, count)]
    examples = objective(generator(run.config.seed, "fillings"), Ragged.from_rows(ids))
    fillings = []
    for row in range(len(ids)):
        inputs = torch.from_numpy(examples.inputs[row].astype(np.int64))[None]
        written = greedy(model, inputs, max_length=run.lanes.lengths[1])[0].tolist()
        texts = (examples.inputs[row].tolist(), examples.targets[row].tolist(), written)
        fillings.append(Filling(*(_readable(vocabulary, text) for text in texts)))
    return tuple(fillings)


def _texts(url: str, count: int) -> list[str]:
    corpus = Corpus.open(url, check=False)
    found: list[str] = []
    for number, shard in enumerate(corpus.index.shards(VALIDATION)):
        for start in range(0, shard.records, 64):
            for _, members in corpus.read_block(VALIDATION, number, start, min(64, shard.records - start)):
                text = members["txt"].decode().splitlines()[0] if "txt" in members else ""
                if len(text.split()) in _WORDS:
                    found.append(text)
                if len(found) == count:
                    return found
    return found


def _readable(vocabulary: Vocabulary, ids: list[int]) -> str:
    return vocabulary.decode_pretty(ids).replace("</s>", "").replace("extra_id_", "").strip()
