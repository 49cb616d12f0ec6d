"""Metrics of generated text from the field's own libraries: BLEU by sacrebleu, ROUGE by rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.metrics.libraries import library, release

_ROUGE = ("rouge1", "rouge2", "rougeLsum")


def bleu(references: Sequence[str], predictions: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU: case kept, `intl` tokenization, exponential smoothing (facts 5.5)."""
    return {"bleu": float(_bleu().corpus_score(list(predictions), [list(references)]).score)}


def bleu_signature() -> str:
    """sacrebleu's signature for one reference set, comparable with other systems' reports."""
    metric = _bleu()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def _bleu() -> Any:
    return library("sacrebleu").BLEU(
        smooth_method="exp", smooth_value=0.0, force=False, lowercase=False, tokenize="intl", effective_order=False
    )


def sentence_lines(text: str) -> str:
    """A line break after each " . ", by which ROUGE-Lsum tells sentences apart (facts 5.5)."""
    return text.replace(" . ", " .\n")


def rouge(references: Sequence[str], predictions: Sequence[str], groups: Sequence[str]) -> dict[str, float]:
    """F of ROUGE-1, -2 and -Lsum with stemming off: the middle of a bootstrap of 1000 draws, from a fixed seed."""
    scoring = library("rouge_score.scoring")
    scorer = library("rouge_score.rouge_scorer").RougeScorer(_ROUGE)
    aggregator = scoring.BootstrapAggregator()
    for reference, prediction in zip(references, predictions, strict=True):
        aggregator.add_scores(scorer.score(target=sentence_lines(reference), prediction=sentence_lines(prediction)))
    # The library draws from numpy's global generator: pin it for a repeatable figure, and put it back.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        middle = aggregator.aggregate()
    finally:
        np.random.set_state(state)
    return {name: 100.0 * float(middle[name].mid.fmeasure) for name in _ROUGE}


def rouge_signature() -> str:
    """The library and its settings."""
    return f"{release('rouge_score')}, no stemmer, bootstrap middle of 1000 draws, seed 0"
