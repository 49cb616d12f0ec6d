"""Word by word gives SentencePiece's own ids, whatever was kept before, and memory stays bounded."""

from __future__ import annotations

import functools
import io
import threading
from unittest import mock

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from data import word_table
from data.vocabulary import Vocabulary
from data.word_table import LONGEST, WordTable, keys_of
from data.words import MOST_WORDS, WordEncoder, separable
from tests.data.fakes import vocabulary_model

KALO = "kalo mitan tersun vevo"
text = st.text(st.sampled_from("kaltmev \n\t\r\v\x0c\x00\x7f\u00a0\u3000\u2581\u0301\ufb01é☃1=."), max_size=40)


def trained(**options: object) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    lines = [f"the cat {number} sat on the mat and the hat, the cat said" for number in range(50)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, **options,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@functools.cache
def processor() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=vocabulary_model())


@functools.cache
def shared() -> WordEncoder:
    return WordEncoder(processor())


def ids(encoder: WordEncoder, texts: list[str]) -> list[list[int]]:
    joined, lengths = encoder.encode([text.encode() for text in texts])
    assert joined.dtype == np.uint16
    return [part.tolist() for part in np.split(joined, np.cumsum(lengths)[:-1])] if texts else []


@given(st.lists(text, max_size=5))
@example([])
@example([""])
@example(["", " ", KALO, "\n\n"])
@example(["ka\x0blo\x0cmi\rtan \u00a0vevo\u3000\u2581ka"])
def test_ids_are_those_of_sentencepiece(texts: list[str]) -> None:
    assert ids(shared(), texts) == processor().encode(texts)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf", "identity"])
def test_other_models_too(model_type: str, rule: str) -> None:
    own = trained(model_type=model_type, normalization_rule_name=rule)
    texts = ["The cat\nsat  on\tthe Hat ", "\nhat", "cat"]
    assert separable(own)
    assert ids(WordEncoder(own), texts) == own.encode(texts)


@pytest.mark.parametrize("options", [
    {"split_by_whitespace": False}, {"remove_extra_whitespaces": False}, {"add_dummy_prefix": False},
    {"treat_whitespace_as_suffix": True}, {"user_defined_symbols": ["cat sat"]},
])  # fmt: skip
def test_a_model_whose_pieces_may_reach_over_spaces_is_left_to_sentencepiece(options: dict[str, object]) -> None:
    own = trained(**options)
    if not separable(own):
        texts = ["the cat  sat on the mat", " hat"]
        assert [array.tolist() for array in Vocabulary(own.serialized_model_proto()).encode_batch(texts)] == (
            own.encode(texts)
        )
        return
    assert ids(WordEncoder(own), ["a  cat sat ", " on"]) == own.encode(["a  cat sat ", " on"])


def test_no_room_changes_no_id() -> None:
    texts = [KALO, "kalo " + "ka" * 40, " ".join(f"w{number}" for number in range(50)), KALO]
    expected = processor().encode(texts)
    for most_words, most_ids in ((1, 100), (3, 100), (100, 5), (10, 1000)):
        small = WordEncoder(processor(), most_words, most_ids)
        for _ in range(2):
            assert [ids(small, [text])[0] for text in texts] == expected
        assert 0 <= small._room <= most_words
        assert small._used <= most_ids


def test_long_words_are_not_kept() -> None:
    encoder = WordEncoder(processor())
    ids(encoder, ["kalo " + "x" * 65 + " " + "y" * 64])
    before = encoder.nbytes
    assert ids(encoder, ["y" * 64 + " kalo " + "x" * 65])[0] == processor().encode("y" * 64 + " kalo " + "x" * 65)
    assert encoder.nbytes == before
    assert encoder._room == MOST_WORDS - 2
    assert set(encoder._long) == {b"y" * 64}


@given(st.lists(st.binary(min_size=1, max_size=LONGEST), unique=True, min_size=1, max_size=40), st.integers(0, 3))
def test_the_table_finds_what_was_put_in_and_nothing_else(found: list[bytes], bits: int) -> None:
    with mock.patch.object(word_table, "SMALLEST", bits):
        table = WordTable()
    sizes = np.array([len(word) for word in found])
    keys = keys_of(b"".join(found) + bytes(16), np.cumsum(sizes) - sizes, sizes)
    table.add(keys[:20:2], np.full(len(keys[:20:2]), 7))
    table.add(keys[1:20:2], np.arange(101, len(keys[1:20:2]) + 101))
    expected = [0 if i >= 20 else 101 + i // 2 if i % 2 else 7 for i in range(len(found))]
    assert table.find(keys).tolist() == expected


def test_equal_scores_are_decided_by_the_word_alone() -> None:
    """A word's ids may depend on what stands before it in SentencePiece, whose sums are rounded; here never."""
    encoder = WordEncoder(processor())
    alone = ids(encoder, ["kakakaka"])[0]
    assert ids(encoder, [f"{KALO * 200} kakakaka"])[0][-len(alone) :] == alone == processor().encode("kakakaka")


def test_threads_share_one() -> None:
    encoder = WordEncoder(processor())
    texts = [" ".join(f"ka{number * step}lo" for number in range(300)) for step in range(1, 9)]
    expected = processor().encode(texts)
    found: dict[int, list[list[int]]] = {}

    def work(thread: int) -> None:
        found[thread] = ids(encoder, texts)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[thread] == expected for thread in range(4))
