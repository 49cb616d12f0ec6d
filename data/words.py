"""Texts to token ids word by word: SentencePiece segments each word once, and a table finds its ids again.

Where no piece of a model reaches over a space, the best segmentation of a text is that of its words, one after the
other. SentencePiece adds up the scores of a whole text in single precision, so where two segmentations of a word score
the same, what stands before the word decides; here the word alone decides, wherever it stands.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.word_table import LONGEST, WIDTH, Keys, WordTable, keys_of

MOST_WORDS = 1 << 18
"""Words that are kept; with their ids they take 16 MB, and the long ones among them up to 50 MB more."""
MOST_IDS = 4 * MOST_WORDS
LONGEST_KEPT = 64
"""Bytes of the longest word that is kept."""
SPACE = 32
SPACE_MARK = "\u2581"
Values = NDArray[np.int64]
_START = np.int64(32)
_MOST = np.int64((1 << 32) - 1)


def separable(processor: Any) -> bool:
    """Whether a text's ids are those of its words: no piece holds a space behind its beginning, spaces are folded."""
    pieces = processor.id_to_piece(list(range(processor.get_piece_size())))
    if any(SPACE_MARK in piece[1:] for piece in pieces):
        return False
    word, empty, spaced = processor.encode(["e", "", "  e   e "])
    return bool(word) and not empty and bool(spaced == word + word)


class WordEncoder:
    """Ids of texts under a model that is `separable`; memory is bounded, and what is remembered never shows in ids.

    The first `most_words` words that are met are kept: in any language the frequent ones come early. Threads may share
    one.
    """

    def __init__(self, processor: Any, most_words: int = MOST_WORDS, most_ids: int = MOST_IDS) -> None:
        self._processor = processor
        self._as_spaces = bytes(_folded(processor, byte) for byte in range(256))
        self._table = WordTable()
        self._long: dict[bytes, int] = {}
        self._long_bytes = 0
        self._room = most_words
        self._ids = np.zeros(most_ids, np.uint16)
        self._used = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The size in bytes of what is kept and of the room for it."""
        return self._ids.nbytes + self._table.nbytes + sys.getsizeof(self._long) + self._long_bytes

    def encode(self, texts: Sequence[bytes]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """The ids of all texts (UTF-8) in one array, and the number of ids of each."""
        joined = b" ".join([*texts, b""]).translate(self._as_spaces) + b" " * WIDTH
        length = len(joined) - WIDTH
        spaces = np.flatnonzero(np.frombuffer(joined, np.uint8)[:length] == SPACE)
        begins = np.concatenate([np.zeros(1, np.int64), spaces + 1])[:-1]
        values, pool = self._find(joined, begins, spaces - begins)
        counts = values & _MOST
        ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=ends[1:])
        places = np.repeat((values >> _START) - 1 - ends[:-1], counts)
        places += np.arange(len(places))
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        words = np.searchsorted(spaces, np.cumsum(sizes + 1))
        return pool[places], np.diff(ends[words], prepend=0)

    def _find(
        self, text: bytes, begins: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[Values, NDArray[np.uint16]]:
        """Where the ids of each word begin and how many they are, and the array that holds them."""
        with self._lock:
            keys = keys_of(text, begins, np.minimum(sizes, LONGEST))
            values = self._table.find(keys)
            values[sizes > LONGEST] = 0
            rest = np.flatnonzero((values == 0) & (sizes > 0))
            spans = zip(begins[rest].tolist(), sizes[rest].tolist(), strict=True)
            words = [text[begin : begin + size] for begin, size in spans]
            known = [self._long.get(word, 0) for word in words]
            first: dict[bytes, int] = {}
            for word, place, value in zip(words, rest.tolist(), known, strict=True):
                if not value:
                    first.setdefault(word, place)
            if not first:
                values[rest] = known
                return values, self._ids
            found = self._processor.encode(list(first), num_threads=1)
            counts = np.fromiter(map(len, found), np.int64, len(found))
            ids = np.fromiter(chain.from_iterable(found), np.uint16, int(counts.sum()))
            pool = np.concatenate([self._ids[: self._used], ids])
            new = dict(zip(first, _values(self._used + np.cumsum(counts) - counts, counts).tolist(), strict=True))
            values[rest] = [value or new[word] for word, value in zip(words, known, strict=True)]
            self._keep(list(first), keys[list(first.values())], counts, ids)
            return values, pool

    def _keep(self, words: list[bytes], keys: Keys, counts: NDArray[np.int64], ids: NDArray[np.uint16]) -> None:
        """Remember those of the new words that are not too long, as long as there is room."""
        sizes = np.fromiter(map(len, words), np.int64, len(words))
        ends = self._used + np.cumsum(np.where(sizes <= LONGEST_KEPT, counts, 0))
        kept = np.flatnonzero((sizes <= LONGEST_KEPT) & (ends <= len(self._ids)))[: self._room]
        if not len(kept):
            return
        values, short = _values(ends[kept] - counts[kept], counts[kept]), sizes[kept] <= LONGEST
        self._table.add(keys[kept[short]], values[short])
        self._long.update((words[i], value) for i, value in zip(kept[~short], values[~short].tolist(), strict=True))
        self._long_bytes += sum(sys.getsizeof(words[i]) for i in kept[~short])
        self._room, end = self._room - len(kept), int(ends[kept[-1]])
        self._ids[self._used : end] = ids[np.repeat(sizes <= LONGEST_KEPT, counts)][: end - self._used]
        self._used = end


def _values(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> Values:
    """Where a word's ids begin and how many they are, as one number; a word that is known has never 0."""
    return (starts + 1) << _START | counts


def _folded(processor: Any, byte: int) -> int:
    """A space for an ASCII character that the model reads as one."""
    if byte >= 128:
        return byte
    return SPACE if processor.encode(f"e{chr(byte)}e") == processor.encode("e e") else byte
