"""The one vocabulary of a run: SentencePiece pieces, sentinels on top, and the fixed ids of padding and end.

Numbers follow the original: pad 0, end of sequence 1, unknown 2, no begin mark; the k-th sentinel has the id
size − 1 − k, and the embedding has `size` rows padded up to a multiple of 128.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from data.errors import UserError
from data.words import WordEncoder, separable

PAD, EOS, UNK = 0, 1, 2
ROW_MULTIPLE = 128
_NO_IDS = np.zeros(0, np.int32)


class _Readable(Protocol):
    url: str

    def read(self, path: str) -> bytes: ...


class Vocabulary:
    """A SentencePiece model with `extra_ids` sentinels above its pieces.

    Raises UserError where the bytes are no SentencePiece model, where pad, end and unknown are not 0, 1 and 2,
    or where the ids would not fit 16 bits.
    """

    def __init__(self, model: bytes, extra_ids: int = 100) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"the vocabulary is not a SentencePiece model ({error}); give the .model file") from error
        special = (self._processor.pad_id(), self._processor.eos_id(), self._processor.unk_id())
        if special != (PAD, EOS, UNK):
            raise UserError(
                f"the vocabulary has pad, end and unknown at {special}, but T5 needs (0, 1, 2); "
                "train it with `python -m data.prepare vocabulary`"
            )
        self._words = WordEncoder(self._processor) if separable(self._processor) else None
        self.model = model
        self.extra_ids = extra_ids
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self.pieces: int = self._processor.get_piece_size()
        self.size = self.pieces + extra_ids
        if self.size > 1 << 16:
            raise UserError(f"a vocabulary of {self.size} ids does not fit the 16-bit ids of the shards")
        self.rows = -(-self.size // ROW_MULTIPLE) * ROW_MULTIPLE

    def __reduce__(self) -> tuple[type[Vocabulary], tuple[bytes, int]]:
        return Vocabulary, (self.model, self.extra_ids)

    @classmethod
    def load(cls, storage: _Readable, path: str = "vocabulary/sentencepiece.model", extra_ids: int = 100) -> Vocabulary:
        """Read the model that a prepared corpus carries."""
        return cls(storage.read(path), extra_ids)

    @property
    def nbytes(self) -> int:
        """The size in bytes of the words that are kept to encode faster."""
        return 0 if self._words is None else self._words.nbytes

    def sentinel(self, k: int) -> int:
        """The id of the k-th sentinel of a sequence (k = 0, 1, …)."""
        return self.size - 1 - k

    def encode(self, text: str) -> list[int]:
        """The ids of one text, without an end mark."""
        return list(map(int, self.encode_joined([text.encode()])[0]))

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint16]]:
        """The ids of each text (uint16, one array a text), on the calling thread's core alone."""
        ids, lengths = self.encode_joined([text.encode() for text in texts])
        ends = np.cumsum(lengths)
        return [ids[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]

    def encode_joined(self, texts: Sequence[bytes]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """The ids of all texts (UTF-8) in one array (uint16), and the number of ids of each (int64).

        They are those of SentencePiece for each word by itself where no piece reaches over a space (`data.words`).
        """
        if self._words is not None:
            return self._words.encode(texts)
        arrays = self._processor.encode(list(texts), return_type="numpy", num_threads=1)
        lengths = np.array([len(array) for array in arrays], np.int64)
        return np.concatenate([*arrays, _NO_IDS]).astype(np.uint16), lengths

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first end mark; ids that are no pieces are read as unknown."""
        return str(self._processor.decode([self._piece(token) for token in _until_end(ids)]))

    def decode_pretty(self, ids: Iterable[int]) -> str:
        """The text for people: sentinels as <extra_id_k>, the end as </s>, padding left out, nothing cut."""
        parts: list[str] = []
        run: list[int] = []
        for token in map(int, ids):
            if token == PAD:
                continue
            if token != EOS and token < self.pieces:
                run.append(token)
                continue
            if run:
                parts.append(self._processor.decode(run))
                run = []
            parts.append("</s>" if token == EOS else self._name(token))
        if run:
            parts.append(self._processor.decode(run))
        return " ".join(parts)

    def _name(self, token: int) -> str:
        return f"<extra_id_{self.size - 1 - token}>" if token < self.size else f"<id_{token}>"

    def _piece(self, token: int) -> int:
        return token if 0 <= token < self.pieces else UNK


def _until_end(ids: Iterable[int]) -> list[int]:
    kept: list[int] = []
    for token in map(int, ids):
        if token == EOS:
            break
        kept.append(token)
    return kept
