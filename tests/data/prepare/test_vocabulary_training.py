"""Training the vocabulary: special ids, the same bytes each time, the mix of languages, too little text."""

from __future__ import annotations

import pytest

from data.errors import UserError
from data.prepare.train_vocabulary import mix, train_vocabulary
from data.vocabulary import Vocabulary
from tests.data.prepare.crawl import crawl

TEXTS = [record["text"] for record in crawl(40)]


def test_special_ids_and_size() -> None:
    vocabulary = Vocabulary(train_vocabulary(TEXTS, 120))
    assert (vocabulary.pieces, vocabulary.size, vocabulary.rows) == (120, 220, 256)
    ids = vocabulary.encode("the old river")
    assert min(ids) > 2
    assert vocabulary.decode(ids) == "the old river"


def test_same_text_same_bytes() -> None:
    assert train_vocabulary(TEXTS, 120) == train_vocabulary(iter(TEXTS), 120)


def test_long_lines_are_cut_not_dropped() -> None:
    text = "zebra " * 2_000 + "quagga" * 2_000
    vocabulary = Vocabulary(train_vocabulary([text], 16))
    assert 2 not in vocabulary.encode("zebra quagga")


@pytest.mark.parametrize("texts", [[], ["", "\n"], ["a b"]])
def test_too_little_text_is_one_sentence(texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"too little.* 5000 pieces; (ask for at most \d+|give more text)"):
        train_vocabulary(texts, 5000)


def test_mix_keeps_the_proportions_that_the_scarcest_allows() -> None:
    mixed = mix([(["e" * 100] * 50, 10), (["g" * 30] * 10, 1), (["f" * 70] * 10, 1)])
    counts = {letter: "".join(mixed).count(letter) for letter in "egf"}
    # German has 300 characters for one part, so English gives 3000 of its 5000.
    assert counts["g"] == 300
    assert abs(counts["e"] - 3000) <= 1
    assert abs(counts["f"] - 300) <= 1


def test_mix_without_text_in_a_language_is_refused() -> None:
    with pytest.raises(UserError, match="has no text"):
        mix([(["english"], 10), ([], 1)])
