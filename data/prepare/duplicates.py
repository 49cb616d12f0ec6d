"""De-duplication across the whole corpus: of URLs, of three-sentence windows, of lines.

Every unit of text (or URL) becomes a 16-byte key. The rows of all pieces meet by key range in as many partitions as
the corpus is large; there the first row of each key keeps it, all others lose it. First means: smallest md5 of
the URL, then the earlier place. So which copy stays depends neither on the pieces nor on who computes when.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.prepare.sentences import split_sentences

WINDOW = 3
_END_MARKS = '.?!" \t'

# key and owner are 16 bytes each; document counts within a piece, unit within a document.
ROW = np.dtype([("key", ">u8", (2,)), ("owner", ">u8", (2,)), ("document", "<u4"), ("unit", "<u4")])
LOSER = np.dtype([("document", "<u4"), ("unit", "<u4")])


class Rows:
    """Collects the rows of one piece."""

    def __init__(self) -> None:
        self._keys = bytearray()
        self._owners = bytearray()
        self._places = array("I")

    def add(self, key: bytes, owner: bytes, document: int, unit: int = 0) -> None:
        """Add a row; `key` and `owner` have 16 bytes."""
        self._keys += key
        self._owners += owner
        self._places.append(document)
        self._places.append(unit)

    def table(self) -> NDArray[np.void]:
        """The rows as an array of dtype ROW, in the order they came."""
        rows = np.zeros(len(self._places) // 2, ROW)
        rows["key"] = np.frombuffer(self._keys, ">u8").reshape(-1, 2)
        rows["owner"] = np.frombuffer(self._owners, ">u8").reshape(-1, 2)
        places = np.frombuffer(self._places, np.uint32).reshape(-1, 2)
        rows["document"], rows["unit"] = places[:, 0], places[:, 1]
        return rows


def by_partition(rows: NDArray[np.void], partitions: int) -> bytes:
    """The rows as a file: uint64 row numbers where each of the `partitions` + 1 begins, then the rows in that order."""
    high = rows["key"][:, 0].astype(np.uint64) >> np.uint64(32)
    return group(rows, (high * np.uint64(partitions)) >> np.uint64(32), partitions)


def group(rows: NDArray[np.void], groups: NDArray[np.integer], count: int) -> bytes:
    """Rows as a file, in stable order of their group, with the `count` + 1 bounds of the groups in front."""
    order = np.argsort(groups, kind="stable")
    bounds = np.zeros(count + 1, "<u8")
    np.cumsum(np.bincount(groups.astype(np.int64), minlength=count), out=bounds[1:])
    return bounds.tobytes() + rows[order].tobytes()


def losers(tables: Sequence[NDArray[np.void]]) -> bytes:
    """From all pieces' rows of one partition to a file of the places that lose their key, grouped by piece."""
    rows = np.concatenate(tables) if tables else np.zeros(0, ROW)
    pieces = np.repeat(np.arange(len(tables), dtype=np.uint32), [len(table) for table in tables])
    order = np.lexsort(
        (
            rows["unit"],
            rows["document"],
            pieces,
            rows["owner"][:, 1],
            rows["owner"][:, 0],
            rows["key"][:, 1],
            rows["key"][:, 0],
        )
    )
    keys = rows["key"][order]
    lost = order[1:][(keys[1:] == keys[:-1]).all(axis=1)]
    places = np.zeros(len(lost), LOSER)
    places["document"], places["unit"] = rows["document"][lost], rows["unit"][lost]
    return group(places, pieces[lost], len(tables))


def unit_key(text: str) -> bytes:
    """The 16-byte key of a unit of text, which is compared without case and outer white space."""
    return hashlib.blake2b(text.strip().lower().encode(), digest_size=16).digest()


def window_spans(sentences: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The bounds of the windows of a line: each run of three sentences, or all of a shorter line.

    Runs of nothing but end marks are passed over.
    """
    size = min(WINDOW, len(sentences))
    for start in range(len(sentences) - size + 1 if size else 0):
        if any(sentence.strip(_END_MARKS) for sentence in sentences[start : start + size]):
            yield start, start + size


def unit_keys(text: str, kind: str) -> Iterator[bytes]:
    """The keys of a document's units ("windows" or "lines") in order; a unit's number is its place here."""
    for line in text.split("\n"):
        if kind == "lines":
            if line.strip():
                yield unit_key(line)
        else:
            sentences = split_sentences(line)
            for start, end in window_spans(sentences):
                yield unit_key(" ".join(sentences[start:end]))


def cut_units(text: str, kind: str, lost: frozenset[int]) -> tuple[str, list[str]]:
    """The text without the units in `lost`, and what was cut out of each line that lost something."""
    kept: list[str] = []
    gone: list[str] = []
    unit = 0
    for line in text.split("\n"):
        if kind == "lines":
            counts = bool(line.strip())
            (gone if counts and unit in lost else kept).append(line)
            unit += counts
            continue
        sentences = split_sentences(line)
        cut: set[int] = set()
        for start, end in window_spans(sentences):
            if unit in lost:
                cut.update(range(start, end))
            unit += 1
        if not cut:
            kept.append(line)
            continue
        gone.append(" ".join(sentence for place, sentence in enumerate(sentences) if place in cut))
        rest = " ".join(sentence for place, sentence in enumerate(sentences) if place not in cut)
        if rest:
            kept.append(rest)
    return "\n".join(kept), gone
