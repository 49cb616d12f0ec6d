"""The vocabulary's fixed numbers, batch encoding and both ways of decoding."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import sentencepiece

from data.errors import UserError
from data.vocabulary import Vocabulary
from tests.data.fakes import FakeStorage, vocabulary, vocabulary_model


def test_numbers_of_the_original() -> None:
    vocab = vocabulary()
    assert (vocab.pieces, vocab.size, vocab.rows) == (400, 500, 512)
    assert (vocab.sentinel(0), vocab.sentinel(99)) == (499, 400)
    assert Vocabulary(vocabulary_model(), extra_ids=112).rows == 512


def test_batch_encoding_equals_one_by_one() -> None:
    vocab = vocabulary()
    texts = ["kalo mitan", "", "tersun vevo  ka", "unknown: \u2603"]
    batch = vocab.encode_batch(texts)
    assert [array.tolist() for array in batch] == [vocab.encode(text) for text in texts]
    assert all(array.dtype == np.uint16 for array in batch)
    assert vocab.encode_batch([]) == []
    tokens, lengths = vocab.encode_joined([text.encode() for text in texts])
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [token for array in batch for token in array]
    assert lengths.tolist() == [len(array) for array in batch]
    assert [len(array) for array in vocab.encode_joined([])] == [0, 0]


def test_decode_stops_at_the_end_and_reads_foreign_ids_as_unknown() -> None:
    vocab = vocabulary()
    ids = vocab.encode("kalo mitan")
    assert vocab.decode([*ids, 1, 5, 6]) == "kalo mitan"
    assert vocab.decode(np.array([*ids, 1], np.uint16)) == "kalo mitan"
    assert vocab.decode([499, 60000]) == vocab.decode([2, 2])


def test_pretty_shows_sentinels_and_ends() -> None:
    vocab = vocabulary()
    ids = [*vocab.encode("kalo"), 499, *vocab.encode("mitan"), 400, 1, 0, 0, 505]
    assert vocab.decode_pretty(ids) == "kalo <extra_id_0> mitan <extra_id_99> </s> <id_505>"


def test_travels_by_pickle_and_loads_from_storage() -> None:
    copy = pickle.loads(pickle.dumps(vocabulary()))
    assert copy.fingerprint == Vocabulary.load(FakeStorage()).fingerprint == vocabulary().fingerprint


def test_bad_models_are_refused() -> None:
    with pytest.raises(UserError, match="not a SentencePiece model"):
        Vocabulary(b"no model")
    model = io.BytesIO()
    words = iter(["alpha beta gamma delta"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=words, model_writer=model, vocab_size=20, model_type="char", minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"\(-1, 2, 0\)"):
        Vocabulary(model.getvalue())
    with pytest.raises(UserError, match="16-bit"):
        Vocabulary(vocabulary_model(), extra_ids=70_000)
