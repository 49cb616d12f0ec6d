"""Texts to token ids word by word: SentencePiece segments each word once, and the words are found again by Arrow.

Where no piece of a model reaches over a space, the best segmentation of a text is that of its words, one after the
other. SentencePiece adds up the scores of a whole text in single precision, so where two segmentations of a word score
the same, what stands before the word decides; here the word alone decides, wherever it stands.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

MOST_WORDS = 1 << 18
"""Words that are kept; with their ids they take about 50 MB."""
MOST_IDS = 4 * MOST_WORDS
LONGEST = 64
"""Bytes of the longest word that is kept."""
SPACE_MARK = "\u2581"


def separable(processor: Any) -> bool:
    """Whether a text's ids are those of its words: no piece holds a space behind its beginning, spaces are folded."""
    pieces = processor.id_to_piece(list(range(processor.get_piece_size())))
    if any(SPACE_MARK in piece[1:] for piece in pieces):
        return False
    word, empty, spaced = processor.encode(["e", "", "  e   e "])
    return bool(word) and not empty and spaced == word + word


class WordEncoder:
    """Ids of texts under a model that is `separable`; memory is bounded, and what is remembered never shows in ids.

    The first `most_words` words that are met are kept: in any language the frequent ones come early. Threads may share
    one.
    """

    def __init__(self, processor: Any, most_words: int = MOST_WORDS, most_ids: int = MOST_IDS) -> None:
        self._processor = processor
        self._as_spaces = bytes(_folded(processor, byte) for byte in range(256))
        self._numbers: dict[bytes, int] = {}
        self._counts = np.zeros(most_words, np.int64)
        self._starts = np.zeros(most_words, np.int64)
        self._ids = np.zeros(most_ids, np.uint16)
        self._used = 0
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[bytes]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """The ids of all texts (UTF-8) in one array, and the number of ids of each."""
        if not texts:
            return np.zeros(0, np.uint16), np.zeros(0, np.int64)
        bounds = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=bounds[1:])
        joined = b"".join(texts).translate(self._as_spaces)
        split = pyarrow.compute.split_pattern(_strings(bounds, joined), " ")
        coded = split.values.dictionary_encode()
        starts, counts, pool = self._find(coded.dictionary.cast(pyarrow.large_binary()).to_pylist())
        numbers = coded.indices.to_numpy()
        counts = counts[numbers]
        ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=ends[1:])
        places = np.repeat(starts[numbers] - ends[:-1], counts)
        places += np.arange(len(places))
        return pool[places], np.diff(ends[split.offsets.to_numpy()])

    def _find(self, words: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]]:
        """Where the ids of each word begin and how many they are, and the array that holds them."""
        with self._lock:
            known = self._numbers
            numbers = np.array([known.get(word, -1) for word in words], np.int64)
            starts, counts = self._starts[numbers], self._counts[numbers]
            missing = np.flatnonzero(numbers < 0)
            if not len(missing):
                return starts, counts, self._ids
            short = np.array([len(words[i]) <= LONGEST for i in missing])
            missing = np.concatenate([missing[short], missing[~short]])
            new = [words[i] for i in missing]
            found = self._processor.encode(new, num_threads=1)
            sizes = np.array([len(ids) for ids in found], np.int64)
            ids = np.fromiter(chain.from_iterable(found), np.uint16, int(sizes.sum()))
            ends = self._used + np.cumsum(sizes)
            starts[missing], counts[missing] = ends - sizes, sizes
            room = min(len(self._counts) - len(known), int(np.searchsorted(ends, len(self._ids), "right")))
            kept = min(int(np.count_nonzero(short)), room)
            self._keep(new[:kept], starts[missing[:kept]], sizes[:kept], ids)
            if kept == len(missing):
                return starts, counts, self._ids
            return starts, counts, np.concatenate([self._ids[: self._used], ids[int(sizes[:kept].sum()) :]])

    def _keep(
        self, words: list[bytes], starts: NDArray[np.int64], sizes: NDArray[np.int64], ids: NDArray[np.uint16]
    ) -> None:
        first, last = len(self._numbers), len(self._numbers) + len(words)
        self._starts[first:last], self._counts[first:last] = starts, sizes
        end = self._used + int(sizes.sum())
        self._ids[self._used : end] = ids[: end - self._used]
        self._used = end
        self._numbers.update(zip(words, range(first, last), strict=True))


def _strings(bounds: NDArray[np.int64], joined: bytes) -> Any:
    """An Arrow array of the texts that end at `bounds`, over the same memory."""
    buffers = [None, pyarrow.py_buffer(bounds), pyarrow.py_buffer(joined)]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), len(bounds) - 1, buffers)


def _folded(processor: Any, byte: int) -> int:
    """A space for an ASCII character that the model reads as one."""
    if byte >= 128:
        return byte
    return 32 if processor.encode(f"e{chr(byte)}e") == processor.encode("e e") else byte
