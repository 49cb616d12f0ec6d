"""What a Hugging Face user runs in our place: the fast tokenizer, and span corruption a row at a time.

The corruption is written anew after the published algorithm of their T5 masking collator, with its costs: for each
row a shuffled array, cumulative sums and a count of unique segment numbers, then whole-batch arithmetic for sentinels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.vocabulary import EOS, UNK, Vocabulary


def fast_tokenizer(vocabulary: Vocabulary):  # type: ignore[no-untyped-def]
    """The `tokenizers` twin of a SentencePiece unigram vocabulary."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    proto = sentencepiece_model_pb2.ModelProto.FromString(vocabulary.model)
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=UNK))
    steps = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if proto.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def same_ids(tokenizer, vocabulary: Vocabulary, texts: Sequence[str]) -> float:  # type: ignore[no-untyped-def]
    """Share of the texts that both tokenizers cut into the same ids."""
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    equal = [found.ids == vocabulary.encode(text) for found, text in zip(encoded, texts, strict=True)]
    return float(sum(equal) / len(equal))


class Collator:
    """(B, L) raw ids to inputs (B, S) and targets (B, T), both int64, by spans of noise."""

    def __init__(self, vocabulary_size: int, density: float = 0.15, mean_span: float = 3.0) -> None:
        self._size, self._density, self._mean_span = vocabulary_size, density, mean_span

    def __call__(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        noise = np.asarray([self._mask(ids.shape[1]) for _ in range(len(ids))])
        return self._filtered(ids, noise), self._filtered(ids, ~noise)

    def _mask(self, length: int) -> NDArray[np.bool_]:
        masked = min(max(int(np.round(length * self._density)), 1), length - 1)
        spans = max(int(np.round(masked / self._mean_span)), 1)
        lengths = np.stack([_segments(length - masked, spans), _segments(masked, spans)], axis=1).reshape(-1)
        starts = np.zeros(length, np.int8)
        starts[np.cumsum(lengths)[:-1]] = 1
        return np.equal(np.cumsum(starts) % 2, 1)

    def _filtered(self, ids: NDArray[np.int64], dropped: NDArray[np.bool_]) -> NDArray[np.int64]:
        marks = self._sentinels(dropped.astype(np.int8))
        joined = np.where(marks != 0, marks, ids)
        rows = joined[joined >= 0].reshape(len(ids), -1)
        return np.concatenate([rows, np.full((len(ids), 1), EOS, np.int64)], axis=1)

    def _sentinels(self, dropped: NDArray[np.int8]) -> NDArray[np.int64]:
        """The sentinel at the start of each dropped run, -1 at the rest of it, 0 elsewhere."""
        first = dropped - np.roll(dropped, 1, axis=-1) * dropped
        first[:, 0] = dropped[:, 0]
        numbers = np.where(first != 0, np.cumsum(first, axis=-1, dtype=np.int64), 0)
        marks = np.where(numbers != 0, self._size - numbers, 0)
        return np.asarray(marks - (dropped - first), np.int64)


def _segments(items: int, count: int) -> NDArray[np.int64]:
    """`items` cut at random into `count` runs of at least one."""
    starts = np.arange(items - 1) < (count - 1)
    # Theirs is the global generator.
    np.random.shuffle(starts)
    numbers = np.cumsum(np.pad(starts, [[1, 0]]))
    _, lengths = np.unique(numbers, return_counts=True)
    return lengths


class HuggingFacePipeline:
    """Documents, tokenized in batches and joined, cut into rows of `raw` tokens and corrupted a batch at a time."""

    def __init__(self, texts: Sequence[str], vocabulary: Vocabulary, raw: int, rows: int) -> None:
        self._texts, self._raw, self._rows = list(texts), raw, rows
        self._tokenizer = fast_tokenizer(vocabulary)
        self.same_ids = same_ids(self._tokenizer, vocabulary, self._texts[:500])
        self._collate = Collator(vocabulary.size)
        self._at = 0
        self._left = np.zeros(0, np.int64)

    def batch(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The next batch."""
        needed = self._rows * self._raw
        parts, have = [self._left], len(self._left)
        while have < needed:
            encoded = self._tokenizer.encode_batch_fast(self._next_texts(256), add_special_tokens=False)
            parts.extend(np.array(found.ids, np.int64) for found in encoded)
            have = sum(map(len, parts))
        stream = np.concatenate(parts)
        self._left = stream[needed:]
        return self._collate(stream[:needed].reshape(self._rows, self._raw))

    def _next_texts(self, count: int) -> list[str]:
        found = [self._texts[(self._at + i) % len(self._texts)] for i in range(count)]
        self._at = (self._at + count) % len(self._texts)
        return found
