"""Question answering: exact match and token F1 against the best of several answers, in percent."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces (facts 5.5)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, output: str) -> float:
    """F1 of the two texts' words as bags, 0 to 1, both in normal form."""
    answer_words, output_words = answer.split(), output.split()
    common = sum((Counter(answer_words) & Counter(output_words)).values())
    if common == 0:
        return 0.0
    return 2.0 * common / (len(answer_words) + len(output_words))


def question_answering(
    references: Sequence[Sequence[str]], predictions: Sequence[str], groups: Sequence[str]
) -> dict[str, float]:
    """`exact_match` and `f1`, each the best over an example's answers, mean over examples."""
    exact, overlap = [], []
    for answers, output in zip(references, predictions, strict=True):
        given = normalized(output)
        truths = [normalized(answer) for answer in answers]
        exact.append(max(float(truth == given) for truth in truths))
        overlap.append(max(token_f1(truth, given) for truth in truths))
    return {"exact_match": 100.0 * fmean(exact), "f1": 100.0 * fmean(overlap)}
